"""Ticks, stops and labels of the figures of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from art_ext.evaluation.report.svg import HEIGHT, UNITS, Drawn, Scale

LINE = 14.0  # pixels, height of a line of a label
LETTERS = 13  # of a line of a label
APART = 200.0  # units between labels at the top


@dataclass(frozen=True)
class Label:
    """Lines of text at a place, in units from the left and in pixels from the top."""

    x: float
    y: float
    lines: tuple[str, ...]
    css: str = ""
    title: str = ""
    choice: str = ""


def ticks(right: float, most: int = 5) -> list[float]:
    """Return 0 and at most so many round numbers up to ``right``."""
    power = 10 ** math.floor(math.log10(right / most))
    step = next(n * power for n in (1, 2, 2.5, 5, 10) if right / (n * power) <= most)
    return [float(f"{n * step:.6g}") for n in range(int(right / step * (1 + 1e-9)) + 1)]


def between(left: float, right: float, log: bool) -> list[float]:
    """Return round numbers from ``left`` to ``right``. With ``log``, powers of ten."""
    if log:
        powers = range(math.ceil(math.log10(left)), math.floor(math.log10(right)) + 1)
        return [10.0**power for power in powers]
    step = ticks(right - left)[1]
    first = math.ceil(left / step - 1e-9)
    last = math.floor(right / step + 1e-9)
    return [float(f"{number * step:.6g}") for number in range(first, last + 1)]


def grid(right: float, least: int = 250) -> np.ndarray:
    """Return round numbers from 0 to ``right``, at least so many."""
    power = 10 ** math.floor(math.log10(right / least))
    step = max(n * power for n in (1, 2, 5) if n * power <= right / least)
    count = int(right / step * (1 + 1e-9))
    return np.array([float(f"{n * step:.6g}") for n in range(count + 1)])


def wrapped(name: str, lines: int = 2, letters: int = LETTERS) -> tuple[str, ...]:
    """Return a name as a label: at most so many lines, split after ``_:/-`` and spaces.

    Letters in the middle are left out if it is too long.
    """
    pieces: list[str] = []
    for letter in name:
        if not pieces or pieces[-1][-1] in "_:/- " or len(pieces[-1]) >= letters:
            pieces.append("")
        pieces[-1] += letter
    found: list[str] = []
    for piece in pieces:
        if found and len(found[-1]) + len(piece) <= letters:
            found[-1] += piece
        else:
            found.append(piece)
    if len(found) <= lines:
        return tuple(found)
    if lines == 1:
        half = letters // 2
        return (f"{name[:half]}…{name[-(letters - half - 1) :]}",)
    return (*found[: lines - 1], f"…{name[-(letters - 1) :]}")


def at_ends(curves: Sequence[Drawn], scale: Scale) -> list[Label]:
    """Return the labels at the ends of curves, moved so that none hides another.

    If they do not fit with two lines each they have one, and if they still do not fit, the last
    ones are left out.
    """
    wanted = [one for one in curves if one.steps.label]
    lines = 2 if 2 * len(wanted) * (LINE + 1) <= HEIGHT + LINE else 1
    shown = wanted[: int((HEIGHT + LINE) // (lines * (LINE + 1)))]
    texts = {id(one): wrapped(one.steps.label, lines) for one in shown}
    heights = {id(one): LINE * len(texts[id(one)]) + 1 for one in shown}
    ordered = sorted(shown, key=lambda one: -one.steps.y[-1])
    tops = [
        HEIGHT * scale.height(one.steps.y[-1]) / UNITS - heights[id(one)] / 2 for one in ordered
    ]
    bottom = -LINE / 2
    for number, one in enumerate(ordered):  # down, then up from the lower edge
        tops[number] = max(tops[number], bottom)
        bottom = tops[number] + heights[id(one)]
    limit = HEIGHT + LINE / 2
    for number in reversed(range(len(ordered))):
        tops[number] = min(tops[number], limit - heights[id(ordered[number])])
        limit = tops[number]
    return [_label(one, scale, top, texts[id(one)]) for one, top in zip(ordered, tops, strict=True)]


def nearby(curves: Sequence[Drawn], scale: Scale) -> list[Label]:
    """Return the labels of curves that end at different places, each beside its own end.

    A label that would hide one of an earlier curve, wherever that ends, is left out.
    """
    found: list[Label] = []
    for one in curves:
        if not one.steps.label:
            continue
        lines = wrapped(one.steps.label)
        height = LINE * len(lines) + 1
        natural = HEIGHT * scale.height(one.steps.y[-1]) / UNITS - height / 2
        for moved in (0.0, 0.5, -0.5, 1.0, -1.0):
            top = min(natural + moved * LINE, HEIGHT + LINE / 2 - height)
            if all(
                top + height <= other.y or other.y + LINE * len(other.lines) + 1 <= top
                for other in found
            ):
                found.append(_label(one, scale, top, lines))
                break
    return found


def _label(one: Drawn, scale: Scale, top: float, lines: tuple[str, ...]) -> Label:
    place = float(scale.place(one.steps.end))
    return Label(place, round(top, 1), lines, one.css, one.steps.label, one.steps.choice)


def apart(places: Sequence[tuple[float, str]], scale: Scale) -> list[Label]:
    """Return labels at values of the axis, those on the right first, without the ones too close."""
    found: list[Label] = []
    for value, text in sorted(places, reverse=True):
        place = float(scale.place(value))
        if not found or found[-1].x - place >= APART:
            found.append(Label(place, 0.0, (text,)))
    return found
