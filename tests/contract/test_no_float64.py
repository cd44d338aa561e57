"""Devices without float64, such as Apple's GPUs: no attack and no metric makes a tensor of that
type there.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from art_ext.core import attacks, geometry, metrics


class NoDouble(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float64:
            raise TypeError(f"Cannot convert a MPS Tensor to float64 dtype: {function}")
        return out


@pytest.fixture
def no_double(monkeypatch):
    monkeypatch.setattr(geometry, "exact_dtype", lambda device: torch.float32)
    return NoDouble()


@pytest.fixture
def few(digits):
    return digits[0][:8], digits[1][:8]


def test_an_attack_needs_no_float64(core_attack, few, digits_net, no_double):
    with no_double:
        found = core_attack.run(digits_net, *few, max_queries=60)
    assert torch.equal(digits_net(found.x_adv).argmax(1) != few[1], found.success)


def test_a_targeted_attack_needs_no_float64(core_targeted_attack, few, digits_net, no_double):
    x, y = few
    goal = (y + 1) % 10
    with no_double:
        found = core_targeted_attack.run(digits_net, x, None, targets=goal, max_queries=60)
    assert torch.equal(digits_net(found.x_adv).argmax(1) == goal, found.success)


def test_targeted_rays_needs_no_float64(few, digits_net, no_double):
    x, y = few
    goal = y.flip(0)
    with no_double:
        found = attacks.rays(
            digits_net, x, y, targets=goal, x_init=x.flip(0), eps=None, max_queries=60
        )
    assert torch.equal(digits_net(found.x_adv).argmax(1) == goal, found.success)


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
    "acceptance_rate": lambda net, x, y, chain, searched: metrics.acceptance_rate(chain),
    "perturbation_stability": lambda net, x, y, chain, searched: metrics.perturbation_stability(
        net, x, chain.x_adv
    ),
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
def test_a_metric_needs_no_float64(name, few, digits_net, no_double, monkeypatch):
    with no_double:
        coarse = METRICS[name](digits_net, *few, *make_results(few, digits_net))
    monkeypatch.undo()
    exact = METRICS[name](digits_net, *few, *make_results(few, digits_net))
    assert coarse == pytest.approx(exact, rel=1e-5, nan_ok=True)


def test_every_metric_is_tried():
    functions = {name for name in metrics.__all__ if name[0].islower()}
    assert functions - {"case_distortions", "chance_warning"} - ON_THE_CPU <= set(METRICS)
