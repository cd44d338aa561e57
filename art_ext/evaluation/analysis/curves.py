"""Robust accuracy as a function of the radius: the worst case of each model, and each attack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.metrics.intervals import wilson

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun


@dataclass(frozen=True)
class Point:
    """Robust accuracy at one radius.

    Attributes:
        eps: the radius.
        robust: fraction of all samples without a verified adversarial within it.
        low, high: its Wilson interval at 95 %.
        held: number of these samples.
    """

    eps: float
    robust: float
    low: float
    high: float
    held: int


@dataclass(frozen=True, eq=False)
class Curve:
    """Share of the samples of a model whose nearest verified adversarial is farther than a radius.

    It is a step curve: ``held[i]`` belongs to all radii from ``radius[i]`` on, up to
    ``radius[i + 1]``. Misclassified samples are not held anywhere, so that it begins at the clean
    accuracy.

    Attributes:
        model: name of the model.
        attack: name of the attack, or ``WORST_CASE`` for all attacks together. In a cascade an
            attack's curve is that after this attack and all before it.
        samples: number of samples.
        radius: (S,) positions of the steps, ascending. The first is 0, the last is ``end``, and the
            attacked eps are among them.
        held: (S,) int, number of samples without a verified adversarial within the radius.
        measured: (S,) bool, True if the curve is measured from this position up to the next one. It
            is an upper bound only elsewhere, except at ``points``.
        points: values at the attacked eps, ascending: those of the table.
        end: right end of the curve, a little past the largest eps.
        needs_gradients: True if the attack needs gradients. None for the worst case.
    """

    model: str
    attack: str
    samples: int
    radius: np.ndarray
    held: np.ndarray
    measured: np.ndarray
    points: tuple[Point, ...]
    end: float
    needs_gradients: bool | None

    @property
    def robust(self) -> np.ndarray:
        """(S,) robust accuracies, fractions of all samples."""
        return self.held / self.samples

    @property
    def low(self) -> np.ndarray:
        """(S,) lower ends of the Wilson intervals at 95 %."""
        return self._intervals[:, 0]

    @property
    def high(self) -> np.ndarray:
        """(S,) upper ends of the Wilson intervals at 95 %."""
        return self._intervals[:, 1]

    @cached_property
    def _intervals(self) -> np.ndarray:
        return np.array([wilson(held, self.samples) for held in self.held.tolist()])


def value_at(curve: Curve, radius: float) -> Point:
    """Return the value of a curve at a radius.

    Args:
        curve: the curve.
        radius: from 0 to ``curve.end``.

    Raises:
        ValueError: if the radius lies outside.
    """
    if not 0 <= radius <= curve.end:
        raise ValueError(f"radius must lie between 0 and {curve.end:g}, got {radius:g}")
    place = int(np.searchsorted(curve.radius, radius, side="right")) - 1
    return _point(float(radius), int(curve.held[place]), curve.samples)


def _point(eps: float, held: int, samples: int) -> Point:
    return Point(eps, held / samples, *wilson(held, samples), held)


def curves(one: LoadedRun) -> list[Curve]:
    """For each model the curve of the worst case, then that of each attack."""
    raise NotImplementedError


def to_csv(drawn: Iterable[Curve]) -> str:
    """Return curves as CSV with a header: model, attack, radius, robust, low, high, measured."""
    raise NotImplementedError
