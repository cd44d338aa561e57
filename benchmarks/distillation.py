"""Defensive distillation under attacks on the cross-entropy and on the margin, and by transfer.

Run with ``python -m art_ext.benchmarks.distillation PART``. Needs ART_EXT_DATA with MNIST. The
network has 16 and 32 channels. Natural and distilled networks are trained on the first training
images, by 8 epochs of Adam, and attacked on the first test images that are classified correctly.

Parts: ``defence`` (PGD-40 on the cross-entropy and on the margin, C&W, and with ``--autoattack``
AutoAttack on the images of C&W), ``temperatures`` (Figure 7 of the EAD thesis: C&W and EAD on
students of several temperatures), ``transfer`` (Figure 8 and Table 8: examples of the natural
network on the student, by confidence).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, right, seeded, train_network, under_autoattack
from art_ext.core.attacks import cw, ead, i_fgm, pgd
from art_ext.core.metrics import case_distortions, robust_accuracy
from art_ext.core.result import AttackResult
from art_ext.data import Dataset, load_data
from art_ext.models import mnist_two_conv
from art_ext.training import Distillation, Natural, Recipe

PARTS = ("defence", "temperatures", "transfer")
EPS = 0.1


def trained(recipe: Recipe, images: Dataset, epochs: int, seed: int) -> nn.Module:
    """Return a trained network in eval mode, whose initial weights depend on the seed alone."""
    model = seeded(mnist_two_conv, seed)
    return train_network(model, images, recipe, epochs=epochs, seed=seed)


def gap(model: nn.Module, x: Tensor) -> float:
    """Return the median difference of the two largest scores."""
    with torch.no_grad():
        top = torch.cat([model(part) for part in x.split(500)]).topk(2, dim=1).values
    return float((top[:, 0] - top[:, 1]).median())


def length(options: argparse.Namespace) -> dict[str, Any]:
    """Return the schedule of minimum-norm attacks."""
    return {
        "num_steps": options.steps,
        "search_steps": options.search_steps,
        "initial_const": options.initial_const,
        "step_size": options.step_size,
        "seed": 0,
    }


def defence(options: argparse.Namespace, images: Dataset, test: Dataset) -> None:
    """Print accuracies under PGD, and success and distance of C&W, for each seed."""
    print(f"PGD-40 at {EPS}, steps of {2.5 * EPS / 40:.5f}; C&W {options.search_steps} x")
    print(
        f"{options.steps} steps of {options.step_size:g}, c from {options.initial_const:g}, on"
        f" {options.attacked} images, targeted at a random wrong class.\n"
    )
    heads = ["network", "seed", "clean %", "median gap", "PGD on CE %", "PGD on the margin %"]
    heads += ["C&W", "L2", *(["AutoAttack %"] if options.autoattack else [])]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    recipes: dict[str, Recipe] = {
        "natural": Natural(),
        f"distilled, T {options.temperature:g}": Distillation(temperature=options.temperature),
    }
    for seed in options.seeds:
        for name, recipe in recipes.items():
            model = trained(recipe, images, options.epochs, seed)
            fine = right(test.x, test.y, model)
            robust = [
                robust_accuracy(
                    pgd(model, test.x, test.y, eps=EPS, num_steps=40, loss=loss, seed=0)
                )
                for loss in ("ce", "margin")
            ]
            x, y = test.x[fine][: options.attacked], test.y[fine][: options.attacked]
            found = cw(model, x, y, targets="average", **length(options))
            lengths = found.distortions()["l2"][found.success]
            clean = 100 * float(fine.float().mean())
            cells = [clean, gap(model, test.x), *(100 * one for one in robust)]
            shown = [f"{one:.1f}" for one in cells]
            shown += [f"{float(one.mean()):.2f}" for one in (found.success.float(), lengths)]
            if options.autoattack:
                shown.append(f"{100 * under_autoattack(model, x, y, EPS):.1f}")
            print(f"| {name} | {seed} | {' | '.join(shown)} |", flush=True)


def temperatures(options: argparse.Namespace, images: Dataset, test: Dataset) -> None:
    """Print the success of C&W and EAD in the average case, by temperature."""
    print("Figure 7: success in the average case, and mean L1 and L2.\n")
    print("| T | clean % | C&W | L1 | L2 | EAD, L1 rule | L1 | L2 |")
    print("|---|---|---|---|---|---|---|---|")
    attacks: list[Callable[..., AttackResult]] = [cw, partial(ead, decision_rule="L1")]
    for temperature in options.temperatures:
        recipe = Distillation(temperature=temperature)
        model = trained(recipe, images, options.epochs, options.seeds[0])
        fine = right(test.x, test.y, model)
        clean = float(fine.float().mean())
        x, y = test.x[fine][: options.attacked], test.y[fine][: options.attacked]
        cells = []
        for attack in attacks:
            found = attack(model, x, y, targets="average", **length(options))
            cells += [f"{float(found.success.float().mean()):.2f}", *means(found)]
        print(f"| {temperature:g} | {100 * clean:.1f} | {' | '.join(cells)} |", flush=True)


def means(found: AttackResult) -> list[str]:
    """Return mean L1 and L2 of the successes."""
    lengths = found.distortions()
    return [f"{float(lengths[name][found.success].mean()):.2f}" for name in ("l1", "l2")]


def transfer(options: argparse.Namespace, images: Dataset, test: Dataset) -> None:
    """Print the success on the student of examples made on the natural network, by confidence."""
    seed = options.seeds[0]
    source = trained(Natural(), images, options.epochs, seed)
    student = trained(Distillation(temperature=options.temperature), images, options.epochs, seed)
    fine = right(test.x, test.y, source, student)
    x, y = test.x[fine][: options.attacked], test.y[fine][: options.attacked]
    print(f"Table 8: from the natural network to the student at T {options.temperature:g}, on")
    print(f"{len(x)} images that both classify correctly, all wrong classes.\n")
    print("| attack | kappa | best % | L1 | L2 | average % | L1 | L2 | worst % | L1 | L2 |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for norm in ("l1", "l2", "linf"):
        found = i_fgm(source, x, y, norm=norm, targets="all", seed=0)
        print(f"| I-FGM, {norm} | - | {cases(found, student, x)} |", flush=True)
    attacks: dict[str, Callable[..., AttackResult]] = {
        "C&W": cw,
        "EAD, EN rule": ead,
        "EAD, L1 rule": partial(ead, decision_rule="L1"),
    }
    for name, attack in attacks.items():
        for kappa in options.confidences:
            found = attack(
                source, x, y, confidence=kappa, beta=beta_of(name), targets="all", **length(options)
            )
            print(f"| {name} | {kappa:g} | {cases(found, student, x)} |", flush=True)


def beta_of(name: str) -> float:
    """Return the weight of L1: the thesis' .001 for EAD."""
    return 0.0 if name == "C&W" else 1e-3


def cases(found: AttackResult, target: nn.Module, x: Tensor) -> str:
    """Return the cells of the three cases, where success means the class is reached on a model."""
    if found.samples is None or found.trace is None:
        raise ValueError("the attack must keep the examples of all classes: targets='all'")
    reached = torch.stack(
        [
            right(examples, classes, target)
            for examples, classes in zip(found.samples, found.trace["target"], strict=True)
        ]
    )
    there = replace(found, trace={**found.trace, "success": reached & found.trace["success"]})
    cells = []
    for case in ("best", "average", "worst"):
        measured = case_distortions(there, x, case)
        success = measured["success"]
        cells.append(f"{100 * float(success.float().mean()):.1f}")
        for name in ("l1", "l2"):
            lengths = measured[name][success].tolist()
            cells.append(f"{statistics.mean(lengths):.2f}" if lengths else "-")
    return " | ".join(cells)


def numbers(text: str) -> list[float]:
    """Read numbers that commas separate."""
    return [float(one) for one in text.split(",")]


def main(given: Sequence[str]) -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--images", type=int, default=12_000, help="training images")
    parser.add_argument("--epochs", type=int, default=8, help="of the teacher, and of the student")
    parser.add_argument("--test-images", type=int, default=500)
    parser.add_argument("--attacked", type=int, default=100, help="images of minimum-norm attacks")
    parser.add_argument("--autoattack", action="store_true", help="for defence")
    parser.add_argument("--temperature", type=float, default=100.0)
    parser.add_argument("--temperatures", type=numbers, default=[1.0, 10.0, 40.0, 100.0])
    parser.add_argument("--confidences", type=numbers, default=[0.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    parser.add_argument("--steps", type=int, default=100, help="of minimum-norm attacks")
    parser.add_argument("--search-steps", type=int, default=4)
    parser.add_argument("--initial-const", type=float, default=1.0)
    parser.add_argument("--step-size", type=float, default=0.05)
    parser.add_argument("--seeds", type=lambda text: [int(one) for one in text.split(",")])
    parser.set_defaults(seeds=[0, 1, 2])
    options = parser.parse_args(given)
    if not os.environ.get("ART_EXT_DATA"):
        sys.exit("ART_EXT_DATA must name the folder of MNIST")
    print_versions()
    images = load_data("mnist", split="train").first(options.images).in_memory()
    test = load_data("mnist").first(options.test_images).in_memory()
    {"defence": defence, "temperatures": temperatures, "transfer": transfer}[options.part](
        options, images, test
    )


if __name__ == "__main__":
    main(sys.argv[1:])
