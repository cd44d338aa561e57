"""Judgement of a detector on what an attack returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from art_ext.core.result import AttackResult
from art_ext.storage.units import Unit

if TYPE_CHECKING:
    from art_ext.evaluation.execution.chunks import Chunk
    from art_ext.evaluation.execution.detection import Detection


def judged(
    success: np.ndarray[Any, Any],
    detection: Detection,
    unit: Unit,
    chunk: Chunk,
    attacked: Tensor,
    result: AttackResult,
) -> dict[str, Any]:
    """Return the columns of a unit's records that a detector adds.

    The returned rows are given to the detector once more, outside of the attack. ``x_adv`` is
    judged at the radius that the attack was given, the nearest adversarial at smaller ones. A
    sample that was not attacked has no score.

    Args:
        success: (R K,) bool, column of the records of K samples, one block for each of R radii.
        detection: of the run.
        unit: the unit.
        chunk: its K samples.
        attacked: (K,) bool, the attacked samples.
        result: of the attack on the K samples.
    """
    clean = chunk.clean[unit.model]
    if clean.scores is None or clean.accepted is None:
        raise RuntimeError("the clean pass has no scores of a detector")
    index = attacked.nonzero().squeeze(1)
    nearest = result.x_adv if result.x_nearest is None else result.x_nearest
    scores = torch.full((len(unit.radii), len(attacked)), torch.nan)
    for row, radius in zip(scores, unit.radii, strict=True):
        images = result.x_adv if radius == unit.radii[-1] else nearest
        if len(index):
            row[index] = detection.scores(unit.model, images[index.to(images.device)])
    accepted = (attacked & detection.accepts(unit.model, scores)).flatten().numpy()
    blocks = len(unit.radii)
    return {
        # an attack that knows the detector may count only those that are accepted
        "already_adversarial": clean.wrong.repeat(blocks).numpy(),
        "detector": detection.names[unit.model],
        "clean_score": clean.scores.repeat(blocks).numpy(),
        "clean_accepted": clean.accepted.repeat(blocks).numpy(),
        "score": scores.flatten().numpy(),
        "accepted": accepted,
        "success_accepted": success & accepted,
    }
