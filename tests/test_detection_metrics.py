"""Measures of detectors against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from art_ext.core.metrics import (
    detection_metrics,
    rejection_accuracy,
    rejection_by_distance,
    rejection_by_fpr,
    wilson,
)
from art_ext.core.thresholds import threshold_of


def scores(count, seed=0, shift=0.0, step=None):
    found = torch.randn(count, generator=torch.Generator().manual_seed(seed)) + shift
    return found if step is None else (found / step).round() * step


@pytest.mark.parametrize("step", [None, 0.5, 2.0])
@pytest.mark.parametrize(("clean", "adversarial"), [(200, 200), (37, 411)])
def test_auroc_is_scikit_learn_s(clean, adversarial, step):
    first = scores(clean, step=step)
    second = scores(adversarial, 1, 0.8, step)
    protocol = "pairs" if clean == adversarial else "all"
    found = detection_metrics(first, second, protocol=protocol, resamples=10)
    labels = np.r_[np.zeros(clean), np.ones(adversarial)]
    every = torch.cat([first, second]).numpy()
    assert found.auroc == pytest.approx(roc_auc_score(labels, every), abs=1e-12)
    fpr, tpr, _ = roc_curve(labels, every, drop_intermediate=False)
    assert np.allclose(found.roc_fpr, fpr)
    assert np.allclose(found.roc_tpr, tpr)


def test_the_true_positive_rate_is_that_at_the_threshold():
    clean = torch.arange(100.0)
    found = detection_metrics(clean, clean + 7.5, 0.05, resamples=10)
    assert found.threshold == 94
    assert found.tpr == 0.13
    assert found.auroc == pytest.approx((100 * 101 / 2 + sum(100 - i for i in range(1, 8))) / 1e4)


def test_the_bootstrap_of_pairs_is_narrow_where_pairs_move_together():
    clean = scores(300)
    found = detection_metrics(clean, clean + 0.5, seed=1)
    free = detection_metrics(clean, clean + 0.5, seed=1, protocol="all")
    assert found.auroc == free.auroc
    assert found.auroc_low < found.auroc < found.auroc_high
    assert found.auroc_high - found.auroc_low < 0.5 * (free.auroc_high - free.auroc_low)
    again = detection_metrics(clean, clean + 0.5, seed=1)
    assert (again.auroc_low, again.auroc_high) == (found.auroc_low, found.auroc_high)


def test_the_bootstrap_covers():
    """Of 60 experiments, the interval holds the true area in most."""
    true = 0.5 * (1 + math.erf(1 / 2))  # of two normal distributions at distance 1
    inside = 0
    for seed in range(60):
        found = detection_metrics(
            scores(80, 2 * seed), scores(80, 2 * seed + 1, 1.0), protocol="all", resamples=200
        )
        inside += found.auroc_low <= true <= found.auroc_high
    assert 52 <= inside <= 60


@pytest.mark.parametrize(
    ("clean", "adversarial", "options", "message"),
    [
        (torch.zeros(0), torch.zeros(4), {}, "no correctly classified clean image"),
        (torch.zeros(4), torch.zeros(0), {}, "no successful adversarial"),
        (torch.zeros(4), torch.zeros(3), {}, "got 4 clean and 3 adversarial scores"),
        (torch.tensor([math.nan]), torch.zeros(1), {}, "clean_scores must be numbers, got NaN"),
        (torch.zeros(4), torch.zeros(4), {"fpr": 1.0}, r"fpr must lie in \(0, 1\), got 1.0"),
        (torch.zeros(4), torch.zeros(4), {"protocol": "pair"}, "did you mean 'pairs'"),
        (torch.zeros(4), torch.zeros(4), {"resamples": 0}, "resamples must be an integer >= 1"),
        (torch.zeros(4, 1), torch.zeros(4), {}, "must have one axis"),
    ],
)
def test_wrong_scores_are_named(clean, adversarial, options, message):
    with pytest.raises(ValueError, match=message):
        detection_metrics(clean, adversarial, **options)


@pytest.mark.parametrize("count", [20, 60, 99, 100, 101, 1000])
@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.1, 0.29, 0.99])
def test_a_threshold_rejects_as_many_as_it_may(count, fpr):
    values = scores(count)
    rejected = int((values > threshold_of(values, fpr)).sum())
    assert rejected == math.floor(round(count * fpr, 9))


def test_robust_accuracy_with_rejection_by_hand():
    correct = torch.tensor([1, 1, 1, 1, 0, 0]).bool()
    accepted = torch.tensor([1, 1, 0, 1, 1, 0]).bool()
    aware = torch.tensor([[0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0]]).bool()
    oblivious = torch.tensor([[1, 1, 0, 0, 1, 1]]).bool()
    passed = torch.tensor([[0, 1, 1, 1, 0, 0]]).bool()
    found = rejection_accuracy(correct, accepted, aware, oblivious, passed)
    assert (found.robust.count, found.robust.total) == (2, 6)  # samples 0 and 3
    assert found.clean.count == 3
    assert found.rejected.count == 2
    assert found.robust_alone.count == 2  # samples 2 and 3
    assert (found.caught.count, found.caught.total) == (3, 4)
    assert (found.robust.low, found.robust.high) == wilson(2, 6)
    alone = rejection_accuracy(correct, accepted, aware[0])
    assert alone.robust.count == 2
    assert math.isnan(alone.caught.share)
    with pytest.raises(ValueError, match=r"success_accepted must have shape \(6,\) or"):
        rejection_accuracy(correct, accepted, aware[:, :4])


def test_robust_accuracy_against_distance_and_rate():
    correct = torch.tensor([1, 1, 1, 0]).bool()
    accepted = torch.tensor([1, 1, 0, 1]).bool()
    distance = torch.tensor([[0.5, math.inf, 0.1, 0.1], [0.3, 0.9, math.inf, math.inf]])
    found = rejection_by_distance(correct, accepted, distance, [0.0, 0.3, 0.31, 2.0])
    assert found.tolist() == [0.5, 0.25, 0.25, 0.0]
    calibration = torch.arange(100.0)
    clean = torch.tensor([10.0, 91.0, 99.0, 0.0])
    attacked = torch.tensor([[95.0, 89.0, math.inf, 0.0], [93.0, math.inf, math.inf, 0.0]])
    rates = rejection_by_fpr(calibration, clean, correct, attacked, [0.01, 0.05, 0.1])
    # thresholds 98, 94 and 89: sample 0 is safe below 93, sample 1 is rejected or falls
    assert rates.tolist() == [0.0, 0.0, 0.25]


@pytest.mark.parametrize("given", [[0.1, 0.2], np.array([0.1, 0.2])])
def test_scores_that_are_no_tensor_are_named(given):
    kind = type(given).__name__
    with pytest.raises(TypeError, match=f"clean_scores must be a torch tensor, got {kind}"):
        detection_metrics(given, torch.tensor([0.1, 0.2]))
    with pytest.raises(TypeError, match=f"adversarial_scores must be a torch tensor, got {kind}"):
        detection_metrics(torch.tensor([0.1, 0.2]), given)
