"""Every recipe on a device that is not the CPU: nothing mixes, the weights are those of the CPU,
and the host waits for no minibatch.
"""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from art_ext.testing.toy import SmallNet, digits
from art_ext.training import RECIPES, loop, train
from tests.accelerator import Accelerator, Remote, held
from tests.toys import small_recipe

# ATCD sends rejected moves through the network again, so the host must know how many there are
WAITS = {"atcd": "aten::nonzero"}
TRICKS = {
    "gradient_centralisation": "all",
    "decay": "weights",
    "clean_forwards": 2,
    "outer_loss": "dlr",
    "craft_loss": "cw",
    "augmentation": "crop_flip",
    "crop_padding": "reflect",
}


@pytest.fixture
def accelerator():
    return Accelerator()


def quick(name):
    takes = {one.name for one in fields(RECIPES[name])}
    own_steps = "num_steps" in takes and "craft" not in takes
    return small_recipe(name, 0.1, **({"num_steps": 2} if own_steps else {}))


def trained(name, samples, **options):
    def make(seed):
        torch.manual_seed(seed)
        return SmallNet()

    recipe = quick(name)
    with torch.random.fork_rng():
        network = recipe.build(make, 3)
    usual = {"epochs": 1, "batch_size": 8, "seed": 0}
    return network, train(network, samples, recipe, **{**usual, **options})


@pytest.mark.parametrize("side", ["cpu", "accelerator"])
@pytest.mark.parametrize("name", RECIPES)
def test_weights_are_those_of_the_cpu(name, side, accelerator):
    samples = digits(24, "train")
    network, result = trained(name, samples, validation_data=tuple(samples))
    if side == "accelerator":
        samples = tuple(map(accelerator.has, samples))
    with accelerator.running():
        far, found = trained(name, samples, validation_data=tuple(samples), device="meta")
    for key, weight in far.state_dict().items():
        assert isinstance(weight, Remote), key
        assert torch.equal(held(weight), network.state_dict()[key]), key
    assert torch.equal(found.losses, result.losses)
    measured = [
        {key: one for key, one in run.history[0].items() if key.startswith("validation_")}
        for run in (result, found)
    ]
    assert measured[0] == measured[1]
    assert measured[0]


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in WAITS])
def test_the_host_waits_for_no_minibatch(name, accelerator, monkeypatch):
    monkeypatch.setattr(loop, "CHECK_EVERY", 1000)
    samples = tuple(map(accelerator.has, digits(24, "train")))
    waits = []
    for size in (12, 6):
        with accelerator.running():
            trained(name, samples, batch_size=size, device="meta")
        waits.append(accelerator.places)
    assert waits[0] == waits[1]


def test_weights_by_tricks_are_those_of_the_cpu(accelerator):
    samples = digits(24, "train")
    network, result = trained("pgd", samples, **TRICKS)
    with accelerator.running():
        far, found = trained("pgd", tuple(map(accelerator.has, samples)), device="meta", **TRICKS)
    for key, weight in far.state_dict().items():
        assert torch.equal(held(weight), network.state_dict()[key]), key
    assert torch.equal(found.losses, result.losses)


def test_tricks_wait_for_no_minibatch(accelerator, monkeypatch):
    monkeypatch.setattr(loop, "CHECK_EVERY", 1000)
    samples = tuple(map(accelerator.has, digits(24, "train")))
    waits = []
    for size in (12, 6):
        with accelerator.running():
            trained("pgd", samples, batch_size=size, device="meta", **TRICKS)
        waits.append(accelerator.places)
    assert waits[0] == waits[1]


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_needs_float64(name):
    with Accelerator(float64=False).running():
        far, _ = trained(name, digits(16, "train"), device="meta")
    assert all(weight.isfinite().all() for weight in far.parameters())
