"""Checks of the tables of chapters 5 and 6 of the dissertation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from art_ext.benchmarks.papers.checks import backward, width
from art_ext.benchmarks.papers.tables import read_tables


def test_rates_of_the_schedules():
    given = read_tables()["width-figure-5.5"].scales["small"].check.arguments
    found = width.learning_rates(**given)
    assert list(found) == [f"epoch_{one}" for one in given["shown"]]
    assert found["epoch_1"] == pytest.approx({"steps": 0.1, "cosine": 0.1, "halving": 0.1})
    # a tenth and a half from epoch 75 on, counted from 1
    assert found["epoch_74"]["steps"] == found["epoch_74"]["halving"] == 0.1
    assert found["epoch_75"] == pytest.approx(
        {"steps": 0.01, "cosine": 0.01577264, "halving": 0.05}
    )


def test_widths_of_the_networks():
    x = torch.rand(2, 1, 8, 8)
    for times, network in ((1, width.digits_1), (2, width.digits_2), (4, width.digits_4)):
        model = network()
        assert model(x).shape == (2, 10)
        assert model[0].out_channels == 4 * times


def test_spread_of_trainings():
    training = {"epochs": 1, "optimizer": "adam", "learning_rate": 4e-3, "weight_decay": 0.0}
    found = backward.spread(0.1, [0, 1, 2], {"fast": {"name": "fast"}}, training)["fast"]
    accuracies = found["robust"].values
    assert found["robust"].kind == found["distance"].kind == "seeds"
    assert found["lowest"].values == accuracies.min()
    assert np.allclose(found["distance"].values, np.abs(accuracies - np.median(accuracies)))
    assert len(set(accuracies)) > 1, "seeds differ"
