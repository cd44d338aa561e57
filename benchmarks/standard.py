"""The standard panel beside AutoAttack standard, image by image.

Run with ``python -m art_ext.benchmarks.standard``. Both run in one process on one thread: first the
members of the panel, each on the images without a success of an earlier member, then one call of
AutoAttack's standard version from the wheel pyautoattack. Times are processor times, which other
processes change little. Wall times are printed too. Networks and images come from the folder that
ART_EXT_DATA names.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, right
from art_ext.benchmarks.common import stored_network as network
from art_ext.data import load_data
from art_ext.evaluation import AttackRequest, Settings
from art_ext.evaluation.panel.panels import PANELS

# name of the checkpoint -> data set, eps
NETWORKS = {
    "cifar_resnet4b_abcrown": ("cifar10", 2 / 255),
    "cifar_resnet2b2_bn_mnbab_sadv8": ("cifar10", 2 / 255),
    "mnist_smallcnn_trades": ("mnist", 0.3),
}


@dataclass(frozen=True)
class Stage:
    """Robust accuracy after an attack, with its name and its times."""

    name: str
    robust: float
    processor: float
    wall: float

    def row(self) -> str:
        """Row of the table."""
        return (
            f"| {self.name} | {100 * self.robust:.1f} % | {self.processor:.1f} | {self.wall:.1f} |"
        )


class Clock:
    """Seconds of this process and of the wall since the last reading."""

    def __init__(self) -> None:
        self.read()

    def read(self) -> tuple[float, float]:
        """Both times since the last reading."""
        last = getattr(self, "last", (0.0, 0.0))
        self.last = (time.process_time(), time.perf_counter())
        return self.last[0] - last[0], self.last[1] - last[1]


def run_ours(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> tuple[Tensor, list[Stage]]:
    """(N,) bool, the successes of the cascade, and its stages."""
    settings = Settings((eps,), 1500, "linf", True, "logits", (0.0, 1.0), 256, None, 0)
    success = torch.zeros(len(x), dtype=torch.bool)
    clock = Clock()
    stages = []
    for attack in PANELS["standard"].attacks():
        rows = (~success).nonzero().squeeze(1)
        request = AttackRequest(model, x[rows], y[rows], eps, settings)
        success[rows] = attack.run(request).success
        stages.append(Stage(attack.name, float((~success).double().mean()), *clock.read()))
        print(stages[-1].row(), flush=True)
    return success, stages


class Listener(logging.Handler):
    """Handler that makes a stage of each line in which AutoAttack reports a robust accuracy."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.stages: list[Stage] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Parse one line."""
        words = record.getMessage().split()
        if words[:3] == ["robust", "accuracy", "after"]:
            self.stages.append(
                Stage(words[3].rstrip(":"), float(words[4].rstrip("%")) / 100, *self.clock.read())
            )
            print(self.stages[-1].row(), flush=True)


def run_autoattack(
    model: nn.Module, x: Tensor, y: Tensor, eps: float
) -> tuple[Tensor, list[Stage]]:
    """(N,) bool, the successes of AutoAttack, and its stages."""
    theirs: Any = import_module("pyautoattack").AutoAttack(
        model, norm="Linf", eps=eps, seed=0, version="standard"
    )
    log = logging.getLogger("auto-attack")
    listener = Listener()
    log.addHandler(listener)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        adversarial, _ = theirs.run_standard_evaluation(x, y, batch_size=250)
    finally:
        log.removeHandler(listener)
    return ~right(adversarial, y, model), listener.stages


def print_pairs(ours: Tensor, theirs: Tensor) -> None:
    """Print the numbers of images with a success of both, of one, and of none."""
    print("| | success of AutoAttack | none |\n|---|---|---|")
    print(f"| success of ours | {int((ours & theirs).sum())} | {int((ours & ~theirs).sum())} |")
    print(f"| none | {int((~ours & theirs).sum())} | {int((~ours & ~theirs).sum())} |\n")
    for name, mask in {"ours": ours & ~theirs, "AutoAttack": theirs & ~ours}.items():
        print(f"success of {name} only: {mask.nonzero().flatten().tolist()}")


def compare(name: str, count: int) -> None:
    """Print the stages of both on one network, the ratio of their times, and the pairs."""
    data_set, eps = NETWORKS[name]
    model = network(name)
    data = load_data(data_set).first(count)
    print(
        f"\n{name}, L-inf {eps:.4g}, the first {count} images,"
        f" {int(right(data.x, data.y, model).sum())} right\n"
    )
    print("| | robust accuracy after it | processor seconds | wall seconds |\n|---|---|---|---|")
    ours, our_stages = run_ours(model, data.x, data.y, eps)
    theirs, their_stages = run_autoattack(model, data.x, data.y, eps)
    processor, wall = (
        total(our_stages, kind) / total(their_stages, kind) for kind in ("processor", "wall")
    )
    print(
        f"\nours / AutoAttack: {processor:.3f} of the processor time, {wall:.3f} of the wall time\n"
    )
    print_pairs(ours, theirs)


def total(stages: Sequence[Stage], kind: str) -> float:
    """Sum of the seconds of one kind."""
    seconds: float = sum(getattr(stage, kind) for stage in stages)
    return seconds


def main() -> None:
    """Compare on each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    arguments = parser.parse_args()
    print_versions()
    for name in arguments.networks:
        compare(name, arguments.n)


if __name__ == "__main__":
    main()
