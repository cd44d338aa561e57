"""Points of a ball that crafting starts from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_flag, check_not_negative
from art_ext.core.geometry import Ball
from art_ext.training.step import Step

STARTS = ("uniform", "zero", "previous")
DELTA = "delta"  # name of the carried perturbation


class Start(ABC):
    """A rule for the points that crafting starts from."""

    @property
    def boxed(self) -> bool:
        """True if the points lie in the box."""
        return True

    @abstractmethod
    def __call__(self, step: Step, ball: Ball) -> Tensor:
        """Return (r, *S) points."""

    def end(self, step: Step, rows: Tensor) -> None:  # noqa: B027  # most need nothing
        """Keep what later minibatches need of the crafted rows (r, *S)."""


@dataclass(frozen=True)
class _BoxedStart(Start):
    """A start whose points are clamped to the box if ``boxed`` is True."""

    boxed: bool = True

    def __post_init__(self) -> None:
        check_flag("boxed_start", self.boxed)


class UniformStart(_BoxedStart):
    """A point drawn uniformly from the ball.

    Attributes:
        boxed: clamp the point to the box.
    """

    def __call__(self, step: Step, ball: Ball) -> Tensor:
        """Return (r, *S) points."""
        return step.uniform_start(ball, self.boxed)


@dataclass(frozen=True)
class NormalStart(Start):
    """The input with normal noise, projected onto ball and box.

    Attributes:
        deviation: standard deviation of the noise.
    """

    deviation: float

    def __post_init__(self) -> None:
        check_not_negative("start", self.deviation)

    def __call__(self, step: Step, ball: Ball) -> Tensor:
        """Return (r, *S) points."""
        return ball.into(step.x + self.deviation * step.normal_like_x())


@dataclass(frozen=True)
class ZeroStart(Start):
    """The input itself."""

    def __call__(self, step: Step, ball: Ball) -> Tensor:
        """Return the inputs (r, *S)."""
        return step.x


class PreviousStart(_BoxedStart):
    """The input with the perturbation of the previous minibatch: row i takes that of row i.

    The perturbation is 0 at first. A shorter minibatch takes the first rows.

    Attributes:
        boxed: clamp the point to the box.
    """

    def __call__(self, step: Step, ball: Ball) -> Tensor:
        """Return (r, *S) points."""
        delta = step.carried.get(DELTA)
        rows = step.x
        if delta is not None:
            if len(delta) < len(rows):  # a loader's minibatches may grow
                delta = torch.cat([delta, torch.zeros_like(rows[len(delta) :])])
            rows = rows + delta[: len(rows)]
        return ball.into(rows) if self.boxed else rows

    def end(self, step: Step, rows: Tensor) -> None:
        """Carry the perturbations to the next minibatch."""
        delta = rows - step.x
        kept = step.carried.get(DELTA)
        if kept is not None and len(kept) > len(delta):
            delta = torch.cat([delta, kept[len(delta) :]])
        step.carried[DELTA] = delta


def start_named(start: str, boxed: bool) -> Start:
    """Return the start of a name.

    Args:
        start: ``"uniform"``, ``"zero"`` or ``"previous"``.
        boxed: clamp the points to the box. That of ``"zero"`` is the input, which lies in it.

    Raises:
        ValueError: for another name, or if ``boxed`` is not a flag.
    """
    check_choice("start", start, STARTS)
    check_flag("boxed_start", boxed)
    if start == "zero":
        return ZeroStart()
    return UniformStart(boxed) if start == "uniform" else PreviousStart(boxed)
