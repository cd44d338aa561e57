"""Time and memory of the report on a large run.

    python -m art_ext.benchmarks.records [--samples 100000] [--attacks 10] [--radii 10] [--side 28]

A synthetic run folder is written first: its units, without a report. The first samples have images,
cut from photographs. The printed times are those of ``finish``, which joins the records, analyses
them and draws the report, and of writing the report again. The peak memory is that of the whole
process, with the imports.
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
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.execution.finish import finish
from art_ext.evaluation.report.page import write_report
from art_ext.storage.evaluation import REPORT, RunFolder
from art_ext.storage.records import table_of_rows
from art_ext.storage.units import Unit, plan

NAMES = ("pgd", "fgsm", "auto_pgd", "frank_wolfe", "mi_fgsm", "ai_fgsm", "m_pgd", "i_fgsm")
BLACK_BOX = ("square", "rays")
CLASSES = 10
IMAGES = 12  # samples whose images the run keeps


def description(samples: int, names: list[str], radii: list[float], side: int) -> dict[str, object]:
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
        "data": {
            "name": "noise",
            "samples": samples,
            "shape": [3, side, side],
            "class_names": None,
        },
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
    index = torch.arange(min(count, IMAGES))
    clean = {
        "index": index,
        "x": photographs(len(index), folder.run["data"]["shape"][1]),
        "y": torch.tensor(label)[index],
        "right": torch.tensor(~wrong)[index],
        "shown": index < IMAGES // 2,
    }
    writer = folder.write_chunk(0)
    writer.clean({"model": {**facts, **probe}}, clean)
    for number, unit in enumerate(folder.units()):
        rows = records(unit, samples, hard, number)
        writer.add(number, table_of_rows(rows), adversarials(rows, clean, unit.radii[0]))
    writer.write()


def photographs(count: int, side: int) -> torch.Tensor:
    """Return squares (N, 3, S, S) of two photographs at random places."""
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    rng = np.random.default_rng(0)
    squares = []
    for number in range(count):
        image = images[number % len(images)]
        top, left = (int(rng.integers(0, size - side)) for size in image.shape[:2])
        squares.append(image[top : top + side, left : left + side])
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous() / 255


def adversarials(
    rows: pd.DataFrame, clean: dict[str, torch.Tensor], eps: float
) -> dict[str, torch.Tensor]:
    """Return what a unit keeps of the samples with images: steps of eps in random directions."""
    success = torch.from_numpy(rows["success"].to_numpy(copy=True))[clean["index"]]
    index = clean["index"][success]
    x = clean["x"][success]
    steps = eps * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    return {
        "index": index,
        "x_adv": (x + steps).clamp(0, 1),
        "label": (clean["y"][success] + 1) % CLASSES,
        "distance": torch.full((len(index),), eps),
        "success": torch.ones(len(index), dtype=torch.bool),
    }


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--attacks", type=int, default=10)
    parser.add_argument("--radii", type=int, default=10)
    parser.add_argument("--side", type=int, default=28, help="pixels of a side of an image")
    arguments = parser.parse_args()
    names = [*BLACK_BOX, *NAMES][: arguments.attacks]
    radii = [round(0.01 * number, 2) for number in range(1, arguments.radii + 1)]
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(
            Path(place) / "run", description(arguments.samples, names, radii, arguments.side)
        )
        folder.begin()
        write_units(folder)
        begun = time.perf_counter()
        outcome = finish(folder, write_report)
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        write_report(folder.path, [load_run(folder.path)])
        again = time.perf_counter() - begun
        size = (folder.path / REPORT).stat().st_size / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{len(outcome.blocks):,} records of {len(names)} attacks at {len(radii)} eps:"
            f" reported in {seconds:.1f} s, again in {again:.1f} s, page {size:.2f} MB, peak memory"
            f" {peak:.2f} GB"
        )


if __name__ == "__main__":
    main()
