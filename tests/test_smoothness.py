"""Perturbation stability and local Lipschitz constants against hand computations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from art_ext.core.attacks import pgd
from art_ext.core.geometry import Ball, Box
from art_ext.core.metrics import (
    clean_accuracy,
    local_lipschitz,
    perturbation_stability,
    robust_accuracy,
)
from art_ext.core.streams import fingerprint
from art_ext.training import EpochEnd, TrackLipschitz, TrackStability


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


@pytest.fixture
def images():
    return torch.rand(7, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_stability_is_the_share_of_unchanged_predictions():
    def first(rows):
        return torch.stack([rows[:, 0], 1 - rows[:, 0]], dim=1)

    x, moved = (
        torch.tensor([[0.9], [0.8], [0.2], [0.1]]),
        torch.tensor([[0.7], [0.3], [0.4], [0.9]]),
    )
    assert perturbation_stability(first, x, moved) == 0.5
    assert perturbation_stability(first, x, x) == 1.0
    assert math.isnan(perturbation_stability(first, x[:0], x[:0]))
    broken = torch.tensor([[0.7], [math.nan], [0.4], [0.3]])
    assert perturbation_stability(first, x, broken) == 0.75, "NaN is no prediction that stayed"
    with pytest.raises(ValueError, match="one shape"):
        perturbation_stability(first, x, moved[:2])


def test_robust_accuracy_is_at_least_stability_plus_clean_accuracy_less_one(linear, images):
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    result = pgd(linear, images, y, eps=0.2, num_steps=5, seed=0, on_failure="last")
    stability = perturbation_stability(linear, images, result.x_adv)
    assert robust_accuracy(result) >= stability + clean_accuracy(result) - 1 - 1e-12


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_lipschitz_constant_is_the_largest_gradient_of_the_ascent(linear, images, norm):
    eps, steps, length = 0.2, 4, 0.1
    weight = linear[1].weight.detach()
    ball = Ball(images, eps, norm, Box.of((0, 1), images.shape[1:], images.device))
    rows, largest = ball.into(ball.draw(5, fingerprint(images), 0)), torch.zeros(len(images))
    with torch.no_grad():
        p = linear(images).softmax(1)
        for _ in range(steps):
            # of a linear model: grad KL(p || q) = W^T (q - p)
            gradient = (linear(rows).softmax(1) - p) @ weight
            largest = torch.maximum(largest, gradient.abs().sum(1))
            rows = ball.step(rows, gradient.view_as(rows), length)
    found = local_lipschitz(
        linear, images, eps=eps, norm=norm, num_steps=steps, step_size=length, seed=5
    )
    torch.testing.assert_close(found.values, largest, rtol=1e-4, atol=1e-6)
    assert found.mean == pytest.approx(float(largest.mean()), rel=1e-4)


def test_lipschitz_constant_of_a_scaled_input_layer_scales(linear, images):
    flat = local_lipschitz(linear, images, eps=0.1, seed=0).mean
    with torch.no_grad():
        linear[1].weight.mul_(0.01)
    assert local_lipschitz(linear, images, eps=0.1, seed=0).mean < 1e-2 * flat


@pytest.mark.parametrize("own", [False, True])
def test_lipschitz_constant_of_the_cross_entropy(linear, images, own):
    eps, steps, length = 0.2, 4, 0.1
    weight = linear[1].weight.detach()
    ball = Ball(images, eps, "linf", Box.of((0, 1), images.shape[1:], images.device))
    rows, largest = ball.into(ball.draw(5, fingerprint(images), 0)), torch.zeros(len(images))
    with torch.no_grad():
        y = linear(images).argmax(1) if own else torch.tensor([0, 1, 2, 0, 1, 2, 0])
        for _ in range(steps):
            # of a linear model: grad CE(q, y) = W^T (q - one_hot(y))
            gradient = (linear(rows).softmax(1) - nn.functional.one_hot(y, 3)) @ weight
            largest = torch.maximum(largest, gradient.abs().sum(1))
            rows = ball.step(rows, gradient.view_as(rows), length)
    settings = {"eps": eps, "num_steps": steps, "step_size": length, "seed": 5, "loss": "ce"}
    found = local_lipschitz(linear, images, y=None if own else y.to(torch.int32), **settings)
    torch.testing.assert_close(found.values, largest, rtol=1e-4, atol=1e-6)
    assert found.mean != local_lipschitz(linear, images, **{**settings, "loss": "kl"}).mean


def test_lipschitz_constants_do_not_depend_on_the_batch(linear, images):
    """The authors log the sum over a batch; here each sample has its own constant."""
    for loss in ("kl", "ce"):
        whole = local_lipschitz(linear, images, eps=0.1, seed=0, loss=loss)
        parts = [
            local_lipschitz(linear, part, eps=0.1, seed=0, loss=loss).values
            for part in images.split(3)
        ]
        torch.testing.assert_close(whole.values, torch.cat(parts))
        assert whole.mean == pytest.approx(float(whole.values.mean()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of 'kl', 'ce', got 'hinge'"),
        ({"y": torch.zeros(7, dtype=torch.int64)}, "y belongs to loss='ce'"),
        ({"loss": "ce", "y": torch.zeros(6, dtype=torch.int64)}, r"y must have shape \(7,\)"),
        (
            {"loss": "ce", "y": torch.full((7,), 3)},
            "y must hold class indices below 3, the model's width, got 3",
        ),
    ],
)
def test_lipschitz_refuses_bad_losses(linear, images, options, message):
    with pytest.raises(ValueError, match=message):
        local_lipschitz(linear, images, eps=0.1, **options)


def test_lipschitz_refuses_bad_arguments(linear, images):
    with pytest.raises(ValueError, match="eps must not exceed the box width"):
        local_lipschitz(linear, images, eps=8)
    with pytest.raises(ValueError, match="num_steps must be an integer >= 1"):
        local_lipschitz(linear, images, eps=0.1, num_steps=0)
    assert math.isnan(local_lipschitz(linear, images[:0], eps=0.1).mean)


def test_callbacks_measure_the_network_they_are_shown(linear, images):
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    end = EpochEnd(linear, 1, {})
    assert TrackLipschitz(images, eps=0.1)(end) == {
        "lipschitz": local_lipschitz(linear, images, eps=0.1).mean
    }
    stability = TrackStability(images, y, eps=0.3, num_steps=5)(end)["stability"]
    with torch.no_grad():
        before = linear(images).argmax(1)
    assert stability < 1.0, "a linear model moves within .3"
    # misclassified samples are attacked too, and their last iterate is compared
    assert stability in {k / len(images) for k in range(len(images))}
    assert not torch.equal(before, y)


def test_stability_of_true_and_of_own_labels(linear, images):
    """An attack on the true label does not leave the prediction of a sample that is
    misclassified.
    """
    with torch.no_grad():
        own = linear(images).argmax(1)
    y = (own + 1) % 3  # all are misclassified
    end = EpochEnd(linear, 1, {})

    def stability(labels, goal):
        found = TrackStability(images, goal, eps=0.4, num_steps=5, labels=labels)(end)["stability"]
        attacked = pgd(
            linear,
            images,
            y if labels == "true" else own,
            eps=0.4,
            num_steps=5,
            seed=0,
            on_failure="last",
            criterion=lambda outputs, index: index < 0,
        )
        assert found == perturbation_stability(linear, images, attacked.x_adv)
        return found

    assert stability("own", None) == stability("own", y) < stability("true", y)
    assert TrackStability(images, own, eps=0.4, num_steps=5)(end)["stability"] == stability(
        "own", None
    )
    with pytest.raises(ValueError, match="labels must be one of 'true', 'own', got 'mine'"):
        TrackStability(images, y, eps=0.1, labels="mine")
    with pytest.raises(
        ValueError, match=r"y must hold the true labels, got None: pass labels='own'"
    ):
        TrackStability(images, None, eps=0.1)
