"""The driver of an evaluation on an engine, in a process of its own.

    python -c "from tests._engine_driver import main; main()" FOLDER OPTIONS

The options are JSON: ``engine``, ``engine_args``, ``panel``, ``marks`` (a folder: workers die, one
after the other, once at each of ``moments``, which count forwards).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.data import Samples, load_data
from art_ext.evaluation import evaluate
from art_ext.evaluation.report import page

N = 24


class Centroids(nn.Module):
    """The nearest class mean of the training digits. It may kill its process."""

    def __init__(self, scale: float, marks: Path | None, moments: tuple[int, ...]) -> None:
        super().__init__()
        train = load_data("digits", split="train")
        means = torch.stack(
            [train.x[train.y == label].flatten(1).mean(dim=0) for label in range(10)]
        )
        self.weight = nn.Parameter(2 * scale * means)
        self.bias = nn.Parameter(-scale * means.square().sum(dim=1))
        self.marks = marks
        self.left = list(enumerate(moments))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        for number, moment in self.left if self.marks is not None else ():
            mark = Path(str(self.marks)) / str(number)
            if not mark.exists():
                if self.calls >= moment:
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                break
        return x.flatten(1) @ self.weight.T + self.bias


def rebuild(
    marks: Path | None = None, moments: tuple[int, ...] = ()
) -> tuple[dict[str, Any], Samples]:
    """Two models and the samples."""
    models = {"one": Centroids(1, marks, moments), "two": Centroids(0.5, None, ())}
    return models, load_data("digits").first(N)


def run(folder: str | Path, panel: str = "quick", chunk_size: int = 3, **options: Any) -> Any:
    """The evaluation. The same call begins it and goes on with it."""
    models, data = rebuild()
    return evaluate(
        models,
        data,
        folder,
        panel=panel,
        eps=0.1,
        max_queries=60,
        chunk_size=chunk_size,
        batch_size=6,
        **options,
    )


def main() -> None:
    """Run with two workers, without a report."""
    # a shell starts what runs in its background with this signal ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    page.write_report = lambda *_: None
    folder, options = sys.argv[1], json.loads(sys.argv[2])
    marks = options.pop("marks", None)
    moments = tuple(options.pop("moments", ()))
    build = partial(rebuild, None if marks is None else Path(marks), moments)
    if options.get("engine") != "local":
        options |= {"workers": 2, "threads_per_worker": 1, "rebuild": build}
    run(folder, **options)
