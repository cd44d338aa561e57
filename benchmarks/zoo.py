"""ZOO beside EAD, its bare forwards and ART.

Run with ``python -m art_ext.benchmarks.zoo PART``. Needs ART_EXT_DATA with MNIST and the
checkpoints. Parts: ``quality`` (against EAD with beta 0), ``speed`` (wall time over the bare
forwards, and ART's model calls), ``memory`` (peak for 16 images of 224 x 224 pixels). ``art-ext
papers run`` measures the paper's tables.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import statistics
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import (
    Meter,
    bare,
    classified_right,
    network,
    print_versions,
    seconds,
)
from art_ext.core.attacks import ead, zoo
from art_ext.core.result import AttackResult

CERTIFIED = "mnist_conv2_kw_0.1"
STANDARD = "mnist_smallcnn_standard"
SCALE = 8  # 28 pixels become 224


def summary(name: str, result: AttackResult, took: float) -> str:
    """Row of a table: success rate, mean L2, queries, time."""
    success = result.success & ~result.already_adversarial
    mean = float(result.distance[success].double().mean())
    rate = 100 * float(result.success.double().mean())
    queries = float(result.queries.double().mean())
    return f"| {name} | {rate:.1f} | {mean:.3f} | {queries:.0f} | {took:.0f} |"


def print_quality(count: int, steps: int) -> None:
    """Print L2 on the common successes, against EAD with beta 0, which uses the gradient."""
    model, _ = network(CERTIFIED)
    x, y = classified_right("mnist", count, model)
    print(f"\n{CERTIFIED}, {count} images, untargeted, seed 0\n")
    print(
        "| attack | success % | mean L2 | mean queries | seconds |\n|---|---|---|---|---|",
        flush=True,
    )
    results: dict[str, AttackResult] = {}
    # from c = .01, five steps would end at the first c that succeeds, 100
    common: dict[str, Any] = {
        "num_steps": steps,
        "search_steps": 5,
        "initial_const": 1.0,
        "seed": 0,
    }
    for name, attack in {
        "EAD, beta 0, 9 x 1000": functools.partial(ead, beta=0.0, decision_rule="L2", norm="l2"),
        f"ZOO-Adam, 5 x {steps}": functools.partial(zoo, **common),
        f"ZOO-Newton, h .01, 5 x {steps}": functools.partial(
            zoo, solver="newton", h=1e-2, **common
        ),
    }.items():
        start = time.perf_counter()
        results[name] = attack(model, x, y)
        print(summary(name, results[name], time.perf_counter() - start), flush=True)
    (_, white), *others = results.items()
    for name, result in others:
        both = white.success & result.success
        ratio = float(result.distance[both].double().mean() / white.distance[both].double().mean())
        print(
            f"\n{name}: mean L2 on {int(both.sum())} common successes is {ratio:.3f} times that"
            " of EAD",
            flush=True,
        )


def art_calls(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> tuple[int, int, float]:
    """Model calls, rows and seconds of ART's ZooAttack for one constant c and ``steps`` steps."""
    classifiers = import_module("art.estimators.classification")
    evasion = import_module("art.attacks.evasion")
    meter = Meter(model)
    classifier = classifiers.PyTorchClassifier(
        meter,
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = evasion.ZooAttack(
        classifier,
        max_iter=steps,
        binary_search_steps=1,
        abort_early=False,
        use_resize=False,
        use_importance=False,
        nb_parallel=128,
        batch_size=1,
        verbose=False,
    )
    wall = seconds(lambda: attack.generate(x.numpy(), y.numpy()))
    return len(meter.calls), sum(meter.sizes), wall


def print_speed(rows: int, steps: int, repeats: int) -> None:
    """Print wall time over the bare forwards, and model calls beside ART's."""
    print(
        "\n| network | images | wall time / bare forwards | model calls | rows"
        " |\n|---|---|---|---|---|",
        flush=True,
    )
    for name in (STANDARD, CERTIFIED):
        model, _ = network(name)
        x, y = classified_right("mnist", rows, model)
        attack = functools.partial(zoo, num_steps=steps, search_steps=1, abort_early=False, seed=0)
        attack(model, x[:2], y[:2])
        ratios = []
        for _ in range(repeats):
            meter = Meter(model)
            wall = seconds(functools.partial(attack, meter, x, y))
            many = x.repeat(-(-max(meter.sizes) // len(x)), 1, 1, 1)
            ratios.append(wall / seconds(functools.partial(bare, model, many, y, meter.calls)))
        sizes = meter.sizes
        print(
            f"| {name} | {rows} | {statistics.median(ratios):.3f} | {len(sizes)} | {sum(sizes)} |",
            flush=True,
        )
    if find_spec("art") is None:
        print("ART is not installed: no comparison with it")
        return
    calls, theirs, wall = art_calls(model, x, y, steps)
    print(
        f"\nART on {name}, {rows} images, {steps} iterations: {calls} calls, {theirs} rows,"
        f" {wall:.1f} s",
        flush=True,
    )


def print_memory(count: int) -> None:
    """Print the peak memory of a few iterations on 16 images, in pixel and in scaled space."""
    x = torch.rand(count, 3, 224, 224)
    model = nn.Sequential(nn.AvgPool2d(SCALE), nn.Flatten(), nn.Linear(3 * 28 * 28, 10)).eval()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for resize in ({0: 32, 2: 64, 4: 128}, None):
        zoo(
            model,
            x,
            None,
            num_steps=6,
            search_steps=1,
            resize=resize,
            importance=bool(resize),
            batch_size=64,
            seed=0,
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(
            f"{count} images of 3 x 224 x 224, resize {resize}: peak {peak / 2**20:.2f} GiB, before"
            f" {before / 2**20:.2f}"
        )


def main() -> None:
    """Print the given parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=["quality", "speed", "memory"])
    parser.add_argument("--images", type=int, default=0, help="0 takes the number of each table")
    parser.add_argument("--steps", type=int, default=0, help="0 takes the iterations of each table")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if not os.environ.get("ART_EXT_DATA"):
        sys.exit("set ART_EXT_DATA to a folder that holds MNIST and the checkpoints")
    print_versions()
    for part in arguments.parts:
        if part == "quality":
            print_quality(arguments.images or 30, arguments.steps or 1000)
        elif part == "speed":
            print_speed(arguments.images or 64, arguments.steps or 3, arguments.repeats)
        else:
            print_memory(arguments.images or 16)


if __name__ == "__main__":
    main()
