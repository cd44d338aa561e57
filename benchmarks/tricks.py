"""The bag of tricks on scikit-learn's digits: each trick beside the base, with its interval.

Run with ``python -m art_ext.benchmarks.tricks``. The base is that of the paper, made small: PGD
training at eps .25 with ``--steps`` steps, 1.25 eps long together, crafting in train mode, SGD at
.1 with momentum .9, which falls to a tenth after 10/11 and 21/22 of the ``--epochs``, decay 5e-4 of
all tensors, minibatches of 64, and two convolutions with BatchNorm. Accuracy is measured on the 500
test digits, clean and under PGD-20 with steps of eps / 8, for the weights at the end.

A difference is the mean over the seeds, each beside the base of the same seed, with the 95 %
interval of Student's distribution. It is "not resolved" if the interval covers 0. The interval says
how far seeds scatter, and nothing of other test images.

Each run is appended to ``--out`` as JSON. Runs in the file are not repeated.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import t as student
from torch import nn

from art_ext.benchmarks.common import print_versions, seeded
from art_ext.core.attacks import pgd
from art_ext.core.metrics import clean_accuracy, robust_accuracy
from art_ext.data import Dataset, load_data
from art_ext.training import Pgd, train

EPS = 0.25
BATCH = 64
BASE = "base"
FIGURES = ("clean", "pgd20")


@dataclass(frozen=True)
class Trick:
    """Differences of a trick from the base.

    Attributes:
        options: keywords of ``train``.
        recipe: arguments of ``Pgd``.
        early: epochs, of 110, from which the tolerance of steps is 1 and 2.
        activation: makes an activation.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    early: tuple[int, ...] = ()
    activation: Callable[[], nn.Module] = nn.ReLU


def of_run(**options: Any) -> Trick:
    """Return a trick of keywords of ``train``."""
    return Trick(options)


TRICKS: dict[str, Trick] = {
    BASE: Trick(),
    **{f"early stop {a}/{b}": Trick(early=(a, b)) for a, b in ((40, 70), (40, 100), (60, 100))},
    **{
        f"BatchNorm {mode}, {count} clean": Trick({"clean_forwards": count}, {"bn_mode": mode})
        for mode in ("train", "eval")
        for count in (0, 1, 2)
        if (mode, count) != ("train", 0)
    },
    "label smoothing .1": of_run(label_smoothing=0.1),
    "decay of weights alone": of_run(decay="weights"),
    "leaky ReLU, .1": Trick(activation=functools.partial(nn.LeakyReLU, 0.1)),
    "GELU": Trick(activation=nn.GELU),
    "softplus": Trick(activation=nn.Softplus),
    "tanh": Trick(activation=nn.Tanh),
    "batch 32": of_run(batch_size=32),
    "batch 32, scaled rate": of_run(batch_size=32, scale_rate=True),
    "batch 128": of_run(batch_size=128),
    "batch 128, scaled rate": of_run(batch_size=128, scale_rate=True),
    "Nesterov": of_run(nesterov=True),
    "GC": of_run(gradient_centralisation="all"),
    "GCC": of_run(gradient_centralisation="conv"),
    "Adam, 1e-3": of_run(optimizer="adam", learning_rate=1e-3),
    "AdamW, 1e-3": of_run(optimizer="adamw", learning_rate=1e-3),
    "DLR in crafting": of_run(craft_loss="dlr"),
    "DLR in both losses": of_run(outer_loss="dlr", craft_loss="dlr"),
    "CW in both losses": of_run(outer_loss="cw", craft_loss="cw"),
    "mixture .5": Trick(recipe={"mixture": 0.5}),
}


def network(activation: Callable[[], nn.Module]) -> nn.Module:
    """Return a network of two convolutions with BatchNorm, from (r, 1, 8, 8) to ten scores."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        activation(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        activation(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def run(key: Mapping[str, Any], images: Dataset, test: Dataset) -> dict[str, Any]:
    """Train and attack one network."""
    trick = TRICKS[key["trick"]]
    seed = key["seed"]
    epochs = key["epochs"]
    model = seeded(functools.partial(network, trick.activation), seed)
    options: dict[str, Any] = {
        "batch_size": BATCH,
        "learning_rate": 0.1,
        "schedule": "piecewise",
        "schedule_args": {"milestones": (10 / 11, 21 / 22)},
        "reference_batch": BATCH,
        **trick.options,
    }
    starts = (0, *(round(start / 110 * epochs) for start in trick.early))
    arguments = {
        "num_steps": key["steps"],
        "step_size": 1.25 * EPS / key["steps"],
        "bn_mode": "train",
        "tolerance": dict(zip(starts, range(3), strict=False)) if trick.early else None,
        **trick.recipe,
    }
    start = time.process_time()
    recipe = Pgd(eps=EPS, **arguments)
    result = train(model, (images.x, images.y), recipe, epochs=epochs, seed=seed, **options)
    model.eval()
    attacked = pgd(
        model, test.x, test.y, eps=EPS, num_steps=20, step_size=EPS / 8, seed=0, batch_size=500
    )
    return {
        **key,
        "clean": 100 * clean_accuracy(attacked),
        "pgd20": 100 * robust_accuracy(attacked),
        "forwards": result.forwards / len(images),
        "seconds": time.process_time() - start,
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of differences and half the width of its 95 % interval."""
    if len(values) < 2:
        return values[0], math.inf
    quantile = float(student.ppf(0.975, len(values) - 1))
    return statistics.mean(values), quantile * statistics.stdev(values) / math.sqrt(len(values))


def verdict(mean: float, half: float) -> str:
    """Return a difference with its interval as text."""
    text = f"{mean:+.1f} +- {half:.1f}"
    return f"{text}, not resolved" if abs(mean) <= half else text


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print accuracy, and the difference from the base, of each trick."""
    found = {(row["trick"], row["seed"]): row for row in rows}
    print("\n| trick | clean % | PGD-20 % | clean, difference | PGD-20, difference |")
    print("|---|---:|---:|---|---|")
    for name in dict.fromkeys(row["trick"] for row in rows):
        seeds = [seed for trick, seed in found if trick == name and (BASE, seed) in found]
        own = [found[name, seed] for seed in seeds]
        if not own:
            continue
        cells = [f"{statistics.mean(row[key] for row in own):.1f}" for key in FIGURES]
        for key in FIGURES:
            differences = [found[name, seed][key] - found[BASE, seed][key] for seed in seeds]
            cells.append("" if name == BASE else verdict(*interval(differences)))
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Run the tricks that the file does not hold yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="steps of PGD in training")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--tricks", help="some of them, separated by semicolons (default all)")
    parser.add_argument("--out", type=Path, default=Path("runs/tricks.jsonl"))
    parser.add_argument("--show", action="store_true", help="print what the file holds already")
    options = parser.parse_args()
    names = [BASE, *options.tricks.split(";")] if options.tricks else list(TRICKS)
    unknown = [name for name in names if name not in TRICKS]
    if unknown:
        parser.error(f"tricks must be among {'; '.join(TRICKS)}, got {'; '.join(unknown)}")
    print_versions()
    images = load_data("digits", split="train").in_memory()
    test = load_data("digits").first(500).in_memory()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    done = list(map(json.loads, lines))
    for name, seed in itertools.product(names, map(int, options.seeds.split(","))):
        key = {"trick": name, "seed": seed, "epochs": options.epochs, "steps": options.steps}
        if options.show or any(row.items() >= key.items() for row in done):
            continue
        done.append(run(key, images, test))
        with options.out.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        print(json.dumps(done[-1]), flush=True)
    length = {"epochs": options.epochs, "steps": options.steps}
    print_table([row for row in done if row["trick"] in names and row.items() >= length.items()])


if __name__ == "__main__":
    main()
