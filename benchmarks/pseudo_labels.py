"""Robust training on few labelled images and many images with pseudo-labels.

Run with ``python -m art_ext.benchmarks.pseudo_labels``. On scikit-learn's digits, 200 labelled
images train a network naturally, and it labels the other training images. TRADES (eps .15, beta 6)
then runs for equal numbers of weight updates and rows

* on the labelled images,
* on both kinds, half of each minibatch with pseudo-labels,
* on all images with their true labels, which is the most that labels could give.

The figures are those of the final weights on the test digits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from torch import Tensor

from art_ext.benchmarks.common import print_versions, seeded, spread, train_network
from art_ext.core.attacks import pgd
from art_ext.core.metrics import clean_accuracy, robust_accuracy
from art_ext.data import load_data
from art_ext.models import digits_cnn
from art_ext.training import Trades, make_recipe, pseudo_labels, train

EPS = 0.15
Samples = tuple[Tensor, Tensor]


def measured(
    data: Samples, test: Samples, updates: int, seed: int, extra: Samples | None = None
) -> tuple[float, float]:
    """Return clean and PGD-20 accuracy in % after TRADES."""
    model = train(
        seeded(digits_cnn, seed),
        data,
        Trades(eps=EPS),
        updates=updates,
        batch_size=64,
        seed=seed,
        optimizer="adam",
        learning_rate=4e-3,
        weight_decay=0.0,
        schedule="cyclic",
        extra_data=extra,
    ).model.eval()
    result = pgd(model, *test, eps=EPS, num_steps=20, step_size=2.5 * EPS / 20, seed=0)
    return 100 * clean_accuracy(result), 100 * robust_accuracy(result)


def main(given: Sequence[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labelled", type=int, default=200)
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--min-confidence", type=float, default=0.0)
    options = parser.parse_args(given)
    print_versions()
    digits = load_data("digits", split="train").in_memory()
    held = load_data("digits").in_memory()
    test = held.x, held.y
    whole = digits.x, digits.y
    few = digits.first(options.labelled)
    rest = digits.x[options.labelled :]
    rows: dict[str, list[tuple[float, float]]] = {}
    for seed in range(options.seeds):
        teacher = train_network(
            seeded(digits_cnn, seed), few, make_recipe("natural"), epochs=60, seed=seed
        )
        extra = pseudo_labels(teacher, rest, min_confidence=options.min_confidence)
        if not options.min_confidence:
            right = float((extra[1] == digits.y[options.labelled :]).float().mean())
            print(f"seed {seed}: {100 * right:.1f} % of {len(rest)} pseudo-labels are right")
        cases = {
            f"{options.labelled} labelled": ((few.x, few.y), None),
            "with pseudo-labels": ((few.x, few.y), extra),
            f"all {len(digits)} labelled": (whole, None),
        }
        for name, (data, more) in cases.items():
            one = measured(data, test, options.updates, seed, more)
            rows.setdefault(name, []).append(one)
    print(f"\nTRADES, {options.updates} updates, {len(held)} test digits, in %.\n")
    print("| training images | clean | PGD-20 |\n|---|---|---|")
    for name, pairs in rows.items():
        clean, robust = (spread(values, 1) for values in zip(*pairs, strict=True))
        print(f"| {name} | {clean} | {robust} |")


if __name__ == "__main__":
    main(sys.argv[1:])
