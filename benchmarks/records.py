"""Time and memory of the report on a large run.

    python -m art_ext.benchmarks.records [--samples 100000] [--attacks 10] [--radii 10]

A synthetic run folder is written first: its units, without a report. The printed time is that of
``finish``: it joins the records, analyses them and draws the report. The peak memory is that of the
whole process, with the imports.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from art_ext.core.geometry import DISTORTIONS
from art_ext.evaluation.execution.finish import finish
from art_ext.evaluation.report.page import write_report
from art_ext.storage.evaluation import RunFolder
from art_ext.storage.records import table_of_rows
from art_ext.storage.units import Unit, plan

NAMES = ("pgd", "fgsm", "auto_pgd", "frank_wolfe", "mi_fgsm", "ai_fgsm", "m_pgd", "i_fgsm")
BLACK_BOX = ("square", "rays")
CLASSES = 10


def description(samples: int, names: list[str], radii: list[float]) -> dict[str, object]:
    """Content of ``run.json``: one model, one unit for each attack and radius."""
    runs = [("model", name, (eps,)) for name in names for eps in radii]
    access = {"rays": "labels", "square": "scores"}
    return {
        "arguments": {"command": "benchmark"},
        "identity": {"models": {"model": {}}},
        "settings": {
            "eps": radii,
            "norm": "linf",
            "stop_on_success": True,
            "max_queries": 1000,
            "targeted": None,
            "clip_values": [0.0, 1.0],
        },
        "panel": {"name": "custom", "mode": "independent"},
        "data": {"name": "noise", "samples": samples, "shape": [1, 28, 28], "class_names": None},
        "attacks": {
            name: {
                "nearest": name == "rays",
                "stops_early": name == "rays",
                "access": access.get(name, "gradients"),
                "arguments": {},
            }
            for name in names
        },
        "protocol": ["Synthetic records."],
        "versions": {},
        "started": "today",
        "plan": plan(samples, samples, runs),
    }


def records(unit: Unit, samples: pd.DataFrame, hard: np.ndarray, seed: int) -> pd.DataFrame:
    """Return random records of a unit: a sample is lost from a radius of its own on."""
    rng = np.random.default_rng(seed)
    eps = unit.radii[0]
    wrong = samples["already_adversarial"].to_numpy()
    success = (hard + 0.02 * rng.random(len(hard)) < 8 * eps) & ~wrong
    queries = rng.integers(1, 1000, len(hard))
    nearest = np.where(success, hard / 8, np.inf) if unit.attack == "rays" else np.nan
    return samples.assign(
        model=unit.model,
        attack=unit.attack,
        eps=eps,
        target=-1,
        attacked=True,
        success=success,
        distance=np.where(success, eps, np.inf).astype(np.float32),
        nearest_distance=np.full(len(hard), nearest, dtype=np.float32),
        **dict.fromkeys(DISTORTIONS, np.float32(eps)),
        queries=queries,
        queries_to_success=np.where(success, queries, -1),
        gradients=0 if unit.attack in BLACK_BOX else queries,
        wasted_rows=0,
        seconds=rng.random(len(hard)),
    )


def write_units(folder: RunFolder) -> None:
    """Write the clean facts and all units of a synthetic run."""
    count = folder.run["data"]["samples"]
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, count)
    wrong = rng.random(count) < 0.1
    samples = pd.DataFrame(
        {
            "index": np.arange(count),
            "id": rng.integers(-(2**62), 2**62, count),
            "label": label,
            "clean_prediction": np.where(wrong, (label + 1) % CLASSES, label),
            "already_adversarial": wrong,
        }
    )
    hard = rng.random(count)
    facts = {"classes": CLASSES, "samples": count, "lowest": 0.0, "highest": 1.0, "repeated": 0}
    probe = {"probabilities": 0, "training": False}
    shown = {
        "index": torch.tensor([0]),
        "x": torch.rand(1, 1, 28, 28),
        "y": torch.tensor(label[:1]),
    }
    flags = {"right": torch.tensor([True]), "shown": torch.tensor([True])}
    writer = folder.write_chunk(0)
    writer.clean({"model": {**facts, **probe}}, {**shown, **flags})
    for number, unit in enumerate(folder.units()):
        writer.add(number, table_of_rows(records(unit, samples, hard, number)), {})
    writer.write()


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--attacks", type=int, default=10)
    parser.add_argument("--radii", type=int, default=10)
    arguments = parser.parse_args()
    names = [*BLACK_BOX, *NAMES][: arguments.attacks]
    radii = [round(0.01 * number, 2) for number in range(1, arguments.radii + 1)]
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run", description(arguments.samples, names, radii))
        folder.begin()
        write_units(folder)
        begun = time.perf_counter()
        outcome = finish(folder, write_report)
        seconds = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{len(outcome.blocks):,} records of {len(names)} attacks at {len(radii)} eps:"
            f" reported in {seconds:.1f} s, peak memory {peak:.2f} GB"
        )


if __name__ == "__main__":
    main()
