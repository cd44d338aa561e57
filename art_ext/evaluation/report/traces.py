"""Figures of searches with a trace: robust accuracy and boundary distance against queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.metrics.intervals import wilson
from art_ext.core.wording import radius
from art_ext.evaluation.analysis.blocks import NORMS, in_cascade
from art_ext.evaluation.analysis.table import number, percent
from art_ext.evaluation.analysis.traces import TraceCurve, trace_curves
from art_ext.evaluation.report import labels, svg
from art_ext.evaluation.report.charts import Chart, joined, left_labels, lower_labels
from art_ext.evaluation.report.rendering import interval

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.curves import Curve
    from art_ext.evaluation.analysis.records import LoadedRun

Group = Sequence[tuple["LoadedRun", Sequence["Curve"]]]
Names = tuple[list[str], list[str]]  # of models, and of attacks
PLAIN = 10**6  # counts of a value that is no share


def trace_charts(group: Group, where: str) -> list[Chart]:
    """Return the figures of robust accuracy and of boundary distance. Empty without a trace.

    Args:
        group: comparable runs.
        where: end of their titles, which tells the group from others.
    """
    found = [curve for one, _ in group for curve in trace_curves(one)]
    if not found:
        return []
    run = group[0][0].run
    cascade = any(in_cascade(one.run) for one, _ in group)
    measured = [
        (curve, curve.distance)
        for curve in found
        if curve.largest and curve.distance is not None and np.isfinite(curve.distance).any()
    ]
    names = _names(found)
    charts = [_robust(found, names, f"Robust accuracy against queries{where}", cascade)]
    if measured:
        title = f"Boundary distance against queries{where}"
        charts.append(_distance(measured, names, title, NORMS[run["settings"]["norm"]]))
    return charts


def _robust(found: Sequence[TraceCurve], names: Names, title: str, cascade: bool) -> Chart:
    scale = svg.Scale(1.0, float(max(2, *(curve.marks[-1] for curve in found))), True)
    stops = np.unique(np.concatenate([[1], *(curve.marks for curve in found)]))
    drawn = []
    for curve in sorted(found, key=lambda one: one.largest):
        x = np.concatenate([[1], curve.marks[curve.marks > 1]])
        held = np.concatenate([[curve.correct], curve.held])[-len(x) :]
        places = np.searchsorted(x, stops[stops <= curve.marks[-1]], side="right") - 1
        marks = zip(curve.marks.tolist(), curve.held.tolist(), strict=True)
        steps = svg.Steps(
            curve.model,
            f"{curve.attack} at eps {radius(curve.eps)}",
            x,
            held / curve.samples,
            float(curve.marks[-1]),
            np.ones(len(x), dtype=bool),
            held[places],
            curve.samples,
            _colour(curve, names),
            marks=tuple(
                svg.Mark(mark, count / curve.samples, *wilson(count, curve.samples))
                for mark, count in marks
                if curve.largest
            ),
            faint=not curve.largest,
            label=_label(curve, names) if curve.largest else "",
            choice=curve.attack,
        )
        drawn.append(svg.draw(steps, scale, stops))
    caption = (
        "Share of all samples that are classified correctly and for which the search had found no"
        " adversarial within eps after so many queries. Marks are measured, with Wilson intervals"
        " at 95 %. Between two of them the curve is an upper bound. Lighter curves belong to"
        " smaller eps."
    )
    if cascade:
        caption += " In a cascade the attacks before it count too."
    heads = ("Model", "Attack", "eps", "Queries", "Robust accuracy", "95 % interval", "Samples")
    lines = [line for curve in found for line in _robust_numbers(curve)]
    return _chart(title, "robust accuracy (%)", scale, drawn, stops, (heads, lines), caption)


def _distance(
    found: Sequence[tuple[TraceCurve, np.ndarray]], names: Names, title: str, norm: str
) -> Chart:
    first = int(min(curve.marks[0] for curve, _ in found))
    last = int(max(curve.marks[-1] for curve, _ in found))
    largest = max(float(np.nanmax(distance)) for _, distance in found)
    scale = svg.Scale(first if first < last else last / 2, float(last), True, 1.1 * largest or 1.0)
    stops = np.unique(np.concatenate([curve.marks for curve, _ in found]))
    drawn = []
    for curve, distance in found:
        known = np.isfinite(distance)
        x, y = curve.marks[known], distance[known]
        places = np.searchsorted(x, stops[stops <= x[-1]], side="right").clip(1) - 1
        steps = svg.Steps(
            curve.model,
            curve.attack,
            x,
            y,
            float(x[-1]),
            curve.left_out[known] == 0,
            np.round(y * PLAIN).astype(int)[places],
            PLAIN,
            _colour(curve, names),
            marks=tuple(svg.Mark(*pair, *(pair[1],) * 2) for pair in zip(x, y, strict=True)),
            label=_label(curve, names),
            choice=curve.attack,
        )
        drawn.append(svg.draw(steps, scale, stops))
    caption = (
        f"Mean {norm} distance of the nearest adversarial after so many queries, with 0 for"
        " misclassified samples: the average decision boundary distance (ADBD) that a search with"
        " this budget measures. It is dashed where samples without any adversarial so far are left"
        " out."
    )
    heads = ("Model", "Attack", "Queries", "ADBD", "Left out")
    lines = [line for pair in found for line in _distance_numbers(*pair)]
    return _chart(title, "ADBD", scale, drawn, stops, (heads, lines), caption, plain=True)


def _chart(
    title: str,
    vertical: str,
    scale: svg.Scale,
    drawn: Sequence[svg.Drawn],
    stops: np.ndarray,
    numbers: tuple[Sequence[str], Sequence[Sequence[str]]],
    caption: str,
    *,
    plain: bool = False,
) -> Chart:
    heads, lines = numbers
    models = list(dict.fromkeys(own.steps.model for own in drawn))
    colours = {own.steps.model: own.css.split()[0] for own in drawn}
    return Chart(
        title,
        "",
        "queries per sample",
        vertical,
        "queries",
        scale,
        drawn,
        left_labels(scale, plain),
        lower_labels(scale, [(stop, f"{stop:,.0f}") for stop in stops.tolist()]),
        (),
        labels.nearby(drawn[::-1], scale),
        joined(scale.place(stops)),
        " ".join(f"{stop:.0f}" for stop in stops),
        [(name, colours[name]) for name in models] if len(models) > 1 else (),
        (),
        caption,
        heads,
        lines,
        dashed="some samples left out",
        plain=plain,
    )


def _names(found: Sequence[TraceCurve]) -> Names:
    """Return the names of models and of attacks, each once."""
    return (
        list(dict.fromkeys(curve.model for curve in found)),
        list(dict.fromkeys(curve.attack for curve in found)),
    )


def _colour(curve: TraceCurve, names: Names) -> int:
    models, attacks = names
    return models.index(curve.model) if len(models) > 1 else attacks.index(curve.attack)


def _label(curve: TraceCurve, names: Names) -> str:
    return curve.model if len(names[0]) > 1 else curve.attack


def _robust_numbers(curve: TraceCurve) -> Iterable[tuple[str, ...]]:
    for mark, count in zip(curve.marks.tolist(), curve.held.tolist(), strict=True):
        yield (
            curve.model,
            curve.attack,
            radius(curve.eps),
            f"{mark:,}",
            percent(count / curve.samples),
            interval(*wilson(count, curve.samples)),
            f"{count:,} of {curve.samples:,}",
        )


def _distance_numbers(curve: TraceCurve, distance: np.ndarray) -> Iterable[tuple[str, ...]]:
    means = distance.tolist()
    for mark, mean, missing in zip(curve.marks.tolist(), means, curve.left_out, strict=True):
        yield curve.model, curve.attack, f"{mark:,}", number(mean, 4), f"{missing:,}"
