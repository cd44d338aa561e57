"""Robust accuracy of every recipe at equal rows.

Run with ``python -m art_ext.benchmarks.robust_training --passes 40``. MNIST (from ART_EXT_DATA): 16
and 32 channels, 100 units, eps .3, PGD-40 with steps of .01 on the first test images. The radius
grows from 0 over the first tenth of a run.

``--passes`` is the budget of each run: rows forward plus rows backward per training image, as they
are counted. ``--paper-epochs`` takes a budget as the papers count instead, which is not an equal
cost. Natural training spends one such epoch on an update of the training images, PGD training K +
1, Backward Smoothing 4 (plus its clean forwards), Free 1, and CAT and ATCD K. The table prints the
rows as multiples of the training images.

CIFAR-10 (``--data cifar10``, for a GPU): PreActResNet-18, eps 8/255, bf16, PGD-20 and PGD-100 with
steps of 2/255.

Each line is printed, and appended to ``--out`` as JSON, when its run ends. Runs in the file are not
repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from art_ext.benchmarks.common import print_versions, seeded
from art_ext.core.attacks import pgd
from art_ext.core.metrics import clean_accuracy, robust_accuracy
from art_ext.data import Dataset, load_data
from art_ext.models import mnist_two_conv, preact_resnet18
from art_ext.training import RECIPES, Recipe, TrainingResult, make_recipe, train


@dataclass(frozen=True)
class Setting:
    """A data set with its network, radius, attacks (steps by size) and keywords of ``train``."""

    network: Any
    eps: float
    attacks: Mapping[int, float]
    options: Mapping[str, Any]


SETTINGS = {
    "mnist": Setting(
        mnist_two_conv,
        0.3,
        {40: 0.01},
        {
            "optimizer": "adam",
            "learning_rate": 5e-3,
            "weight_decay": 0.0,
            "schedule": "cyclic",
            "schedule_args": {"peak": 0.4},
        },
    ),
    "cifar10": Setting(
        preact_resnet18,
        8 / 255,
        {20: 2 / 255, 100: 2 / 255},
        {
            "optimizer": "sgd",
            "learning_rate": 0.2,
            "weight_decay": 5e-4,
            "schedule": "cyclic",
            "augmentation": "crop_flip",
            "precision": "bf16",
            "channels_last": True,
        },
    ),
}
BATCH = 128
RECIPE_NAMES = ("natural", "pgd", "free", "atcd", "cat", "backward-smoothing", "fast")


def passes_of(name: str, arguments: Mapping[str, Any]) -> float:
    """Return the number of passes over the training images that one epoch of updates costs."""
    recipe = make_recipe(name, **arguments)
    if recipe.worth > 1:
        return recipe.worth / recipe.replays
    return recipe.cost().backwards


def length_of(
    recipe: Recipe, name: str, given: Mapping[str, Any], key: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the length of a run, and the radius' warm-up over its first tenth."""
    batches = -(-key["images"] // BATCH)
    if key["count"] == "passes":
        epochs = key["budget"] / (sum(recipe.cost()) * recipe.replays)
        return {"passes": key["budget"], "eps_warmup_epochs": 0.1 * epochs}
    updates = round(key["budget"] / passes_of(name, given) * batches)
    return {"updates": updates, "eps_warmup_epochs": 0.1 * updates / (batches * recipe.replays)}


def run(key: Mapping[str, Any], images: Dataset, test: Dataset, device: str) -> dict[str, Any]:
    """Train and attack one network, with the settings of the key."""
    setting = SETTINGS[key["data"]]
    name = key["recipe"]
    seed = key["seed"]
    given = (
        dict(key["arguments"]) if name == "natural" else {"eps": setting.eps, **key["arguments"]}
    )
    model = seeded(setting.network, seed).to(device)
    recipe = make_recipe(name, **given)
    result: TrainingResult = train(
        model,
        (images.x.to(device), images.y.to(device)),
        recipe,
        seed=seed,
        batch_size=BATCH,
        **length_of(recipe, name, given, key),
        **setting.options,
    )
    model.eval()
    row = {
        **key,
        "updates": result.updates,
        "forwards": result.forwards / len(images),
        "backwards": result.backwards / len(images),
        "minutes": result.seconds / 60,
        "logs": {
            key: value
            for key, value in result.history[-1].items()
            if key in ("lambda", "ratio", "acceptance")
        },
    }
    for steps, size in setting.attacks.items():
        attacked = pgd(
            model,
            test.x.to(device),
            test.y.to(device),
            eps=setting.eps,
            num_steps=steps,
            step_size=size,
            seed=0,
            stop_on_success=True,
            batch_size=512,
        )
        row["clean"] = 100 * clean_accuracy(attacked)
        row[f"pgd{steps}"] = 100 * robust_accuracy(attacked)
    return row


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print mean and spread over the seeds, and the robust accuracy of each."""
    if not rows:
        return
    attacks = [key for key in rows[0] if key.startswith("pgd")]
    columns = [
        "recipe",
        "seeds",
        "clean %",
        *(f"{name} %" for name in attacks),
        "each",
        "forwards",
        "backwards",
        "rows",
        "minutes",
    ]
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in dict.fromkeys(row["recipe"] + json.dumps(row["arguments"]) for row in rows):
        own = [row for row in rows if row["recipe"] + json.dumps(row["arguments"]) == name]
        cells = []
        for key in ("clean", *attacks):
            values = [float(row[key]) for row in own]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):.2f} +- {spread:.2f}")
        cells.append(", ".join(f"{row[attacks[0]]:.1f}" for row in own))
        own = [{**row, "rows": row["forwards"] + row["backwards"]} for row in own]
        names = ("forwards", "backwards", "rows", "minutes")
        costs = [f"{statistics.mean(row[key] for row in own):.1f}" for key in names]
        print(f"| {name.replace('{}', '')} | {len(own)} | {' | '.join(cells + costs)} |")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Options of this benchmark and of others that run lists of recipes."""
    parser = argparse.ArgumentParser(description=description)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--passes", type=float, help="rows forward plus backward per training image (default 40)"
    )
    budget.add_argument("--paper-epochs", type=float, help="as the papers count, not an equal cost")
    parser.add_argument("--data", choices=SETTINGS, default="mnist")
    parser.add_argument(
        "--images", type=int, help="the first so many training images (default all)"
    )
    parser.add_argument("--test-images", type=int, default=3000)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--show", action="store_true", help="print what --out holds of it, and run nothing"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/robust_training.jsonl"))
    return parser


def run_all(options: argparse.Namespace, runs: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Run recipes with their arguments for each seed, print the rows, and append new ones to the
    file.
    """
    print_versions()
    images = load_data(options.data, split="train").first(options.images).in_memory()
    test = load_data(options.data).first(options.test_images).in_memory()
    by_paper = options.paper_epochs is not None
    common = {
        "data": options.data,
        "count": "paper-epochs" if by_paper else "passes",
        "budget": options.paper_epochs if by_paper else options.passes or 40.0,
        "images": len(images),
        "test_images": len(test),
    }
    what = (
        "paper epochs, whose costs differ"
        if by_paper
        else "rows forward plus backward per training image"
    )
    print(
        f"Robust accuracy at {common['budget']:g} {what}; {len(images)} training images of"
        f" {options.data}\n"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = (
        [json.loads(line) for line in options.out.read_text().splitlines()]
        if options.out.exists()
        else []
    )
    wanted = []
    for name, given in runs:
        for seed in map(int, options.seeds.split(",")):
            key = {**common, "recipe": name, "arguments": dict(given), "seed": seed}
            found = [
                row for row in done if all(row.get(part) == value for part, value in key.items())
            ]
            if not found and options.show:
                continue
            if not found:
                start = time.perf_counter()
                found = [run(key, images, test, options.device)]
                done.append(found[0])
                with options.out.open("a") as file:
                    file.write(json.dumps(found[0]) + "\n")
                print(
                    f"{name} seed {seed}: {json.dumps(found[0])}"
                    f" ({time.perf_counter() - start:.0f} s)",
                    flush=True,
                )
            wanted.append(found[0])
    print_table(wanted)


def main() -> None:
    """Run the given recipes with the same arguments."""
    parser = arguments(__doc__)
    parser.add_argument("--recipes", default=",".join(RECIPE_NAMES))
    parser.add_argument("--arguments", default="{}", help="of the recipes, as JSON")
    options = parser.parse_args()
    names = options.recipes.split(",")
    if not set(names) <= set(RECIPES):
        parser.error(f"recipes must be among {', '.join(RECIPES)}, got {options.recipes}")
    run_all(options, [(name, json.loads(options.arguments)) for name in names])


if __name__ == "__main__":
    main()
