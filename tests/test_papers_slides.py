"""Checks of the slides' tables and of chapter 4."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from art_ext.benchmarks.papers.checks import common, limits, slides, tricks
from art_ext.benchmarks.papers.networks import digits_bn
from art_ext.models import digits_cnn


def test_a_seed_without_a_number_is_left_out():
    cells = common.over_seeds([3, 5], lambda seed: {"row": {"x": seed if seed > 3 else math.nan}})
    assert (cells["row"]["x"].keys.tolist(), cells["row"]["x"].values.tolist()) == ([5], [5.0])


def test_a_line_ends_where_the_class_changes():
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[0.0, 0.0], [1.0, 0.0]])  # class 1 where x_0 > 0
    x, normal = torch.tensor([[-1.0, 0.0], [-9.0, 0.0]]), torch.tensor([[0.5, 1.0], [0.5, 1.0]])
    ends = tricks._end(model, x, torch.zeros(2, dtype=torch.long), normal, 4.0, 401)
    assert ends.tolist() == pytest.approx([2.01, 4.0], abs=0.006)  # the second never changes


def test_accuracy_falls_with_the_attacks():
    found = slides.max_mahalanobis(
        seeds=[0], n=20, epochs=1, radii=[0.1, 0.2], recipes={"sce": {"recipe": "natural"}}
    )["sce"]
    value = {name: float(cell.values[0]) for name, cell in found.items()}
    for strong, weak in (("un10", "clean"), ("un10_2", "un10"), ("un50", "clean")):
        assert value[strong] <= value[weak]
    assert {*value} >= {"tar10", "tar50", "tar50_2", "un50_2", "margin", "nearest"}


def test_detectors_of_pairs_without_an_adversarial():
    model, x = digits_cnn().eval(), torch.rand(4, 1, 8, 8)
    y = model(x).argmax(1)

    class Result:
        x_adv = x

    detector = slides.make_detector("confidence").fit(model, x, y)
    found = slides._separation(model, x, y, Result(), [detector])
    assert found["pairs"] == 0
    assert math.isnan(found["confidence"])


@pytest.mark.slow
def test_robustness_lies_below_that_of_generated_images():
    found = limits.robustness(
        generator={"epochs": 10, "latent_dim": 4},
        train_n=300,
        n=30,
        epochs=[2],
        radii=[0.5, 1.0],
        steps=[0.1, 0.2],
        num_steps=10,
        recipes={"pgd": {"norm": "l2", "eps": 0.5, "num_steps": 2, "step_size": 0.3}},
        alpha=0.015,
        lipschitz={"estimator": "spectral", "num_latents": 10},
        printed={"eps": [1.0, 3.0], "alpha": 0.015, "lipschitz": 11.0},
        inside={"num_steps": 20, "search_steps": 2},
    )
    value = {
        row: {name: cell.values.mean() for name, cell in one.items()} for row, one in found.items()
    }
    assert value["printed"] == pytest.approx({"unc_1": 98.22, "unc_2": 97.21}, abs=0.01)
    own = value["pgd_2"]
    assert own["unc_2"] <= own["unc_1"] <= own["clean"]
    assert own["in_2"] <= own["in_1"] <= own["clean"]
    assert own["bound_2"] < own["bound_1"]


def test_the_network_takes_an_activation():
    model = digits_bn("leaky_relu", {"negative_slope": 0.1})
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    assert [one.negative_slope for one in model if isinstance(one, nn.LeakyReLU)] == [0.1, 0.1]
