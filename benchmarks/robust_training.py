"""Robust accuracy of every recipe at equal cost: ``python -m art_ext.benchmarks.robust_training``.

MNIST (from ART_EXT_DATA): 16 and 32 channels, 100 units, eps .3, PGD-40 with steps of .01 on the first test images. The
budget is so many passes forward and backward over the training images: natural training spends one on an update, PGD
training K + 1, Backward Smoothing 4 (its clean forwards come on top), Free 1, and CAT and ATCD K, as their papers
count. The table prints the rows that were really sent, as multiples of the training images. The radius grows from 0
over the first tenth of a run.

CIFAR-10 (``--data cifar10``, for a GPU): PreActResNet-18, eps 8/255, bf16, PGD-20 and PGD-100 with steps of 2/255.

Each line is printed, and appended to ``--out`` as JSON, as soon as its run ends; what is in the file is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from art_ext.benchmarks.common import print_versions
from art_ext.core.attacks import pgd
from art_ext.core.metrics import clean_accuracy, robust_accuracy
from art_ext.core.training import RECIPES, TrainingResult, make_recipe, train
from art_ext.data import Dataset, load_data
from art_ext.models import mnist_two_conv, preact_resnet18


@dataclass(frozen=True)
class Setting:
    """A data set with its network, radius, attacks (steps by step size) and keywords of ``train``."""

    network: Any
    eps: float
    attacks: Mapping[int, float]
    options: Mapping[str, Any]


SETTINGS = {
    "mnist": Setting(
        mnist_two_conv, 0.3, {40: 0.01},
        {"optimizer": "adam", "learning_rate": 5e-3, "weight_decay": 0.0, "schedule": "cyclic",
         "schedule_args": {"peak": 0.4}},
    ),
    "cifar10": Setting(
        preact_resnet18, 8 / 255, {20: 2 / 255, 100: 2 / 255},
        {"optimizer": "sgd", "learning_rate": 0.2, "weight_decay": 5e-4, "schedule": "cyclic",
         "augmentation": "crop_flip", "precision": "bf16", "channels_last": True},
    ),
}  # fmt: skip
RECIPE_NAMES = ("natural", "pgd", "free", "atcd", "cat", "backward-smoothing", "fast")


def network(setting: Setting, seed: int) -> nn.Module:
    """Initial weights that depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = setting.network()
        return model


def passes_of(name: str, arguments: Mapping[str, Any]) -> float:
    """Passes over the training images that one epoch of updates is charged for."""
    recipe = make_recipe(name, **arguments)
    if recipe.worth > 1:
        return recipe.worth / recipe.replays
    return recipe.cost().backwards


def run(key: Mapping[str, Any], images: Dataset, test: Dataset, device: str) -> dict[str, Any]:
    """Train one network and attack it; the key says which."""
    setting, name, arguments, seed, budget = (
        SETTINGS[key["data"]], key["recipe"], key["arguments"], key["seed"], key["budget"],
    )  # fmt: skip
    given = dict(arguments) if name == "natural" else {"eps": setting.eps, **arguments}
    model = network(setting, seed).to(device)
    recipe, batches = make_recipe(name, **given), -(-len(images) // 128)
    updates = round(budget / passes_of(name, given) * batches)
    result: TrainingResult = train(
        model, (images.x.to(device), images.y.to(device)), recipe, updates=updates, seed=seed, batch_size=128,
        eps_warmup_epochs=0.1 * updates / (batches * recipe.replays), **setting.options,
    )  # fmt: skip
    model.eval()
    row = {
        **key, "test_images": len(test),
        "updates": result.updates, "forwards": result.forwards / len(images),
        "backwards": result.backwards / len(images), "minutes": result.seconds / 60,
        "logs": {key: value for key, value in result.history[-1].items() if key in ("lambda", "ratio", "acceptance")},
    }  # fmt: skip
    for steps, size in setting.attacks.items():
        attacked = pgd(
            model, test.x.to(device), test.y.to(device), eps=setting.eps, num_steps=steps, step_size=size, seed=0,
            stop_on_success=True, batch_size=512,
        )  # fmt: skip
        row["clean"], row[f"pgd{steps}"] = 100 * clean_accuracy(attacked), 100 * robust_accuracy(attacked)
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    """Mean and spread over the seeds."""
    attacks = [key for key in rows[0] if key.startswith("pgd")]
    columns = ["recipe", "seeds", "clean %", *(f"{name} %" for name in attacks), "forwards", "backwards", "minutes"]
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in dict.fromkeys(row["recipe"] + json.dumps(row["arguments"]) for row in rows):
        own = [row for row in rows if row["recipe"] + json.dumps(row["arguments"]) == name]
        cells = []
        for key in ("clean", *attacks):
            values = [row[key] for row in own]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.2f} +- {spread:.2f}")
        costs = [f"{statistics.mean(row[key] for row in own):.1f}" for key in ("forwards", "backwards", "minutes")]
        print(f"| {name.replace('{}', '')} | {len(own)} | {' | '.join(cells + costs)} |")


def main() -> None:
    """Run, print, and keep what is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=SETTINGS, default="mnist")
    parser.add_argument("--recipes", default=",".join(RECIPE_NAMES))
    parser.add_argument("--arguments", default="{}", help="of the recipes, as JSON")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budget", type=float, default=40.0, help="passes over the training images")
    parser.add_argument("--test-images", type=int, default=3000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/robust_training.jsonl"))
    options = parser.parse_args()
    names = options.recipes.split(",")
    if not set(names) <= set(RECIPES):
        parser.error(f"recipes must be among {', '.join(RECIPES)}, got {options.recipes}")
    print_versions()
    images, test = load_data(options.data, split="train"), load_data(options.data).first(options.test_images)
    arguments = json.loads(options.arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    for seed in map(int, options.seeds.split(",")):
        for name in names:
            key = {"data": options.data, "recipe": name, "arguments": arguments, "seed": seed, "budget": options.budget}
            if any(all(row[part] == value for part, value in key.items()) for row in done):
                continue
            start = time.perf_counter()
            row = run(key, images, test, options.device)
            done.append(row)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name} seed {seed}: {json.dumps(row)} ({time.perf_counter() - start:.0f} s)", flush=True)
    print_table([row for row in done if row["data"] == options.data and row["budget"] == options.budget])


if __name__ == "__main__":
    main()
