"""Sets of known expansion against the isoperimetric inequality, and empirical expansions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import chi, norm
from torch import Tensor

from art_ext.core.limits import (
    GaussianSet,
    draw_latents,
    empirical_expansion,
    gaussian_expansion,
    intrinsic_robustness_bound,
)
from art_ext.core.limits.expansion import KINDS

SEED = 2
RADII = torch.tensor([0.0, 0.25, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)


def latents(count: int, dim: int, seed: int = 0) -> Tensor:
    return draw_latents(dim, torch.zeros(count, dtype=torch.int64), torch.arange(count), seed)


def isometry(dim: int, features: int) -> Tensor:
    """(features, dim) with orthonormal columns."""
    generator = torch.Generator().manual_seed(dim)
    return torch.linalg.qr(torch.randn(features, dim, generator=generator)).Q


def standard_error(share: float, count: int) -> float:
    return math.sqrt(share * (1 - share) / count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("measure", [0.01, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("dim", [1, 5, 50])
def test_the_bound_holds_for_every_set_and_half_spaces_attain_it(kind, measure, dim):
    region = GaussianSet(kind, measure, dim)
    exact = region.expanded(RADII)
    least = gaussian_expansion(torch.tensor(measure, dtype=torch.float64), RADII)
    assert float(exact[0]) == pytest.approx(measure, abs=1e-12)
    assert bool((exact >= least - 1e-12).all())
    if kind == "half-space":
        torch.testing.assert_close(exact, least, atol=1e-15, rtol=0)
    elif (kind, dim) != ("complement", 1):  # half of it is a half-space, but not the whole
        assert float(exact[3]) > float(least[3]) + 1e-3


def test_measures_of_balls_equal_scipy():
    for dim in (1, 5, 50, 200):
        ball = GaussianSet("ball", 0.05, dim)
        assert ball.threshold == pytest.approx(chi.ppf(0.05, dim), rel=1e-10)
        outside = GaussianSet("complement", 0.05, dim)
        assert outside.threshold == pytest.approx(chi.isf(0.05, dim), rel=1e-10)
        expected = chi.sf(outside.threshold - 0.5, dim)
        assert float(outside.expanded(0.5)) == pytest.approx(expected, abs=1e-9)
    slabs = GaussianSet("slabs", 0.1, 5)
    expected = 2 * (norm.cdf(slabs.threshold) - norm.cdf(slabs.inner))
    assert expected == pytest.approx(0.1, abs=1e-12)


@pytest.mark.parametrize("dim", [5, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_monte_carlo_agrees_with_the_closed_forms(kind, dim):
    count = 100_000
    # many comparisons at 3 standard errors: some seeds have one beyond
    z = latents(count, dim, seed=SEED).double()
    for measure in (0.01, 0.05, 0.2):
        region = GaussianSet(kind, measure, dim)
        distance = region.distance(z)
        for radius in (0.0, 0.5, 1.0):
            exact = float(region.expanded(radius))
            found = float((distance <= radius).double().mean())
            assert abs(found - exact) <= 3 * standard_error(exact, count) + 1e-12


@pytest.mark.parametrize("dim", [5, 50])
@pytest.mark.parametrize("measure", [0.01, 0.05, 0.2])
def test_adversarial_risk_of_a_half_space_equals_the_bound(dim, measure):
    """On images x = A z the classifier <Aw, x> >= t has the adversarial risk of the bound."""
    count = 100_000
    matrix = isometry(dim, 64).double()
    region = GaussianSet("half-space", measure, dim)
    images = latents(count, dim, seed=SEED).double() @ matrix.T
    weight = matrix @ torch.full((dim,), 1 / math.sqrt(dim), dtype=torch.float64)
    for eps in (0.0, 0.5, 1.0, 2.0):
        # the adversarial image x + eps Aw is A (z + eps w), an image of the generator
        attacked = images + eps * weight
        found = float((attacked @ weight >= region.threshold).double().mean())
        bound = intrinsic_robustness_bound(eps=eps, alpha=measure, lipschitz=1.0, delta=0.0)
        expected = 1 - float(bound.value)
        assert abs(found - expected) <= 3 * standard_error(expected, count)


@pytest.mark.parametrize("kind", ["ball", "complement", "slabs"])
def test_a_longer_way_never_leaves_the_set_nearer(kind):
    """The distance is that of the closest point of the set: moving by it arrives."""
    region = GaussianSet(kind, 0.05, 6)
    z = latents(500, 6).double()
    distance = region.distance(z)
    radial = z / z.norm(dim=1, keepdim=True)
    across = torch.full((6,), 1 / math.sqrt(6), dtype=torch.float64)
    u = region.along(z)
    ways = {"ball": -radial, "complement": radial}
    inward = torch.where(u.abs() < region.inner, u.sign(), -u.sign())
    way = ways.get(kind, inward.unsqueeze(1) * across)
    assert float(region.distance(z + way * distance.unsqueeze(1)).max()) < 1e-12
    shorter = z + way * (0.99 * distance).unsqueeze(1)
    assert bool((region.distance(shorter)[distance > 0] > 0).all())


def test_empirical_expansion_counts_latents_close_to_a_wrong_one():
    z = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [5.0, 5.0]])
    wrong = torch.tensor([True, False, False, False])
    found = empirical_expansion(z, wrong, [0.0, 1.0, 2.9, 3.0, 100.0])
    assert found.share.tolist() == [0.25, 0.5, 0.5, 0.75, 1.0]
    assert found.risk == 0.25
    expected = norm.cdf(norm.ppf(0.25) + found.radius.numpy())
    torch.testing.assert_close(found.least, torch.tensor(expected), atol=1e-12, rtol=0)


def test_empirical_expansion_approaches_the_true_one_in_few_dimensions_from_below():
    count = 20_000
    region = GaussianSet("half-space", 0.05, 2)
    z = latents(count, 2)
    wrong = region.distance(z) == 0
    for radius in (0.25, 0.5, 1.0):
        found = empirical_expansion(z, wrong, radius)
        exact = float(region.expanded(radius))
        assert found.share <= exact + 3 * standard_error(exact, count)
        assert found.share >= 0.95 * exact


def test_empirical_expansion_says_little_in_many_dimensions():
    z = latents(5000, 50)
    region = GaussianSet("half-space", 0.05, 50)
    found = empirical_expansion(z, region.distance(z) == 0, 1.0)
    assert float(found.share) == pytest.approx(found.risk)  # no other latent lies within 1
    assert float(found.least) > 0.2


def test_empirical_expansion_does_not_depend_on_blocks(monkeypatch):
    z = latents(300, 4)
    wrong = z[:, 0] > 1.5
    whole = empirical_expansion(z, wrong, RADII)
    monkeypatch.setattr("art_ext.core.limits.expansion.DISTANCES", 64)
    assert torch.equal(empirical_expansion(z, wrong, RADII).share, whole.share)


def test_no_error_expands_to_nothing():
    found = empirical_expansion(latents(10, 3), torch.zeros(10, dtype=torch.bool), [0.0, 99.0])
    assert found.share.tolist() == [0.0, 0.0]
    assert found.least.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), torch.ones(3, dtype=torch.bool), 1), r"latents must be floats of shape"),
        ((torch.zeros(0, 2), torch.ones(0, dtype=torch.bool), 1), "N >= 1"),
        ((torch.zeros(3, 2), torch.ones(3), 1), r"wrong must be bool of shape \(3,\)"),
        ((torch.zeros(3, 2), torch.ones(2, dtype=torch.bool), 1), r"of shape \(2,\)"),
        ((torch.zeros(3, 2), torch.ones(3, dtype=torch.bool), -1), "radius must be >= 0, got -1"),
        (([[0.0]], torch.ones(1, dtype=torch.bool), 1), "latents must be a tensor, got list"),
        ((torch.zeros(1, 2), [True], 1), "wrong must be a tensor, got list"),
        (
            (torch.tensor([[0.0, math.nan], [0.0, 0.0]]), torch.tensor([False, True]), 1),
            "latents must be finite, got NaN or infinity in 1 of 2 rows",
        ),
        (
            (torch.full((2, 1), math.inf), torch.tensor([False, True]), 1),
            "latents must be finite, got NaN or infinity in 2 of 2 rows",
        ),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        empirical_expansion(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("halfspace", 0.1, 2), "kind must be one of .*did you mean 'half-space'"),
        (("ball", 0.0, 2), r"measure must lie between 0 and 1 for kind='ball', got 0.0"),
        (("slabs", 0.6, 2), r"measure must lie between 0 and 0.5 for kind='slabs', got 0.6"),
        (("ball", 0.5, 0), "dim must be an integer >= 1, got 0"),
    ],
)
def test_bad_sets(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianSet(*arguments)
