"""Robust accuracy as a function of the radius: the worst case of each model, and each attack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.core.metrics.intervals import wilson
from art_ext.evaluation.analysis.blocks import WORST_CASE, Blocks, stopped_early
from art_ext.evaluation.analysis.radii import clean_failure, has_detector, smallest_radii
from art_ext.evaluation.analysis.table import counted_attacks, csv_rows

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun

MARGIN = 1.1  # right end of a curve, in multiples of the largest eps
STEPS = 1000  # most steps of a curve besides its attacked eps: more are finer than a picture
CSV_COLUMNS = ("model", "attack", "radius", "robust", "low", "high", "measured")


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


def measured_at(curve: Curve, radii: np.ndarray) -> np.ndarray:
    """Return where a curve is measured: between its steps, at 0 and at the attacked eps.

    Args:
        curve: the curve.
        radii: (T,) radii from 0 to ``curve.end``.

    Returns:
        (T,) bool, False where the curve is an upper bound only.
    """
    between = curve.measured[np.searchsorted(curve.radius, radii, side="right") - 1]
    exact = np.isin(radii, [0.0, *(point.eps for point in curve.points)])
    return np.asarray(between | exact)


def _point(eps: float, held: int, samples: int) -> Point:
    return Point(eps, held / samples, *wilson(held, samples), held)


def worst_case_radii(blocks: Blocks, model: str) -> np.ndarray:
    """(N,) smallest radius of a verified adversarial of each sample of a model, by any attack.

    Args:
        blocks: records of a run.
        model: one of its models.

    Returns:
        The radii in the order of the samples' positions: 0 for samples that fail without an attack,
        inf for samples without an adversarial. With a detector, the adversarials that it accepts
        count.
    """
    positions = blocks.samples(model).index.to_numpy()
    return smallest_radii(blocks, model)[positions]


def curves(one: LoadedRun) -> list[Curve]:
    """For each model of a run the curve of the worst case, then that of each attack.

    Up to ``STEPS`` steps of a model are exact. Of more, the curves change at ``STEPS`` positions of
    equal distance only, and at the attacked eps. Their values at these positions are exact.
    """
    return [curve for model in one.blocks.models for curve in _of_model(one, model)]


def _of_model(one: LoadedRun, model: str) -> Iterator[Curve]:
    blocks, run = one.blocks, one.run
    positions = blocks.samples(model).index.to_numpy()
    own = {
        attack: smallest_radii(blocks, model, [attack])[positions]
        for attack in blocks.attacks(model)
    }
    end = MARGIN * max(run["settings"]["eps"])
    grid = np.unique(np.concatenate(list(own.values())))
    grid = grid[grid < end]
    if len(grid) > STEPS:
        grid = np.linspace(0, end, STEPS + 1)
    searched = {attack: _searched(blocks, run, model, attack) for attack in own}
    for name in (WORST_CASE, *own):
        counted = list(own) if name == WORST_CASE else counted_attacks(run, name)
        radii = np.sort(np.minimum.reduce([own[attack] for attack in counted]))
        eps = sorted({key[2] for key in blocks.keys(model, None if name == WORST_CASE else name)})
        held_on_grid = _held(radii, grid)
        steps = grid[held_on_grid < np.concatenate([[len(radii)], held_on_grid[:-1]])]
        radius = np.unique(np.concatenate([[0.0, end], eps, steps]))
        access = run["attacks"].get(name, {}).get("access", "unknown")
        yield Curve(
            model=model,
            attack=name,
            samples=len(radii),
            radius=radius,
            held=_held(radii, radius),
            measured=(radius < eps[-1]) & any(searched[attack] for attack in counted),
            points=tuple(
                _point(one, int(held), len(radii))
                for one, held in zip(eps, _held(radii, np.array(eps)), strict=True)
            ),
            end=end,
            needs_gradients=None if access == "unknown" else access == "gradients",
        )


def _held(radii: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return how many of sorted radii are larger than each of some radii."""
    return len(radii) - np.searchsorted(radii, at, side="right")


def _searched(blocks: Blocks, run: Mapping[str, Any], model: str, attack: str) -> bool:
    """Return True if an attack spent its whole budget on the nearest adversarial of each sample.

    With a detector it must know it, since the nearest adversarial must be accepted.
    """
    entry = run["attacks"][attack]
    full_budget = entry["nearest"] and entry["stops_early"] and not stopped_early(run, attack)
    if not full_budget or (has_detector(blocks, model) and not entry.get("aware_of")):
        return False
    missed = np.ones(len(blocks.nothing(model)), dtype=bool)
    for key in blocks.keys(model, attack):
        tried = blocks.column(key, "attacked") | clean_failure(blocks, key)
        missed &= ~blocks.spread(key, tried)
    positions = blocks.samples(model).index.to_numpy()
    return not missed[positions].any()


def to_csv(drawn: Iterable[Curve]) -> str:
    """Return curves as CSV with a header, one row for each position of a curve.

    The columns are ``CSV_COLUMNS``. ``measured`` is 1 where the curve is measured from the radius
    up to that of the next row, at an attacked eps and at 0. It is 0 at upper bounds.
    """
    rows = []
    for curve in drawn:
        measured = measured_at(curve, curve.radius).astype(int)
        columns = (curve.radius, curve.robust, curve.low, curve.high, measured)
        for values in zip(*(column.tolist() for column in columns), strict=True):
            rows.append((curve.model, curve.attack, *values))
    return csv_rows(CSV_COLUMNS, (dict(zip(CSV_COLUMNS, row, strict=True)) for row in rows))
