"""Free adversarial training: one backward for the weights and for the perturbation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from art_ext.core.checks import check_count, check_positive
from art_ext.training.cost import Cost
from art_ext.training.craft.starts import PreviousStart
from art_ext.training.recipes.base import BallRecipe
from art_ext.training.step import Step

PREVIOUS = PreviousStart()


@dataclass(frozen=True, kw_only=True, eq=False)
class Free(BallRecipe):
    """Free adversarial training: m updates per minibatch, each of which moves the perturbation.

        ``w <- w - k grad_w CE(f_w(x + delta), y)``, ``delta <- clip(delta + eps sgn(grad_x CE),
        +-eps)``

    Both gradients are taken at the old delta and the old weights. delta persists over replays and
    over minibatches: row i of a minibatch starts from the final delta of row i of the previous one.
    The last, shorter minibatch takes the first rows. delta starts at 0. x + delta is clipped to the
    box. The training pass is the only one, so BatchNorm is in train mode.

    An update costs 1 forward and 1 backward per sample, and a minibatch m of each. The authors
    count m epochs for one pass over the data (``equivalent_epochs``).

    Attributes:
        num_replays: m.
        step_size: in the units of x. None: eps.

    Differences from the paper:
        The clip of x + delta to the box changes delta too, as in the reference implementation of
        Wong et al. The authors clip the input only.

    References:
        Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor, Goldstein, "Adversarial
        training for free!", NeurIPS 2019.
    """

    name: ClassVar[str] = "free"
    paper: ClassVar[str] = (
        "Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor, Goldstein. Adversarial"
        " training for free! NeurIPS 2019."
    )
    num_replays: int = 8
    step_size: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("num_replays", self.num_replays)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)

    @property
    def replays(self) -> int:
        """m."""
        return self.num_replays

    @property
    def worth(self) -> int:
        """m."""
        return self.num_replays

    def cost(self) -> Cost:
        """Return 1 forward and 1 backward."""
        return Cost(1, 1)

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy at the carried perturbation."""
        start = PREVIOUS(step, step.ball(self.norm))
        leaf = step.memory["leaf"] = start.detach().requires_grad_(True)
        step.count_backward(step.x)
        return step.mean(step.cross_entropy(step.forward(leaf)))

    def after_backward(self, step: Step) -> None:
        """Move the perturbation along the input gradient of the same backward."""
        leaf = step.memory.pop("leaf")
        length = step.eps if self.step_size is None else self.step_size
        gradient = step.weights_input_gradient(leaf)
        PREVIOUS.end(step, step.ball(self.norm).step(leaf.detach(), gradient, length))
