"""How a run was done and what its numbers mean, in sentences that travel with the records."""

from __future__ import annotations

from collections.abc import Sequence

from art_ext.data import Dataset
from art_ext.evaluation.panel import Attack, Settings
from art_ext.evaluation.table import radius

_NORMS = {"linf": "L-infinity", "l2": "L2", "l1": "L1"}


def protocol(data: Dataset, panel: Sequence[Attack], settings: Settings) -> list[str]:
    """The protocol of a run, one sentence or two per entry."""
    lower, upper = settings.clip_values
    radii = ", ".join(map(radius, settings.eps))
    sentences = [
        f"The {len(data)} samples of {data.name} in the order of the data set, attacked untargeted within "
        f"{_NORMS[settings.norm]} radius {radii} and the box [{lower:g}, {upper:g}].",
        "Clean accuracy comes from one forward per sample before the attacks, outside their ledgers.",
        "A sample counts as broken if the very tensor that the model misclassified lies in the box and within eps + "
        "1e-6 of the input, measured in float64.",
        *(attack.about for attack in panel),
    ]
    searching = ", ".join(attack.name for attack in panel if attack.nearest)
    if searching and settings.early_stop:
        sentences.append(
            f"At most {settings.max_queries:,} queries per sample ({searching}). A sample leaves the search at its "
            "first success, so its distance is only an upper bound, and there is no ADBD; each eps has a search of its "
            "own."
        )
    elif searching:
        sentences.append(
            f"Each sample spends {settings.max_queries:,} queries on the nearest adversarial ({searching}). One search "
            "serves every eps: success is read from the distance of the nearest adversarial found, queries from the "
            "moment the search first came within eps. Each eps repeats that search's ADBD, queries and seconds."
        )
    sentences.append(f"Seed {settings.seed}; at most {settings.batch_size} rows in a model call.")
    return sentences
