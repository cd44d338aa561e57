"""Evaluates images that are made by index, and writes what it took, as JSON.

Usage: KIND SAMPLES FOLDER. KIND is ``pgd``, ``nothing`` (an attack without success that does
nothing) or ``all`` (four attacks that succeed on every sample).
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401  # loaded before the memory is measured
import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401
import torch
from torch import Tensor, nn

from art_ext.core.result import AttackResult
from art_ext.data import as_dataset
from art_ext.evaluation import evaluate
from art_ext.evaluation.panel.attack import Attack, AttackRequest

SIDE = 224


class ByIndex:
    """Images of three colours, each made from its index."""

    classes = tuple("0123456789")

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(index))
        return nn.functional.interpolate(coarse, SIDE)[0], index % 10


def _attack(request: AttackRequest, step: float) -> AttackResult:
    count = len(request.x)
    nothing = torch.zeros(count, dtype=torch.int64)
    x_adv = (request.x + step * request.eps * (1 - 2 * request.x.round())).clamp(0, 1)
    return AttackResult(
        x_adv=x_adv if step else request.x,
        success=nothing == (0 if step else 1),
        already_adversarial=nothing == 1,
        distance=torch.full((count,), step * request.eps if step else torch.inf),
        x_nearest=None,
        queries=nothing + 1,
        queries_to_success=nothing + (1 if step else -1),
        gradients=nothing,
        wasted_rows=nothing,
        norm="linf",
        eps=request.eps,
        seed=0,
        stop_on_success=True,
        lengths=torch.zeros(count, 4),
    )


def attacks(kind: str) -> list[Any]:
    if kind == "pgd":
        return ["pgd"]
    names = ["nothing"] if kind == "nothing" else [f"all-{number}" for number in range(4)]
    step = 0.0 if kind == "nothing" else 0.5
    return [
        Attack(name, lambda request: _attack(request, step), False, "A test.") for name in names
    ]


def peak() -> float:
    """Largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(kind: str, samples: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 7, stride=8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    ).eval()
    model(torch.rand(2, 3, SIDE, SIDE))
    before = peak()
    evaluate(
        model,
        as_dataset(ByIndex(samples)),
        folder,
        eps=8 / 255,
        attacks=attacks(kind),
        attack_args={"pgd": {"num_steps": 3}} if kind == "pgd" else None,
        chunk_size=64,
        batch_size=32,
    )
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    sys.stdout.write(json.dumps({"growth": peak() - before, "disk": disk / 1e6}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
