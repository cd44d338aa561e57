"""Pictures of the states of chains, on the page of a report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.wording import counted
from art_ext.evaluation.analysis.clouds import plane
from art_ext.evaluation.report.material import Material, Section
from art_ext.evaluation.report.svg import colour_class

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun

WIDTH, HEIGHT, MARGIN, RADIUS = 400.0, 280.0, 12.0, 4.5
# around (0, 0), in units of the radius
SHAPES = (
    ((-1, 0), (-0.7, -0.7), (0, -1), (0.7, -0.7), (1, 0), (0.7, 0.7), (0, 1), (-0.7, 0.7)),
    ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    ((0, -1.1), (1.05, 0.8), (-1.05, 0.8)),
    ((0, -1.3), (1, 0), (0, 1.3), (-1, 0)),
)
METHODS = {"pca": "their first two principal components", "tsne": "the plane by t-SNE"}


@dataclass(frozen=True)
class Points:
    """Points of one attack and one class: the class of their colour, and their path."""

    css: str
    path: str


@dataclass(frozen=True)
class Cloud:
    """The states of one sample under one model.

    Attributes:
        title: names the sample, and the model if there are several.
        points: by attack and predicted class.
        cross: path of the sample itself.
        attacks: name and path of the mark of each attack.
        classes: name and class of the colour of each predicted class.
        numbers: attack, number of states, and predicted classes with their counts.
    """

    title: str
    points: list[Points]
    cross: str
    attacks: list[tuple[str, str]]
    classes: list[tuple[str, str]]
    numbers: list[tuple[str, int, str]]


def section(material: Material) -> Section | None:
    """Return the pictures of the states of chains. None without any."""
    clouds = [cloud for one in material.loaded for cloud in _clouds(one)]
    if not clouds:
        return None
    methods = {METHODS[one.run["arguments"]["picture"]] for one in material.loaded if one.states}
    content = {
        "clouds": clouds,
        "methods": " or ".join(sorted(methods)),
        "size": f"0 0 {WIDTH:g} {HEIGHT:g}",
    }
    gist = f"{counted(len(clouds), 'sample')} with the states of each attack"
    return Section("clouds", "States of chains", content, gist)


def _clouds(one: LoadedRun) -> list[Cloud]:
    """Return a cloud for each model and sample of a run."""
    models = list(dict.fromkeys(states.model for states in one.states))
    return [
        _cloud(one, model, position, len(models) > 1)
        for model in models
        for position in sorted(
            {int(i) for states in one.states if states.model == model for i in states.index}
        )
    ]


def _cloud(one: LoadedRun, model: str, position: int, named: bool) -> Cloud:
    own = [
        (states, int((states.index == position).nonzero()[0]))
        for states in one.states
        if states.model == model and bool((states.index == position).any())
    ]
    rows = [states.samples[:, row].flatten(1).double().numpy() for states, row in own]
    first, place = own[0]
    origin = first.x[place].flatten().double().numpy()
    run = one.run
    found = plane(
        np.concatenate([origin[None], *rows]), run["arguments"]["picture"], run["settings"]["seed"]
    )
    found = _scaled(found)
    classes = sorted({int(label) for states, row in own for label in states.classes[:, row]})
    names = _names(run["data"].get("class_names"))
    points, numbers, start = [], [], 1
    for number, (states, row) in enumerate(own):
        labels = states.classes[:, row].numpy()
        places = found[start : start + len(labels)]
        start += len(labels)
        points += [
            Points(colour_class(classes.index(label)), _path(places[labels == label], number))
            for label in sorted(set(labels.tolist()))
        ]
        told = ", ".join(
            f"{names(label)}: {count}" for label, count in Counter(labels.tolist()).most_common()
        )
        numbers.append((states.attack, len(labels), told))
    title = f"Sample {position} of class {names(int(first.labels[place]))}"
    return Cloud(
        f"{title} under {model}" if named else title,
        points,
        _cross(found[0]),
        [
            (states.attack, _path(np.zeros((1, 2)), number))
            for number, (states, _) in enumerate(own)
        ],
        [(names(label), colour_class(number)) for number, label in enumerate(classes)],
        numbers,
    )


def _names(known: list[str] | None) -> _Namer:
    return _Namer(tuple(known or ()))


@dataclass(frozen=True)
class _Namer:
    """Function from a class to its name, or its number without one."""

    known: tuple[str, ...]

    def __call__(self, label: int) -> str:
        """Return the name of a class."""
        if label < 0:
            return "none"
        return str(self.known[label]) if label < len(self.known) else str(label)


def _scaled(places: np.ndarray) -> np.ndarray:
    """Return places (P, 2) in the picture, with equal scales of both axes."""
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    extent = np.maximum(high - low, 1e-12)
    middle = np.array([WIDTH, HEIGHT]) / 2
    return np.asarray(middle + (places - (low + high) / 2) * (room / extent).min())


def _path(places: np.ndarray, number: int) -> str:
    """Return the marks of an attack, by its number, at places (P, 2)."""
    shape = np.array(SHAPES[number % len(SHAPES)]) * RADIUS
    return "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in place + shape) + "Z" for place in places
    )


def _cross(place: np.ndarray) -> str:
    x, y = place.tolist()
    return f"M{x - 6:.1f} {y:.1f}h12M{x:.1f} {y - 6:.1f}v12"
