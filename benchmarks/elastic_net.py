"""EAD beside foolbox, torchattacks and ART.

Run with ``python -m art_ext.benchmarks.elastic_net PART``. Needs ART_EXT_DATA with MNIST and the
checkpoints. Parts: ``external`` and ``converged`` (distortions at equal settings), ``speed`` (wall
time over the bare model and over the external attacks), ``early`` (whole attacks that abort early),
``edge`` (C&W from pixels on the edge of the box). Distortions are means over the successes. A
toolkit that is not installed is reported and left out. ``art-ext papers run`` measures the thesis'
tables.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
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
from art_ext.core.attacks import cw, ead
from art_ext.core.geometry import distances

PARTS = ("external", "converged", "speed", "early", "edge")
STANDARD = "mnist_smallcnn_standard"
LENET = "mnist_lenet5_advertorch_nat"
Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


def foolbox_attack(rule: str, steps: int, search_steps: int, beta: float, abort: bool) -> Attack:
    """Foolbox's EAD."""
    foolbox = import_module("foolbox")

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = foolbox.attacks.EADAttack(
            binary_search_steps=search_steps,
            steps=steps,
            regularization=beta,
            decision_rule=rule,
            abort_early=abort,
        )
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        adversarial: Tensor = attack(
            wrapped, x, foolbox.criteria.Misclassification(y), epsilons=None
        )[0]
        return adversarial

    return run


def torchattacks_attack(
    rule: str, steps: int, search_steps: int, beta: float, abort: bool
) -> Attack:
    """torchattacks' EADEN or EADL1."""
    kind = getattr(import_module("torchattacks"), {"EN": "EADEN", "L1": "EADL1"}[rule])

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = kind(
            model,
            binary_search_steps=search_steps,
            max_iterations=steps,
            beta=beta,
            abort_early=abort,
        )
        adversarial: Tensor = attack(x, y)
        return adversarial

    return run


def art_attack(rule: str, steps: int, search_steps: int, beta: float, abort: bool) -> Attack:
    """ART's ElasticNet, which never aborts, all images in one batch."""
    classifiers = import_module("art.estimators.classification")
    evasion = import_module("art.attacks.evasion")

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        classifier = classifiers.PyTorchClassifier(
            model,
            nn.CrossEntropyLoss(),
            tuple(x.shape[1:]),
            10,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        attack = evasion.ElasticNet(
            classifier,
            learning_rate=1e-2,
            binary_search_steps=search_steps,
            max_iter=steps,
            beta=beta,
            batch_size=len(x),
            decision_rule=rule,
            verbose=False,
        )
        return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

    return run


EXTERNAL_ATTACKS: dict[str, tuple[str, Callable[..., Attack]]] = {
    "foolbox": ("foolbox", foolbox_attack),
    "torchattacks": ("torchattacks", torchattacks_attack),
    "ART": ("art", art_attack),
}


def installed() -> dict[str, Callable[..., Attack]]:
    """Return the installed external attacks."""
    found = {
        name: build for name, (package, build) in EXTERNAL_ATTACKS.items() if find_spec(package)
    }
    for name in EXTERNAL_ATTACKS.keys() - found.keys():
        print(f"{name} is not installed: no comparison with it")
    return found


def ours(rule: str, steps: int, search_steps: int, beta: float, abort: bool | str) -> Attack:
    """Our EAD with the same signature."""

    def run(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        settings: dict[str, Any] = {
            "num_steps": steps,
            "search_steps": search_steps,
            "beta": beta,
            "abort_early": abort,
        }
        return ead(model, x, y, decision_rule=rule, **settings).x_adv

    return run


def distortion_row(name: str, model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor) -> str:
    """Success rate and the three mean distances to x, computed from x_adv."""
    with torch.no_grad():
        success = torch.cat([model(part).argmax(1) for part in x_adv.split(256)]) != y
    means = [
        float(distances(x_adv[success], x[success], norm).mean()) for norm in ("l1", "l2", "linf")
    ]
    return (
        f"| {name} | {100 * float(success.double().mean()):.1f} | "
        + " | ".join(f"{mean:.3f}" for mean in means)
        + " |"
    )


def print_external(
    count: int, steps: int, search_steps: int, beta: float, rules: list[str], names: list[str]
) -> None:
    """Print distortions at equal settings."""
    model, _ = network(STANDARD)
    x, y = classified_right("mnist", count, model)
    print(f"\n{STANDARD}, {count} images, {search_steps} x {steps} steps, beta {beta:g}\n")
    print(
        "| attack | success % | L1 | L2 | L-inf | seconds |\n|---|---|---|---|---|---|", flush=True
    )
    found = installed()
    for rule in rules:
        for abort in (False, True):
            builds = {
                "ours": ours,
                **{name: build for name, build in found.items() if name in names},
            }
            for name, build in builds.items():
                if name == "ART" and abort:
                    continue
                ways: tuple[bool | str, ...] = (
                    (True, "always") if abort and name == "ours" else (abort,)
                )
                for way in ways:
                    start = time.perf_counter()
                    x_adv = build(rule, steps, search_steps, beta, way)(model, x, y)
                    took = time.perf_counter() - start
                    label = f"{name}, {rule}, abort_early={way}"
                    print(f"{distortion_row(label, model, x, y, x_adv)} {took:.0f} |", flush=True)


def print_speed(rows: int, steps: int, search_steps: int, repeats: int) -> None:
    """Print wall times over the bare forward + backward + forward of each step, alternating the
    attacks.
    """
    model, _ = network(STANDARD)
    x, y = classified_right("mnist", rows, model)
    found = installed()
    external = {
        name: build("EN", steps, search_steps, 1e-2, False) for name, build in found.items()
    }
    attacks = {"ours": ours("EN", steps, search_steps, 1e-2, False), **external}
    floor = [(rows, True), (rows, False)] * (steps * search_steps)
    for attack in attacks.values():
        attack(model, x[:2], y[:2])
    ratios: dict[str, list[float]] = {name: [] for name in attacks}
    own: list[float] = []
    for _ in range(repeats):
        least = seconds(functools.partial(bare, model, x, y, floor))
        for name, attack in attacks.items():
            ratios[name].append(seconds(functools.partial(attack, model, x, y)) / least)
        meter = Meter(model)
        wall = seconds(functools.partial(attacks["ours"], meter, x, y))
        own.append(wall / seconds(functools.partial(bare, model, x, y, meter.calls)))
    print(
        f"\n{STANDARD}, {rows} active images, {search_steps} x {steps} steps, medians of"
        f" {repeats}\n"
    )
    print("| attack | wall time / bare forward + backward + forward per step |\n|---|---|")
    for name, found_ratios in ratios.items():
        print(f"| {name} | {statistics.median(found_ratios):.3f} |")
    print(f"| ours / the calls it makes | {statistics.median(own):.3f} |", flush=True)


def print_early(rows: int, steps: int, search_steps: int, repeats: int) -> None:
    """Print wall times of whole attacks that abort early, alternating the attacks."""
    model, _ = network(STANDARD)
    x, y = classified_right("mnist", rows, model)
    settings = ("EN", steps, search_steps, 1e-2)
    attacks = {"ours, always": ours(*settings, "always"), "ours": ours(*settings, True)}
    attacks |= {
        name: build(*settings, True) for name, build in installed().items() if name != "ART"
    }
    walls: dict[str, list[float]] = {name: [] for name in attacks}
    for _ in range(repeats):
        for name, attack in attacks.items():
            walls[name].append(seconds(functools.partial(attack, model, x, y)))
    print(
        f"\n{STANDARD}, {rows} images, {search_steps} x {steps} steps, EN rule, aborting early,"
        f" medians of {repeats}\n"
    )
    print("| attack | seconds | ours, always / this |\n|---|---|---|")
    for name, found in walls.items():
        ratio = statistics.median(
            mine / theirs for mine, theirs in zip(walls["ours, always"], found, strict=True)
        )
        print(f"| {name} | {statistics.median(found):.1f} | {ratio:.3f} |", flush=True)


def print_edge(count: int) -> None:
    """Print C&W's success rate by its number of iterations.

    Most pixels of MNIST lie on the edge of the box.
    """
    model, _ = network(LENET)
    x, y = classified_right("mnist", count, model)
    percent = 100 * float(((x == 0) | (x == 1)).double().mean())
    print(
        f"\n{LENET}, {count} images, {percent:.0f} % of the values on the edge of the box, one"
        " search, c = 10\n"
    )
    print("| iterations | success |\n|---|---|", flush=True)
    for steps in (50, 100, 400, 800):
        result = cw(
            model, x, y, num_steps=steps, search_steps=1, initial_const=10.0, abort_early=False
        )
        print(f"| {steps} | {float(result.success.double().mean()):.3f} |", flush=True)


def main() -> None:
    """Print the given parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--images", type=int, default=0, help="0 takes the number of each table")
    parser.add_argument(
        "--steps", type=int, default=1000, help="iterations of an optimisation of converged"
    )
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if not os.environ.get("ART_EXT_DATA"):
        sys.exit("set ART_EXT_DATA to a folder that holds MNIST and the checkpoints")
    print_versions()
    for part in arguments.parts:
        if part == "external":
            print_external(
                arguments.images or 32,
                100,
                6,
                1e-2,
                ["EN", "L1"],
                ["foolbox", "torchattacks", "ART"],
            )
        elif part == "converged":
            print_external(
                arguments.images or 16, arguments.steps, 9, 1e-2, ["L1"], ["torchattacks"]
            )
        elif part == "speed":
            print_speed(arguments.images or 32, 50, 3, arguments.repeats)
        elif part == "early":
            print_early(arguments.images or 32, 100, 6, arguments.repeats)
        else:
            print_edge(arguments.images or 8)


if __name__ == "__main__":
    main()
