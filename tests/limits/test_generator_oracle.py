"""The oracle of a generator: flags, range, rows, blocks, and generators that are none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from art_ext.core.limits import GeneratorOracle, check_generator, draw_latents
from tests.toys import small_generator


class Answers(nn.Module):
    """A generator of three classes that answers by a function of latents and classes."""

    latent_dim = 4
    num_classes = 3

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, z, y):
        return self.function(z, y)


def tanh(z, y):
    return torch.tanh(z + y.unsqueeze(1)).reshape(-1, 1, 2, 2)


def sigmoid(z, y):
    return torch.sigmoid(z + y.unsqueeze(1)).reshape(-1, 1, 2, 2)


def fail_inside(generator):
    with GeneratorOracle(generator):
        assert not any(module.training for module in generator.modules())
        assert not any(one.requires_grad for one in generator.parameters())
        raise ZeroDivisionError


def test_flags_are_restored_also_after_an_error():
    generator = small_generator().train()
    generator.layers[1].eval()
    modes = [module.training for module in generator.modules()]
    parameter = next(generator.parameters()).requires_grad_(False)
    with pytest.raises(ZeroDivisionError):
        fail_inside(generator)
    assert [module.training for module in generator.modules()] == modes
    flags = [one.requires_grad for one in generator.parameters()]
    assert flags == [one is not parameter for one in generator.parameters()]


def test_images_are_mapped_and_rows_are_counted():
    z = torch.randn(5, 4)
    y = torch.tensor([0, 1, 2, 0, 1])
    with GeneratorOracle(Answers(tanh), image_range=(-1, 1)) as oracle:
        images = oracle(z, y)
        torch.testing.assert_close(images, (tanh(z, y) + 1) / 2)
        assert torch.equal(images, oracle.function(y)(z))
        assert oracle.rows == 10
        assert oracle.backward_rows == 0
        assert oracle.scale == 2
        assert oracle.sample_shape == (1, 2, 2)
    with GeneratorOracle(Answers(tanh), image_range=None) as oracle:
        assert torch.equal(oracle(z, y), tanh(z, y))


def test_a_graph_leads_to_the_latents():
    z = torch.randn(3, 4, requires_grad=True)
    y = torch.arange(3)
    with GeneratorOracle(Answers(tanh), image_range=(-1, 1)) as oracle:
        (gradient,) = torch.autograd.grad(oracle(z, y).sum(), z)
    torch.testing.assert_close(gradient, (1 - torch.tanh(z + y.unsqueeze(1)).square()).detach() / 2)


def test_a_wrong_range_names_the_one_that_fits():
    z = torch.tensor([[-9.0, -9, 0, 9]])
    y = torch.zeros(1, dtype=torch.int64)
    with (
        pytest.raises(ValueError, match=r"got values from -1 to 1: pass image_range=\(-1, 1\)"),
        GeneratorOracle(Answers(tanh)) as oracle,
    ):
        oracle(z, y)


@pytest.mark.parametrize(("excess", "fits"), [(0.9e-4, True), (1.5e-4, False)])
def test_the_range_has_a_tolerance(excess, fits):
    generator = Answers(lambda z, y: (sigmoid(z, y) > 0.5) * (1 + excess))
    z = torch.randn(3, 4)
    if fits:
        with GeneratorOracle(generator) as oracle:
            assert float(oracle(z, torch.arange(3)).max()) == 1
    else:
        with pytest.raises(ValueError, match="image_range"), GeneratorOracle(generator) as oracle:
            oracle(z, torch.arange(3))


def test_a_later_image_outside_the_range_is_found_at_the_end():
    generator = Answers(lambda z, y: z.reshape(-1, 1, 2, 2))
    y = torch.zeros(1, dtype=torch.int64)
    oracle = GeneratorOracle(generator).__enter__()
    oracle(torch.full((1, 4), 0.5), y)
    oracle(torch.full((1, 4), 300.0), y)
    with pytest.raises(ValueError, match=r"from 0\.5 to 300: pass the true range"):
        oracle.__exit__(None, None, None)


def test_nan_is_no_image():
    generator = Answers(lambda z, y: z.reshape(-1, 1, 2, 2) * torch.nan)
    with (
        pytest.raises(ValueError, match="must be numbers, got NaN"),
        GeneratorOracle(generator) as oracle,
    ):
        oracle(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_generator_gets_latents_of_its_own_type(kind):
    generator = small_generator().to(kind)
    with GeneratorOracle(generator) as oracle, torch.no_grad():
        images = oracle(torch.randn(2, 4), torch.arange(2))
    assert images.dtype == torch.float32


def test_latents_do_not_depend_on_the_batch():
    y = torch.tensor([0, 0, 1, 2, 1])
    index = torch.tensor([0, 7, 0, 3, 7])
    z = draw_latents(6, y, index, seed=3)
    order = torch.tensor([4, 1, 0, 3, 2])
    assert torch.equal(draw_latents(6, y[order], index[order], seed=3), z[order])
    assert len({tuple(row) for row in z.tolist()}) == 5
    assert not torch.equal(draw_latents(6, y, index, seed=4), z)
    many = draw_latents(4, torch.zeros(50_000, dtype=torch.int64), torch.arange(50_000), seed=0)
    torch.testing.assert_close(many.mean(dim=0), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(many.T.cov(), torch.eye(4), atol=0.03, rtol=0)


def test_memory_and_features_bound_a_block():
    with GeneratorOracle(small_generator(), memory_mb=1) as oracle:
        check_generator(oracle)
        assert oracle.block_rows(1 << 18) == 4
        assert oracle.block_rows(1 << 30) == 1
        # on a CPU not all that would fit
        assert oracle.block_rows(1) == 256


class Noisy(Answers):
    def __init__(self):
        super().__init__(lambda z, y: torch.sigmoid(z + y.unsqueeze(1) + torch.rand(1)))


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (Answers(lambda z, y: torch.full((len(z), 4), 0.5)), "output is constant"),
        (Answers(lambda z, y: torch.sigmoid(y.unsqueeze(1) + torch.zeros(4))), "latents z"),
        (Answers(lambda z, y: torch.sigmoid(z)), "classes y"),
        (Answers(lambda z, y: sigmoid(z, y)[:1]), "one image for each of 12 latents"),
        (Answers(lambda z, y: sigmoid(z, y)[:, 0, 0, 0]), r"with shape \(12, \*S\), got shape"),
        (Answers(lambda z, y: (sigmoid(z, y) * 255).to(torch.uint8)), "floats, got torch.uint8"),
        (Answers(lambda z, y: [z]), "floats, got list"),
        (Noisy(), "change from call to call by up to"),
        (Answers(lambda z, y: sigmoid(z - z.mean(), y)), "depend on the other latents"),
    ],
)
def test_what_is_no_generator_is_an_error(generator, message):
    with pytest.raises(ValueError, match=message), GeneratorOracle(generator) as oracle:
        check_generator(oracle)


def test_a_generator_that_does_not_fit_the_model_is_an_error():
    with GeneratorOracle(Answers(sigmoid)) as oracle:
        assert check_generator(oracle, sample_shape=(1, 2, 2), num_classes=3) == (1, 2, 2)
        with pytest.raises(ValueError, match=r"input shape \(1, 28, 28\), got \(1, 2, 2\)"):
            check_generator(oracle, sample_shape=(1, 28, 28))
        with pytest.raises(ValueError, match="generator's 3 classes, got 10"):
            check_generator(oracle, num_classes=10)
        with pytest.raises(ValueError, match=r"shape \(N, 4\), got \(2, 5\)"):
            oracle(torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"generator": "runs/gan"}, "callable of latents and classes, got str"),
        ({"generator": sigmoid}, "attribute latent_dim, an integer, got 'none'"),
        ({"image_range": (1, 0)}, r"lower < upper, got \(1, 0\)"),
        ({"image_range": 255}, "a pair such as"),
        ({"image_range": ("0", 1)}, "must be a number, got '0'"),
        ({"memory_mb": 0}, "memory_mb must be > 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GeneratorOracle(**{"generator": Answers(sigmoid), **arguments})
