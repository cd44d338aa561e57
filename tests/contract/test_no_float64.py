"""Devices without float64, such as Apple's GPUs: no attack and no metric makes a tensor of that
type there.
"""

from __future__ import annotations

import pytest
import torch

from art_ext.core import attacks, metrics
from tests.accelerator import Accelerator, held


@pytest.fixture
def accelerator():
    return Accelerator(float64=False)


@pytest.fixture
def few(digits):
    return digits[0][:8], digits[1][:8]


def run_there(attack, accelerator, net, samples, **options):
    """Attack samples on the accelerator, and return success and x_adv on the CPU."""
    far = accelerator.has(net)
    with accelerator.running():
        found = attack(far, *map(accelerator.has, samples), max_queries=60, **options)
    return held(found.success), held(found.x_adv)


def test_an_attack_needs_no_float64(core_attack, accelerator, few, digits_net):
    success, x_adv = run_there(core_attack.run, accelerator, digits_net, few)
    assert torch.equal(digits_net(x_adv).argmax(1) != few[1], success)


def test_a_targeted_attack_needs_no_float64(core_targeted_attack, accelerator, few, digits_net):
    goal = (few[1] + 1) % 10
    success, x_adv = run_there(
        core_targeted_attack.run, accelerator, digits_net, few, targets=accelerator.has(goal)
    )
    assert torch.equal(digits_net(x_adv).argmax(1) == goal, success)


def test_targeted_rays_needs_no_float64(accelerator, few, digits_net):
    goal, start = few[1].flip(0), few[0].flip(0)
    options = {"targets": goal, "x_init": start, "eps": None}
    success, x_adv = run_there(attacks.rays, accelerator, digits_net, few, **options)
    assert torch.equal(digits_net(x_adv).argmax(1) == goal, success)


def make_results(few, digits_net):
    chain = attacks.hmcam(
        digits_net, *few, eps=0.2, num_transitions=2, num_steps=4, keep_samples=True, seed=0
    )
    searched = attacks.rays(digits_net, *few, eps=0.1, max_queries=60, stop_on_success=False)
    return chain, searched


METRICS = {
    "adbd": lambda net, x, y, chain, searched: metrics.adbd(searched).value,
    "clean_accuracy": lambda net, x, y, chain, searched: metrics.clean_accuracy(searched),
    "robust_accuracy": lambda net, x, y, chain, searched: metrics.robust_accuracy(searched),
    "robust_accuracy at another eps": lambda net, x, y, chain, searched: metrics.robust_accuracy(
        searched, 0.05
    ),
    "success_rate": lambda net, x, y, chain, searched: metrics.success_rate(searched),
    "query_statistics": lambda net, x, y, chain, searched: (
        metrics.query_statistics(searched).median
    ),
    "transfer_success": lambda net, x, y, chain, searched: (
        metrics.transfer_success(chain.x_adv, x, y, net).share
    ),
    "all_or_nothing_success": lambda net, x, y, chain, searched: (
        metrics.all_or_nothing_success(chain, x, y, net).share
    ),
    "paired_interval": lambda net, x, y, chain, searched: (
        metrics.paired_interval(
            metrics.transfer_success(chain.x_adv, x, y, net),
            metrics.transfer_success(searched.x_adv, x, y, net),
        ).high
    ),
    "diversity": lambda net, x, y, chain, searched: metrics.diversity(chain, net).mean_distance,
    "chain_statistics": lambda net, x, y, chain, searched: (
        metrics.chain_statistics(chain, net, y=y).diversity
    ),
    "acceptance_rate": lambda net, x, y, chain, searched: metrics.acceptance_rate(chain),
    "perturbation_stability": lambda net, x, y, chain, searched: metrics.perturbation_stability(
        net, x, chain.x_adv
    ),
    "hessian_eigenvalue": lambda net, x, y, chain, searched: (
        metrics.hessian_eigenvalue(net, x, y, num_iterations=5).mean
    ),
    "loss_increment": lambda net, x, y, chain, searched: metrics.loss_increment(net, x, x, y),
    "local_lipschitz": lambda net, x, y, chain, searched: (
        metrics.local_lipschitz(net, x, eps=0.1).mean
    ),
    "wilson": lambda net, x, y, chain, searched: metrics.wilson(3, 8)[0],
    "chance_level": lambda net, x, y, chain, searched: metrics.chance_level(
        y.bincount().tolist(), 10
    ),
    "distortions": lambda net, x, y, chain, searched: float(searched.distortions()["l2"][1]),
    "transfer_matrix": lambda net, x, y, chain, searched: float(
        metrics.transfer_matrix([net, net], x, y, eps=0.1, num_steps=2).success[0, 1]
    ),
    "ensemble_diversity": lambda net, x, y, chain, searched: float(
        metrics.ensemble_diversity(torch.stack([net(x), net(chain.x_adv)], dim=1), y).entropy.mean()
    ),
}
# they bring the scores and flags of all samples to the CPU, which has float64
ON_THE_CPU = {
    "detection_metrics",
    "rejection_accuracy",
    "rejection_by_distance",
    "rejection_by_fpr",
}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_needs_no_float64(name, accelerator, few, digits_net):
    far = accelerator.has(digits_net)
    with accelerator.running():
        there = tuple(map(accelerator.has, few))
        coarse = held(METRICS[name](far, *there, *make_results(there, far)))
    exact = METRICS[name](digits_net, *few, *make_results(few, digits_net))
    assert coarse == pytest.approx(exact, rel=1e-5, nan_ok=True)


def test_every_metric_is_tried():
    functions = {name for name in metrics.__all__ if name[0].islower()}
    assert functions - {"case_distortions", "chance_warning"} - ON_THE_CPU <= set(METRICS)
