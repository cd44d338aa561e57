"""Figures of trainings: each quantity against epochs, and against the rows sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from art_ext.core.metrics.intervals import wilson
from art_ext.core.wording import radius
from art_ext.evaluation.analysis.table import percent
from art_ext.evaluation.analysis.trainings import LoadedTraining, Point, columns_of
from art_ext.evaluation.report import labels, svg
from art_ext.evaluation.report.charts import Chart, joined, lower_label
from art_ext.evaluation.report.rendering import interval

DIGITS = 6  # of a value in the readout
MOST_MARKS = 40  # points of a curve that are marked
MOST_STOPS = 400
ROWS = "rows sent, forward and backward"


@dataclass(frozen=True)
class Quantity:
    """Subject of one figure.

    Attributes:
        title: its name.
        vertical: title of its axis.
        caption: its definition.
        columns: of the history, with the names of their curves.
        share: True for fractions, which are shown in percent.
        counted: True for fractions of the samples of the validation, which have intervals.
    """

    title: str
    vertical: str
    caption: str
    columns: dict[str, str]
    share: bool = False
    counted: bool = False


@dataclass(frozen=True)
class Axis:
    """A horizontal axis.

    Attributes:
        title: of the axis.
        quantity: name of a value in the readout.
        of: function from a point to its value.
    """

    title: str
    quantity: str
    of: Callable[[Point], float]


@dataclass(frozen=True)
class Course:
    """A curve: values of a column of a training.

    Attributes:
        run: name of the training.
        name: of the curve.
        colour: number of the colour.
        points: with their values.
        samples: of which a value is a share. None: unknown, or no share.
        label: at its end.
    """

    run: str
    name: str
    colour: int
    points: Sequence[tuple[Point, float]]
    samples: int | None
    label: str


AXES = (
    Axis("epoch", "epoch", lambda point: point.epoch),
    Axis(ROWS, "rows", lambda point: float(point.rows)),
)
ACCURACY = Quantity(
    "Validation accuracy",
    "accuracy (%)",
    "Share of the held-out training samples that are classified correctly, clean and under the"
    " attack of the validation.",
    {"validation_clean": "clean", "validation_robust": "robust"},
    share=True,
    counted=True,
)
KNOWN = (
    ACCURACY,
    Quantity(
        "Loss",
        "loss",
        "Mean loss of the weight updates of each epoch, which is that of the recipe, and"
        " cross-entropy of the clean held-out samples.",
        {"loss": "training", "validation_loss": "validation, clean"},
    ),
    Quantity("Learning rate", "rate", "Rate at the end of each epoch.", {"learning_rate": "rate"}),
    Quantity("Radius", "eps", "Radius at the end of each epoch.", {"eps": "radius"}),
    Quantity(
        "Stability",
        "stability (%)",
        "Share of held-out samples whose prediction, right or wrong, the attack does not change.",
        {"stability": "stability"},
        share=True,
    ),
    Quantity(
        "Local Lipschitz constant",
        "constant",
        "Mean over held-out samples, of the cross-entropy and of the KL divergence.",
        {"lipschitz": "KL", "lipschitz_kl": "KL", "lipschitz_ce": "cross-entropy"},
    ),
    Quantity(
        "Loss increment",
        "increment",
        "Mean difference of the cross-entropy of the crafted and of the clean rows of a minibatch.",
        {"loss_increment": "increment"},
    ),
    Quantity(
        "Minibatches with a negative loss increment",
        "minibatches (%)",
        "Share of the measured minibatches whose crafted rows have a lower loss than the clean"
        " ones.",
        {"loss_increment_negative": "negative"},
        share=True,
    ),
    Quantity(
        "Largest eigenvalue of the input Hessian",
        "eigenvalue",
        "Mean over held-out samples, at clean, uniformly perturbed and backward-smoothed points.",
        {
            "hessian_clean": "clean",
            "hessian_uniform": "uniform",
            "hessian_backward": "backward-smoothed",
        },
    ),
)


def course_charts(loaded: Sequence[LoadedTraining]) -> list[tuple[str, list[Chart]]]:
    """Return the titles of the figures, each with its charts: one for each axis.

    Columns that are unknown here, such as those of callbacks, have figures of their own. Of several
    trainings each column has a figure, in which a training is a curve.
    """
    present = columns_of(loaded)
    known = [column for one in KNOWN for column in one.columns]
    others = [
        Quantity(name, "value", f"Column {name} of the history.", {name: name})
        for name in present
        if name not in known
    ]
    found = []
    for quantity in (*KNOWN, *others):
        columns = {key: name for key, name in quantity.columns.items() if key in present}
        for one in _parts(replace(quantity, columns=columns), len(loaded) > 1):
            courses = _courses(loaded, one)
            if courses:
                found.append((one.title, _charts(loaded, one, courses)))
    return found


def _parts(quantity: Quantity, apart: bool) -> list[Quantity]:
    """Return a quantity for each column, if they are to be apart."""
    if not apart or len(quantity.columns) < 2:
        return [quantity]
    return [
        replace(quantity, title=f"{quantity.title}: {name}", columns={column: name})
        for column, name in quantity.columns.items()
    ]


def _courses(loaded: Sequence[LoadedTraining], quantity: Quantity) -> list[Course]:
    """Return the curves of a figure, without those that have no point."""
    several = len(loaded) > 1
    found = []
    for place, one in enumerate(loaded):
        for number, (column, name) in enumerate(quantity.columns.items()):
            points = one.column(column)
            if points:
                name = _attack(one) if column == "validation_robust" else name
                colour, label = (place, one.name) if several else (number, name)
                samples = one.held if quantity.counted else None
                found.append(Course(one.name, name, colour, points, samples, label))
    return found


def _attack(one: LoadedTraining) -> str:
    """Return the name of the attack of the validation."""
    steps = one.options.get("validation_steps")
    return "robust" if steps is None else f"PGD-{steps}"


def _charts(
    loaded: Sequence[LoadedTraining], quantity: Quantity, courses: Sequence[Course]
) -> list[Chart]:
    """Return the charts of a figure, or a sentence where nothing changes."""
    values = [value for one in courses for _, value in one.points]
    if quantity.title in ("Learning rate", "Radius") and min(values) == max(values):
        text = radius(values[0]) if quantity.title == "Radius" else f"{values[0]:g}"
        which = "each training" if len(loaded) > 1 else "the training"
        return [Chart(quantity.title, f"{quantity.title} {text} throughout {which}.")]
    return [_chart(loaded, quantity, courses, axis) for axis in AXES]


def _chart(
    loaded: Sequence[LoadedTraining], quantity: Quantity, courses: Sequence[Course], axis: Axis
) -> Chart:
    known = quantity.counted and all(one.samples for one in courses)
    factor = 100.0 if quantity.share and not known else 1.0
    places = sorted({axis.of(point) for one in courses for point, _ in one.points})
    values = [factor * value for one in courses for _, value in one.points]
    low, high = _ends(values, percent=quantity.share, unit=1.0 if known else factor)
    scale = svg.Scale(0.0, places[-1], top=high, bottom=low)
    stops = _few(np.array(places))
    drawn = [svg.draw(_steps(one, axis, stops, factor, known), scale, stops) for one in courses]
    ends = {one.steps.end for one in drawn}
    return Chart(
        f"{quantity.title} against {axis.title.split(',')[0]}",
        "",
        axis.title,
        quantity.vertical,
        axis.quantity,
        scale,
        drawn,
        _left(scale, 100.0 if known else 1.0),
        _lower(scale, axis),
        _best(loaded, axis, scale) if quantity.counted else (),
        labels.at_ends(drawn, scale) if len(ends) == 1 else labels.nearby(drawn, scale),
        joined(scale.place(stops)),
        " ".join(_written(stop) for stop in stops.tolist()),
        [(one.name, svg.colour_class(place)) for place, one in enumerate(loaded)]
        if len(loaded) > 1
        else (),
        (),
        _caption(quantity, known),
        (
            "Run",
            "Curve",
            "Epoch",
            "Rows",
            quantity.vertical.capitalize(),
            *(["95 % interval"] * known),
        ),
        [line for one in courses for line in _numbers(one, quantity.share, known)],
        dashed="between its points",
        plain=not known,
    )


def _caption(quantity: Quantity, known: bool) -> str:
    if not known:
        return quantity.caption
    return f"{quantity.caption} Bands are Wilson intervals at 95 %."


def _steps(one: Course, axis: Axis, stops: np.ndarray, factor: float, known: bool) -> svg.Steps:
    x = np.array([axis.of(point) for point, _ in one.points])
    y = np.array([factor * value for _, value in one.points])
    unit = one.samples if known and one.samples else _unit(y)
    ends = [wilson(round(value * unit), unit) for value in y.tolist()] if known else []
    marked = zip(x.tolist(), y.tolist(), strict=True) if len(x) <= MOST_MARKS else ()
    return svg.through(
        one.run,
        one.name,
        x,
        y,
        unit,
        stops,
        one.colour,
        low=np.array([end[0] for end in ends]) if known else None,
        high=np.array([end[1] for end in ends]) if known else None,
        marks=tuple(svg.Mark(place, value, value, value) for place, value in marked),
        label=one.label,
    )


def _unit(values: np.ndarray) -> int:
    """Return a power of ten: values times it, as whole numbers, have enough digits."""
    largest = float(np.abs(values).max())
    return int(10 ** max(0, DIGITS - math.ceil(math.log10(largest or 1.0))))


def _few(stops: np.ndarray) -> np.ndarray:
    """Return at most so many of the stops, the first and the last among them."""
    if len(stops) <= MOST_STOPS:
        return stops
    return stops[np.unique(np.linspace(0, len(stops) - 1, MOST_STOPS).round().astype(int))]


def _ends(values: Sequence[float], percent: bool, unit: float) -> tuple[float, float]:
    """Return the lower and the upper end of the vertical axis."""
    if percent:
        return 0.0, unit
    low, high = min(0.0, *values), max(0.0, *values)
    room = 0.06 * (high - low) or 1.0
    return low - room * (low < 0), high + room * (high > 0 or low == high)


def _left(scale: svg.Scale, factor: float) -> list[labels.Label]:
    return [
        labels.Label(0.0, round(scale.height(tick), 1), (f"{factor * tick:g}",))
        for tick in labels.between(scale.bottom, scale.top, log=False)
    ]


def _lower(scale: svg.Scale, axis: Axis) -> list[labels.Label]:
    return [lower_label(scale, tick, _brief(tick)) for tick in labels.ticks(scale.right, 4)]


def _brief(value: float) -> str:
    """Return a number of an axis as a short text."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 10 * unit or (value >= unit and letter != "k"):
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _written(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def _best(loaded: Sequence[LoadedTraining], axis: Axis, scale: svg.Scale) -> list[labels.Label]:
    """Return a label at the epoch whose weights were kept as the best of a single training."""
    run = loaded[0].run or {}
    if len(loaded) > 1 or not run.get("best"):
        return []
    return [
        labels.Label(round(float(scale.place(axis.of(point))), 1), 0.0, ("best",))
        for point in loaded[0].points
        if point.epoch == run["best"]["epoch"]
    ]


def _numbers(one: Course, share: bool, known: bool) -> Iterable[tuple[str, ...]]:
    for point, value in one.points:
        told = percent(value).removesuffix(" %") if share else f"{value:.4g}"
        ends: tuple[str, ...] = ()
        if known and one.samples:
            ends = (interval(*wilson(round(value * one.samples), one.samples)),)
        yield (one.run, one.name, f"{point.epoch:.4g}", f"{point.rows:,}", told, *ends)
