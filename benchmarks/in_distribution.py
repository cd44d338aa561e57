"""In-distribution robustness by the settings of the attack, on images of a digits generator.

Run with ``python -m art_ext.benchmarks.in_distribution --generator RUN``, RUN being a folder of
``art-ext generator train --data digits``. A network is trained on generated images, and others are
attacked from the latents that made them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import print_versions, seeded, train_network
from art_ext.core.attacks import in_distribution, sign_gradient
from art_ext.core.limits import Generator, GeneratorOracle, draw_latents
from art_ext.data import Dataset
from art_ext.models import digits_cnn, load_generator

RADII = (0.5, 0.75, 1.0, 1.5, 2.0)
SMALL = {"step_size": 0.01}  # the paper's
SETTINGS: dict[str, dict[str, Any]] = {
    "300 steps of .01": SMALL,
    "the same, optimised start": {**SMALL, "initialisation": "optimise"},
    "300 of .01, `warm_start`": {**SMALL, "warm_start": True},
    "1000 of .01": {**SMALL, "num_steps": 1000},
    "300 of .03": {"step_size": 0.03},
    "300 of .03, `plain`": {"step_size": 0.03, "distance": "plain"},
    "300 of .05 (default)": {},
    "100 of .03": {"step_size": 0.03, "num_steps": 100},
}


def generated(generator: Generator, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents, images and classes, as many of each class."""
    index = torch.arange(count)
    y = index % generator.num_classes
    z = draw_latents(generator.latent_dim, y, index // generator.num_classes, seed)
    with GeneratorOracle(generator) as oracle, torch.no_grad():
        return z, oracle(z, y), y


def row(name: str, robust: Sequence[float], queries: float) -> str:
    """Return a row of the table."""
    shares = " | ".join(f"{share:.3f}" for share in robust)
    return f"| {name} | {shares} | {queries:,.0f} |"


def pgd_row(network: nn.Module, x: Tensor, y: Tensor) -> str:
    """Return the row of L2 PGD without a random start, which may leave the generator's images."""
    options: dict[str, Any] = {"norm": "l2", "num_steps": 100, "projection": "ball-first"}
    found = [
        sign_gradient(network, x, y, eps=eps, step_size=eps / 10, stop_on_success=True, **options)
        for eps in RADII
    ]
    robust = [1 - float(result.success.float().mean()) for result in found]
    return row("L2 PGD, any image", robust, float(found[-1].queries.float().mean()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--generator", required=True)
    parser.add_argument("--n", type=int, default=200)
    arguments = parser.parse_args()
    print_versions()
    generator = load_generator(arguments.generator)
    _, x, y = generated(generator, 3000, seed=1)
    network = train_network(
        seeded(digits_cnn, 0), Dataset("generated", x, y), "natural", epochs=6, seed=0
    )
    z, x, y = generated(generator, arguments.n, seed=2)
    print(f"| in-distribution robustness at eps = | {' | '.join(map(str, RADII))} | queries |")
    print(f"|---{'|---' * (len(RADII) + 1)}|")
    for name, settings in SETTINGS.items():
        options = {"latents": z, "initialisation": "given", "seed": 0, **settings}
        result = in_distribution(network, generator, x, y, **options)
        robust = [float((result.distance > eps).float().mean()) for eps in RADII]
        print(row(name, robust, float(result.queries.float().mean())), flush=True)
    print(pgd_row(network, x, y))


if __name__ == "__main__":
    main()
