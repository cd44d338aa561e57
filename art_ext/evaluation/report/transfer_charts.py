"""Curves of a transfer run: success and distortion against a varied argument or iterations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.metrics.intervals import wilson
from art_ext.core.wording import radius
from art_ext.evaluation.analysis.table import DIGITS, HEADS, number, percent
from art_ext.evaluation.report import labels, svg
from art_ext.evaluation.report.charts import Chart, joined, left_labels, lower_labels
from art_ext.evaluation.report.rendering import interval
from art_ext.evaluation.report.traces import PLAIN

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.transfer import TransferRow

NORMS = ("l1", "l2")  # of the figures
SPAN = 30  # ratio of positive values from which on their axis is logarithmic
ITERATIONS = "iterations"


@dataclass(frozen=True)
class Point:
    """A row at a value of a varied argument.

    Attributes:
        varied: name of the argument, or of what else varies.
        value: its value.
        attack: name of the attack, with its radius if that varies too.
        row: what was measured.
    """

    varied: str
    value: float
    attack: str
    row: TransferRow


@dataclass(frozen=True)
class Course:
    """Values of one attack, on a target or of a source.

    Attributes:
        name: of the target or source.
        attack: name of the attack.
        marks: by ascending value, a share or a distance with its interval.
        samples: number of samples of a share.
    """

    name: str
    attack: str
    marks: list[svg.Mark]
    samples: int = PLAIN


def curves(rows: Sequence[TransferRow]) -> list[tuple[str, list[Chart]]]:
    """Return the figures of each varied argument, by its name.

    Success has a figure for each source, and each distortion has one for all sources.

    Args:
        rows: of all settings. Those without a numeric value are left out.
    """
    names = list(dict.fromkeys([row.source for row in rows] + [row.target for row in rows]))
    points = sorted(_points(rows), key=lambda point: point.value)
    found = []
    for varied in dict.fromkeys(point.varied for point in points):
        own = [point for point in points if point.varied == varied]
        if len({point.value for point in own}) < 2:
            continue
        charts = [
            _success([point for point in own if point.row.source == source], source, names)
            for source in dict.fromkeys(point.row.source for point in own)
        ]
        if varied != ITERATIONS:
            charts += [chart for norm in NORMS for chart in _distance(own, norm, names)]
        found.append((varied, charts))
    return found


def _points(rows: Sequence[TransferRow]) -> Iterator[Point]:
    """Yield the rows of a varied argument, else of a radius, and of iterations."""
    radii = {(row.attack, row.eps) for row in rows}
    several = {attack for attack, _ in radii if sum(own == attack for own, _ in radii) > 1}
    for row in rows:
        eps = f", eps={radius(row.eps)}" if row.attack in several and row.eps is not None else ""
        setting = f", {row.setting}" if row.varied and row.setting else eps
        if row.at:
            yield Point(ITERATIONS, row.at, row.attack + setting, row)
        elif row.value is not None:
            yield Point(row.varied, row.value, row.attack + eps, row)
        elif not row.varied and row.eps is not None:
            yield Point("eps", row.eps, row.attack, row)


def _success(points: Sequence[Point], source: str, names: Sequence[str]) -> Chart:
    """Return success on a source and on each other target, of each attack."""
    varied = points[0].varied
    courses = [
        _on_source(source, attack, [point for point in points if point.attack == attack])
        for attack in dict.fromkeys(point.attack for point in points)
    ]
    pairs = dict.fromkeys((point.row.target, point.attack) for point in points)
    for target, attack in pairs:
        own = [point for point in points if (point.row.target, point.attack) == (target, attack)]
        if target != source:
            courses.append(_on_target(target, attack, own))
    found = [course for course in courses if course.marks and course.samples]
    return _chart(
        f"Success against {varied}, made on {source}",
        (varied, "success (%)"),
        found,
        names,
        1.0,
        "White-box success on the source, and strict transfer to other targets. Marks are measured,"
        " with Wilson intervals at 95 %. Lines between them only guide the eye.",
    )


def _on_source(source: str, attack: str, points: Sequence[Point]) -> Course:
    """Return success on the source: from its own cell, or over the samples of the first target."""
    own = [point for point in points if point.row.white_box]
    if own:
        return _on_target(source, attack, own)
    target = points[0].row.target
    marks = []
    for point in points:
        row = point.row
        if row.target == target and row.counted:
            ends = wilson(round(row.source_success * row.counted), row.counted)
            marks.append(svg.Mark(point.value, row.source_success, *ends))
    return Course(source, attack, marks, points[0].row.counted)


def _on_target(target: str, attack: str, points: Sequence[Point]) -> Course:
    marks = [
        svg.Mark(point.value, row.strict, row.strict_low, row.strict_high)
        for point in points
        for row in [point.row]
        if row.counted
    ]
    return Course(target, attack, marks, points[0].row.counted)


def _distance(points: Sequence[Point], norm: str, names: Sequence[str]) -> Iterator[Chart]:
    """Yield the mean distance of the successes on each source. Nothing if no sample has one."""
    found = []
    for source, attack in dict.fromkeys((point.row.source, point.attack) for point in points):
        means = {
            point.value: getattr(point.row, norm)
            for point in points
            if (point.row.source, point.attack) == (source, attack)
        }
        marks = [
            svg.Mark(value, *(mean,) * 3) for value, mean in means.items() if not math.isnan(mean)
        ]
        if marks:
            found.append(Course(source, attack, marks))
    if found:
        varied = points[0].varied
        yield _chart(
            f"{HEADS[norm]} distance against {varied}",
            (varied, HEADS[norm]),
            found,
            names,
            1.1 * max(mark.y for course in found for mark in course.marks) or 1.0,
            f"Mean {HEADS[norm]} distance of the examples that succeed on their source. Marks are"
            " measured. Lines between them only guide the eye.",
            norm,
        )


def _chart(
    title: str,
    axes: tuple[str, str],
    found: Sequence[Course],
    names: Sequence[str],
    top: float,
    caption: str,
    norm: str = "",
) -> Chart:
    if not found:
        return Chart(title, f"{title}: no sample counts.")
    values = sorted({mark.x for course in found for mark in course.marks})
    log = values[0] > 0 and values[-1] / values[0] >= SPAN
    right = values[-1] if values[-1] > values[0] else values[0] + 1.0
    scale = svg.Scale(values[0], right, log, top)
    stops = np.array(values)
    attacks = list(dict.fromkeys(course.attack for course in found))
    drawn = [
        svg.draw(_steps(course, stops, names.index(course.name), attacks), scale, stops)
        for course in found[::-1]
    ]
    heads = () if norm else ("95 % interval", "Samples")
    return Chart(
        title,
        "",
        *axes,
        axes[0],
        scale,
        drawn,
        left_labels(scale, bool(norm)),
        lower_labels(scale, [(value, radius(value)) for value in values]),
        ends=labels.at_ends([own for own in drawn if not own.steps.faint], scale),
        stops=joined(scale.place(stops)),
        texts=" ".join(map(radius, values)),
        models=[
            (name, svg.colour_class(names.index(name)))
            for name in dict.fromkeys(course.name for course in found)
        ],
        attacks=[(name, "") for name in attacks] if len(attacks) > 1 else (),
        caption=caption + (" All attacks but the first are faint." if len(attacks) > 1 else ""),
        heads=("Model", "Attack", axes[0], axes[1], *heads),
        numbers=[line for course in found for line in _numbers(course, norm)],
        dashed="interpolated",
        plain=bool(norm),
    )


def _steps(course: Course, stops: np.ndarray, colour: int, attacks: Sequence[str]) -> svg.Steps:
    x, y = (np.array([getattr(mark, axis) for mark in course.marks]) for axis in "xy")
    return svg.through(
        course.name,
        course.attack,
        x,
        y,
        course.samples,
        stops,
        colour,
        marks=tuple(course.marks),
        faint=course.attack != attacks[0],
        label=course.name,
        choice=course.attack if len(attacks) > 1 else "",
    )


def _numbers(course: Course, norm: str) -> Iterator[tuple[str, ...]]:
    for mark in course.marks:
        line = (course.name, course.attack, radius(mark.x))
        if norm:
            yield (*line, number(mark.y, DIGITS[norm]))
        else:
            count = round(mark.y * course.samples)
            told = f"{count:,} of {course.samples:,}"
            yield (*line, percent(mark.y), interval(mark.low, mark.high), told)
