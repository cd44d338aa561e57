"""Figure 4 of the HMCAM paper: do the states of a few chains replace many attacked images?

Run with ``python -m art_ext.benchmarks.few_samples``. A network is trained, and then trained
further on the training images and a fixed set, for each number S of states:

* HMCAM: S states of each of d images, from S transitions of 100 / S steps,
* FGSM, BIM and PGD: one example each of d S other images, by 100 steps (FGSM by one).

The measure is the success of M-PGD-20 on the test images that the network classifies correctly. The
reference implementation repeats one state S times and gives most states a wrong class, so its
figure cannot be repeated. ``--data mnist`` needs ART_EXT_DATA. Sets of more images than there are
take all.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from art_ext.benchmarks.common import print_versions, right, seeded, train_network
from art_ext.core.attacks import m_pgd
from art_ext.data import Dataset, load_data
from art_ext.models import digits_cnn, mnist_two_conv
from art_ext.training import FixedSet, fixed_set

NETWORKS: dict[str, Callable[[], nn.Module]] = {"digits": digits_cnn, "mnist": mnist_two_conv}
EPS = {"digits": 0.15, "mnist": 0.2}
STEPS = 100  # of all transitions of a chain together
ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "FGSM": ("fgsm", {}),
    "BIM": ("i_fgsm", {"num_steps": STEPS}),
    "PGD": ("pgd", {"num_steps": STEPS}),
}


def fitted(
    model: nn.Module, images: Dataset, extra: FixedSet | None, epochs: int, seed: int
) -> nn.Module:
    """Train a network on the images and a set, and return it in eval mode."""
    append = None if extra is None else (extra.x, extra.y)
    return train_network(
        model, images, "natural", epochs=epochs, seed=seed, batch_size=64, append=append
    )


def success(model: nn.Module, test: Dataset, eps: float) -> float:
    """Return the success of M-PGD-20 in %, on images that are classified correctly."""
    kept = right(test.x, test.y, model)
    found = m_pgd(model, test.x[kept], test.y[kept], eps=eps, num_steps=20, seed=0)
    return 100 * float(found.success.float().mean())


def main(given: Sequence[str]) -> None:
    """Print the figure as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=NETWORKS, default="digits")
    parser.add_argument("--images", type=int, help="training images (default all)")
    parser.add_argument("--test-images", type=int, default=500)
    parser.add_argument("--d", type=int, default=50, help="images with a chain")
    parser.add_argument(
        "--states",
        type=lambda text: [int(one) for one in text.split(",")],
        default=[1, 2, 5, 10, 20, 50, 100],
    )
    parser.add_argument("--epochs", type=int, default=15, help="of the first training")
    parser.add_argument("--more-epochs", type=int, default=10, help="with the set")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(given)
    print_versions()
    images = load_data(options.data, split="train").first(options.images).in_memory()
    test = load_data(options.data).first(options.test_images).in_memory()
    eps = EPS[options.data]
    untrained = seeded(NETWORKS[options.data], options.seed)
    first = fitted(untrained, images, None, options.epochs, options.seed)

    def measured(attack: str, count: int, arguments: dict[str, Any]) -> str:
        extra = fixed_set(
            first,
            images.x,
            images.y,
            attack,
            n=min(count, len(images)),
            arguments={"eps": eps, **arguments},
            seed=options.seed,
        )
        model = fitted(copy.deepcopy(first), images, extra, options.more_epochs, options.seed)
        return f"{success(model, test, eps):.1f}"

    plain = fitted(copy.deepcopy(first), images, None, options.more_epochs, options.seed)
    print(
        f"Success of M-PGD-20 at {eps} in %; {len(images)} images of {options.data}, d ="
        f" {options.d}. Without a set: {success(plain, test, eps):.1f}.\n"
    )
    print(f"| S | HMCAM, {options.d} images x S | {' | '.join(ATTACKS)}, {options.d} S images |")
    print("|---|---|" + "---|" * len(ATTACKS))
    for states in options.states:
        chain = {"num_transitions": states, "num_steps": max(1, STEPS // states)}
        cells = [measured("hmcam", options.d, chain)]
        cells += [
            measured(attack, options.d * states, arguments)
            for attack, arguments in ATTACKS.values()
        ]
        print(f"| {states} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
