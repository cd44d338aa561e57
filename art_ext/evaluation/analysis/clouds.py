"""States of chains in the plane: which are shown, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from art_ext.storage.chunks import CLEAN

if TYPE_CHECKING:
    from art_ext.storage.evaluation import RunFolder

METHODS = ("pca", "tsne")
PICTURED = 4  # samples whose states are shown


@dataclass(frozen=True, eq=False)
class States:
    """The states that one attack drew of the samples to show.

    Attributes:
        model, attack: of the unit.
        index: (M,) positions of the samples.
        samples: (S, M, *S) the states.
        classes: (S, M) predicted classes, -1 for none.
        x: (M, *S) the samples themselves.
        labels: (M,) their classes.
    """

    model: str
    attack: str
    index: Tensor
    samples: Tensor
    classes: Tensor
    x: Tensor
    labels: Tensor


def pictured(shown: Tensor) -> Tensor:
    """Return the samples whose states are shown, of the positions of those that a report shows."""
    return shown.sort().values[:PICTURED]


def states_to_show(folder: RunFolder) -> list[States]:
    """Return the states that a run kept for its picture. Empty without one."""
    if not folder.run["arguments"].get("picture") or not folder.complete(0):
        return []
    clean = folder.files.images(0).get(CLEAN)
    if clean is None:
        return []
    wanted = pictured(clean["index"][clean["shown"]])
    largest = max(folder.run["settings"]["eps"])
    found = []
    for unit in folder.units_of(0):
        if unit.radii[-1] != largest:
            continue
        try:
            kept = folder.files.states(unit.place, 0)
        except FileNotFoundError:
            continue
        rows = torch.isin(kept["index"], wanted).nonzero().squeeze(1)
        if len(rows):
            index = kept["index"][rows]
            place = torch.searchsorted(clean["index"], index)
            found.append(
                States(
                    unit.model,
                    unit.attack,
                    index,
                    kept["samples"][:, rows],
                    kept["classes"][:, rows],
                    clean["x"][place],
                    clean["y"][place],
                )
            )
    return found


def plane(points: np.ndarray[Any, Any], method: str, seed: int) -> np.ndarray[Any, Any]:
    """Return (P, 2) positions of points (P, D) in a plane.

    ``"pca"``: on their first two principal components, each with the sign that makes its largest
    coordinate positive. ``"tsne"``: by t-SNE from there, or so few points by PCA.
    """
    centred = points - points.mean(axis=0)
    if method == "tsne" and len(np.unique(points, axis=0)) > PICTURED:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(points) - 1) / 3)
        fitted = TSNE(perplexity=perplexity, init="pca", random_state=seed)
        return np.asarray(fitted.fit_transform(centred.astype(np.float32)), dtype=np.float64)
    if len(points) < points.shape[1]:  # the smaller of the two matrices
        values, vectors = np.linalg.eigh(centred @ centred.T)
        found = vectors[:, :-3:-1] * np.sqrt(values[:-3:-1].clip(min=0))
    else:
        found = centred @ np.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
    if found.shape[1] < 2:
        found = np.pad(found, ((0, 0), (0, 2 - found.shape[1])))
    farthest = np.abs(found).argmax(axis=0)
    signs = np.sign(found[farthest, np.arange(2)])
    return np.asarray(found * np.where(signs == 0, 1, signs), dtype=np.float64)
