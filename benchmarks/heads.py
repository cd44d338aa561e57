"""Reverse cross-entropy with a detector, beside the attack that knows the detector.

``python -m art_ext.benchmarks.heads`` prints robust accuracy with rejection, inside the radius of
the data: PGD-50 on the margin that does not know the detector, and beside it the same with the
detector's penalty. The threshold rejects 5 % of 300 test images, and the next 200 are attacked.
``art-ext papers run --table slides-RCE`` measures the AUC table of the slides.

Networks are trained by Adam at a constant rate. ``--data mnist`` needs ``ART_EXT_DATA``.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, right, seeded, train_network
from art_ext.core.attacks import pgd
from art_ext.core.detection import make_detector
from art_ext.core.metrics import robust_accuracy
from art_ext.data import load_data
from art_ext.models import digits_cnn, mnist_two_conv
from art_ext.training import Natural, Rce, Recipe

# by data set: network, training images, radius, epochs
SETTINGS: dict[str, tuple[Callable[[], nn.Module], int | None, float, int]] = {
    "digits": (digits_cnn, None, 0.15, 20),
    "mnist": (mnist_two_conv, 12_000, 0.1, 8),
}
SEED = 0  # of the attacks
DETECTORS = ("confidence", "non_me")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", choices=tuple(SETTINGS))
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print_versions()
    for place, row in enumerate(rows(options)):
        if not place:
            print(f"| {' | '.join(row)} |\n{'|---' * len(row)}|")
        print(f"| {' | '.join(row.values())} |", flush=True)


def trained(data: str, recipe: Recipe, seed: int) -> nn.Module:
    """Return a trained network with its head."""
    network, count, _, epochs = SETTINGS[data]
    samples = load_data(data, split="train").first(count)
    model = seeded(network, seed)
    return train_network(model, samples, recipe, epochs=epochs, seed=seed, batch_size=64)


def rows(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Yield a row for each seed, training and detector."""
    data = load_data(options.data)
    drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED))
    held, attacked = drawn[:300], drawn[300:500]
    x, y = data.x[attacked], data.y[attacked]
    shared: dict[str, Any] = {"eps": SETTINGS[options.data][2], "num_steps": 50, "seed": SEED}
    shared |= {"loss": "margin", "num_restarts": 2}
    for seed in map(int, options.seeds.split(",")):
        for name, recipe in (("CE", Natural()), ("RCE", Rce())):
            model = trained(options.data, recipe, seed)
            plain = pgd(model, x, y, stop_on_success=True, **shared)
            for kind in DETECTORS:
                detector = make_detector(kind)
                detector.fit(model, data.x[held], None)
                detector.calibrate(data.x[held], 0.05)
                fine = right(x, y, model) & ~detector.detect(x)
                passed = plain.success & ~detector.detect(plain.x_adv)
                aware = pgd(model, x, y, detector=detector, detector_weight=5.0, **shared).success
                yield {
                    "seed": str(seed),
                    "training": name,
                    "detector": kind,
                    "clean and accepted": percent(fine),
                    "without detector": f"{100 * robust_accuracy(plain):.1f}",
                    "oblivious": percent(fine & ~passed),
                    "aware": percent(fine & ~passed & ~aware),
                    "aware alone": percent(fine & ~aware),
                }


def percent(marked: Tensor) -> str:
    """Return the share of True in %."""
    return f"{100 * float(marked.double().mean()):.1f}"


if __name__ == "__main__":
    main()
