"""Transfer among the members of an ensemble, trained alone or by ADP: the figure of the slides.

Run with ``python -m art_ext.benchmarks.ensembles``, with ``ART_EXT_DATA`` for ``--data mnist``.
Members trained alone are the recipe ``adp`` with alpha = beta = 0. Both start from the same
weights. Transfer is measured on test images that all members classify correctly. The attack is PGD
on each member, with steps of 2.5 eps / K. Beside it are the accuracy of the ensemble and of its
members, and the robust accuracy of the ensemble under PGD on the margin of its mean probability
and of its mean logits.
"""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, seeded, train_network
from art_ext.core.attacks import pgd
from art_ext.core.metrics import ensemble_diversity, transfer_matrix
from art_ext.data import load_data
from art_ext.models import digits_cnn, members, mnist_two_conv
from art_ext.training import Adp

# by data set: network, training images, epochs
SETTINGS: dict[str, tuple[Callable[[], nn.Module], int | None, int]] = {
    "digits": (digits_cnn, None, 30),
    "mnist": (mnist_two_conv, 12_000, 8),
}
COLUMNS = (
    "seed",
    "training",
    "transfer",
    "own attack",
    "images",
    "clean",
    "members' clean",
    "determinant",
)


def main() -> None:
    """Print a row for each seed and training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", choices=tuple(SETTINGS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--eps", default="0.1,0.2", help="of the ensemble; the first is transfer's")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--test", type=int, default=1000, help="test images")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    print_versions()
    radii = [float(one) for one in options.eps.split(",")]
    robust = [f"{kind} at {eps:g}" for eps in radii for kind in ("mean p", "mean z", "both")]
    columns = [*COLUMNS, *robust]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    test = load_data(options.data).first(options.test)
    for seed in map(int, options.seeds.split(",")):
        for name, weights in (("alone", (0.0, 0.0)), ("adp", (2.0, 0.5))):
            recipe = Adp(alpha=weights[0], beta=weights[1], members=options.members)
            model = trained(options.data, recipe, seed)
            cells = row(model, test.x, test.y, radii, options.steps)
            print(f"| {seed} | {name} | {' | '.join(cells)} |", flush=True)


def trained(data: str, recipe: Adp, seed: int) -> nn.Module:
    """Return a trained ensemble with its head."""
    network, count, epochs = SETTINGS[data]
    samples = load_data(data, split="train").first(count)
    ensemble = recipe.build(functools.partial(seeded, network), seed)
    return train_network(ensemble, samples, recipe, epochs=epochs, seed=seed, batch_size=64)


def row(model: nn.Module, x: Tensor, y: Tensor, radii: Sequence[float], steps: int) -> list[str]:
    """Return the cells of an ensemble: transfer, accuracies, diversity, robust accuracy."""
    networks = members(model)
    found = transfer_matrix(networks, x, y, eps=radii[0], num_steps=steps, seed=0)
    with torch.no_grad():
        outputs = torch.stack([network(x) for network in networks], dim=1)
        right = model(x).argmax(1) == y
    own = (outputs.argmax(2) == y[:, None]).double().mean(dim=0)
    determinant = ensemble_diversity(outputs, y).determinant.mean()
    cells = [f"{100 * found.off_diagonal:.1f}", f"{100 * found.diagonal:.1f}", str(found.count)]
    cells += [f"{100 * float(right.double().mean()):.1f}", f"{100 * float(own.mean()):.1f}"]
    cells.append(f"{float(determinant):.3f}")
    for eps in radii:
        settings: dict[str, Any] = {"eps": eps, "num_steps": steps, "seed": 0}
        mean, logits = (
            right & ~pgd(model, x, y, loss=loss, **settings).success
            for loss in ("margin", "mean-logits")
        )
        kept = (mean, logits, mean & logits)
        cells += [f"{100 * float(one.double().mean()):.1f}" for one in kept]
    return cells


if __name__ == "__main__":
    main()
