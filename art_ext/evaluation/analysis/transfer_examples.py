"""Samples of a run of transfers that its report shows, with their examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.evaluation.analysis.examples import Examples, Found, choose

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = 10  # samples of a strip, such as the ten digits
KEY = ["source", "attack", "setting"]
NO_CLASS = -1  # of an untargeted run

Read = Callable[[str, str, str], Tensor]


def transfer_examples(records: pd.DataFrame, x: Tensor, norm: str, read: Read) -> Examples:
    """Return samples of different classes with the examples of each source, attack and setting.

    They are of the first seed, after all iterations. Of targeted runs the first success of each
    class and class to reach is kept too.

    Args:
        records: of the run.
        x: (K, *S) first samples of the data.
        norm: of the distances.
        read: function from source, attack and setting to their examples (K, *S).
    """
    seed = records["seed"].iloc[0]
    inside = (records["index"] < len(x)) & (records["seed"] == seed) & (records["at"] == 0)
    first = records[inside]
    once = first.drop_duplicates("index").set_index("index")["label"].sort_index()
    wrong = first.loc[
        (first["source_prediction"] != first["label"])
        | (first["target_prediction"] != first["label"]),
        "index",
    ]
    right = torch.ones(len(once), dtype=torch.bool)
    right[torch.tensor(wrong.unique(), dtype=torch.int64)] = False
    labels = torch.tensor(once.to_numpy())
    index: list[int] = choose(labels, right, COLUMNS).tolist()
    kept = Examples(index, {}, {})
    for key, rows in first.groupby(KEY, sort=False, observed=True):
        source, attack, setting = map(str, key)
        own = rows["target"] == (
            source if source in set(rows["target"]) else rows["target"].iloc[0]
        )
        answers = rows[own].set_index("index")
        wanted = list(dict.fromkeys([*index, *_of_classes(answers)]))
        images = read(source, attack, setting)
        columns = ["adversarial_prediction", norm, "whitebox"]
        kept.found[source, f"{attack}, {setting}".removesuffix(", ")] = {
            position: Found(images[position], int(label), float(distance), bool(success))
            for position, (label, distance, success) in zip(
                wanted, answers.loc[wanted, columns].itertuples(index=False), strict=True
            )
            if distance > 0  # else the attack handed over the original
        }
        kept.originals.update((position, x[position]) for position in wanted)
        kept.labels.update((position, int(labels[position])) for position in wanted)
    return kept


def _of_classes(answers: pd.DataFrame) -> list[int]:
    """Return the position of the first success of each class and class to reach."""
    found = answers[answers["whitebox"] & (answers["target_class"] != NO_CLASS)]
    positions: list[int] = found[~found.duplicated(["label", "target_class"])].index.tolist()
    return positions
