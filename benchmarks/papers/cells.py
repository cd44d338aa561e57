"""Cells of a table, with their values by sample: estimates, and differences of two of them.

Shares on the same samples have Newcombe's paired interval, single shares Wilson's. Means, medians
and means of the first samples have a 95 % bootstrap on the paired samples, with a seed of its own.
Values of seeds have the t-interval. An exact value is its own interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_ext.benchmarks.papers.claims import Comparison, Side
from art_ext.core.metrics import wilson
from art_ext.core.metrics.intervals import paired_difference

Values = NDArray[np.float64]
RESAMPLES = 2000
SEED = 0
KINDS = ("share", "mean", "median", "first", "seeds", "exact")
FIRST = 0.91  # share of the samples that a cell of the kind "first" counts


@dataclass(frozen=True, eq=False)
class Cell:
    """The values of a cell.

    Attributes:
        kind: ``"share"`` of samples in %, ``"mean"`` or ``"median"`` over samples, ``"first"``
            for the mean over the 91 % of them with the smallest values, ``"seeds"`` for the mean
            over trainings, or ``"exact"``.
        keys: (n,) positions of the samples, or seeds, ascending.
        values: (n,) value of each. Those of a share are 0 or 1.
    """

    kind: str
    keys: NDArray[np.int64]
    values: Values

    def at(self, keys: NDArray[np.int64]) -> Values:
        """Return the values of some of the samples."""
        return self.values[np.searchsorted(self.keys, keys)]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: the number. NaN without a sample.
        low, high: ends of the interval. NaN if there is none.
        n: number of samples or seeds.
    """

    value: float
    low: float
    high: float
    n: int


def exact(value: float) -> Cell:
    """Return a cell that holds one number, which has no error."""
    return Cell("exact", np.zeros(1, np.int64), np.array([value]))


def estimate(cell: Cell) -> Estimate:
    """Return the value of a cell and its interval."""
    values, n = cell.values, len(cell.values)
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if cell.kind == "share":
        low, high = wilson(int(values.sum()), n)
        return Estimate(100 * float(values.mean()), 100 * low, 100 * high, n)
    if cell.kind == "exact":
        return Estimate(float(values[0]), float(values[0]), float(values[0]), n)
    low, high = _interval(cell.kind, values)
    return Estimate(float(_statistic(cell.kind)(values, axis=0)), low, high, n)


def margin(comparison: Comparison, cells: Mapping[tuple[str, str], Cell]) -> Estimate:
    """Return by how much the side that is claimed to be larger exceeds the other one.

    Args:
        comparison: two sides.
        cells: by row and column.
    """
    larger, smaller = comparison.sides
    offset = larger.offset - smaller.offset
    found = [(side, cells[side.row, side.column]) for side in comparison.sides if side.row]
    if len(found) == 1:
        side, cell = found[0]
        one = estimate(cell)
        factor = side.factor if side is larger else -side.factor
        low, high = sorted((factor * one.low + offset, factor * one.high + offset))
        return Estimate(factor * one.value + offset, low, high, one.n)
    return _shifted(_difference(found[0], found[1]), offset)


def _shifted(one: Estimate, offset: float) -> Estimate:
    return Estimate(one.value + offset, one.low + offset, one.high + offset, one.n)


def _difference(one: tuple[Side, Cell], other: tuple[Side, Cell]) -> Estimate:
    """Return the difference of two cells on the samples that both have."""
    (larger, a), (smaller, b) = one, other
    if "exact" in (a.kind, b.kind):
        x, y = estimate(a), estimate(b)
        value, low, high = (
            larger.factor * one - smaller.factor * other
            for one, other in ((x.value, y.value), (x.low, y.high), (x.high, y.low))
        )
        return Estimate(value, low, high, max(x.n, y.n))
    if (a.kind == "seeds") != (b.kind == "seeds"):
        raise ValueError(
            f"{larger.row}.{larger.column} and {smaller.row}.{smaller.column} must both be values"
            f" of seeds or of samples, got {a.kind} and {b.kind}"
        )
    keys = np.intersect1d(a.keys, b.keys)
    first, second = a.at(keys), b.at(keys)
    if not len(keys):
        return Estimate(math.nan, math.nan, math.nan, 0)
    if {a.kind, b.kind} == {"share"}:
        if larger.factor == smaller.factor == 1:
            return _of_shares(first > 0, second > 0)
        first, second = 100 * first, 100 * second
    kind = a.kind
    first, second = larger.factor * first, smaller.factor * second
    if kind in ("median", "first"):
        # the difference of medians, not the median of differences
        of = _statistic(kind)
        both = np.stack([first, second], axis=1)
        value = float(of(first, axis=0) - of(second, axis=0))
        low, high = _bootstrap(both, lambda rows, axis: -np.diff(of(rows, axis=axis))[..., 0])
        return Estimate(value, low, high, len(keys))
    low, high = _interval("seeds" if kind == "seeds" else "mean", first - second)
    return Estimate(float((first - second).mean()), low, high, len(keys))


def _of_shares(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Estimate:
    low, high = paired_difference(
        int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())
    )
    value = float(a.mean() - b.mean())
    return Estimate(100 * value, 100 * low, 100 * high, len(a))


def _statistic(kind: str) -> Callable[..., Any]:
    named: dict[str, Callable[..., Any]] = {"median": np.median, "first": _mean_of_first}
    return named.get(kind, np.mean)


def _mean_of_first(values: Values, axis: int) -> Any:
    """Return the mean of the smallest values, at the same number of samples for every attack."""
    count = max(1, int(FIRST * values.shape[axis]))
    return np.sort(values, axis=axis).take(range(count), axis=axis).mean(axis=axis)


def _interval(kind: str, values: Values) -> tuple[float, float]:
    """Return the 95 % interval of the mean or median of values, NaN for fewer than two."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    if kind == "seeds":
        from scipy.stats import t

        half = float(t.ppf(0.975, n - 1)) * float(values.std(ddof=1)) / math.sqrt(n)
        return float(values.mean()) - half, float(values.mean()) + half
    return _bootstrap(values, _statistic(kind))


def _bootstrap(values: Values, statistic: Callable[..., Any]) -> tuple[float, float]:
    """Return the ends between which 95 % of the resampled statistics lie."""
    draws = np.random.default_rng(SEED).integers(0, len(values), (len(values), RESAMPLES))
    with np.errstate(invalid="ignore"):  # too few successes in a resample are infinite
        low, high = np.quantile(statistic(values[draws], axis=0), (0.025, 0.975))
    return float(low), float(high)
