"""Adversarial training on PGD examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from art_ext.training.engine import Step
from art_ext.training.recipes.base import BallRecipe, Cost, Tolerance, check_tolerance, tolerance_at


@dataclass(frozen=True, kw_only=True, eq=False)
class Pgd(BallRecipe):
    """Adversarial training: ``min_w mean max_{||x' - x|| <= eps} CE(f_w(x'), y)``.

    The maximum is approximated by projected ascent. With K = num_steps, an update costs K + 1
    forwards and K + 1 backwards per sample. Crafting ascends the loss of the unsmoothed label from
    a point drawn uniformly from the ball, whatever label smoothing the outer loss has.

    Attributes:
        num_steps: K.
        step_size: in the units of x. None: ``2.5 eps / K``.
        tolerance: a sample is frozen once it was found misclassified before tolerance + 1 steps
            (early-stopped PGD). With 0, a sample misclassified at its start is never moved. None
            never freezes a sample. A schedule ``{epoch: tolerance}`` begins at epoch 0, and each
            entry holds from its epoch on.

    References:
        Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards deep learning models resistant to
        adversarial attacks", ICLR 2018. Pang, Yang, Dong, Su, Zhu, "Bag of tricks for adversarial
        training", ICLR 2021 (tolerance, where theirs, counted down to 0, is ours + 1).
    """

    name: ClassVar[str] = "pgd"
    boxed_start: ClassVar[bool] = True
    num_steps: int = 10
    step_size: float | None = None
    tolerance: Tolerance = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tolerance(self.tolerance)

    def cost(self) -> Cost:
        """Return K + 1 forwards and K + 1 backwards."""
        return Cost(self.num_steps + 1, self.num_steps + 1)

    def _step_in_radii(self) -> float:
        """Return the default step size, in radii."""
        return 2.5 / self.num_steps

    def craft(self, step: Step) -> Tensor:
        """Return (r, *S) examples."""
        ball = step.ball(self.norm)
        length = self._step_in_radii() * step.eps if self.step_size is None else self.step_size
        start = step.uniform_start(ball, self.boxed_start)
        tolerance = tolerance_at(self.tolerance, step.epoch)
        rows = step.ascend(
            start, step.hard_cross_entropy, ball, self.num_steps, length, self.bn_mode, tolerance
        )
        # rows that are never moved may lie outside the box
        return rows if self.boxed_start or tolerance is None else ball.into(rows)

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy of the examples."""
        step.count_backward(step.x)
        return step.mean(step.cross_entropy(step.forward(self.craft(step))))


@dataclass(frozen=True, kw_only=True, eq=False)
class Fast(Pgd):
    """Fast adversarial training (FGSM-RS): PGD training with one long step, or a few.

    With n = num_steps, an update costs n + 1 forwards and n + 1 backwards per sample.

    Attributes:
        num_steps: n.
        step_size: in the units of x. None: ``1.25 eps`` for one step, and eps for each of
            several.
        boxed_start: True clips the starting point to the box, as the authors do on CIFAR-10. On
            MNIST they do not. Most pixels lie there on a face of the box, where clipped starts all
            step to a corner of the ball.

    References:
        Wong, Rice, Kolter, "Fast is better than free: revisiting adversarial training", ICLR 2020.
    """

    name: ClassVar[str] = "fast"
    num_steps: int = 1
    boxed_start: bool = True  # type: ignore[misc]  # PGD training has no choice

    def _step_in_radii(self) -> float:
        """Return the default step size, in radii."""
        return 1.25 if self.num_steps == 1 else 1.0
