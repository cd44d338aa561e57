"""Ticks, stops and labels of the figures of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from art_ext.core.wording import one_line, shortened
from art_ext.evaluation.report.svg import HEIGHT, UNITS, Drawn, Scale

LINE = 14.0  # pixels, height of a line of a label
LETTERS = 13  # of a line of a label
APART = 200.0  # units between labels at the top
MANY = 6  # labels beside the ends of curves, that may lie over other curves
# pixels
GAP = 3.0  # between labels
MARGIN = 10.0  # from the end of a curve to a label, and beyond it
LETTER = 7.5  # width of a letter
NARROW = 200.0  # width of the plot area on a phone


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


def stops(right: float, eps: Sequence[float]) -> np.ndarray:
    """Return the radii that the readout offers: round numbers and the attacked eps.

    Round numbers beside an eps are left out, so that a pointer at its mark finds the eps.
    """
    round_ones = grid(right)
    gap = np.abs(round_ones[:, None] - np.asarray(eps)).min(1)
    kept = round_ones[(gap > 0.6 * round_ones[1]) | (round_ones == 0)]
    return np.unique(np.concatenate([kept, eps]))


def wrapped(name: str, lines: int = 2, letters: int = LETTERS) -> tuple[str, ...]:
    """Return a name as a label: at most so many lines, split after ``_:/-`` and spaces.

    Letters in the middle are left out if it is too long.
    """
    name = one_line(name)
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
        return (shortened(name, letters),)
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

    A label that would touch one of an earlier curve, wherever that ends, is left out. Of many
    labels, those are left out too that would hide another curve on a phone, or stand a whole line
    away from their own end.
    """
    wanted = [one for one in curves if one.steps.label]
    many = len(wanted) > MANY
    found: list[Label] = []
    for one in wanted:
        lines = wrapped(one.steps.label)
        height = LINE * len(lines) + 1
        natural = HEIGHT * scale.height(one.steps.y[-1]) / UNITS - height / 2
        for moved in (0.0, 0.5, -0.5) if many else (0.0, 0.5, -0.5, 1.0, -1.0):
            top = min(natural + moved * LINE, HEIGHT + LINE / 2 - height)
            label = _label(one, scale, top, lines)
            if any(_touch(label, other) for other in found):
                continue
            if many and any(_hides(label, other, scale) for other in curves if other is not one):
                continue
            found.append(label)
            break
    return found


def _touch(one: Label, other: Label) -> bool:
    """Return True if two labels would touch, if they stood above each other."""
    first, second = sorted((one, other), key=lambda label: label.y)
    return second.y < first.y + LINE * len(first.lines) + GAP


def _hides(label: Label, curve: Drawn, scale: Scale) -> bool:
    """Return True if a label would hide a part of a curve in a narrow figure."""
    right = label.x + (MARGIN + LETTER * max(map(len, label.lines))) * UNITS / NARROW
    x = scale.place(curve.steps.x)
    if float(scale.place(curve.steps.end)) <= label.x:
        return False
    first = max(0, int(np.searchsorted(x, label.x, side="right")) - 1)
    seen = curve.steps.y[first : max(first + 1, int(np.searchsorted(x, right)))]
    highest, lowest = (HEIGHT * scale.height(y) / UNITS for y in (seen.max(), seen.min()))
    return bool(highest < label.y + LINE * len(label.lines) and label.y < lowest)


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
