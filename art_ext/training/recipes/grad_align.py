"""GradAlign: one step of crafting, and input gradients that agree around x."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_flag, check_not_negative, check_positive
from art_ext.training.cost import Cost
from art_ext.training.craft import CrossEntropyAscent, UniformStart
from art_ext.training.modes import BN_MODES
from art_ext.training.recipes.base import BallRecipe
from art_ext.training.step import Step

VARIANTS = ("detached", "both")
TABLE = ((4, 0.063), (8, 0.2), (10, 0.356), (12, 0.632))  # (eps in 1/255, weight), the authors'


@dataclass(frozen=True, kw_only=True, eq=False)
class GradAlign(BallRecipe):
    """GradAlign: Fast training with a penalty on input gradients that change inside the ball.

        ``min_w mean CE(f_w(x'), y) + weight (1 - mean cos(g(x), g(x + eta)))``, ``g(z) = grad_z
        CE(f_w(z), y)``, ``eta ~ U(ball)``

    The mean of the cosines is over the samples whose two gradients
    are both non-zero. If there are none, the penalty is 0. Label smoothing applies to the loss at
    x', not to g. The history holds the mean cosine of the epoch as ``gradient_cosine``.

    With ``variant="detached"``, x' is an FGSM step from x itself. Its gradient serves as g(x) and
    is a constant, so only g(x + eta) is trained. With ``variant="both"``, x' is an FGSM step from a
    random point of the ball, and both gradients come from training forwards of their own.

    g(x + eta) is differentiated with respect to the weights. Such a row counts as two backwards:
    one that makes the gradient, and one in which the loss differentiates its forward again. An
    update costs 3 forwards and 4 backwards per sample with ``"detached"``, and 4 and 6 with
    ``"both"``. With weight 0 there is no penalty, and it costs 2 of each.

    Attributes:
        weight: of the penalty. None: that of the authors' table (.063, .2, .356 and .632 at 4, 8,
            10 and 12 of 255), with straight lines between. It must be given for other radii and
            for norms other than L-inf.
        variant: ``"detached"``, the authors', or ``"both"``, that of Chen et al.
        step_size: in the units of x. None: ``1.25 eps`` for ``"detached"``, eps for ``"both"``.
        boxed_start: True clamps the random points to the box: x + eta, and the start of ``"both"``.
            The authors do not.
        bn_mode: mode of BatchNorm while crafting, as of other recipes. None: ``"train"`` for
            ``"detached"``, ``"eval"`` for ``"both"``.

    References:
        Andriushchenko, Flammarion, "Understanding and improving fast adversarial training", NeurIPS
        2020. Chen, Cheng, Gan, Gu, Liu, "Efficient robust training via backward smoothing", AAAI
        2022 (``variant="both"``).
    """

    name: ClassVar[str] = "grad-align"
    needs: ClassVar[str] = "labels, eps, weight if eps is not 4 to 12 of 255"
    paper: ClassVar[str] = (
        "Andriushchenko, Flammarion. Understanding and improving fast adversarial training."
        " NeurIPS 2020."
    )
    eager: ClassVar[str] = "whose loss differentiates input gradients"
    weight: float | None = None
    variant: str = "detached"
    step_size: float | None = None
    boxed_start: bool = False
    bn_mode: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("variant", self.variant, VARIANTS)
        check_flag("boxed_start", self.boxed_start)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        if self.weight is None:
            object.__setattr__(self, "weight", weight_at(self.eps, self.norm))
        check_not_negative("weight", self.strength)
        if self.bn_mode is None:
            usual = "train" if self.variant == "detached" else "eval"
            object.__setattr__(self, "bn_mode", usual)
        check_choice("bn_mode", self.mode, BN_MODES)

    @property
    def strength(self) -> float:
        """Weight of the penalty."""
        return self.weight or 0.0

    @property
    def mode(self) -> str:
        """Mode of BatchNorm while crafting."""
        return str(self.bn_mode)

    def cost(self) -> Cost:
        """Return the rows of crafting, of the training forward, and of the two gradients."""
        if not self.strength:
            return Cost(2, 2)
        return Cost(3, 4) if self.variant == "detached" else Cost(4, 6)

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy of the examples plus the weighted penalty."""
        x_adv, gradient = self._crafted(step)
        step.count_backward(x_adv)
        loss = step.mean(step.cross_entropy(step.forward(x_adv)))
        if not self.strength:
            return loss
        gain = step.hard_cross_entropy
        if gradient is None:
            gradient = step.training_gradient(step.x, gain)
        other = step.uniform_start(step.ball(self.norm), self.boxed_start)
        return loss + self.strength * misalignment(
            step, gradient, step.training_gradient(other, gain)
        )

    def _crafted(self, step: Step) -> tuple[Tensor, Tensor | None]:
        """Return the examples (r, *S), and g(x) if crafting has taken it."""
        if self.variant == "detached":
            length = 1.25 * step.eps if self.step_size is None else self.step_size
            gradient, _ = step.input_gradient(step.x, step.hard_cross_entropy, self.mode)
            return step.ball(self.norm).step(step.x, gradient, length), gradient
        ascent = CrossEntropyAscent(
            norm=self.norm,
            bn_mode=self.mode,
            num_steps=1,
            step_size=self.step_size,
            radii=1.0,
            start=UniformStart(self.boxed_start),
        )
        return ascent(step), None


def misalignment(step: Step, first: Tensor, second: Tensor) -> Tensor:
    """Return this process' part of ``1 - mean cos(first, second)`` for gradients (r, *S).

    Samples with a gradient that is zero do not count.
    """
    first = first.flatten(1)
    second = second.flatten(1)
    counted = (first != 0).any(dim=1) & (second != 0).any(dim=1)
    first = _scaled(first, counted)
    second = _scaled(second, counted)
    cosines = (first * second).sum(dim=1) / (first.norm(dim=1) * second.norm(dim=1))
    share = step.total_mean(counted.to(cosines.dtype))
    share = torch.where(share > 0, share, 1)
    step.log["gradient_cosine"] = step.total_mean(torch.where(counted, cosines, 0)) / share
    return step.mean(torch.where(counted, 1 - cosines, 0)) / share


def _scaled(gradients: Tensor, counted: Tensor) -> Tensor:
    """Divide gradients (r, d) by their largest entries, so that squares of small ones stay above 0.

    Rows that do not count become ones, because the length of a zero row has no derivative.
    """
    rows = torch.where(counted.unsqueeze(1), gradients, 1)
    return rows / rows.detach().abs().amax(dim=1, keepdim=True)


def weight_at(eps: float, norm: str) -> float:
    """Return the weight of the authors' table for a radius in L-inf.

    Raises:
        ValueError: outside the table.
    """
    radius = round(255 * eps, 9)
    radii = [one for one, _ in TABLE]
    if norm != "linf" or not radii[0] <= radius <= radii[-1]:
        raise ValueError(
            "weight must be given for radii outside 4/255 to 12/255 in linf, the authors' table,"
            f" got none for eps={eps} in {norm}"
        )
    place = min(bisect(radii, radius), len(TABLE) - 1)
    (low, small), (high, large) = TABLE[place - 1 : place + 1]
    return small + (large - small) * (radius - low) / (high - low)
