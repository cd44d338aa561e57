"""The Frank-Wolfe paper's MNIST tables: ``python -m art_ext.benchmarks.frank_wolfe``.

Needs ART_EXT_DATA with MNIST and the paper's network ``mnist_carlini_cnn_fw``. Every image is
attacked towards the next class, within L-inf radius 0.3. An iteration is one gradient. Distortion
is the mean L-inf distance over the successes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from art_ext.benchmarks.common import classified_right, network, print_versions
from art_ext.core.attacks import frank_wolfe, frank_wolfe_black_box, i_fgsm, mi_fgsm, nes, pgd
from art_ext.core.metrics import query_statistics, success_rate
from art_ext.core.result import AttackResult

EPS = 0.3
STEPS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
ITERATIONS = 200


def line(name: str, step: float, result: AttackResult) -> str:
    """One row of the white-box table."""
    success = result.success & ~result.already_adversarial
    iterations = result.gradients[success].double().mean()
    distance = result.distance[success].double().mean()
    return (
        f"| {name} | {step:g} | {100 * success_rate(result):.1f} | {iterations:.2f} |"
        f" {distance:.4f} |"
    )


def white_box(model: nn.Module, x: Tensor, targets: Tensor) -> None:
    """Print Table 2.1: Frank-Wolfe, and the sign-gradient methods at each step size."""
    print(
        f"White-box, {len(x)} images (paper: FGSM 21.5, PGD 100/6.2/.277, MI-FGSM 100/4.0/.279, FW"
        " 100/3.3/.256)\n"
    )
    print("| attack | step | success % | iterations | distortion |\n|---|---|---|---|---|")
    common: dict[str, Any] = {"eps": EPS, "targeted": True, "stop_on_success": True}
    print(line("FGSM", EPS, i_fgsm(model, x, targets, num_steps=1, step_size=EPS, **common)))
    for step in (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0):
        result = frank_wolfe(model, x, targets, step_fraction=step, num_steps=ITERATIONS, **common)
        print(line("FW, momentum .9", step, result), flush=True)
    sign_gradient: dict[str, Callable[..., AttackResult]] = {
        "PGD from the input": i_fgsm,
        "PGD, random start": pgd,
        "MI-FGSM": mi_fgsm,
    }
    for name, attack in sign_gradient.items():
        for step in STEPS:
            result = attack(
                model, x, targets, num_steps=ITERATIONS, step_size=step, seed=0, **common
            )
            print(line(name, step, result), flush=True)


def black_box(model: nn.Module, x: Tensor, targets: Tensor, budget: int) -> None:
    """Print Table 2.3: Frank-Wolfe with estimated gradients and NES-PGD. Every check is a query."""
    print(
        f"\nBlack-box, {len(x)} images, at most {budget} queries (paper: FW 99.9/1144.4, NES"
        " 96.8/5349.0)\n"
    )
    print(
        "| attack | settings | success % | mean queries, all | successes only"
        " |\n|---|---|---|---|---|"
    )
    runs: list[tuple[str, str, AttackResult]] = []

    def show(name: str, settings: str, result: AttackResult) -> None:
        runs.append((name, settings, result))
        mean = float(result.queries.double().mean())
        print(
            f"| {name} | {settings} | {100 * success_rate(result):.1f} | {mean:.0f} "
            f"| {query_statistics(result).mean:.0f} |",
            flush=True,
        )

    common: dict[str, Any] = {"eps": EPS, "targeted": True, "max_queries": budget, "seed": 0}
    for sensing in ("gaussian", "sphere"):
        for step, momentum in ((0.3, 0.99), (0.5, 0.97)):
            settings: dict[str, Any] = {
                "step_fraction": step,
                "momentum": momentum,
                "sensing": sensing,
            }
            result = frank_wolfe_black_box(model, x, targets, **settings, **common)
            show("FW", f"{sensing}, {step:g}, {momentum:g}", result)
    for step in (0.01, 0.02, 0.05):
        for delta in (1e-3, 1e-2):
            result = nes(model, x, targets, step_size=step, delta=delta, **common)
            show("NES-PGD", f"step {step:g}, delta {delta:g}", result)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--white", type=int, default=500, help="images of the white-box table")
    parser.add_argument("--black", type=int, default=40, help="images of the black-box table")
    parser.add_argument("--budget", type=int, default=50_000)
    arguments = parser.parse_args()
    if not os.environ.get("ART_EXT_DATA"):
        sys.exit("ART_EXT_DATA names no folder with MNIST and the third-party checkpoints")
    print_versions()
    model, _ = network("mnist_carlini_cnn_fw")
    x, y = classified_right("mnist", max(arguments.white, arguments.black), model)
    targets = (y + 1) % 10
    white_box(model, x[: arguments.white], targets[: arguments.white])
    black_box(model, x[: arguments.black], targets[: arguments.black], arguments.budget)


if __name__ == "__main__":
    main()
