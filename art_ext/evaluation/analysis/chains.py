"""Chains: acceptance, diversity and success of the states that an attack drew of each sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.blocks import Blocks, Key

FIELDS = ("acceptance", "diversity_l2", "diversity", "classes", "all_or_nothing")
UNKNOWN = dict.fromkeys(FIELDS, math.nan)


def chain_fields(blocks: Blocks, key: Key, given: np.ndarray) -> dict[str, Any]:
    """Return the fields of ``Row`` on chains. Empty in runs in which no attack draws one.

    Args:
        blocks: the records.
        key: of one attack.
        given: bool by row of its block, the correctly classified samples that it was given.
    """
    if "states" not in blocks.names(key):
        return {}
    states = blocks.column(key, "states")[given]
    drawn = states > 0
    if not drawn.any():
        return UNKNOWN

    def column(name: str) -> np.ndarray:
        return blocks.column(key, name)[given][drawn]

    tested = int(column("transitions").sum())
    return {
        "acceptance": int(column("accepted_transitions").sum()) / tested if tested else math.nan,
        "diversity_l2": float(column("diversity_l2").mean()),
        "diversity": float(column("diversity").mean()),
        "classes": float(column("state_classes").mean()),
        "all_or_nothing": float((column("adversarial_states") == states[drawn]).mean()),
    }
