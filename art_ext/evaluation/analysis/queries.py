"""Success rate of each attack as a function of the queries charged to each sample."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from art_ext.evaluation.analysis.table import given

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.records import LoadedRun


@dataclass(frozen=True, eq=False)
class QueryCurve:
    """Share of samples with a success after a number of queries, of one attack at one eps.

    Attributes:
        model, attack, eps: whose it is.
        samples: number of correctly classified samples given to the attack.
        queries: (S,) positions of the steps, ascending, from 1 on.
        successes: (S,) int, number of samples with a success after so many queries.
        most: largest number of queries that the attack charged to a sample.
        needs_gradients: True if the attack differentiates the model.
        largest: True at the largest eps of the run.
    """

    model: str
    attack: str
    eps: float
    samples: int
    queries: np.ndarray
    successes: np.ndarray
    most: int
    needs_gradients: bool
    largest: bool


def query_curves(one: LoadedRun, with_gradients: Collection[tuple[str, str]]) -> list[QueryCurve]:
    """Return the curves of a run, the smallest eps of each attack first.

    Attacks that were given no correctly classified sample have none.

    Args:
        one: the run.
        with_gradients: model and attack of those that need gradients.
    """
    found = []
    last = max(one.run["settings"]["eps"])
    for model in one.blocks.models:
        for attack in one.blocks.attacks(model):
            for key in sorted(one.blocks.keys(model, attack)):
                counts = (
                    given(one.blocks, key, one.run)
                    & ~one.blocks.column(key, "already_adversarial")
                    & (one.blocks.column(key, "target") != one.blocks.column(key, "label"))
                )
                if not counts.any():
                    continue
                success = one.blocks.column(key, "success")[counts]
                spent = one.blocks.column(key, "queries_to_success")[counts][success]
                steps = np.unique(np.concatenate([[1], spent]))
                found.append(
                    QueryCurve(
                        model,
                        attack,
                        key[2],
                        int(counts.sum()),
                        steps,
                        np.searchsorted(np.sort(spent), steps, side="right"),
                        max(2, int(one.blocks.column(key, "queries")[counts].max())),
                        (model, attack) in with_gradients,
                        key[2] == last,
                    )
                )
    return found
