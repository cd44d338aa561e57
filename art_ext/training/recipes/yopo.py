"""YOPO: adversarial training whose perturbation moves by passes through the first layer only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from art_ext.core.checks import check_choice, check_flag
from art_ext.training.cost import Cost
from art_ext.training.craft import NormalStart
from art_ext.training.craft.first_layer import FirstLayerAscent, check_passes
from art_ext.training.layer_search import first_layer
from art_ext.training.objectives import Regularised, divergence_terms
from art_ext.training.recipes.base import BallRecipe, Composition, CraftingRecipe
from art_ext.training.step import Step

PAPER = (
    "Zhang, Zhang, Lu, Zhu, Dong. You only propagate once: accelerating adversarial training via"
    " maximal principle. NeurIPS 2019."
)
FIRST_GRADIENTS = ("adjoint", "both")
EAGER = "which runs the first layer alone"


@dataclass(frozen=True, kw_only=True, eq=False)
class Yopo(BallRecipe):
    """YOPO-m-n: m passes through the network, each followed by n steps through its first layer.

    With ``f(x) = g(h(x))``, first layer h and weights w, from ``eta ~ U(-eps, eps)``, m times: one
    training pass at x + eta gives ``p = grad_h CE(g(h(x + eta)), y)`` and the gradient of all
    weights but those of h. Then n times ``eta <- P(eta + step_size sgn(grad_eta <h(x + eta), p>))``
    with the same p. The weights of h get the gradient of ``<h(x + eta), p>`` at the new eta. The
    optimiser steps once, on the sums over m. P projects onto the ball, then clamps x + eta to the
    box.

    The gradients are summed over m, as the authors do, so learning rates belong to sums. The
    recorded loss is the mean over m. Label smoothing acts on the weights and on p.

    An update costs m forwards and m backwards per sample. The m (n + 1) rows that go through the
    first layer alone, forward and back, are counted apart, as ``first_layer_rows``.

    Attributes:
        num_outer: m.
        num_inner: n.
        step_size: in the units of x. None: ``eps / 4``. 0 is natural training on noisy inputs.
        first: name of the module whose output is that of the first layer, such as ``"conv1"``.
            None: the first module that is called and holds parameters itself. All paths from x must
            pass it, and the part of the network up to it must compute row by row in train mode.
        first_gradient: ``"adjoint"`` gives the weights of the first layer the gradient at the new
            eta only. ``"both"`` adds that of the training pass.
        boxed_start: True clamps the random start to the box too. The steps always stay inside.

    Differences from the paper:
        The reference implementation steps the first layer by an optimiser of its own, on MNIST with
        other milestones. Here one optimiser steps all weights. For PreActResNet-18 the lines that
        set the first layer's own gradient aside are commented out there, which is ``"both"``. In
        other norms than L-inf the steps go along ``g / ||g||_p``.

    References:
        Zhang, Zhang, Lu, Zhu, Dong, "You only propagate once: accelerating adversarial training via
        maximal principle", NeurIPS 2019.
    """

    name: ClassVar[str] = "yopo"
    paper: ClassVar[str] = PAPER
    eager: ClassVar[str] = EAGER
    sgd_rate: ClassVar[float | None] = 0.04
    num_outer: int = 5
    num_inner: int = 3
    step_size: float | None = None
    first: str | None = None
    first_gradient: str = "adjoint"
    boxed_start: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_passes(self.num_outer, self.num_inner, self.step_size, self.first)
        check_choice("first_gradient", self.first_gradient, FIRST_GRADIENTS)
        check_flag("boxed_start", self.boxed_start)

    def cost(self) -> Cost:
        """Return m forwards, m backwards, and m (n + 1) rows of the first layer."""
        return Cost(self.num_outer, self.num_outer, self.num_outer * (self.num_inner + 1))

    def fitted(self, model: nn.Module, rows: Tensor, seed: int) -> Yopo:
        """Return the recipe with the name of the network's first layer.

        Raises:
            ValueError: if ``first`` names no such module, or one that cannot be run alone.
        """
        return dataclasses.replace(self, first=first_layer(model, rows, self.first, "train"))

    def loss(self, step: Step) -> Tensor:
        """Return the mean of the cross-entropies of the passes, with the sums of gradients."""
        first = step.first_layer(self.first)
        ball = step.ball(self.norm)
        length = step.eps / 4 if self.step_size is None else self.step_size
        rows = step.uniform_start(ball, self.boxed_start)
        losses = []
        for _ in range(self.num_outer):
            loss, adjoint = first.train(step, rows, own=self.first_gradient == "both")
            losses.append(loss)
            rows = first.ascend(rows, adjoint, ball, self.num_inner, length)
            first.train_alone(rows, adjoint)
        return first.sums.as_loss(torch.stack(losses).mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class YopoTrades(Composition, CraftingRecipe):
    """TRADES+YOPO-m-n: TRADES whose examples move by passes through the first layer only.

    ``min_w mean CE(f_w(x), y) + beta KL(p_w(x) || p_w(x'))``, as in TRADES. From x with normal
    noise, x' is found by m passes, each of which gives the gradient p of the divergence at the
    output of the first layer h, and n steps along ``sgn(grad_x' <h(x'), p>)`` with the same p.
    Crafting gives no gradient of weights.

    An update costs 1 + m + 2 forwards and m + 2 backwards per sample. The m n rows that go through
    the first layer alone, forward and back, are counted apart, as ``first_layer_rows``.

    Attributes:
        beta: weight of the divergence. 0 is natural training.
        num_outer: m.
        num_inner: n.
        step_size: in the units of x. None: ``.007 / .031 eps``, as the authors have it.
        start: standard deviation of the normal noise that crafting starts from.
        first: as of ``Yopo``, in the mode of crafting.

    References:
        Zhang, Zhang, Lu, Zhu, Dong, "You only propagate once: accelerating adversarial training via
        maximal principle", NeurIPS 2019. Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically
        principled trade-off between robustness and accuracy", ICML 2019.
    """

    name: ClassVar[str] = "yopo-trades"
    paper: ClassVar[str] = PAPER
    eager: ClassVar[str] = EAGER
    beta: float = 1.0
    num_outer: int = 3
    num_inner: int = 4
    step_size: float | None = None
    start: float = 1e-3
    first: str | None = None

    @property
    def crafting(self) -> FirstLayerAscent:
        """Ascent of the divergence by the adjoint at the first layer's output."""
        return FirstLayerAscent(
            norm=self.norm,
            bn_mode=self.bn_mode,
            num_outer=self.num_outer,
            num_inner=self.num_inner,
            step_size=self.step_size,
            radii=0.007 / 0.031,
            start=NormalStart(self.start),
            first=self.first,
        )

    @property
    def objective(self) -> Regularised:
        """Cross-entropy plus beta times the divergence."""
        return Regularised(divergence_terms, self.beta)

    def fitted(self, model: nn.Module, rows: Tensor, seed: int) -> YopoTrades:
        """Return the recipe with the name of the network's first layer.

        Raises:
            ValueError: if ``first`` names no such module, or one that cannot be run alone.
        """
        return dataclasses.replace(self, first=first_layer(model, rows, self.first, self.bn_mode))
