"""The attack, the risk and the constants on images of an isometry, where the bound is attained."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import in_distribution
from art_ext.core.limits import (
    GaussianSet,
    bounds_at_risk,
    draw_latents,
    gaussian_expansion,
    generator_lipschitz,
    in_distribution_risk_bound,
    risk_on,
)
from art_ext.core.metrics import wilson
from tests.toys import examples

FEATURES = 64
COUNT = 500


class Isometry(nn.Module):
    """Images A z of class 0 for orthonormal columns A, and those of class 1 beyond the boundary.

    The classifier errs on the half-space <w, z> >= t of class 0, and <w, z> <= -t of class 1.
    """

    num_classes = 2

    def __init__(self, region: GaussianSet) -> None:
        super().__init__()
        self.latent_dim = region.dim
        self.threshold = region.threshold
        generator = torch.Generator().manual_seed(region.dim)
        self.matrix = torch.linalg.qr(torch.randn(FEATURES, region.dim, generator=generator)).Q
        self.weight = self.matrix @ torch.full((region.dim,), 1 / math.sqrt(region.dim))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return z @ self.matrix.T + 2 * self.threshold * y.unsqueeze(1) * self.weight

    def classifier(self, x: Tensor) -> Tensor:
        side = x @ self.weight - self.threshold
        return torch.stack([-side, side], dim=1)


@pytest.fixture(params=[(5, 0.2), (50, 0.05)], ids=["d5", "d50"])
def region(request) -> GaussianSet:
    dim, measure = request.param
    return GaussianSet("half-space", measure, dim)


@pytest.mark.parametrize("eps", [0.3, 1.0])
def test_the_attack_succeeds_if_and_only_if_the_half_space_is_within_eps(region, eps):
    generator = Isometry(region)
    index = torch.arange(COUNT)
    y = index % 2
    z = draw_latents(region.dim, y, index, seed=0)
    x = generator(z, y)
    result = in_distribution(
        generator.classifier,
        generator,
        x,
        y,
        latents=z,
        initialisation="given",
        eps=eps,
        num_steps=100,
        step_size=0.05,
        image_range=None,
        clip_values=(-20.0, 20.0),
        seed=0,
    )
    mirrored = torch.where(y == 0, 1.0, -1.0).unsqueeze(1) * z
    distance = region.distance(mirrored.double())
    within = distance <= eps
    found = result.success | result.already_adversarial
    assert torch.equal(result.already_adversarial, distance == 0)
    assert float((found == within).float().mean()) >= 0.98
    # never without reason: no adversarial lies closer than the half-space
    assert not bool((found & ~within).any())
    exact = float(region.expanded(eps))
    low, high = wilson(int(within.sum()), COUNT, confidence=0.997)
    assert low <= exact <= high


def test_all_parts_agree_on_a_half_space(region):
    generator = Isometry(region)
    constants = torch.stack(
        [
            generator_lipschitz(
                generator, estimator=name, num_latents=20, num_neighbours=50, image_range=None
            ).value
            for name in ("spectral", "ascent")
        ]
    )
    # float32 rounds the ratios of short steps
    torch.testing.assert_close(constants, torch.ones_like(constants), atol=5e-4, rtol=0)

    risk = risk_on(generator.classifier, generator, num_samples=20_000, image_range=None)
    assert all(rate.low <= region.measure <= rate.high for rate in risk.classes)
    for eps in (0.5, 1.0):
        exact = 1 - float(region.expanded(eps))
        class_wise, _, papers = bounds_at_risk(risk, eps=eps, lipschitz=constants[0], delta=0.0)
        for bound in (class_wise, papers):
            assert float(bound.low) - 1e-3 <= exact <= float(bound.high) + 1e-3
        of_classifier = in_distribution_risk_bound(
            eps=eps, risks=[region.measure] * 2, lipschitz=constants[0], delta=0.0
        )
        assert float(of_classifier.value) == pytest.approx(1 - exact, abs=1e-4)


def test_half_the_constant_claims_too_much(region):
    """An estimate of L that is too low makes the bound too low: it is contradicted."""
    exact = 1 - float(region.expanded(1.0))
    measure = torch.tensor(region.measure, dtype=torch.float64)
    claimed = 1 - float(gaussian_expansion(measure, torch.tensor(1.0 / 0.5)))
    assert claimed < exact - 0.1


def test_the_example_of_the_documentation(tmp_path):
    (script,) = examples("limits.md").values()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    printed = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    for name in ("sampled", "spectral", "ascent"):
        assert float(printed[f"L, {name}"]) == pytest.approx(1.0, abs=2e-3)
    low, high = map(float, re.findall(r"\[(\S+), (\S+)\]", printed["smallest class risk"])[0])
    assert low <= 0.05 <= high
    assert float(printed["bound"]) == pytest.approx(0.874, abs=1e-3)
    assert 0.05 < float(printed["expansion, of the sample"]) < 0.12
    assert float(printed["expansion, in theory"]) == pytest.approx(0.126, abs=0.006)
    low, high = wilson(round(500 * float(printed["in-distribution robustness"])), 500)
    assert low <= 0.874 <= high
