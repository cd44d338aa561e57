"""Figure 4.2: the bound on the robustness against the risk, with the results of the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import radius
from art_ext.evaluation.analysis.limits import Curve, Limits, Point
from art_ext.evaluation.report.canvas import (
    COLOURS,
    DASHES,
    INK,
    SOFT,
    STYLE,
    Canvas,
    grid,
    short,
    to_png,
)
from art_ext.storage.evaluation import LIMITS_PLOT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_IN_LINE = 3  # axes
CLOSE = 0.08  # of the length of an axis
LEAST_RIGHT = 0.02  # right end of the risk axis
MARKS: dict[str, dict[str, Any]] = {
    "unconstrained": {"marker": "v", "markerfacecolor": "white", "linestyle": ":"},
    "in-distribution": {"marker": "o", "linestyle": "-"},
}
INKS = {"overall": INK, "class-wise": SOFT}
TITLE = "Bound on the robustness against the risk"


@dataclass(frozen=True)
class Plot:
    """A picture of the report.

    Attributes:
        file: its name in the folder.
        title: its heading.
        caption: explanation of the picture and of its limits.
        png: the file's content.
        axes: number of axes side by side.
    """

    file: str
    title: str
    caption: str
    png: bytes
    axes: int


def draw_limits(limits: Limits) -> Plot:
    """Return the figure: axes for each eps, a line for each bound, a mark for each model.

    Raises:
        ImportError: without matplotlib.
    """
    from matplotlib import rc_context
    from matplotlib.ticker import MaxNLocator

    radii = limits.eps
    names = {eps: f"eps = {radius(eps)}" for eps in radii}
    colours = _colours(limits.points)
    right = _right(limits)
    with rc_context(STYLE):
        in_line = min(len(names), MOST_IN_LINE)
        figure, axes = grid(list(names.values()), in_line)
        canvas = Canvas(figure, axes)
        for eps, name in names.items():
            axes[name].set_title(name, fontsize=11)
            # without a label at the right end, which would touch the next axes
            axes[name].xaxis.set_major_locator(MaxNLocator(5, prune="upper"))
            for curve in limits.curves:
                if curve.eps == eps:
                    _line(axes[name], curve, limits.estimators)
            for points in _paths([point for point in limits.points if point.eps == eps]):
                colour = colours[_subject(points[0])]
                _mark(axes[name], points, colour)
                # once for both kinds, at the lower path
                if points[0].path and points[0].kind == "unconstrained":
                    _name_ends(axes[name], points, colour, right)
        canvas.set(
            # room for the marks of models without an error
            xlim=(-0.025 * right, right),
            ylim=(0, 102),
            xlabel="risk, and alpha of the bound (%)",
            ylabel="robustness (%)",
        )
        canvas.legend()
        return Plot(LIMITS_PLOT, TITLE, _caption(limits), to_png(figure), in_line)


def _right(limits: Limits) -> float:
    """Return the right end of the risk axis, in percent: past every mark, and not much farther."""
    largest = max((point.risk.high for point in limits.points), default=0.0)
    alpha = limits.facts.get("alpha") or 0.0
    return 100 * max(LEAST_RIGHT, 1.15 * largest, 1.15 * alpha)


def _colours(points: Sequence[Point]) -> dict[str, str]:
    """Return the colour of each model. Checkpoints of one training have that of the training."""
    subjects = dict.fromkeys(_subject(point) for point in points)
    return {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(subjects)}


def _subject(point: Point) -> str:
    return point.path or point.model


def _paths(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Yield points that are joined, in the order of their steps, and single points alone."""
    paths: dict[tuple[str, str, bool], list[Point]] = {}
    for point in points:
        paths.setdefault((_subject(point), point.kind, bool(point.path)), []).append(point)
    for own in paths.values():
        yield sorted(own, key=lambda point: point.step)


def _line(axes: Axes, curve: Curve, estimators: Sequence[str]) -> None:
    axes.plot(
        [100 * alpha for alpha in curve.alphas],
        [100 * value for value in curve.values],
        color=INKS[curve.form],
        linestyle=DASHES[estimators.index(curve.estimator) % len(DASHES)],
        linewidth=1.4,
        label=f" {curve.form} bound, {curve.estimator} L = {curve.lipschitz:.3g}",
    )


def _mark(axes: Axes, points: Sequence[Point], colour: str) -> None:
    """Draw points with their intervals. The points of a path are joined."""
    joined = bool(points[0].path)
    style = dict(MARKS[points[0].kind])
    if not joined:
        style["linestyle"] = "none"
    shares = [share for point in points for share in (point.risk, point.robustness)]
    middle = [100 * share.value for share in shares]
    below = [100 * (share.value - share.low) for share in shares]
    above = [100 * (share.high - share.value) for share in shares]
    axes.errorbar(
        middle[::2],
        middle[1::2],
        xerr=(below[::2], above[::2]),
        yerr=(below[1::2], above[1::2]),
        color=colour,
        elinewidth=0.9,
        linewidth=1.1,
        markersize=4.5 if joined else 7,
        # a leading space, since matplotlib leaves labels with a leading underscore out
        label=f" {short(_subject(points[0]), 32)}, {points[0].kind}",
        **style,
    )


def _name_ends(axes: Axes, path: Sequence[Point], colour: str, right: float) -> None:
    """Write the epochs at the ends of a path, in one text where the ends are close together.

    Args:
        axes: of the path.
        path: its points, in their order.
        colour: of the text.
        right: right end of the risk axis, in percent.
    """
    from matplotlib.patheffects import withStroke

    places = [
        (100 * point.risk.value, 100 * point.robustness.value) for point in (path[0], path[-1])
    ]
    names = [f"epoch {path[0].step}", f"epoch {path[-1].step}"]
    across, along = (abs(last - first) for first, last in zip(*places, strict=True))
    if across < CLOSE * right and along < 100 * CLOSE:
        places = places[1:]
        names = [f"epochs {path[0].step} to {path[-1].step}"]
    leftmost = min(places)
    for place, name in zip(places, names, strict=True):
        outward = len(places) > 1 and place == leftmost and place[0] > 2 * CLOSE * right
        axes.annotate(
            name,
            place,
            # below the mark, or above it at the lower end of the axis
            xytext=(-5 if outward else 5, 5 if place[1] < 100 * CLOSE else -11),
            textcoords="offset points",
            ha="right" if outward else "left",
            fontsize=8,
            color=colour,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _caption(limits: Limits) -> str:
    caption = (
        "Lines: the bound on the robustness of every classifier whose risk is at least alpha, for"
        " each form of the theorem and each estimate of L. All estimates of L are lower bounds of"
        " the true constant, so that the lines may lie too low. Marks: risk on images of the"
        " generator, and robustness under the attacks on the images and under those that stay on"
        " images of the generator, with Wilson intervals at 95 %. The class-wise form holds for"
        " classifiers with a risk of at least alpha on every class. The marks stand at the overall"
        " risk, as in the paper."
    )
    if any(point.path for point in limits.points):
        caption += (
            " Small joined marks are the checkpoints of one training, and the large ones of their"
            " colour are the model that it gave."
        )
    return caption
