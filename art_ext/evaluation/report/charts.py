"""The two figures of the page: robust accuracy against the radius, success against queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.metrics.intervals import wilson
from art_ext.core.wording import radius
from art_ext.evaluation.analysis.blocks import NORMS, WORST_CASE, in_cascade
from art_ext.evaluation.analysis.curves import Curve, measured_at, value_at
from art_ext.evaluation.analysis.queries import QueryCurve, query_curves
from art_ext.evaluation.analysis.table import percent
from art_ext.evaluation.report import labels, svg
from art_ext.evaluation.report.rendering import interval

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun

UNIT = svg.Scale(0.0, 1.0)
Group = Sequence[tuple["LoadedRun", Sequence[Curve]]]
MOST_QUERY_STOPS = 200
APART = 110.0  # units between labels of the horizontal axis
QUERY_TITLES = ("Attacks without gradients", "Attacks that need gradients")
NOT_COMPARABLE = (
    "These attacks also differentiate the model, so their queries are not comparable with those of"
    " attacks without gradients."
)


@dataclass(frozen=True)
class Chart:
    """One figure of the page.

    Attributes:
        title: its name.
        sentence: said in its place if there is nothing to draw.
        horizontal, vertical: titles of the axes.
        quantity: name of a value of the horizontal axis in the readout.
        scale: the axes.
        curves: what is drawn, from back to front.
        left, lower, upper: labels of the vertical axis, of the horizontal one, and of eps.
        ends: labels at the ends of curves.
        stops, texts: where the script shows values: positions in units, and values as text.
        models: legend: name and class of each model.
        attacks: legend: names that can be chosen, with their classes.
        caption: explanation of the figure and of its limits.
        heads, numbers: the table of the numbers.
        dashed: what the dash of a curve means.
        plain: True if the values are no shares, and have no intervals.
    """

    title: str
    sentence: str
    horizontal: str = ""
    vertical: str = ""
    quantity: str = ""
    scale: svg.Scale = UNIT
    curves: Sequence[svg.Drawn] = ()
    left: Sequence[labels.Label] = ()
    lower: Sequence[labels.Label] = ()
    upper: Sequence[labels.Label] = ()
    ends: Sequence[labels.Label] = ()
    stops: str = ""
    texts: str = ""
    models: Sequence[tuple[str, str]] = ()
    attacks: Sequence[tuple[str, str]] = ()
    caption: str = ""
    heads: Sequence[str] = ()
    numbers: Sequence[Sequence[str]] = ()
    dashed: str = "upper bound"
    plain: bool = False


# ---- robust accuracy


def robust_chart(group: Group, where: str) -> Chart:
    """Return the figure of the worst cases of all models, with the single attacks behind them.

    Args:
        group: comparable runs, each with its curves.
        where: end of its title, which tells the group from others.
    """
    title = f"Robust accuracy against eps{where}"
    every = [curve for _, curves in group for curve in curves]
    worst = [curve for curve in every if curve.attack == WORST_CASE]
    if not worst:
        return Chart(title, "No attack was run.")
    scale = svg.Scale(0.0, max(curve.end for curve in every))
    eps = sorted({point.eps for curve in worst for point in curve.points})
    stops = labels.stops(scale.right, eps)
    order = {curve.model: number for number, curve in enumerate(worst)}
    alone = {one.model for one in worst if sum(own.model == one.model for own in every) == 2}
    drawn = [
        svg.draw(_steps(curve, order[curve.model], stops, len(worst)), scale, stops)
        for curve in sorted(every, key=lambda own: own.attack == WORST_CASE)
        if curve.attack == WORST_CASE or curve.model not in alone
    ]
    return Chart(
        title,
        "",
        f"radius ({NORMS[group[0][0].run['settings']['norm']]})",
        "robust accuracy (%)",
        "radius",
        scale,
        drawn,
        left_labels(scale),
        [lower_label(scale, tick, f"{tick:g}") for tick in labels.ticks(scale.right)],
        labels.apart([(one, f"{'eps ' * (one == eps[-1])}{radius(one)}") for one in eps], scale),
        labels.at_ends(drawn, scale),
        joined(scale.place(stops)),
        " ".join(_exact(stop, eps) for stop in stops.tolist()),
        _models(worst),
        [(name, "") for name in _attacks(drawn)],
        _robust_caption(group, worst),
        ("Model", "Attack", "Radius", "Robust accuracy", "95 % interval", "Samples", "Kind"),
        [line for curve in every for line in _robust_numbers(curve, scale)],
    )


def _steps(curve: Curve, colour: int, stops: np.ndarray, models: int) -> svg.Steps:
    worst = curve.attack == WORST_CASE
    own = stops[stops <= curve.end]
    places = np.searchsorted(curve.radius, own, side="right") - 1
    steps = svg.Steps(
        curve.model,
        "worst case" if worst else curve.attack,
        curve.radius,
        curve.robust,
        curve.end,
        curve.measured,
        curve.held[places],
        curve.samples,
        colour,
        marks=tuple(svg.Mark(one.eps, one.robust, one.low, one.high) for one in curve.points),
        sure=measured_at(curve, own),
    )
    if not worst:
        return replace(steps, faint=True, ticks=not curve.measured.any(), choice=curve.attack)
    label = curve.model if models > 1 else "worst case"
    if colour >= len(svg.LIGHT):  # so many grey bands would hide each other
        return replace(steps, label=label)
    return replace(steps, low=curve.low, high=curve.high, label=label)


def _exact(value: float, eps: Sequence[float]) -> str:
    """Return a stop as text: of the attacked eps as they are written elsewhere."""
    return radius(value) if value in eps else f"{value:g}"


def _robust_numbers(curve: Curve, scale: svg.Scale) -> Iterable[tuple[str, ...]]:
    """Yield lines of the table: each curve at eps, those of worst cases at the ticks too."""
    eps = {point.eps for point in curve.points}
    worst = curve.attack == WORST_CASE
    ticks = {tick for tick in labels.ticks(scale.right, 10) if tick <= curve.end}
    for place in sorted(eps | ticks if worst or curve.measured.any() else eps):
        point = value_at(curve, place)
        yield (
            curve.model,
            "worst case" if worst else curve.attack,
            _exact(place, list(eps)),
            percent(point.robust),
            interval(point.low, point.high),
            f"{point.held:,} of {curve.samples:,}",
            "measured" if measured_at(curve, np.array([place]))[0] else "upper bound",
        )


def _robust_caption(group: Group, worst: Sequence[Curve]) -> str:
    runs = [one.run for one, _ in group]
    caption = (
        "Share of all samples that are classified correctly and for which no attack of the panel"
        " found an adversarial within the radius. Bands and vertical lines are Wilson intervals at"
        " 95 %."
    )
    if any(not curve.measured[:-1].all() for curve in worst):
        caption += (
            " Solid parts and the marks at eps are measured. A dashed part is an upper bound only:"
            " the attacks did not search at these radii."
        )
    if any(in_cascade(run) for run in runs):
        caption += (
            " In a cascade the curve of an attack is that after this attack and all before it."
        )
    if any("detectors" in run for run in runs):
        caption += (
            " With a detector it is the robust accuracy with rejection: rejected clean samples"
            " count as failures, and an adversarial counts where the detector accepts it."
        )
    return caption


# ---- success against queries


def query_charts(group: Group, where: str) -> list[Chart]:
    """Return the figures of success against queries: first attacks without gradients.

    Args:
        group: comparable runs, each with its curves.
        where: end of their titles, which tells the group from others.
    """
    found = [
        curve
        for one, curves in group
        for curve in query_curves(
            one, {(own.model, own.attack) for own in curves if own.needs_gradients}
        )
    ]
    models = list(dict.fromkeys(curve.model for _, curves in group for curve in curves))
    if not found:
        title = f"Success against queries{where}"
        return [Chart(title, "No attack was given a correctly classified sample.")]
    apart = [[curve for curve in found if curve.needs_gradients == needed] for needed in (0, 1)]
    captions = [_queries_caption(group, found), NOT_COMPARABLE]
    if not apart[0]:
        captions[1] = " ".join(captions)
    return [
        _query_chart(own, models, f"{words}{where}", caption)
        for own, words, caption in zip(apart, QUERY_TITLES, captions, strict=True)
    ]


def _query_chart(
    found: Sequence[QueryCurve], models: Sequence[str], title: str, caption: str
) -> Chart:
    if not found:
        return Chart(title, f"{title}: none were run.")
    highest = max(curve.successes[-1] / curve.samples for curve in found)
    scale = svg.Scale(
        1.0, float(max(curve.most for curve in found)), True, min(1.0, max(0.1, 1.15 * highest))
    )
    stops = np.unique(np.geomspace(1, scale.right, MOST_QUERY_STOPS).round())
    attacks = list(dict.fromkeys(curve.attack for curve in found))
    drawn = [
        svg.draw(_query_steps(curve, models, attacks, stops), scale, stops)
        for curve in sorted(found, key=lambda own: own.successes[-1] / own.samples)
    ]
    powers = [10.0**power for power in range(int(np.log10(scale.right)) + 1)]
    colours = {own.steps.choice: own.css.split()[0] for own in drawn}
    return Chart(
        title,
        "",
        "queries per sample",
        "success rate (%)",
        "queries",
        scale,
        drawn,
        left_labels(scale),
        [lower_label(scale, power, f"{power:,.0f}") for power in powers],
        (),
        labels.nearby(drawn[::-1], scale),
        joined(scale.place(stops)),
        " ".join(f"{stop:.0f}" for stop in stops),
        [(name, svg.colour_class(number)) for number, name in enumerate(models)]
        if len(models) > 1
        else (),
        [(name, colours[name] if len(models) == 1 else "") for name in attacks],
        caption,
        ("Model", "Attack", "eps", "Queries", "Success rate", "95 % interval", "Samples"),
        [line for curve in found for line in _query_numbers(curve, powers)],
    )


def _query_steps(
    curve: QueryCurve, models: Sequence[str], attacks: Sequence[str], stops: np.ndarray
) -> svg.Steps:
    places = np.searchsorted(curve.queries, stops[stops <= curve.most], side="right") - 1
    return svg.Steps(
        curve.model,
        curve.attack if curve.largest else f"{curve.attack} at eps {radius(curve.eps)}",
        curve.queries,
        curve.successes / curve.samples,
        float(curve.most),
        np.ones(len(curve.queries), dtype=bool),
        curve.successes[places],
        curve.samples,
        models.index(curve.model) if len(models) > 1 else attacks.index(curve.attack),
        faint=not curve.largest,
        label=curve.attack if curve.largest else "",
        choice=curve.attack,
    )


def _query_numbers(curve: QueryCurve, powers: Sequence[float]) -> Iterable[tuple[str, ...]]:
    """Yield lines of the table: the powers of ten, and the most queries of a sample."""
    for queries in [power for power in powers if power < curve.most] + [curve.most]:
        count = int(curve.successes[np.searchsorted(curve.queries, queries, side="right") - 1])
        yield (
            curve.model,
            curve.attack,
            radius(curve.eps),
            f"{queries:,.0f}",
            percent(count / curve.samples),
            interval(*wilson(count, curve.samples)),
            f"{count:,} of {curve.samples:,}",
        )


def _queries_caption(group: Group, found: Sequence[QueryCurve]) -> str:
    caption = (
        "Success rate within eps among the correctly classified samples given to the attack, as a"
        " function of the queries charged to each sample. Every row through the model is a query,"
        " and the first one is the clean check."
    )
    if any(not curve.largest for curve in found):
        caption += " Lighter curves belong to smaller eps."
    if any(in_cascade(one.run) for one, _ in group):
        caption += " In a cascade later attacks are given the more robust samples."
    return caption


# ---- what both share


def left_labels(scale: svg.Scale, plain: bool = False) -> list[labels.Label]:
    """Return the labels of the vertical axis: percentages, or with ``plain`` the values."""
    factor = 1 if plain else 100
    return [
        labels.Label(0.0, round(scale.height(tick), 1), (f"{factor * tick:g}",))
        for tick in labels.ticks(scale.top, 4)
    ]


def lower_label(scale: svg.Scale, value: float, text: str) -> labels.Label:
    """Return a label of the horizontal axis."""
    return labels.Label(round(float(scale.place(value)), 1), svg.UNITS, (text,))


def lower_labels(scale: svg.Scale, marks: Sequence[tuple[float, str]]) -> list[labels.Label]:
    """Return labels of ascending values of the horizontal axis, without those too close."""
    found: list[labels.Label] = []
    for value, text in reversed(marks):
        label = lower_label(scale, value, text)
        if not found or found[-1].x - label.x >= APART:
            found.append(label)
    return found[::-1]


def joined(places: np.ndarray) -> str:
    """Return positions of stops as text."""
    return " ".join(f"{place:g}" for place in np.round(places, 1).tolist())


def _models(worst: Sequence[Curve]) -> list[tuple[str, str]]:
    return [(curve.model, svg.colour_class(number)) for number, curve in enumerate(worst)]


def _attacks(drawn: Sequence[svg.Drawn]) -> list[str]:
    return list(dict.fromkeys(own.steps.attack for own in drawn if own.steps.faint))
