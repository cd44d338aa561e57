"""Seeds of the measures on a generator."""

from __future__ import annotations

import pytest
import torch

from art_ext.core.limits import draw_latents, generator_lipschitz, risk_on
from art_ext.evaluation import limits

LABEL = torch.zeros(1, dtype=torch.int64)


class Halves:
    """Images of two values, one for each class, moved by the latent."""

    latent_dim, num_classes = 1, 2

    def __call__(self, z, y):
        return torch.sigmoid(z + y[:, None]).repeat(1, 2)


@pytest.mark.parametrize(
    "measure",
    [
        lambda folder: draw_latents(2, LABEL, LABEL, -1),
        lambda folder: generator_lipschitz(Halves(), seed=-1),
        lambda folder: risk_on(torch.nn.Identity(), Halves(), seed=-1),
        lambda folder: limits(torch.nn.Identity(), Halves(), folder / "run", seed=-1),
    ],
)
def test_a_negative_seed_is_refused(measure, tmp_path):
    with pytest.raises(ValueError, match=r"^seed must be an integer >= 0, got -1$"):
        measure(tmp_path)
    assert not list(tmp_path.iterdir())
