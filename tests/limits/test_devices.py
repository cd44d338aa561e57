"""Estimators on a device that is not the CPU: nothing mixes, and the host waits seldom."""

from __future__ import annotations

import pytest
import torch

from art_ext.core.limits import GeneratorOracle, check_generator, draw_latents, generator_lipschitz
from tests.accelerator import Accelerator, Remote
from tests.limits.test_lipschitz import ESTIMATORS, Changed, OldFunction
from tests.toys import small_generator

ARGUMENTS = {"classes": [1, 2], "num_latents": 3, "num_neighbours": 20, "num_steps": 4}


@pytest.fixture
def accelerator():
    return Accelerator()


def estimate(accelerator, generator, **arguments):
    moved = accelerator.has(generator)
    with accelerator.running():
        return generator_lipschitz(moved, **{**ARGUMENTS, **arguments})


def test_images_stay_on_the_device_of_the_generator(accelerator):
    generator = small_generator()
    y = torch.tensor([0, 3])
    z = draw_latents(4, y, torch.arange(2), seed=0)
    with GeneratorOracle(generator) as oracle:
        expected = oracle(z, y)
    moved = accelerator.has(generator)
    with accelerator.running(), GeneratorOracle(moved) as oracle, torch.no_grad():
        check_generator(oracle)
        for latents, classes in ((z, y), (accelerator.has(z), accelerator.has(y))):
            images = oracle(latents, classes)
            assert isinstance(images, Remote)
            torch.testing.assert_close(images.held, expected, atol=1e-6, rtol=0)


def test_latents_are_drawn_where_their_classes_are(accelerator):
    y = torch.tensor([0, 3])
    expected = draw_latents(4, y, torch.arange(2), seed=0)
    with accelerator.running():
        z = draw_latents(4, accelerator.has(y), torch.arange(2), seed=0)
    assert torch.equal(z.held, expected)


@pytest.mark.parametrize("neighbours", ["ball", "orthant"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_values_are_those_of_the_cpu(estimator, neighbours, accelerator):
    arguments = {"estimator": estimator, "neighbours": neighbours}
    found = estimate(accelerator, small_generator(), **arguments)
    near = generator_lipschitz(small_generator(), **ARGUMENTS, **arguments)
    assert not isinstance(found.local, Remote)
    torch.testing.assert_close(found.local, near.local, atol=1e-5, rtol=1e-5)


def test_double_backward_gives_the_values_of_the_cpu(accelerator):
    generator = Changed(OldFunction.apply)
    found = estimate(accelerator, generator, estimator="spectral")
    assert found.differentiation == "double backward"
    near = generator_lipschitz(small_generator(), **ARGUMENTS, estimator="spectral")
    torch.testing.assert_close(found.local, near.local, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "more"),
    [
        ("sampled", {"num_neighbours": 9000}),  # several draws
        ("sampled", {"num_latents": 30}),
        ("spectral", {"num_iterations": 50}),
        ("spectral", {"num_latents": 30}),
        ("ascent", {"num_steps": 12}),
    ],
)
def test_the_host_does_not_wait_in_a_loop(estimator, more, accelerator):
    generator = small_generator(latent_dim=12)
    estimate(accelerator, generator, estimator=estimator, num_iterations=4)
    reads = accelerator.reads
    assert 0 < reads < 30
    estimate(accelerator, generator, **{"estimator": estimator, "num_iterations": 4, **more})
    assert accelerator.reads == reads


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_estimator_needs_float64_on_the_device(estimator, accelerator):
    estimate(accelerator, small_generator(), estimator=estimator)
    assert accelerator.doubles == 0


def test_the_accelerator_finds_what_a_real_one_would(accelerator):
    there = accelerator.has(torch.ones(3))
    with accelerator.running():
        assert isinstance(there * 2.0 + there, Remote)
        with pytest.raises(RuntimeError, match="mixes tensors"):
            there + torch.ones(3)
        assert (accelerator.reads, accelerator.doubles) == (0, 0)
        float(there.sum())
        there.cpu()
        assert accelerator.reads == 2
        there.double()
        assert accelerator.doubles == 1
