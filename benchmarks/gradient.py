"""Gradient and score attacks beside the bare model and torchattacks.

Run with ``python -m art_ext.benchmarks.gradient``. Every number is a ratio of times measured in one
run, alternating the candidates. Medians are printed. All images count as correctly classified, and
no attack stops at a success, so that every row stays active. Weights are third-party ones if
ART_EXT_DATA names their folder, else random ones, which cost the same.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import (
    Meter,
    bare,
    network_and_images,
    operations,
    print_versions,
    seconds,
)
from art_ext.core.attacks import (
    ai_fgsm,
    frank_wolfe,
    frank_wolfe_black_box,
    hmcam,
    i_fgsm,
    mi_fgsm,
    nes,
    pgd,
)

EPS = 8 / 255
Run = Callable[[nn.Module, Tensor, Tensor], object]


def ours(steps: int, directions: int) -> dict[str, Run]:
    """Our attacks at equal numbers of steps, with all rows active to the end."""
    common: dict[str, Any] = {"eps": EPS, "stop_on_success": False, "seed": 0, "batch_size": 256}
    boxed = functools.partial(
        frank_wolfe_black_box, max_queries=1 + 4 * (2 * directions + 1), **common
    )
    return {
        "i_fgsm": functools.partial(i_fgsm, num_steps=steps, **common),
        "pgd": functools.partial(pgd, num_steps=steps, **common),
        "mi_fgsm": functools.partial(mi_fgsm, num_steps=steps, **common),
        "ai_fgsm": functools.partial(ai_fgsm, num_steps=steps, **common),
        "hmcam": functools.partial(hmcam, num_steps=steps // 2, **common),
        "frank_wolfe": functools.partial(frank_wolfe, num_steps=steps, **common),
        "frank_wolfe_black_box": functools.partial(boxed, num_directions=directions),
        "nes": functools.partial(
            nes, max_queries=1 + 4 * (2 * directions + 1), num_directions=directions, **common
        ),
    }


def print_costs(model: nn.Module, x: Tensor, y: Tensor, steps: int, repeats: int) -> None:
    """Print the time of each attack over the bare forwards and backwards of the same shapes."""
    print(
        "| attack | wall time / bare | own ms per call | operations per call | calls | of these"
        " differentiated |\n|---|---|---|---|---|---|"
    )
    for name, attack in ours(steps, 25).items():
        rows = slice(0, 8 if name in ("frank_wolfe_black_box", "nes") else len(x))
        attack(model, x[:2], y[:2])  # warm up
        ratios = []
        own = []
        for _ in range(repeats):
            meter = Meter(model)
            wall = seconds(functools.partial(attack, meter, x[rows], y[rows]))
            many = x.repeat(-(-max(meter.sizes) // len(x)), 1, 1, 1)
            plain = seconds(
                functools.partial(bare, model, many, y.repeat(len(many) // len(x)), meter.calls)
            )
            ratios.append(wall / plain)
            own.append(1e3 * (wall - plain) / len(meter.calls))
        backwards = sum(differentiated for _, differentiated in meter.calls)
        count = operations(attack, x[rows])
        middle = f"{statistics.median(ratios):.3f} | {statistics.median(own):.2f} | {count:.1f}"
        print(f"| {name} | {middle} | {len(meter.calls)} | {backwards} |", flush=True)


def print_torchattacks(model: nn.Module, x: Tensor, y: Tensor, repeats: int) -> None:
    """Print our wall time over torchattacks' at equal steps."""
    if find_spec("torchattacks") is None:
        print("torchattacks is not installed: no comparison with it")
        return
    torchattacks = import_module("torchattacks")
    print("| attack | steps | rows per call | ours / torchattacks | ours, ms per image | theirs |")
    print("|---|---|---|---|---|---|")
    pairs: dict[str, tuple[Any, Any]] = {
        "PGD": (pgd, torchattacks.PGD),
        "MI-FGSM": (mi_fgsm, torchattacks.MIFGSM),
    }
    for steps in (10, 40):
        for name, (attack, other) in pairs.items():
            theirs = functools.partial(other(model, eps=EPS, alpha=2 / 255, steps=steps), x, y)
            settings: dict[str, Any] = {
                "eps": EPS,
                "num_steps": steps,
                "step_size": 2 / 255,
                "on_failure": "last",
            }
            # torchattacks takes the whole batch. Ours splits it, and on a CPU smaller calls fit
            # the cache
            mine = {
                size: functools.partial(attack, model, x, y, batch_size=size, **settings)
                for size in (len(x), 32)
            }
            times = [[seconds(theirs), *map(seconds, mine.values())] for _ in range(repeats)]
            for column, size in enumerate(mine, start=1):
                ratio = statistics.median(row[column] / row[0] for row in times)
                left, right = (
                    1e3 * statistics.median(row[which] for row in times) / len(x)
                    for which in (column, 0)
                )
                print(
                    f"| {name} | {steps} | {size} | {ratio:.3f} | {left:.1f} | {right:.1f} |",
                    flush=True,
                )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print_versions()
    model, x, _, weights = network_and_images("cifar_resnet20_nat", arguments.rows)
    with torch.no_grad():
        y = model(x).argmax(1)  # every row is correctly classified and stays active
    print(f"cifar_resnet20_nat ({weights}), {arguments.rows} images, {arguments.steps} steps\n")
    print_costs(model, x, y, arguments.steps, arguments.repeats)
    print()
    print_torchattacks(model, x, y, arguments.repeats)


if __name__ == "__main__":
    main()
