"""The digits of the examples: shapes, accuracy, copies, and what a wrong argument says."""

from __future__ import annotations

import pytest
import torch

from art_ext.core.attacks import rays
from art_ext.examples import digits


def test_digits_are_test_images_with_a_trained_network() -> None:
    model, x, y = digits(n=200)
    assert x.shape == (200, 1, 8, 8)
    assert (x.dtype, y.dtype, y.shape) == (torch.float32, torch.int64, (200,))
    assert 0 <= x.min() < x.max() <= 1
    assert not model.training
    assert (model(x).argmax(dim=1) == y).float().mean() > 0.95


def test_a_change_of_the_model_or_the_images_stays_with_the_caller() -> None:
    model, x, _ = digits(n=2)
    before = x.clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    x.zero_()
    again, images, _ = digits(n=2)
    assert torch.equal(images, before)
    assert all(parameter.abs().sum() > 0 for parameter in again.parameters())


@pytest.mark.slow
def test_the_robust_network_is_more_robust() -> None:
    results = [rays(*digits(40, robust), eps=0.2, max_queries=200) for robust in (False, True)]
    natural, robust = (one.success.float().mean() for one in results)
    assert robust < natural - 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be"),
        ({"n": 501}, "n must be at most 500, the number of test digits, got 501"),
        ({"robust": "yes"}, "robust must be"),
    ],
)
def test_a_wrong_argument_raises(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        digits(**arguments)
