"""A synthetic run of transfers for the tests of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from art_ext.evaluation.analysis.examples import Examples, Found
from art_ext.evaluation.analysis.transfer import summarise_transfer
from art_ext.evaluation.report.transfer import TransferMaterial

SETTINGS: dict[str, Sequence[float]] = {"pgd": (), "ead": (0.0, 10.0, 30.0)}


def make_records(
    names: Sequence[str] = ("a", "b", "c"),
    samples: int = 40,
    settings: Mapping[str, Sequence[float]] | None = None,
    targeted: bool = False,
    at: Sequence[int] = (),
) -> pd.DataFrame:
    """One row per source, target, attack, setting and sample, with random answers.

    Args:
        names: of the models.
        samples: number of samples, of ten classes.
        settings: by attack, values of ``confidence``. Empty: it has a radius instead.
        targeted: True for targets, each the label plus 1.
        at: iterations of the attacks with a radius.
    """
    random = np.random.default_rng(0)
    label = random.integers(0, 10, samples)
    right = {name: random.random(samples) < 0.9 for name in names}
    frames = []
    for attack, values in (settings or SETTINGS).items():
        pairs: list[tuple[float | None, int]] = [(value, 0) for value in values]
        for value, mark in pairs or [(None, one) for one in (0, *at)]:
            for source in names:
                on_source = random.random(samples) < 0.9
                distances = {name: random.random(samples) for name in ("l0", "l1", "l2", "linf")}
                for target in names:
                    hit = on_source if source == target else random.random(samples) < 0.3
                    strict = pd.Series(hit, dtype=object).where(right[source] & right[target], None)
                    cells = {
                        "source": source,
                        "target": target,
                        "attack": attack,
                        "setting": "eps=0.1" if value is None else f"confidence={value:g}",
                        "eps": 0.1 if value is None else np.nan,
                        "varied": "" if value is None else "confidence",
                        "value": value,
                        "seed": 0,
                        "at": mark,
                        "index": np.arange(samples),
                        "label": label,
                        "target_class": (label + 1) % 10 if targeted else -1,
                        "source_prediction": np.where(right[source], label, (label + 2) % 10),
                        "target_prediction": np.where(right[target], label, (label + 2) % 10),
                        "adversarial_prediction": (label + hit) % 10,
                        "whitebox": on_source,
                        "strict": strict,
                        "authors": hit,
                        "states": hit.astype(int),
                        "num_states": 1,
                        **distances,
                        "queries": 100,
                        "gradients": 50,
                        "seconds": 0.1,
                    }
                    frames.append(pd.DataFrame(cells))
    return pd.concat(frames, ignore_index=True)


def make_run(samples: int = 40, targeted: bool = False, **data: Any) -> dict[str, Any]:
    """Facts of a run, as ``run.json`` holds them."""
    own = {"name": "digits", "samples": samples, "class_names": None, "shape": [1, 8, 8]}
    settings = {"norm": "linf", "clip_values": [0.0, 1.0], "targeted": "next" if targeted else None}
    return {
        "data": own | data,
        "settings": settings,
        "arguments": {"n": samples, "workers": None},
        "versions": {"art-ext": "0"},
    }


def make_examples(records: pd.DataFrame, count: int = 5) -> Examples:
    """Images of the first samples, and examples of each source and attack."""
    generator = torch.Generator().manual_seed(0)
    index = list(range(count))
    originals = {position: torch.rand(1, 8, 8, generator=generator) for position in index}
    keys = records[["source", "attack", "setting"]].drop_duplicates()
    found = {
        (source, f"{attack}, {setting}"): {
            position: Found((originals[position] + 0.1).clamp(0, 1), 3, 0.1, True)
            for position in index
        }
        for source, attack, setting in keys.itertuples(index=False)
    }
    labels = {position: int(records["label"][position]) for position in index}
    return Examples(index, originals, labels, found)


def make_material(targeted: bool = False, samples: int = 40, **more: Any) -> TransferMaterial:
    """A run with heat maps, curves, strips and, if targeted, matrices of classes."""
    records = make_records(samples=samples, targeted=targeted, **more)
    return TransferMaterial(
        make_run(samples, targeted), summarise_transfer(records), records, make_examples(records)
    )
