"""Evaluates in child processes that are killed at seeded moments and started again, until a run is
through.

A process of its own, because a process that has used autograd must not be forked. Usage: FOLDER
    KILLS SEED [DETECTOR ...]. The run is
made into FOLDER/whole without a kill and into FOLDER/killed with them; what happened is printed as
JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401  # children find imported what would cost each of them seconds
import pyarrow.parquet  # noqa: F401
import torch
from torch import Tensor, nn

from art_ext.data import load_data
from art_ext.evaluation import evaluate
from art_ext.evaluation.execution.units import Tally
from art_ext.evaluation.panel.panels import Member, Panel
from art_ext.evaluation.report import page as report

PLACES = ("attack", "torn file", "before the rename", "after the rename", "clock")
PANEL = Panel(
    "small",
    "cascade",
    (
        Member("pgd", {"num_steps": 4}),
        Member("frank_wolfe", {"num_steps": 4}),
        Member("rays", {"max_queries": 60}),
    ),
)


class Centroids(nn.Module):
    """The nearest class mean of the training digits: no training, and no random numbers."""

    def __init__(self) -> None:
        super().__init__()
        train = load_data("digits", split="train")
        means = torch.stack(
            [train.x[train.y == label].flatten(1).mean(dim=0) for label in range(10)]
        )
        self.weight, self.bias = nn.Parameter(2 * means), nn.Parameter(-means.square().sum(dim=1))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


def run(folder: Path) -> None:
    """The evaluation; the same call begins it and goes on with it."""
    torch.set_num_threads(1)
    data = load_data("digits").first(60)
    detectors = sys.argv[4:]
    evaluate(
        Centroids(),
        data,
        folder,
        panel=PANEL,
        eps=(0.1, 0.2),
        stop_on_success=True,
        chunk_size=15,
        batch_size=15,
        detectors=detectors,
        calibration_data="digits" if detectors else None,
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(place: str, count: int, delay: float) -> None:
    """Let this process be killed the so-many-th time it comes to a place, or after a while."""
    left = [count]

    def here(name: str) -> bool:
        if place == name:
            left[0] -= 1
        return place == name and left[0] == 0

    call, replace = Tally.__call__, os.replace

    def dying_call(self: Any, progress: Any) -> None:
        if here("attack"):
            die()
        call(self, progress)

    def dying_replace(source: Any, target: Any) -> None:
        if here("torn file"):
            os.truncate(source, Path(source).stat().st_size // 2)
            die()
        if here("before the rename"):
            die()
        replace(source, target)
        if here("after the rename"):
            die()

    def clock() -> None:
        time.sleep(delay)
        die()

    Tally.__call__ = dying_call  # type: ignore[method-assign]
    os.replace = dying_replace  # type: ignore[assignment]
    if place == "clock":
        threading.Thread(target=clock, daemon=True).start()


def attempt(folder: Path, place: str | None, count: int = 0, delay: float = 0.0) -> int:
    """One child process; returns its status, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if place is not None:
                arm(place, count, delay)
            report.write_report = lambda *arguments: None  # drawing is not what dies here
            run(folder)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    statuses, killed = [attempt(folder / "whole", None)], []
    for number in range(3 * kills):
        place = PLACES[number % len(PLACES)]
        status = attempt(folder / "killed", place, chance.randint(1, 4), chance.uniform(0, 0.3))
        killed += [place] if status == -signal.SIGKILL else []
        if len(killed) == kills:
            break
        if status == 0:  # through already: what there is begins anew
            break
        if status > 0:
            statuses.append(status)
            break
    statuses.append(attempt(folder / "killed", None))
    sys.stdout.write(json.dumps({"killed": killed, "statuses": statuses}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
