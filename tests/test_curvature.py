"""The largest eigenvalue of the input Hessian against exact Hessians, and the loss increment."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from art_ext.core.metrics import hessian_eigenvalue, loss_increment
from art_ext.core.metrics.curvature import extreme_eigenvalue


def curved(seed=0):
    """A network of 64 inputs in float64 whose Hessians are indefinite."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(64, 40), nn.Softplus(beta=5), nn.Linear(40, 30), nn.Softplus(beta=5)]
        model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(30, 10)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    return model


def samples(count=20):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(count, 1, 8, 8, generator=generator)
    return x, (3 * torch.arange(count) + 1) % 10


@pytest.fixture(scope="module")
def spectra():
    """(20, 64) the eigenvalues of exact Hessians, ascending."""
    model = curved()
    x, y = samples()

    def loss(flat, label):
        return cross_entropy(model(flat.view(1, 1, 8, 8)), label.view(1))

    hessians = torch.func.vmap(torch.func.hessian(loss))(x.flatten(1).double(), y)
    return torch.linalg.eigvalsh(hessians.detach())


def largest_magnitude(spectra):
    low = spectra[:, 0]
    high = spectra[:, -1]
    return torch.where(low.abs() > high.abs(), low, high)


@pytest.mark.parametrize("which", ["algebraic", "magnitude"])
def test_the_value_is_that_of_the_exact_hessian(spectra, which):
    wanted = spectra[:, -1] if which == "algebraic" else largest_magnitude(spectra)
    assert bool((spectra[:, 0] < -spectra[:, -1]).any()), "an indefinite case, negative first"
    found = hessian_eigenvalue(curved(), *samples(), which=which, num_iterations=100)
    torch.testing.assert_close(found.values.double(), wanted, rtol=1e-5, atol=0)
    assert found.mean == pytest.approx(float(wanted.mean()), rel=1e-5)
    assert bool((found.residual < 1e-3 * wanted.abs()).all())


@pytest.mark.parametrize("iterations", [3, 10])
def test_an_eigenvalue_lies_within_the_residual(spectra, iterations):
    found = hessian_eigenvalue(curved(), *samples(), num_iterations=iterations)
    nearest = (found.values.double().unsqueeze(1) - spectra).abs().amin(dim=1)
    assert bool((nearest <= found.residual * 1.01 + 1e-6).all())
    assert bool((found.values <= spectra[:, -1] * (1 + 1e-6)).all())


def test_samples_do_not_influence_each_other():
    x, y = samples(7)
    model = curved()
    whole = hessian_eigenvalue(model, x, y)
    parts = hessian_eigenvalue(model, x, y, batch_size=3)
    alone = torch.cat(
        [hessian_eigenvalue(model, x[i : i + 1], y[i : i + 1]).values for i in range(7)]
    )
    torch.testing.assert_close(whole.values, parts.values, rtol=1e-6, atol=0)
    torch.testing.assert_close(whole.values, alone, rtol=1e-6, atol=0)
    other = hessian_eigenvalue(model, x, y, seed=1, num_iterations=100)
    torch.testing.assert_close(whole.values, other.values, rtol=1e-4, atol=0)


@pytest.mark.parametrize("loss", ["ce", "kl"])
def test_a_linear_model_has_the_curvature_of_the_softmax(loss):
    """``H = W^T (diag p - p p^T) W`` for both losses, whatever the class, of rank 2 here."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    weight = model[1].weight.detach().double()
    p = model(x).detach().double().softmax(dim=1)
    middle = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    wanted = torch.linalg.eigvalsh(weight.T @ middle @ weight)[:, -1]
    for which in ("algebraic", "magnitude"):
        found = hessian_eigenvalue(model, x, loss=loss, which=which, num_iterations=40)
        torch.testing.assert_close(found.values.double(), wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("which", ["algebraic", "magnitude"])
def test_matrices_whose_space_is_exhausted_early(which):
    """One, two and no eigenvalues other than 0, and only negative ones."""
    diagonals = torch.tensor(
        [[3.0, 0, 0, 0], [2.0, -5, 0, 0], [0.0, 0, 0, 0], [-1.0, -1, -1, -1], [-4.0, -2, -3, -1]]
    )
    start = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    value, residual = extreme_eigenvalue(lambda v: diagonals * v, start, 12, which)
    wanted = {"algebraic": [3, 2, 0, -1, -1], "magnitude": [3, -5, 0, -1, -4]}[which]
    torch.testing.assert_close(value, torch.tensor(wanted, dtype=torch.float32), atol=1e-5, rtol=0)
    assert bool((residual < 1e-4).all())


def test_a_model_without_curvature_has_the_value_0():
    def plane(rows):
        flat = rows.flatten(1)
        return torch.stack([flat.sum(dim=1) * 0, flat.sum(dim=1) * 0], dim=1)

    x, y = samples(3)
    found = hessian_eigenvalue(plane, x, y % 2)
    assert found.values.tolist() == [0.0, 0.0, 0.0]
    assert math.isnan(hessian_eigenvalue(plane, x[:0], y[:0]).mean)


class Once(torch.autograd.Function):
    """A square with a first derivative only."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, gradient):
        return 2 * context.saved_tensors[0] * gradient


def test_bad_arguments_are_named():
    x, y = samples(3)
    model = curved()
    with pytest.raises(ValueError, match=r"which must be one of .*did you mean 'magnitude'"):
        hessian_eigenvalue(model, x, y, which="magnitud")
    with pytest.raises(ValueError, match="num_iterations must be an integer >= 1"):
        hessian_eigenvalue(model, x, y, num_iterations=0)
    with pytest.raises(ValueError, match="y belongs to loss='ce'"):
        hessian_eigenvalue(model, x, y, loss="kl")
    with pytest.raises(ValueError, match="below 10, the model's width, got 17"):
        hessian_eigenvalue(model, x, y + 10)
    with pytest.raises(ValueError, match="differentiable twice"):
        hessian_eigenvalue(lambda rows: Once.apply(rows.flatten(1)), x)
    with pytest.raises(ValueError, match="differentiable twice"):
        hessian_eigenvalue(lambda rows: rows.flatten(1).detach(), x)


# --- loss increment ---


def test_the_increment_is_the_difference_of_the_losses():
    """Two classes with logits (0, z): the loss is ``log(1 + e^z)`` or ``log(1 + e^-z)``."""

    def model(rows):
        return torch.stack([torch.zeros_like(rows[:, 0]), rows[:, 0]], dim=1)

    x = torch.tensor([[0.0], [1.0], [0.5]])
    moved = torch.tensor([[2.0], [-1.0], [0.5]])
    y = torch.tensor([0, 1, 1])
    wanted = torch.tensor(
        [
            float(softplus(moved[0]) - softplus(x[0])),
            float(softplus(-moved[1]) - softplus(-x[1])),
            0,
        ]
    )
    torch.testing.assert_close(loss_increment(model, x, moved, y), wanted)
    torch.testing.assert_close(loss_increment(model, x, moved, y, batch_size=2), wanted)
    chances = loss_increment(
        lambda rows: model(rows).softmax(1), x, moved, y, outputs="probabilities"
    )
    torch.testing.assert_close(chances, wanted)
    assert loss_increment(model, x[:0], moved[:0], y[:0]).shape == (0,)
    with pytest.raises(ValueError, match="one shape"):
        loss_increment(model, x, moved[:2], y)
    with pytest.raises(ValueError, match="below 2, the model's width, got 2"):
        loss_increment(model, x, moved, y + 1)
