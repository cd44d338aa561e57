"""Stability: the share of samples whose prediction, right or wrong, no attack changed."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from art_ext.core.metrics.intervals import wilson
from art_ext.evaluation.analysis.radii import adversarial
from art_ext.storage.records import STABLE

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.blocks import Blocks

UNKNOWN = {"stability": math.nan, "stability_low": math.nan, "stability_high": math.nan}


def has_stability(blocks: Blocks, model: str) -> bool:
    """Return True if the records of a model tell which predictions are stable."""
    return any(STABLE in blocks.names(key) for key in blocks.keys(model)[:1])


def changed_predictions(
    blocks: Blocks, model: str, eps: float, attacks: Collection[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return two bool by position: predictions that were changed within eps, and those of which it
    is known.

    Of correctly classified samples they are the successes that robust accuracy counts.

    Args:
        blocks: the records, with the column ``stable``.
        model: one of the models.
        eps: radius.
        attacks: names of the attacks that count. None: all.
    """
    wrong, changed, known = (blocks.nothing(model) for _ in range(3))
    for key in blocks.keys(model, eps=eps):
        index = blocks.column(key, "index")
        wrong[index] = blocks.column(key, "clean_prediction") != blocks.column(key, "label")
        if attacks is not None and key[1] not in attacks:
            continue
        stable = blocks.column(key, STABLE)
        changed[index[stable == 0]] = True
        if key[2] == eps:
            known[index[stable == 1]] = True
    failed = adversarial(blocks, model, eps, attacks)
    return np.where(wrong, changed, failed), known | changed | ~wrong


def stability_fields(
    blocks: Blocks,
    model: str,
    eps: float,
    positions: np.ndarray,
    attacks: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return the fields of ``Row`` and ``Worst`` on stability. Empty in runs without it.

    They are NaN if no attack tried to change the prediction of a misclassified sample.

    Args:
        blocks, model, eps, attacks: as in ``changed_predictions``.
        positions: of the samples that count.
    """
    if not has_stability(blocks, model):
        return {}
    changed, known = changed_predictions(blocks, model, eps, attacks)
    if not known[positions].all():
        return UNKNOWN
    held, samples = int((~changed[positions]).sum()), len(positions)
    low, high = wilson(held, samples)
    return {"stability": held / samples, "stability_low": low, "stability_high": high}
