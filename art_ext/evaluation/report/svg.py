"""Geometry of the page's figures: curves, bands and marks as inline SVG.

The plot area is ``UNITS`` wide and high, whatever its size on the screen is. Strokes and text keep
their size. ``chart.html.j2`` writes the elements, the style sheet colours them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

UNITS = 1000.0
COLUMN = 0.5  # units: steps that are closer are drawn as one, below half a pixel on any screen
BAND_COLUMN = 2.0
HEIGHT = 280.0  # pixels of the plot area in the style sheet
# of the first series, on light and on dark: at least 4.5 : 1 against the page. The others are grey
LIGHT = ("#0072b2", "#b34700", "#00754f", "#a3417a", "#7d6000", "#5b4fb3")
DARK = ("#5eb3e4", "#f0a15e", "#3fc79a", "#e39ac4", "#d9bd4a", "#b3a6f2")
GREY = ("#57606a", "#9aa4af")


@dataclass(frozen=True)
class Scale:
    """Axes of a chart: from ``left`` to ``right``, and fractions from ``bottom`` to ``top``.

    With ``log``, horizontal values are drawn at their logarithm.
    """

    left: float
    right: float
    log: bool = False
    top: float = 1.0
    bottom: float = 0.0

    def height(self, fraction: float) -> float:
        """Return the distance of a fraction from the upper edge in units."""
        return UNITS * (1 - (float(fraction) - self.bottom) / (self.top - self.bottom))

    def place(self, values: np.ndarray | float) -> np.ndarray:
        """Return the distances of values from the left edge in units."""
        first, last, own = (
            np.log(part) if self.log else np.asarray(part, dtype=np.float64)
            for part in (self.left, self.right, values)
        )
        return np.asarray(np.clip((own - first) / (last - first), 0, 1) * UNITS)


@dataclass(frozen=True)
class Mark:
    """A measured value with its interval, as fractions."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Steps:
    """A step curve, or a line through its points.

    Attributes:
        model, attack: whose it is.
        x: (S,) positions of the steps, ascending.
        y: (S,) fraction from each step to the next.
        end: right end of the last step.
        solid: (S,) bool: drawn solid from this step to the next, else dashed.
        low, high: (S,) interval, drawn as a band. None: no band.
        marks: measured values.
        colour: number of the colour. After the last one it is grey.
        faint: True if it is full only while it is chosen.
        ticks: True if only short lines at its marks are drawn.
        counts: count at each stop of the chart, of ``samples``.
        sure: (T,) bool for each stop up to ``end``: measured there, so that the readout names no
            dash. None: as the line is drawn.
        samples: number of samples.
        label: at its end. Empty: no label.
        choice: name in the legend that makes it full. Empty: none.
        joined: True if straight lines join its points. It has no value before the first one.
    """

    model: str
    attack: str
    x: np.ndarray
    y: np.ndarray
    end: float
    solid: np.ndarray
    counts: np.ndarray
    samples: int
    colour: int
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    marks: tuple[Mark, ...] = ()
    faint: bool = False
    ticks: bool = False
    label: str = ""
    choice: str = ""
    sure: np.ndarray | None = None
    joined: bool = False


def through(
    model: str,
    attack: str,
    x: np.ndarray,
    y: np.ndarray,
    unit: int,
    stops: np.ndarray,
    colour: int,
    **style: Any,
) -> Steps:
    """Return a curve of straight lines through points.

    Args:
        model, attack: whose it is.
        x: (S,) ascending places of the points.
        y: (S,) their values.
        unit: number by which a value becomes a count, which the readout shows.
        stops: (T,) ascending values of the axis at which the readout shows the curve.
        colour, style: further attributes of ``Steps``.
    """
    own = stops[stops <= x[-1]]
    return Steps(
        model,
        attack,
        x,
        y,
        float(x[-1]),
        np.ones(len(x), dtype=bool),
        np.round(np.interp(own, x, y) * unit).astype(np.int64),
        unit,
        colour,
        sure=np.isin(own, x),
        joined=True,
        **style,
    )


@dataclass(frozen=True)
class Drawn:
    """Paths of a curve in units, and its values for the script of the page.

    Attributes:
        steps: the curve.
        css: its classes.
        solid, dashed, band, marks, whiskers: content of ``d`` of the paths. Empty: no path.
        counts: differences of the counts from stop to stop, apart by spaces.
        turns: numbers of the stops where its values begin or cease to be measured. They begin as
            not measured.
        first: number of the first stop at which it has a value.
    """

    steps: Steps
    css: str
    solid: str
    dashed: str
    band: str
    marks: str
    whiskers: str
    counts: str
    turns: str
    first: int = 0


def palette() -> tuple[dict[str, str], dict[str, str]]:
    """Return the colours of the classes ``k0``, ``k1``, ..., ``kgrey`` on light and on dark."""
    names = [colour_class(number) for number in range(len(LIGHT) + 1)]
    return (
        dict(zip(names, (*LIGHT, GREY[0]), strict=True)),
        dict(zip(names, (*DARK, GREY[1]), strict=True)),
    )


def colour_class(number: int) -> str:
    """Return the class of a colour by its number."""
    return f"k{number}" if number < len(LIGHT) else "kgrey"


def draw(steps: Steps, scale: Scale, stops: np.ndarray) -> Drawn:
    """Return the paths of a curve.

    Args:
        steps: the curve.
        scale: the horizontal axis.
        stops: (T,) ascending values of the axis at which the script shows the curve.
    """
    solid, dashed = ("", "") if steps.ticks else _lines(steps, scale)
    flags = steps.sure
    if flags is None:
        flags = steps.solid[np.searchsorted(steps.x, stops, side="right").clip(1) - 1]
    turns = np.flatnonzero(np.diff(np.concatenate([[False], flags])))
    return Drawn(
        steps,
        colour_class(steps.colour) + (" faint" if steps.faint else ""),
        solid,
        dashed,
        _band(steps, scale),
        _marks(steps, scale),
        "".join(
            f"M{_x(scale, mark.x)} {_y(scale, mark.low)}V{_y(scale, mark.high)}"
            for mark in ([] if steps.faint else steps.marks)
        ),
        " ".join(map(str, np.diff(steps.counts, prepend=0).tolist())),
        " ".join(map(str, turns.tolist())),
        int(np.searchsorted(stops, steps.x[0])) if steps.joined else 0,
    )


def _marks(steps: Steps, scale: Scale) -> str:
    half = UNITS / 50 if steps.ticks else 0.0
    return "".join(
        f"M{_short(float(scale.place(mark.x)) - half)} {_y(scale, mark.y)}h{_short(2 * half)}"
        for mark in (steps.marks if steps.ticks or not steps.faint else ())
    )


def thinned(places: np.ndarray, column: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rounded places that remain, and the number of the last step at each."""
    rounded = np.round(places / column) * column
    last = np.flatnonzero(np.diff(rounded, append=np.inf) > 0)
    return rounded[last], last


def _lines(steps: Steps, scale: Scale) -> tuple[str, str]:
    """Return the paths of the solid and of the dashed parts."""
    x, last = thinned(scale.place(steps.x), COLUMN)
    y = steps.y[last]
    if steps.joined:
        return f"M{_through(x, y, scale)}", ""
    solid = steps.solid[last]
    ends = np.append(x[1:], scale.place(steps.end))
    paths = {True: "", False: ""}
    for number in range(len(x)):
        kind = bool(solid[number])
        if number == 0 or solid[number - 1] != kind:
            before = y[number - 1] if number else y[0]
            paths[kind] += f"M{_short(x[number])} {_y(scale, before)}"
        if number and y[number] != y[number - 1]:
            paths[kind] += f"V{_y(scale, y[number])}"
        if number == len(x) - 1 or y[number + 1] != y[number] or solid[number + 1] != kind:
            paths[kind] += f"H{_short(ends[number])}"
    return paths[True], paths[False]


def _band(steps: Steps, scale: Scale) -> str:
    if steps.low is None or steps.high is None:
        return ""
    x, last = thinned(scale.place(steps.x), BAND_COLUMN)
    ends = np.append(x[1:], scale.place(steps.end))
    low, high = steps.low[last], steps.high[last]
    if steps.joined:
        return f"M{_through(x, high, scale)}L{_through(x[::-1], low[::-1], scale)}Z"
    out = "".join(f"V{_y(scale, top)}H{_short(end)}" for top, end in zip(high, ends, strict=True))
    back = "".join(
        f"V{_y(scale, bottom)}H{_short(start)}"
        for bottom, start in zip(low[::-1], x[::-1], strict=True)
    )
    return f"M{_short(x[0])} {_y(scale, high[0])}{out}{back}Z"


def _through(x: np.ndarray, y: np.ndarray, scale: Scale) -> str:
    """Return points, at places and fractions, that lines join."""
    return "L".join(f"{_short(place)} {_y(scale, one)}" for place, one in zip(x, y, strict=True))


def _x(scale: Scale, value: float) -> str:
    return _short(float(scale.place(value)))


def _y(scale: Scale, fraction: float) -> str:
    return _short(scale.height(fraction))


def _short(value: float) -> str:
    return f"{round(float(value), 1):g}"
