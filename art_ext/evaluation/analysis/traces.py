"""Robust accuracy and decision boundary distance against queries, from the distances at marks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.geometry import BALL_TOLERANCE
from art_ext.evaluation.analysis.blocks import Key, stopped_early
from art_ext.evaluation.analysis.radii import adversarial, has_detector
from art_ext.evaluation.analysis.table import counted_attacks
from art_ext.storage.records import DISTANCE_AT, marks_of

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun


@dataclass(frozen=True, eq=False)
class TraceCurve:
    """One attack on one model after M numbers of queries.

    Attributes:
        model, attack, eps: whose it is.
        samples: number of samples.
        marks: (M,) numbers of queries, ascending.
        held: (M,) int, samples that are classified correctly and have no adversarial within eps
            after so many queries. In a cascade neither have they one of an earlier attack.
        correct: number of correctly classified samples.
        distance: (M,) mean distance of the nearest adversarial, with 0 for misclassified samples.
            NaN if there is none. None if the attack stopped early or was not given all samples.
        left_out: (M,) int, samples without any adversarial so far, which the mean leaves out.
        largest: True at the largest eps of the run.
    """

    model: str
    attack: str
    eps: float
    samples: int
    marks: np.ndarray
    held: np.ndarray
    correct: int
    distance: np.ndarray | None
    left_out: np.ndarray
    largest: bool


def trace_curves(one: LoadedRun) -> list[TraceCurve]:
    """Return the curves of a run, the smallest eps of each attack first.

    Attacks that kept no distances have none, and neither have models with a detector.
    """
    marks = marks_of(one.run)
    return [
        curve
        for model in (one.blocks.models if marks else ())
        if not has_detector(one.blocks, model)
        for attack in one.blocks.attacks(model)
        for key in sorted(one.blocks.keys(model, attack))
        for curve in _of_block(one, key, marks)
    ]


def _of_block(one: LoadedRun, key: Key, marks: tuple[int, ...]) -> Iterator[TraceCurve]:
    """Yield the curve of a block, if its attack kept distances."""
    blocks, run = one.blocks, one.run
    every = np.array([blocks.column(key, f"{DISTANCE_AT}{mark}") for mark in marks], dtype=float)
    kept = ~np.isnan(every).all(axis=1)
    if not kept.any():
        return
    model, attack, eps = key
    index = blocks.column(key, "index")
    earlier = counted_attacks(run, attack)[:-1]
    wrong = blocks.column(key, "already_adversarial")
    failed = adversarial(blocks, model, eps, earlier)[index] if earlier else wrong
    distances = every[kept]
    found = np.isfinite(distances)
    yield TraceCurve(
        model,
        attack,
        eps,
        len(index),
        np.array(marks)[kept],
        (~failed & ~(distances <= eps + BALL_TOLERANCE)).sum(axis=1),
        int((~wrong).sum()),
        None if stopped_early(run, attack) else _means(distances, wrong),
        (~found & ~wrong).sum(axis=1),
        eps == max(run["settings"]["eps"]),
    )


def _means(distances: np.ndarray, wrong: np.ndarray) -> np.ndarray | None:
    """Return the mean distance at each mark, or None if some samples were not attacked."""
    known = np.where(wrong, 0.0, distances)
    if np.isnan(known).any():
        return None
    return np.array(
        [row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in known]
    )
