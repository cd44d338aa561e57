"""Statistics of the states of a sample, and the last iterates of MI-FGSM."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from art_ext.benchmarks.common import network
from art_ext.core.attacks import hmcam, mi_fgsm, pgd
from art_ext.core.metrics import (
    acceptance_rate,
    all_or_nothing_success,
    chain_statistics,
    diversity,
)
from art_ext.data import load_data

EPS = 0.15


@pytest.fixture
def setting(digits_net, digits):
    x, y = digits
    return digits_net, x[:24], y[:24]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_statistics_are_those_of_the_single_functions(setting, norm):
    model, x, y = setting
    eps = EPS if norm == "linf" else 1.0
    drawn = hmcam(
        model, x, y, eps=eps, norm=norm, num_steps=4, num_transitions=5, step_size=2e-3, seed=0
    )
    found = chain_statistics(drawn, model, y=y)
    assert found.states == 5
    assert found.acceptance == acceptance_rate(drawn)
    apart = diversity(drawn, model)
    assert (found.diversity, found.classes) == (apart.mean_distance, apart.mean_classes)
    assert torch.equal(found.distance, apart.distance)
    assert torch.equal(found.distinct, apart.classes)
    assert found.diversity_l2 == diversity(drawn, norm="l2").mean_distance
    whole = all_or_nothing_success(drawn, x, y, model)
    assert found.all_or_nothing == whole.share
    assert torch.equal((found.adversarial == 5).double(), whole.rates)
    accepted = drawn.trace["accepted"]
    assert torch.equal(found.transitions, (~accepted.isnan()).sum(dim=0))
    assert torch.equal(found.accepted, (accepted == 1).sum(dim=0))


def test_mean_distances_are_those_of_every_pair(setting, monkeypatch):
    model, x, y = setting
    drawn = pgd(model, x, y, eps=EPS, num_steps=3, num_restarts=6, keep_samples=True, seed=0)
    states = drawn.samples.double().flatten(2)
    pairs = list(itertools.combinations(states, 2))
    by_hand = torch.stack([(one - other).norm(dim=1) for one, other in pairs]).mean(dim=0)
    found = chain_statistics(drawn)
    assert torch.allclose(found.distance_l2, by_hand, rtol=1e-12)
    monkeypatch.setattr("art_ext.core.metrics.chain.PAIRED_AT_ONCE", 1)
    assert torch.allclose(chain_statistics(drawn).distance_l2, by_hand, rtol=1e-12)


def test_without_model_or_test_the_rest_is_unknown(setting):
    model, x, y = setting
    drawn = pgd(model, x, y, eps=EPS, num_steps=2, num_restarts=1, keep_samples=True, seed=0)
    found = chain_statistics(drawn)
    assert all(math.isnan(one) for one in (found.acceptance, found.diversity, found.classes))
    assert math.isnan(found.all_or_nothing)
    assert found.distinct is None
    assert found.adversarial is None
    assert int(found.transitions.sum()) == 0


def test_targets_count_states_that_reach_them(setting):
    model, x, y = setting
    targets = (y + 1) % 10
    drawn = hmcam(model, x, y, eps=0.4, targets=targets, num_steps=10, num_transitions=2, seed=0)
    found = chain_statistics(drawn, model, targets=targets)
    with torch.no_grad():
        reached = torch.stack([model(states).argmax(dim=1) == targets for states in drawn.samples])
    assert torch.equal(found.adversarial, reached.sum(dim=0))
    assert int(found.adversarial.sum()) > 0


def test_results_without_samples_are_named(setting):
    model, x, y = setting
    plain = mi_fgsm(model, x, y, eps=EPS, num_steps=2)
    with pytest.raises(ValueError, match="result must have samples, got none"):
        chain_statistics(plain)


def test_mi_fgsm_keeps_its_last_iterates(setting):
    model, x, y = setting
    options = {"eps": EPS, "num_steps": 6, "step_size": EPS / 6}
    kept = mi_fgsm(model, x, y, keep_samples=4, on_failure="last", **options)
    plain = mi_fgsm(model, x, y, on_failure="last", **options)
    assert torch.equal(kept.x_adv, plain.x_adv)
    assert torch.equal(kept.queries, plain.queries)
    # the iterates after 3, 4, 5 and 6 steps are the ends of shorter paths
    attacked = ~kept.already_adversarial
    for place, steps in enumerate((3, 4, 5, 6)):
        short = mi_fgsm(model, x, y, **{**options, "num_steps": steps}, keep_samples=1)
        assert torch.equal(kept.samples[place][attacked], short.samples[0][attacked])
    assert torch.equal(kept.samples[:, ~attacked], x[~attacked].expand(4, -1, *x.shape[1:]))


def test_a_sample_that_stops_repeats_its_last_iterate(setting):
    model, x, y = setting
    options = {"eps": EPS, "num_steps": 8, "step_size": EPS / 8}
    kept = mi_fgsm(model, x, y, keep_samples=5, stop_on_success=True, **options)
    stopped = kept.success & ~kept.already_adversarial
    assert bool(stopped.any())
    assert torch.equal(kept.samples[-1][stopped], kept.x_adv[stopped])
    steps = kept.gradients
    early = (stopped & (steps < 5)).nonzero().flatten().tolist()
    assert early
    for row in early:
        after = kept.samples[int(steps[row]) - 1 :, row]
        assert torch.equal(after, kept.x_adv[row].expand_as(after))


@pytest.mark.parametrize("count", [7, -1, 1.5])
def test_a_wrong_number_of_iterates_is_named(setting, count):
    model, x, y = setting
    with pytest.raises(ValueError, match="keep_samples must be"):
        mi_fgsm(model, x, y, eps=EPS, num_steps=6, keep_samples=count)


@pytest.mark.slow
def test_a_long_chain_of_an_image_has_many_states(art_ext_data):
    model = network("mnist_carlini_cnn_fw")[0]
    x, y = load_data("mnist").rows(0, 1)
    drawn = hmcam(model, x, y, eps=EPS, num_steps=5, num_transitions=500, seed=0)
    assert len(drawn.samples[:, 0].unique(dim=0)) >= 200
    found = chain_statistics(drawn, model, y=y)
    assert found.states == 500
    assert found.diversity_l2 > 0
