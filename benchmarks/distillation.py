"""Defensive distillation under attacks on the cross-entropy and on the margin.

Run with ``python -m art_ext.benchmarks.distillation``. Needs ART_EXT_DATA with MNIST. The network
has 16 and 32 channels. Natural and distilled networks are trained on the first training images, by
8 epochs of Adam, and attacked on the first test images that are classified correctly: by PGD-40 on
the cross-entropy and on the margin, by C&W, and with ``--autoattack`` by AutoAttack on the images
of C&W. ``art-ext papers run`` measures the tables of the EAD thesis.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, right, seeded, train_network, under_autoattack
from art_ext.core.attacks import cw, pgd
from art_ext.core.metrics import robust_accuracy
from art_ext.data import Dataset, load_data
from art_ext.models import mnist_two_conv
from art_ext.training import Distillation, Natural, Recipe

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


def main(given: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12_000, help="training images")
    parser.add_argument("--epochs", type=int, default=8, help="of the teacher, and of the student")
    parser.add_argument("--test-images", type=int, default=500)
    parser.add_argument("--attacked", type=int, default=100, help="images of C&W")
    parser.add_argument("--autoattack", action="store_true", help="a further column")
    parser.add_argument("--temperature", type=float, default=100.0)
    parser.add_argument("--steps", type=int, default=100, help="of C&W")
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
    defence(options, images, test)


if __name__ == "__main__":
    main(sys.argv[1:])
