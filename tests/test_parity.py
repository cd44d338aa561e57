"""RayS against the authors' program on third-party checkpoints (``tests/golden``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from art_ext.core.attacks import rays
from art_ext.data import load_data
from art_ext.models import cifar_resnet20, load_weights, mnist_small_cnn, mnist_two_conv

GOLDEN = Path(__file__).parent / "golden"
MODELS = {
    "mnist_smallcnn_standard": mnist_small_cnn,
    "mnist_conv2_fast_pgd": mnist_two_conv,
    "mnist_conv2_lirpa_robust": lambda: mnist_two_conv(channels=(8, 16), hidden=(256,)),
    "cifar_resnet20_nat": cifar_resnet20,
}


def load(name, art_ext_data):
    golden = np.load(GOLDEN / f"rays_{name}.npz")
    model = load_weights(
        MODELS[name](), art_ext_data / "checkpoints" / f"{name}.safetensors"
    ).eval()
    data = load_data("mnist" if name.startswith("mnist") else "cifar10", root=art_ext_data).take(
        golden["index"]
    )
    return golden, model, data


def check_verdicts(name, art_ext_data):
    golden, model, data = load(name, art_ext_data)
    budget = int(golden["budget"])
    result = rays(model, data.x, data.y, eps=float(golden["eps"]), max_queries=budget + 1)
    assert not bool(result.already_adversarial.any())
    assert np.array_equal(result.success.numpy(), golden["success"])
    common = golden["success"] & (golden["queries"] < budget)
    # ours counts the clean check too
    equal = result.queries_to_success.numpy()[common] == golden["queries"][common] + 1
    assert equal.mean() >= 0.98


@pytest.mark.parametrize("name", ["mnist_conv2_fast_pgd", "mnist_conv2_lirpa_robust"])
def test_verdicts_and_query_counts_are_the_authors(name, art_ext_data):
    check_verdicts(name, art_ext_data)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_smallcnn_standard", "cifar_resnet20_nat"])
def test_verdicts_and_query_counts_are_the_authors_on_natural_models(name, art_ext_data):
    check_verdicts(name, art_ext_data)


BISECTION = 25  # queries, more than one takes


def distances_around(model, data, budget):
    """(N,) distances when the budget is spent, and (N,) at the end of the direction tried then.

    The authors' program finishes a bisection beyond its budget.
    """
    then = np.full(len(data), np.inf)
    after = np.full(len(data), np.inf)

    def note(progress):
        index, distance = progress.index.numpy(), progress.distance.numpy()
        early = progress.queries.numpy() <= budget
        then[index[early]] = distance[early]
        unchanged = early | (after[index] == then[index])
        after[index[unchanged]] = distance[unchanged]

    rays(
        model,
        data.x,
        data.y,
        eps=None,
        max_queries=budget + BISECTION,
        stop_on_success=False,
        callback=note,
    )
    return then, after


def check_distances(name, art_ext_data):
    golden, model, data = load(name, art_ext_data)
    then, after = distances_around(model, data, int(golden["budget"]) + 1)
    equal = [np.abs(distance - golden["distance"]) <= 1e-4 for distance in (then, after)]
    assert (equal[0] | equal[1]).mean() >= 0.95


@pytest.mark.parametrize("name", ["mnist_conv2_fast_pgd", "mnist_conv2_lirpa_robust"])
def test_distances_are_the_authors(name, art_ext_data):
    check_distances(name, art_ext_data)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_smallcnn_standard", "cifar_resnet20_nat"])
def test_distances_are_the_authors_on_natural_models(name, art_ext_data):
    check_distances(name, art_ext_data)


def test_the_ledger_covers_a_model_of_real_size(art_ext_data):
    golden, model, data = load("cifar_resnet20_nat", art_ext_data)
    rows = 0

    def counted(images):
        nonlocal rows
        rows += len(images)
        return model(images)

    with torch.no_grad():
        result = rays(counted, data.x[:6], data.y[:6], eps=float(golden["eps"]), max_queries=60)
    assert rows == int(result.queries.sum())
