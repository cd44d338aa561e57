"""Learning rate schedules, as factors of the optimiser's own rate, and linear warm-up.

A schedule is a function of the fractional epoch t in [0, T). It has no state, so a resumed run
needs none.

References:
    Rice, Wong, Kolter, "Overfitting in adversarially robust deep learning", ICML 2020 (piecewise).
    Wong, Rice, Kolter, "Fast is better than free", ICLR 2020 (cyclic).
    Chen, "Evaluating and Understanding Adversarial Robustness in Deep Learning" (dissertation),
    2021, chapter 5 (halving). Pang, Yang, Dong, Su, Zhu, "Bag of tricks for adversarial training",
    ICLR 2021 (warm-up).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from art_ext.core.checks import check_not_negative, check_positive
from art_ext.training.naming import construct

Schedule = Callable[[float, float], float]


class ScheduleObject(Protocol):
    """A schedule with a state, such as those of ``torch.optim.lr_scheduler``."""

    @property
    def step(self) -> Callable[..., Any]:
        """The method that sets the next rate."""


@dataclass(frozen=True)
class Constant:
    """Factor 1 throughout."""

    def __call__(self, t: float, total: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Piecewise:
    """Power of ``factor`` whose exponent is the number of milestones passed.

    Attributes:
        milestones: in epochs, or as fractions of the whole run if all are below 1.
        factor: the drop at each.
    """

    milestones: Sequence[float] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        values = self.milestones if isinstance(self.milestones, Sequence) else (self.milestones,)
        object.__setattr__(self, "milestones", tuple(values))
        for milestone in self.milestones:
            check_positive("milestones", milestone)
        check_positive("factor", self.factor)

    def __call__(self, t: float, total: float) -> float:
        """Return the factor at epoch t of ``total``."""
        shares = all(milestone < 1 for milestone in self.milestones)
        ends = [milestone * total if shares else milestone for milestone in self.milestones]
        return float(self.factor ** sum(t >= end for end in ends))


@dataclass(frozen=True)
class Cosine:
    """``(1 + cos(pi t / T)) / 2``."""

    def __call__(self, t: float, total: float) -> float:
        """Return the factor at epoch t of ``total``."""
        return (1 + math.cos(math.pi * t / total)) / 2


@dataclass(frozen=True)
class Cyclic:
    """Linear rise from 0 to 1 at the fraction ``peak`` of the run, and fall to 0 at its end.

    The optimiser's rate is the largest one.
    """

    peak: float = 0.5

    def __post_init__(self) -> None:
        check_positive("peak", self.peak)
        if self.peak >= 1:
            raise ValueError(
                "peak must lie in (0, 1), the fraction of the run at which the rate is highest, got"
                f" {self.peak}"
            )

    def __call__(self, t: float, total: float) -> float:
        """Return the factor at epoch t of ``total``."""
        share = t / total
        return share / self.peak if share < self.peak else max(0.0, (1 - share) / (1 - self.peak))


@dataclass(frozen=True)
class Halving:
    """Factor 1 until epoch ``after``, then half of the previous epoch's factor.

    Attributes:
        after: in epochs, or as a fraction of the run if below 1: .75 is 75 epochs of 100.
    """

    after: float = 0.75

    def __post_init__(self) -> None:
        check_not_negative("after", self.after)

    def __call__(self, t: float, total: float) -> float:
        """Return the factor at epoch t of ``total``."""
        after = self.after * total if self.after < 1 else self.after
        return 1.0 if t < after else 0.5 ** (math.floor(t - after) + 1)


SCHEDULES: dict[str, type] = {
    "constant": Constant,
    "piecewise": Piecewise,
    "cosine": Cosine,
    "cyclic": Cyclic,
    "halving": Halving,
}


def make_schedule(name: str, **arguments: Any) -> Schedule:
    """Create a schedule by name.

    Raises:
        ValueError: for an unknown name or argument (the nearest match is named), or a value out of
            range.
    """
    schedule: Schedule = construct("schedule", SCHEDULES, name, arguments)
    return schedule


def warm_up(t: float, epochs: float) -> float:
    """Return the factor ``min(1, t / epochs)`` of a linear warm-up from 0. Without warm-up it is 1.

    It is never above 1. In the reference implementation the radius overshoots in the last epoch of
    the warm-up.
    """
    return 1.0 if t >= epochs else t / epochs
