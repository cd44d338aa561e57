"""Models against a baseline, on the page of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.wording import class_name, counted, radius, shortened
from art_ext.evaluation.analysis.baseline import (
    CELLS,
    Against,
    Distances,
    Entry,
    Lost,
    against,
    find_baseline,
)
from art_ext.evaluation.analysis.examples import NOT_SHOWN, Examples
from art_ext.evaluation.analysis.records import kept_examples
from art_ext.evaluation.analysis.table import LETTERS, number, percent
from art_ext.evaluation.report.gallery import NEAREST
from art_ext.evaluation.report.material import Material, Section
from art_ext.evaluation.report.pictures import Picture, Tile, are_images, make_sheet
from art_ext.evaluation.report.rendering import Cell, Column, Line

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun

LEVELS = 5  # shades of a grid of distances
GAP = 1  # cells between the grid and its strips
STRIP = 3  # cells, width of a strip
GRID = CELLS + GAP + STRIP  # cells of a side, with the strip
MODELS_NAMED = 3  # in the gist
SMALL = 0.001  # smaller p-values are not told apart

COLUMNS = (
    Column("Model", "", False),
    Column("eps", "Radius of the ball. Without one the row is before any attack."),
    Column("Accuracy", "Clean or robust accuracy of the model, the worst case over its panel."),
    Column("Baseline", "The same of the baseline."),
    Column(
        "Difference",
        "Model minus baseline in percentage points, where both have the same samples. Below it the"
        " interval at 95 % over paired samples (Newcombe, method 10).",
    ),
    Column(
        "p",
        "Two-sided p-value of McNemar's exact test. It counts the samples that only one of the two"
        " loses.",
    ),
)


@dataclass(frozen=True)
class Grid:
    """Distances of the nearest adversarials for two models, as a picture.

    Attributes:
        model: the model. Its distances ascend upwards, those of the baseline to the right.
        end: largest distance.
        shades: SVG paths of the cells, from the lightest shade to the darkest.
        numbers: words and counts, the same without a picture.
    """

    model: str
    end: str
    shades: tuple[str, ...]
    numbers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False)
class Loss:
    """A sample that only one of two models loses.

    Attributes:
        loser: the model that loses it.
        position: in the data, of both runs if they differ.
        label: its class.
        distance: of the nearest adversarial. 0: no attack was needed.
        original: the sample. None if the run kept no image of it.
        tile: the adversarial. None if the run kept none, or no attack was needed.
        attack: that found it.
        predicted: the class of the adversarial, if the run recorded it.
    """

    loser: str
    position: str
    label: str
    distance: float
    original: Picture | None = None
    tile: Tile | None = None
    attack: str = ""
    predicted: str = ""


@dataclass(frozen=True, eq=False)
class Losses:
    """Samples that only one of two models loses.

    Attributes:
        model: the model.
        said: their numbers in words.
        shown, listed: those whose images were kept, and the others.
    """

    model: str
    said: str
    shown: tuple[Loss, ...]
    listed: tuple[Loss, ...]


def section(material: Material) -> Section | None:
    """Return differences, distances and lost samples. None for a single model."""
    found = against(material.loaded, material.baseline)
    if not found:
        return None
    base = find_baseline(material.loaded, material.baseline)
    baseline = base[1]
    content = {
        "baseline": baseline,
        "differences": _lines(found),
        "difference_columns": COLUMNS,
        "grids": [_grid(one.model, baseline, one.distances) for one in found if one.distances],
        "grid_side": GRID,
        "losses": [_losses(one, base) for one in found if one.eps is not None],
    }
    return Section("comparison", f"Comparison with {baseline}", content, _gist(found))


def _gist(found: Sequence[Against]) -> str:
    """Return the differences at the largest eps in a few words."""
    told = []
    for one in found[:MODELS_NAMED]:
        last = one.entries[-1]
        share = "not comparable" if last.paired is None else f"{_points(last)} points"
        told.append(f"{one.model} {share}")
    more = [f"{len(found) - MODELS_NAMED} more"] if len(found) > MODELS_NAMED else []
    return ", ".join([*told, *more])


def _points(entry: Entry) -> str:
    return "" if entry.paired is None else f"{100 * entry.paired.difference:+.1f}"


def _lines(found: Sequence[Against]) -> list[Line]:
    return [
        Line(
            [
                Cell(one.model, one.model.lower(), again=place > 0),
                Cell("clean" if entry.eps is None else radius(entry.eps), entry.eps or 0.0),
                Cell(percent(entry.value), entry.value),
                Cell(percent(entry.baseline), entry.baseline),
                *_difference(entry),
            ]
        )
        for one in found
        for place, entry in enumerate(one.entries)
    ]


def _difference(entry: Entry) -> tuple[Cell, Cell]:
    paired = entry.paired
    if paired is None:
        return Cell("not comparable", None, entry.reason), Cell("-", None)
    note = f"{100 * paired.low:+.1f} to {100 * paired.high:+.1f}"
    return (
        Cell(_points(entry), paired.difference, note),
        Cell(f"{paired.p_value:.3f}" if paired.p_value >= SMALL else f"< {SMALL}", paired.p_value),
    )


def _grid(model: str, baseline: str, distances: Distances) -> Grid:
    counts = distances.counts
    most = max(1, int(_drawn(counts).max()))
    shades: list[list[str]] = [[] for _ in range(LEVELS)]
    for across, up in np.argwhere(_drawn(counts)).tolist():
        share = math.log1p(int(counts[across, up])) / math.log1p(most)
        shades[max(1, math.ceil(LEVELS * share)) - 1].append(_cell(across, up))
    nothing = counts[CELLS]
    own, base = (shortened(name, LETTERS) for name in (model, baseline))
    numbers = (
        (f"farther for {own}", int(np.triu(counts, 1)[:CELLS, :CELLS].sum())),
        (f"farther for {base}", int(np.tril(counts, -1)[:CELLS, :CELLS].sum())),
        ("in the same cell", int(np.trace(counts[:CELLS, :CELLS]))),
        (f"found for {base} only", int(counts[:CELLS, CELLS].sum())),
        (f"found for {own} only", int(nothing[:CELLS].sum())),
        ("found for neither", int(nothing[CELLS])),
    )
    end = number(distances.end, 3)
    return Grid(model, end, tuple("".join(cells) for cells in shades), numbers)


def _drawn(counts: np.ndarray) -> np.ndarray:
    """Return the counts without that of the samples with no adversarial for either model."""
    drawn = counts.copy()
    drawn[CELLS, CELLS] = 0
    return drawn


def _cell(across: int, up: int) -> str:
    """Return the path of a cell. The last column and the last row are strips."""
    left, width = (CELLS + GAP, STRIP) if across == CELLS else (across, 1)
    top, height = (0, STRIP) if up == CELLS else (GRID - 1 - up, 1)
    return f"M{left} {top}h{width}v{height}h-{width}z"


def _losses(one: Against, baseline: tuple[LoadedRun, str]) -> Losses:
    shown: list[Loss] = []
    listed: list[Loss] = []
    for own, model in ((one.one, one.model), baseline):
        mine = [lost for lost in one.lost if lost.model == model]
        kept = None
        if mine and are_images(own.run):
            kept = kept_examples(own, model, one.eps or 0.0, [lost.index for lost in mine])
        for lost in mine:
            loss = _loss(lost, own, kept)
            (listed if loss.original is None else shown).append(loss)
    said = (
        f"At eps {radius(one.eps or 0.0)} {shortened(one.model, LETTERS)} alone loses"
        f" {counted(one.lost_by_model, 'sample')}, {shortened(baseline[1], LETTERS)} alone"
        f" {counted(one.lost_by_baseline, 'sample')}."
    )
    return Losses(one.model, said, tuple(shown), tuple(listed))


def _loss(lost: Lost, own: LoadedRun, kept: Examples | None) -> Loss:
    """Return a lost sample, with images if its run kept the original and an adversarial."""
    names = own.run["data"]["class_names"]
    moved = "" if lost.index == lost.other_index else f" ({lost.other_index} in the other run)"
    label = class_name(lost.label, names)
    loss = Loss(lost.model, f"{lost.index}{moved}", label, lost.distance)
    if kept is None or lost.index not in kept.originals:
        return loss
    attacks = own.blocks.attacks(lost.model)
    found = kept.nearest(lost.model, attacks, lost.index)
    if found is None and lost.distance:
        return loss
    row = {} if found is None else {lost.index: found}
    sheet = make_sheet(own.run, kept, lost.model, [lost.index], {NEAREST: row})
    (_, original), (tile,) = sheet.originals[0], sheet.rows[0][1]
    if found is None:
        return replace(loss, original=original)
    attack = next(
        name for name in attacks if kept.found.get((lost.model, name), {}).get(lost.index) is found
    )
    predicted = "" if found.label == NOT_SHOWN else class_name(found.label, names)
    return replace(loss, original=original, tile=tile, attack=attack, predicted=predicted)
