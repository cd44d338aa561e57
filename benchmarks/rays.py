"""Overhead of RayS over the bare model, and gain of speculation.

Run with ``python -m art_ext.benchmarks.rays``. Every number is a ratio, or a difference, of times
measured in one run, alternating the candidates. Medians are printed. The networks have third-party
weights if ART_EXT_DATA names their folder, else random weights. This does not affect the times, but
it affects the number of calls, and the table states it.
"""

from __future__ import annotations

import argparse
import functools
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import Meter, network_and_images, print_versions
from art_ext.benchmarks.speed import Counter
from art_ext.core.attacks import rays
from art_ext.core.result import AttackResult
from art_ext.data import load_data
from art_ext.models import digits_cnn

HARD = 1e-6  # a radius without successes: all rows stay active
# name of the checkpoint -> eps of the literature
RADII = {"mnist_conv2_fast_pgd": 0.3, "mnist_smallcnn_standard": 0.3, "cifar_resnet20_nat": 8 / 255}


def operations(attack: Callable[[nn.Module, Tensor, Tensor], object], x: Tensor) -> float:
    """Return the tensor operations for each model call of an attack on images x.

    The model is linear. Its own operations, about 8 for each call, are among them.
    """
    torch.manual_seed(0)
    meter = Meter(nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10)).eval())
    with torch.no_grad():
        y = meter(x).argmax(1)
    meter.calls.clear()
    with Counter() as counter:
        attack(meter, x, y)
    return counter.operations / len(meter.calls)


def attack(model: nn.Module, x: Tensor, y: Tensor | None = None, *, queries: int) -> AttackResult:
    """Run RayS with all rows active to the end."""
    return rays(
        model, x, y, eps=HARD, max_queries=queries, batch_size=len(x), stop_on_success=False
    )


def cost(model: nn.Module, x: Tensor, queries: int, repeats: int) -> str:
    """Wall time over the bare forwards of the same shapes, own milliseconds per call, operations
    per call, and number of calls, as cells of the table.
    """
    ratios = []
    own = []
    with torch.no_grad():
        model(x)  # warm up
    for _ in range(repeats):
        meter = Meter(model)
        start = time.perf_counter()
        attack(meter, x, queries=queries)
        total = time.perf_counter() - start
        start = time.perf_counter()
        with torch.no_grad():
            for size in meter.sizes:
                model(x[:size])
        ratios.append(total / (time.perf_counter() - start))
        own.append(1e3 * (total - meter.seconds) / len(meter.sizes))
    count = operations(functools.partial(attack, queries=queries), x)
    return (
        f"{statistics.median(ratios):.3f} | {statistics.median(own):.3f} | {count:.1f} |"
        f" {len(meter.sizes)}"
    )


def print_costs(repeats: int) -> None:
    """Print the table of overheads."""
    print(
        "| model | active rows | wall time / bare forwards | own ms per call | operations per call"
        " | calls |\n|---|---|---|---|---|---|"
    )
    for name in RADII:
        for rows in (64, 256):
            model, x, _, weights = network_and_images(name, rows)
            cells = cost(model, x, 40 if name.startswith("cifar") else 150, repeats)
            print(f"| {name} ({weights}) | {rows} | {cells} |", flush=True)
    for rows in (8, 64, 256):
        cells = cost(digits_cnn().eval(), load_data("digits").first(rows).x, 400, repeats)
        print(f"| digits_cnn (random weights) | {rows} | {cells} |", flush=True)


def print_speculation(queries: int) -> None:
    """Print the table of model calls with and without speculation, on eight images."""
    print(
        "| model | images | calls, sequential | calls, speculative | ratio | charged queries equal"
        " | wasted rows |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, eps in RADII.items():
        model, x, _, weights = network_and_images(name, 8)
        runs = []
        for speculate in (False, True):
            meter = Meter(model)
            runs.append(
                (
                    rays(meter, x, eps=eps, max_queries=queries, speculate=speculate),
                    len(meter.sizes),
                )
            )
        (plain, calls), (ahead, fewer) = runs
        equal = torch.equal(plain.queries, ahead.queries)
        print(
            f"| {name} ({weights}) | 8 | {calls} | {fewer} | {calls / fewer:.2f} | {equal} "
            f"| {int(ahead.wasted_rows.sum())} |",
            flush=True,
        )


def print_memory() -> None:
    """Print the peak memory of 10,000 CIFAR-sized inputs beside the model and the inputs
    themselves.
    """
    x = torch.rand(10_000, 3, 32, 32)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rays(model, x, eps=0.01, max_queries=30)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"10,000 x 3x32x32: {(peak - before) / 1e6:.2f} GB beside {before / 1e6:.2f} GB of torch,"
        " model and inputs"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--queries", type=int, default=2000, help="budget of the speculation table")
    arguments = parser.parse_args()
    print_versions()
    print_memory()
    print()
    print_costs(arguments.repeats)
    print()
    print_speculation(arguments.queries)


if __name__ == "__main__":
    main()
