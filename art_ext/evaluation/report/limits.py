"""The page of a run on limits: constants of the generator, robustness of the models, and bounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import counted, radius
from art_ext.evaluation.analysis.examples import Examples, Found
from art_ext.evaluation.analysis.finding import Finding, in_order, to_json
from art_ext.evaluation.analysis.limits import (
    LOWER_ESTIMATE,
    BoundRow,
    ClassifierBound,
    Limits,
    LipschitzRow,
    ModelRow,
    Share,
)
from art_ext.evaluation.analysis.table import csv_rows, number, percent
from art_ext.evaluation.report.limits_plot import draw_limits
from art_ext.evaluation.report.pictures import Sheet, class_name, mosaic, sheets
from art_ext.evaluation.report.rendering import (
    Cell,
    Column,
    Line,
    interval,
    known,
    render_template,
    told,
)
from art_ext.storage.evaluation import LIMITS, LIMITS_TABLES, PLOTS, REPORT, WARNINGS
from art_ext.storage.store import Place, store_of

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun
    from art_ext.evaluation.report.plots import Plot

ON_MANIFOLD = "on the manifold"
UNCONSTRAINED = "without constraint"
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
        " is the class that the generator was asked for. Below it the smallest and largest risk of"
        " a class.",
    ),
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
    Column("Without these", "In-distribution robustness among the other samples."),
    Column("Start distance", "Median L2 distance between a sample and its nearest start."),
)


def write_limits_report(
    folder: Place, limits: Limits, arguments: Mapping[str, Any], pictures: Sequence[Sheet] = ()
) -> None:
    """Write the page, its figure and pictures, the tables as CSV and the results as JSON.

    Each file is written atomically.

    Args:
        folder: that of the run itself, or any other.
        limits: the results.
        arguments: of the run. Empty ones are left out.
        pictures: those of ``strips``.

    Raises:
        ImportError: without the extra ``report``.
        OSError: if the folder cannot be written.
    """
    plot = draw_limits(limits)
    files = {
        LIMITS: limits.to_json().encode("utf-8"),
        WARNINGS: to_json(in_order(limits.warnings)).encode("utf-8"),
        **{name: text.encode("utf-8") for name, text in to_csv(limits).items()},
        plot.file: plot.png,
        **({PLOTS[2]: mosaic(pictures)} if pictures else {}),
        REPORT: _page(limits, arguments, plot, pictures).encode("utf-8"),
    }
    store = store_of(folder)
    for name, content in files.items():
        store.write(name, content)


def render_limits(
    limits: Limits, arguments: Mapping[str, Any], pictures: Sequence[Sheet] = ()
) -> str:
    """Return the page as HTML, with the figure and the pictures inside. As write_limits_report.

    Raises:
        ImportError: without the extra ``report``.
    """
    return _page(limits, arguments, draw_limits(limits), pictures)


# ---- pictures


def strips(one: LoadedRun, attacks: Mapping[str, Sequence[str]]) -> list[Sheet]:
    """Return pictures of samples beside their adversarials on and off the manifold.

    Args:
        one: the run of the attacks.
        attacks: the names of the attacks under each heading. Of their adversarials of a sample, the
            nearest success is shown, or the nearest adversarial where none is a success.
    """
    if one.examples is None:
        return []
    found: dict[tuple[str, str], dict[int, Found]] = {}
    for model in dict.fromkeys(model for model, _ in one.examples.found):
        for heading, names in attacks.items():
            found[model, heading] = _nearest(one.examples, model, names)
    together = len({model for model, _ in found})
    return sheets(replace(one, examples=replace(one.examples, found=found)), together)


def _nearest(examples: Examples, model: str, attacks: Sequence[str]) -> dict[int, Found]:
    best: dict[int, Found] = {}
    for attack in attacks:
        for position, candidate in examples.found.get((model, attack), {}).items():
            if position not in best or _rank(candidate) < _rank(best[position]):
                best[position] = candidate
    return best


def _rank(found: Found) -> tuple[bool, float]:
    return (not found.success, found.distance)


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


# ---- the page


def _page(
    limits: Limits, arguments: Mapping[str, Any], plot: Plot, pictures: Sequence[Sheet]
) -> str:
    columns = [column for column in COLUMNS if _has(limits.rows, column)]
    facts = limits.facts
    return render_template(
        "limits.html.j2",
        limits=limits,
        generator=facts["generator"],
        data=facts["data"],
        lower_estimate=LOWER_ESTIMATE,
        cards=[_card(limits, model) for model in limits.models],
        findings=in_order(limits.warnings),
        columns=columns,
        rows=[Line(_cells(row, columns), _filtered(row)) for row in limits.rows],
        choices=_choices(limits),
        constants=(_constant_columns(limits), list(_constant_lines(limits))),
        costs=list(_costs(limits.lipschitz)),
        bounds=(_bound_columns(limits), list(_bound_lines(limits))),
        curves=[plot],
        pictures=pictures,
        quality=told(facts["generator"].get("quality") or {}),
        protocol=facts.get("protocol", ()),
        not_run=facts.get("not_run", ()),
        arguments=told(arguments),
        facts=told({name: facts[name] for name in _PLAIN_FACTS if name in facts}),
    )


_PLAIN_FACTS = ("radius", "delta", "alpha", "seed", "lipschitz_units", "versions", "seconds")


def _has(rows: Sequence[ModelRow], column: Column) -> bool:
    return not column.field or any(getattr(row, column.field) is not None for row in rows)


def _choices(limits: Limits) -> dict[str, list[tuple[str, str]]]:
    """Return filters of the table: by name of the control, values and their labels."""
    choices = {
        "model": [(name, name) for name in limits.models],
        "eps": [(str(eps), radius(eps)) for eps in limits.eps],
    }
    return {name: values for name, values in choices.items() if len(values) > 1}


def _card(limits: Limits, model: str) -> dict[str, Any]:
    """Return what the card of a model shows: its rows, and the number of its findings."""
    own = [one for one in limits.warnings if one.model in ("", model)]
    rows = [row for row in limits.rows if row.model == model]
    return {
        "model": model,
        "first": rows[0],
        "rows": rows,
        "warnings": _count(own, "warning"),
        "infos": _count(own, "info"),
    }


def _count(found: Iterable[Finding], level: str) -> int:
    return sum(one.level == level for one in found)


def _filtered(row: ModelRow) -> dict[str, object]:
    return {"model": row.model, "eps": row.eps}


def _cells(row: ModelRow, columns: Sequence[Column]) -> list[Cell]:
    smallest = min((share.value for share in row.class_risks), default=math.nan)
    largest = max((share.value for share in row.class_risks), default=math.nan)
    cells = (
        Cell(row.model, row.model.lower()),
        Cell(radius(row.eps), row.eps),
        _share(row.clean),
        replace(_share(row.risk, 2), note=f"classes {_fine(smallest, largest)}"),
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


def _constant_columns(limits: Limits) -> list[Column]:
    meanings = {
        "sampled": "Largest ratio of the distances of two images and of their latents over random"
        " neighbours in the ball (Algorithm 7). Below it the standard deviation over repeats.",
        "spectral": "Largest singular value of the Jacobian, by power iteration.",
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


def _costs(rows: Sequence[LipschitzRow]) -> Iterable[str]:
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


# ---- the bounds


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


def _bound_lines(limits: Limits) -> Iterable[Line]:
    for row in limits.rows:
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
            bounds = [_bound(own.get(estimator)) for estimator in limits.estimators]
            yield Line([*start, Cell(name, name), _alpha(next(iter(own.values()))), *bounds])
        theorem = {bound.estimator: bound for bound in row.classifier}
        bounds = [_bound(theorem.get(estimator)) for estimator in limits.estimators]
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


def _bound(bound: BoundRow | ClassifierBound | None) -> Cell:
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
        "" if bound.radius_ok else "radius too small",
    )
    return Cell(percent(value), value, ", ".join(note for note in notes if note))
