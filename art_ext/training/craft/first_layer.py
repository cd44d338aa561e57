"""Crafting that sends most of its rows through the first layer only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn.functional import softmax

from art_ext.core.checks import check_count, check_not_negative
from art_ext.training.cost import Cost
from art_ext.training.craft.base import Craft
from art_ext.training.craft.starts import NormalStart
from art_ext.training.objectives.losses import soft_cross_entropy
from art_ext.training.step import Step


@dataclass(frozen=True, kw_only=True)
class FirstLayerAscent(Craft):
    """Ascent of ``KL(p(x) || p(x'))`` by the adjoint at the first layer's output.

    The recipe ``YopoTrades`` documents the method and its arguments.
    """

    norm: str
    bn_mode: str
    num_outer: int
    num_inner: int
    step_size: float | None
    radii: float
    start: NormalStart
    first: str | None

    def __post_init__(self) -> None:
        check_passes(self.num_outer, self.num_inner, self.step_size, self.first)

    def cost(self) -> Cost:
        """Return 1 + m forwards, one for p(x), m backwards, and m n rows of the first layer."""
        return Cost(1 + self.num_outer, self.num_outer, self.num_outer * self.num_inner)

    def __call__(self, step: Step) -> Tensor:
        """Return (r, *S) examples."""
        ball = step.ball(self.norm)
        length = self.radii * step.eps if self.step_size is None else self.step_size
        rows = self.start(step, ball)
        with step.crafting(self.bn_mode):
            p = softmax(step.crafting_logits(step.x, self.bn_mode), dim=1)
            gain = partial(soft_cross_entropy, q=p)
            first = step.first_layer(self.first)
            for _ in range(self.num_outer):
                adjoint = first.adjoint(rows, gain)
                rows = first.ascend(rows, adjoint, ball, self.num_inner, length)
        return rows


def check_passes(num_outer: int, num_inner: int, step_size: float | None, first: object) -> None:
    """Raise ValueError for numbers of passes or a step size out of range, or for no name."""
    if isinstance(first, bool) or not isinstance(first, (str, int, type(None))):
        raise ValueError(f"first must be the name of a module, got {type(first).__name__}")
    check_count("num_outer", num_outer)
    check_count("num_inner", num_inner)
    if step_size is not None:
        check_not_negative("step_size", step_size)
