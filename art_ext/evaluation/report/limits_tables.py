"""Tables of a run on limits: constants of the generator, robustness of the models, and bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from art_ext.core.wording import class_name, counted, radius
from art_ext.evaluation.analysis.limits import (
    BoundRow,
    ClassifierBound,
    Limits,
    LipschitzRow,
    ModelRow,
    Share,
)
from art_ext.evaluation.analysis.limits_findings import is_contradicted
from art_ext.evaluation.analysis.table import csv_rows, number, percent
from art_ext.evaluation.report.rendering import Cell, Column, Line, interval, known
from art_ext.storage.evaluation import LIMITS_TABLES

Table = tuple[list[Column], list[Line]]

THEOREM = "this classifier (Theorem 4.4.3)"
COLUMNS = (
    Column("Model", "", False),
    Column("eps", "Radius of the L2 ball around each sample, in the units of the input."),
    Column(
        "Clean accuracy",
        "Share of the samples that the model classifies correctly before any attack. Below it its"
        " Wilson interval at 95 %, as below every share.",
    ),
    Column(
        "Risk",
        "Share of fresh images of the generator that the model misclassifies. The label of an image"
        " is the class that the generator was to make.",
    ),
    Column("Class risks", "Smallest and largest risk of a class."),
    Column(
        "PGD",
        "Unconstrained robustness under L2 PGD without random start, alone: share of the samples"
        " that are classified correctly and on which it did not succeed within eps.",
    ),
    Column("Auto-PGD", "Unconstrained robustness under Auto-PGD on the margin, alone."),
    Column(
        "Unconstrained",
        "Unconstrained robustness under all attacks together. The in-distribution adversarials are"
        " among them, so that it is never above the in-distribution robustness.",
    ),
    Column(
        "Optimised start",
        "In-distribution robustness: share of the samples that are classified correctly and for"
        " which no misclassified image of the generator was found within eps. Its attack starts at"
        " latents that were optimised for the sample.",
        field="optimise",
    ),
    Column(
        "Given start",
        "In-distribution robustness under the attack that starts at the latents from which the"
        " sample was made.",
        field="given",
    ),
    Column("In-distribution", "In-distribution robustness under both starts together."),
    Column(
        "Not represented",
        "Share of the samples without a success whose nearest start is farther than eps. The"
        " generator does not describe them, and they count as robust only for want of a start.",
    ),
    Column(
        "Without these", "In-distribution robustness among the other samples.", field="represented"
    ),
    Column(
        "Start distance",
        "Median L2 distance between a sample and its optimised start. A given start lies at"
        " distance 0 and is left out.",
    ),
)


# ---- Table 4.5


def robustness_table(limits: Limits) -> Table:
    """Return the robustness of each model at each eps."""
    columns = [column for column in COLUMNS if _has(limits.rows, column)]
    lines = [
        Line(_cells(row, columns), {"model": row.model, "eps": row.eps}) for row in limits.rows
    ]
    return columns, lines


def _has(rows: Sequence[ModelRow], column: Column) -> bool:
    """Return False for a column that says nothing about these rows."""
    if column.field == "represented":
        return any(row.not_represented.count for row in rows)
    return not column.field or any(getattr(row, column.field) is not None for row in rows)


def _cells(row: ModelRow, columns: Sequence[Column]) -> list[Cell]:
    smallest = min((share.value for share in row.class_risks), default=math.nan)
    largest = max((share.value for share in row.class_risks), default=math.nan)
    cells = (
        Cell(row.model, row.model.lower()),
        Cell(radius(row.eps), row.eps),
        _share(row.clean),
        replace(_share(row.risk, 2), note=_fine(row.risk.low, row.risk.high)),
        Cell(_fine(smallest, largest), known(largest)),
        _share(row.pgd),
        _share(row.auto_pgd),
        _share(row.unconstrained),
        _share(row.optimise),
        _share(row.given),
        _share(row.in_distribution),
        _share(row.not_represented),
        _share(row.represented),
        Cell(number(row.start_distance, 3), known(row.start_distance)),
    )
    own = dict(zip(COLUMNS, cells, strict=True))
    return [own[column] for column in columns]


def _fine(low: float, high: float) -> str:
    """Return two small fractions as percentages."""
    return f"{100 * low:.2f} to {100 * high:.2f}"


def _share(share: Share | None, digits: int = 1) -> Cell:
    if share is None or math.isnan(share.value):
        return Cell(percent(None), None)
    text = f"{100 * share.value:.{digits}f} %"
    return Cell(text, share.value, interval(share.low, share.high))


# ---- Table 4.3


def constants_table(limits: Limits) -> Table:
    """Return the constant of each class from each estimator."""
    return _constant_columns(limits), list(_constant_lines(limits))


def _constant_columns(limits: Limits) -> list[Column]:
    meanings = {
        "sampled": "Largest ratio of the distances of two images and of their latents over random"
        " neighbours in the ball (Algorithm 7). Below it the standard deviation over repeats.",
        "spectral": "Largest singular value of the Jacobian, by Lanczos iteration.",
        "ascent": "Largest ratio in the ball that gradient ascent found from the other two.",
    }
    return [
        Column("Class", "", False),
        *(Column(f"{name} L", meanings[name]) for name in limits.estimators),
        *([Column("Ratio", _RATIO)] if _compared(limits.estimators) else []),
    ]


_RATIO = "The spectral value over the sampled one."


def _compared(estimators: Sequence[str]) -> bool:
    return {"sampled", "spectral"} <= set(estimators)


def _constant_lines(limits: Limits) -> Iterable[Line]:
    names = limits.facts.get("class_names")
    by_class: dict[int, dict[str, LipschitzRow]] = {}
    for row in limits.lipschitz:
        by_class.setdefault(row.label, {})[row.estimator] = row
    for label, own in sorted(by_class.items()):
        cells = [Cell(class_name(label, names), f"{label:06d}")]
        cells += [_constant(own.get(name)) for name in limits.estimators]
        if _compared(limits.estimators):
            ratio = own["spectral"].value / own["sampled"].value
            cells.append(Cell(number(ratio, 2), known(ratio)))
        yield Line(cells)


def _constant(row: LipschitzRow | None) -> Cell:
    if row is None:
        return Cell(number(None), None)
    deviation = "" if math.isnan(row.deviation) else f"± {number(row.deviation, 3)}"
    return Cell(number(row.value, 3), known(row.value), deviation)


def costs(rows: Sequence[LipschitzRow]) -> Iterable[str]:
    """Yield a sentence for each estimator: what it evaluated, and what it says about itself."""
    for estimator in dict.fromkeys(row.estimator for row in rows):
        own = [row for row in rows if row.estimator == estimator]
        neighbours = (
            f" with {counted(own[0].num_neighbours, 'neighbour')} each"
            if own[0].num_neighbours
            else ""
        )
        repeats = f", mean of {counted(own[0].repeats, 'repeat')}" if own[0].repeats > 1 else ""
        notes = "".join(f" {note}" for note in dict.fromkeys(row.note for row in own) if note)
        yield (
            f"{estimator}: {counted(own[0].num_latents, 'latent')} of each class{neighbours}"
            f"{repeats}. {counted(sum(row.rows for row in own), 'row')} of the generator in"
            f" {number(sum(row.seconds for row in own))} seconds.{notes}"
        )


# ---- the check of the theory


def expansion_table(limits: Limits, models: Sequence[str]) -> Table:
    """Return the latents near an error of each model and class that has one.

    Args:
        limits: the results.
        models: those to show.
    """
    columns = [
        Column("Model", "", False),
        Column("Class", "", False),
        Column("Risk", "Share of the latents of the class whose image is misclassified."),
        Column(
            "Near an error",
            "Share of the latents within the radius of a misclassified one. A sample holds few"
            " points of the error region, so it is a lower estimate of the region's expansion.",
        ),
        Column(
            "At least",
            "Phi(Phi^-1(risk) + radius), which the expansion of any error region has at least.",
        ),
    ]
    names = limits.facts.get("class_names")
    lines = [
        Line(
            [
                Cell(row.model, row.model.lower()),
                Cell(class_name(row.label, names), f"{row.label:06d}"),
                *(
                    Cell(f"{100 * value:.2f} %", value)
                    for value in (row.risk, row.share, row.least)
                ),
            ]
        )
        for row in limits.expansions
        if row.model in models
    ]
    return columns, lines


# ---- the bounds


def bounds_table(limits: Limits, models: Sequence[str]) -> Table:
    """Return the bounds beside the robustness that they bound, one column for each estimator.

    Args:
        limits: the results.
        models: those to show.
    """
    rows = [row for row in limits.rows if row.model in models]
    return _bound_columns(limits), list(_bound_lines(rows, limits.estimators))


def _bound_columns(limits: Limits) -> list[Column]:
    return [
        Column("Model", "", False),
        Column("eps", "Radius of the L2 ball."),
        Column(
            "In-distribution",
            "In-distribution robustness that the attacks left, with its Wilson interval at 95 %.",
        ),
        Column(
            "Bound",
            "The form of the theorem, and the risk that is alpha in it. The overall form holds for"
            " classifiers with at least that risk. The class-wise form holds for those with at"
            " least that risk on every class. The papers' reading puts the overall risk into the"
            " class-wise form. Theorem 4.4.3 takes the class risks of this classifier.",
            False,
        ),
        Column("alpha", "The risk in the bound, with its interval."),
        *(
            Column(
                f"{name} L = {largest:.3g}",
                f"Upper bound on the robustness with the {name} estimate of L, the largest of all"
                " classes. Below it the bound at both ends of the interval of alpha.",
            )
            for name, largest in _largest(limits).items()
        ),
    ]


def _largest(limits: Limits) -> dict[str, float]:
    """Return the largest constant of the classes for each estimator."""
    return {
        name: max(row.value for row in limits.lipschitz if row.estimator == name)
        for name in limits.estimators
    }


def _bound_lines(rows: Sequence[ModelRow], estimators: Sequence[str]) -> Iterable[Line]:
    for row in rows:
        start = [
            Cell(row.model, row.model.lower()),
            Cell(radius(row.eps), row.eps),
            _share(row.in_distribution),
        ]
        forms: dict[tuple[str, str], dict[str, BoundRow]] = {}
        for bound in row.bounds:
            forms.setdefault((bound.form, bound.reading), {})[bound.estimator] = bound
        for (form, reading), own in forms.items():
            name = f"{form} form, {reading}"
            bounds = [_bound(own.get(estimator), row.in_distribution) for estimator in estimators]
            yield Line([*start, Cell(name, name), _alpha(next(iter(own.values()))), *bounds])
        theorem = {bound.estimator: bound for bound in row.classifier}
        bounds = [_bound(theorem.get(estimator), row.in_distribution) for estimator in estimators]
        if theorem:
            yield Line([*start, Cell(THEOREM, THEOREM), Cell("class risks", None), *bounds])


def _alpha(bound: BoundRow) -> Cell:
    return Cell(
        f"{100 * bound.alpha:.2f} %",
        known(bound.alpha),
        "" if bound.alpha_low == bound.alpha_high else _fine(bound.alpha_low, bound.alpha_high),
    )


def _between(low: float, high: float) -> str:
    """Return an interval as text. Empty if an end is unknown, or if it is a single value."""
    unknown = math.isnan(low) or math.isnan(high)
    return "" if unknown or low == high else interval(low, high)


def _bound(bound: BoundRow | ClassifierBound | None, robust: Share) -> Cell:
    if bound is None:
        return Cell(percent(None), None)
    if isinstance(bound, ClassifierBound):
        value, low, high = (bound.robustness, bound.robustness_low, bound.robustness_high)
    else:
        value, low, high = (bound.value, bound.value_low, bound.value_high)
    if math.isnan(value):
        return Cell("says nothing", None)
    notes = (
        _between(low, high),
        "vacuous" if value >= 1 else "",
        "contradicted" if is_contradicted(bound, robust) else "",
        "" if bound.radius_ok else "radius too small",
        "of larger risks only" if isinstance(bound, BoundRow) and not bound.applies else "",
    )
    return Cell(percent(value), value, ", ".join(note for note in notes if note))


# ---- tables as files


def to_csv(limits: Limits) -> dict[str, str]:
    """Return the tables as CSV, by the names of their files.

    They are Table 4.3, Table 4.5, the bounds, and the lines and marks of Figure 4.2.
    """
    bounds = [
        {"model": row.model, "form": "Theorem 4.4.3", **_flat(bound)}
        for row in limits.rows
        for bound in (*row.bounds, *row.classifier)
    ]
    curves = [
        {"kind": "bound", **_flat(curve), "risk": alpha, "robustness": known(value)}
        for curve in limits.curves
        for alpha, value in zip(curve.alphas, curve.values, strict=True)
    ]
    tables = (
        [_flat(row) for row in limits.lipschitz],
        [_flat(row) for row in limits.rows],
        bounds,
        [*curves, *(_flat(point) for point in limits.points)],
    )
    return {
        name: csv_rows(list(dict.fromkeys(key for row in rows for key in row)), rows)
        for name, rows in zip(LIMITS_TABLES, tables, strict=True)
    }


def _flat(row: Any) -> dict[str, Any]:
    """Return a row of numbers and texts. A share fills four columns, unknown numbers are empty."""
    flat: dict[str, Any] = {}
    for name, value in asdict(row).items():
        if isinstance(value, dict):
            flat[name] = value["value"]
            flat |= {f"{name}_{part}": value[part] for part in ("low", "high", "count", "samples")}
        elif name == "class_risks":
            flat |= {f"risk_{label}": share["value"] for label, share in enumerate(value)}
        elif not isinstance(value, tuple | list):
            flat[name] = value
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in flat.items()
    }
