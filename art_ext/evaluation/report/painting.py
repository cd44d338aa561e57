"""The figures of the page drawn by matplotlib, for files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.wording import one_line
from art_ext.evaluation.report import labels, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from art_ext.evaluation.report.charts import Chart

FAINT = 0.3
POINTS = 8.5  # size of text
AREA = 3.0  # inches, height of the axes


def figure_of(charts: Sequence[Chart]) -> Figure:
    """Return a figure with these charts side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4 * len(charts), AREA + 1.2), dpi=130)
    share = 1 / len(charts)
    for number, chart in enumerate(charts):
        axes = figure.add_axes(
            (share * (number + 0.085), 0.18, share * 0.72, AREA / (AREA + 1.2)), label=chart.title
        )
        paint(axes, chart)
        if len(charts) > 1:
            axes.set_title(one_line(chart.title), fontsize=10, loc="left", pad=18)
    return figure


def paint(axes: Axes, chart: Chart, points: float = POINTS) -> None:
    """Draw a chart into axes, in the units of the page's figure.

    Args:
        axes: empty axes.
        chart: what is drawn.
        points: size of the text, in points.
    """
    axes.set(xlim=(0, svg.UNITS), ylim=(svg.UNITS, 0))
    axes.set_xlabel(chart.horizontal, fontsize=points + 1)
    axes.set_ylabel(chart.vertical, fontsize=points + 1)
    axes.set_xticks([one.x for one in chart.lower], [one.lines[0] for one in chart.lower])
    axes.set_yticks([one.y for one in chart.left], [one.lines[0] for one in chart.left])
    axes.tick_params(labelsize=points)
    axes.grid(visible=False, axis="x")
    for eps in chart.upper:
        axes.axvline(eps.x, color=svg.GREY[1], linewidth=0.9, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(
            eps.lines[0],
            (eps.x, 0),
            xytext=(0, 4),
            textcoords="offset points",
            fontsize=points,
            color=svg.GREY[0],
            ha="center",
        )
    colours = svg.palette()[0]
    for own in chart.curves:
        _paint_curve(axes, own.steps, chart.scale, colours[svg.colour_class(own.steps.colour)])
    height = axes.bbox.height / axes.figure.dpi * 72
    size = min(points, height * labels.LINE / svg.HEIGHT / 1.25)
    for label in chart.ends:
        middle = label.y + labels.LINE * len(label.lines) / 2
        axes.annotate(
            "\n".join(label.lines),
            (label.x, svg.UNITS * middle / svg.HEIGHT),
            xytext=(6, 0),
            textcoords="offset points",
            fontsize=size,
            color=colours[label.css.split()[0]],
            va="center",
            linespacing=1.15,
            annotation_clip=False,
        )


def _paint_curve(axes: Axes, steps: svg.Steps, scale: svg.Scale, colour: str) -> None:
    alpha = FAINT if steps.faint else 1.0
    if steps.low is not None and steps.high is not None:
        x, last = svg.thinned(scale.place(steps.x), svg.BAND_COLUMN)
        low, high = (
            np.array([scale.height(value) for value in ends[[*last, last[-1]]]])
            for ends in (steps.low, steps.high)
        )
        places = np.append(x, scale.place(steps.end))
        axes.fill_between(places, low, high, step="post", color=colour, alpha=0.13, linewidth=0)
    for x, y, solid in [] if steps.ticks else _pieces(steps, scale):
        axes.plot(
            x,
            y,
            drawstyle="default" if steps.straight else "steps-post",
            color=colour,
            alpha=alpha,
            linewidth=1.1 if steps.faint else 1.8,
            linestyle="-" if solid else (0, (4, 2.5)),
            clip_on=False,
        )
    for mark in steps.marks:
        place, height = float(scale.place(mark.x)), scale.height(mark.y)
        if steps.ticks:
            axes.plot([place - 20, place + 20], [height] * 2, color=colour, alpha=alpha)
        elif not steps.faint:
            ends = [scale.height(mark.low), scale.height(mark.high)]
            axes.plot([place] * 2, ends, color=colour, linewidth=1.3, clip_on=False)
            axes.plot(place, height, "o", color=colour, markersize=5.5, clip_on=False)


def _pieces(steps: svg.Steps, scale: svg.Scale) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Yield places and heights of the parts that are solid, and of those that are dashed."""
    if steps.straight:
        heights = np.array([scale.height(value) for value in steps.y.tolist()])
        yield scale.place(steps.x), heights, True
        return
    x, last = svg.thinned(scale.place(steps.x), svg.COLUMN)
    y = np.array([scale.height(value) for value in steps.y[last]])
    solid = steps.solid[last]
    starts = [0, *(np.flatnonzero(np.diff(solid)) + 1).tolist(), len(x)]
    for first, end in pairwise(starts):
        right = scale.place(steps.end) if end == len(x) else x[end]
        before = y[max(0, first - 1)]
        places = np.concatenate([x[first : first + 1], x[first:end], [right]])
        yield places, np.concatenate([[before], y[first:end], y[end - 1 : end]]), bool(solid[first])
