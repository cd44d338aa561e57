"""Crafting that starts at a random output instead of a random input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn.functional import softmax

from art_ext.core.checks import (
    check_choice,
    check_count,
    check_flag,
    check_not_negative,
    check_positive,
)
from art_ext.training.cost import Cost
from art_ext.training.craft.ascent import ascend
from art_ext.training.craft.base import Craft
from art_ext.training.objectives.losses import soft_cross_entropy
from art_ext.training.passes import Gain
from art_ext.training.step import Step

VARIANTS = ("trades", "pgd")
STARTS = ("backward", "odi")
TARGETS = ("printed", "shifted")


@dataclass(frozen=True, kw_only=True)
class BackwardSmoothedAscent(Craft):
    """One step towards a random output, then steps of ascent.

    The recipe ``BackwardSmoothing`` documents the method and its arguments. With S = num_steps, a
    sample costs 1 + S forwards and backwards, and 1 forward more for f(x) if it is needed.
    """

    norm: str
    bn_mode: str
    gamma: float
    num_steps: int
    step_size: float | None
    points: int
    variant: str
    start: str
    target: str
    boxed_start: bool

    def __post_init__(self) -> None:
        check_flag("boxed_start", self.boxed_start)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        check_count("num_steps", self.num_steps, least=0)  # 0 is the initialisation "alone"
        check_count("points", self.points)
        check_not_negative("gamma", self.gamma)
        check_choice("variant", self.variant, VARIANTS)
        check_choice("start", self.start, STARTS)
        check_choice("target", self.target, TARGETS)

    def cost(self) -> Cost:
        """Return 1 + S passes and, if it is needed, the forward for f(x)."""
        return Cost(self.num_steps + 1 + self._needs_clean, self.num_steps + 1)

    @property
    def ascends_labels(self) -> bool:
        """True of the PGD variant."""
        return self.variant == "pgd"

    @property
    def _needs_clean(self) -> bool:
        return self.variant == "trades" or (self.start == "backward" and self.target == "shifted")

    def __call__(self, step: Step) -> Tensor:
        """Return (r, *S) examples."""
        with step.crafting(self.bn_mode):
            return self._crafted(step)

    def _crafted(self, step: Step) -> Tensor:
        """Return the examples, in the mode of crafting."""
        clean = step.crafting_logits(step.x, self.bn_mode) if self._needs_clean else None
        ball = step.ball(self.norm)
        length = step.eps if self.step_size is None else self.step_size
        first = self._first_gain(step, clean)
        first_ball = ball if self.boxed_start else ball.unboxed()
        rows = ascend(step, step.x, first, first_ball, 1, length, self.bn_mode)
        if not self.num_steps:
            rows = ball.into(rows)
        # without a random shift the minimum is x itself, where the gradient is rounding noise
        still = self.gamma == 0 and self.start == "backward" and clean is not None
        rows = step.x if still else rows
        if self.variant == "pgd" or clean is None:
            return ascend(
                step, rows, step.crafting_loss, ball, self.num_steps, length, self.bn_mode
            )
        away = partial(soft_cross_entropy, q=softmax(clean, dim=1))
        rows = ascend(step, rows, away, ball, self.num_steps, length, self.bn_mode)
        return step.x if still else rows

    def _first_gain(self, step: Step, clean: Tensor | None) -> Gain:
        """Return the gain of the first step, from logits (r, C) to (r,).

        It is minus the distance from the random targets.
        """

        def targets(classes: int) -> Tensor:
            return 2 * step.uniform((self.points, classes)) - 1  # (r, points, C) psi

        if self.start == "odi":
            return lambda logits: (logits * targets(logits.shape[1]).mean(dim=1)).sum(dim=1)
        if self.variant == "trades" and clean is not None:
            shifted = clean.unsqueeze(1) + self.gamma * targets(clean.shape[1])
            # the divergences from several targets have the gradient of that from their mean
            q = softmax(shifted, dim=2).mean(dim=1)
            return lambda logits: -soft_cross_entropy(logits, q)
        own = step.y.unsqueeze(1)

        def towards(logits: Tensor) -> Tensor:
            psi = targets(logits.shape[1])
            wanted = self.gamma * psi.gather(
                2, own.unsqueeze(1).expand(-1, self.points, 1)
            ).squeeze(2)
            if clean is not None:
                wanted = wanted + clean.gather(1, own)
            return -(logits.gather(1, own) - wanted).square().mean(dim=1)

        return towards
