"""Lipschitz estimates on linear generators, whose constant is the spectral norm.

Run with ``python -m art_ext.benchmarks.lipschitz``. The entries of A are Gaussian, with a variance
of one over the number of pixels. Each estimate is the largest of its latents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from art_ext.core.limits import generator_lipschitz
from art_ext.core.wording import markdown

# dimension of the latents -> pixels of the images A z, number of latents
CASES = {4: (196, 100), 16: (196, 100), 100: (784, 50)}
ESTIMATES: dict[str, dict[str, Any]] = {
    "sampled": {"estimator": "sampled"},
    "sampled, `orthant`": {"estimator": "sampled", "neighbours": "orthant"},
    "spectral": {"estimator": "spectral"},
    "ascent": {"estimator": "ascent"},
}


class LinearGenerator:
    """Images A z + y / 10 of latents z and classes y.

    Args:
        pixels: number of rows of A.
        dim: number of columns, which seeds the entries too.
    """

    num_classes = 2

    def __init__(self, pixels: int, dim: int) -> None:
        self.latent_dim = dim
        generator = torch.Generator().manual_seed(dim)
        self.matrix = torch.randn(pixels, dim, generator=generator) / pixels**0.5

    def __call__(self, z: Tensor, y: Tensor) -> Tensor:
        """Return images (N, pixels) of latents (N, d) and classes (N,)."""
        return z @ self.matrix.T + y[:, None] / 10


def main() -> None:
    """Print the table."""
    rows = []
    for dim, (pixels, count) in CASES.items():
        generator = LinearGenerator(pixels, dim)
        found = [
            generator_lipschitz(
                generator, classes=[0], num_latents=count, delta=0.0, image_range=None, **given
            )
            for given in ESTIMATES.values()
        ]
        norm = float(torch.linalg.matrix_norm(generator.matrix, 2))
        values = (norm, *(float(one.value[0]) for one in found))
        rows.append((f"d = {dim}", *(f"{value:.3f}" for value in values)))
    print(markdown(("latents", "spectral norm", *ESTIMATES), rows))


if __name__ == "__main__":
    main()
