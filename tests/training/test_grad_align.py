"""GradAlign against autograd, finite differences and Fast training; which samples count."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from art_ext.training import Fast, GradAlign, train
from art_ext.training.recipes.grad_align import TABLE, misalignment, weight_at

EPS = 0.125
VARIANTS = ("detached", "both")


@pytest.fixture
def doubles(network, data):
    """A steep smooth network and fourteen images in float64."""
    return network(scale=3).double(), data[0].double(), data[1]


def gradient(model, rows, y, graph=False):
    leaf = rows.detach().clone().requires_grad_(True)
    loss = functional.cross_entropy(model(leaf), y, reduction="sum")
    return torch.autograd.grad(loss, leaf, create_graph=graph)[0]


def penalty(first, second):
    """One minus the mean cosine, by torch's own cosine."""
    return 1 - functional.cosine_similarity(first.flatten(1), second.flatten(1), eps=0).mean()


def by_hand(model, x, y, x_adv, near, weight, variant):
    """The loss at given examples and points."""
    first = gradient(model, x, y, graph=variant == "both")
    align = penalty(first, gradient(model, near, y, graph=True))
    return functional.cross_entropy(model(x_adv), y) + weight * align


def into(rows, x):
    return (x + (rows - x).clamp(-EPS, EPS)).clamp(0, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradients_are_those_of_autograd(variant, doubles, make_step, draws):
    model, x, y = doubles
    recipe = GradAlign(eps=EPS, weight=20.0, variant=variant)
    found = recipe.loss(make_step(model, x, y, eps=EPS))
    weights = list(model.parameters())
    gradients = torch.autograd.grad(found, weights)
    assert (draws[-1].min(), draws[-1].max()) != (0, 1)  # the points may leave the box
    start, length = (x, 1.25 * EPS) if variant == "detached" else (draws[0], EPS)
    x_adv = into(start + length * gradient(model, start, y).sign(), x)
    assert len(draws) == (1 if variant == "detached" else 2)
    assert (draws[-1] - x).abs().max() > 0.9 * EPS
    wanted = by_hand(model, x, y, x_adv, draws[-1], 20.0, variant)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    for one, other in zip(gradients, torch.autograd.grad(wanted, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    # the penalty takes part
    plain = functional.cross_entropy(model(x_adv), y)
    assert float((found - plain).detach()) > 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_gradient_of_the_penalty_is_its_finite_difference(variant, doubles, make_step):
    model, x, y = doubles
    step = make_step(model, x, y, eps=EPS)
    near = step.uniform_start(step.ball("linf"), boxed=False)
    constant = gradient(model, x, y)

    def value():
        first = constant if variant == "detached" else step.training_gradient(x, ce)
        return misalignment(step, first, step.training_gradient(near, ce))

    ce = step.hard_cross_entropy
    weight = model[1].weight
    (found,) = torch.autograd.grad(value(), weight)
    for place in ((0, 0), (3, 5), (7, 15)):
        sides = []
        for shift in (1e-5, -2e-5):
            with torch.no_grad():
                weight[place] += shift
            sides.append(float(value().detach()))
        with torch.no_grad():
            weight[place] += 1e-5
        assert float(found[place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"start": "zero", "bn_mode": "train"}),
        ({"bn_mode": "eval", "norm": "l2"}, {"start": "zero", "norm": "l2"}),
        ({"variant": "both"}, {"step_size": EPS, "boxed_start": False}),
        ({"variant": "both", "boxed_start": True}, {"step_size": EPS}),
    ],
)
def test_weight_0_is_fast_training_bit_for_bit(ours, theirs, network, data):
    models = [network("norm", scale=3) for _ in range(2)]
    recipes = GradAlign(eps=EPS, weight=0.0, **ours), Fast(eps=EPS, **theirs)
    runs = [
        train(model, data, recipe, epochs=3, batch_size=6)
        for model, recipe in zip(models, recipes, strict=True)
    ]
    assert torch.equal(runs[0].losses, runs[1].losses)
    assert (runs[0].forwards, runs[0].backwards) == (runs[1].forwards, runs[1].backwards)
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, models[1].state_dict()[name]), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_linear_network_of_two_classes_has_no_penalty(variant, data, make_step):
    x, y = data[0].double(), data[1].clamp(max=1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    recipe = GradAlign(eps=EPS, weight=100.0, variant=variant)
    step = make_step(model, x, y, eps=EPS)
    loss = recipe.loss(step)
    plain = GradAlign(eps=EPS, weight=0.0, variant=variant).loss(make_step(model, x, y, eps=EPS))
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), abs=1e-12)
    assert float(step.log["gradient_cosine"]) == pytest.approx(1, abs=1e-14)


def test_samples_with_a_zero_gradient_do_not_count(network, data, make_step):
    x, y = data[0].double(), data[1]
    model = network().double()
    step = make_step(model, x, y, eps=EPS)
    first = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first[3] = 0
    second = first.roll(1, dims=2).clone()
    second[5] = 0
    kept = [row for row in range(len(x)) if row not in (3, 5)]
    leaf = second.clone().requires_grad_(True)
    found = misalignment(step, first, leaf)
    wanted = penalty(first[kept], second[kept])
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-12, atol=0)
    (slope,) = torch.autograd.grad(found, leaf)
    assert slope.isfinite().all()
    assert not slope[[3, 5]].any()
    assert slope[kept].flatten(1).any(dim=1).all()
    # of gradients that are all 0 the penalty is 0, and so is its gradient
    leaf = torch.zeros_like(second).requires_grad_(True)
    none = misalignment(step, first, leaf)
    assert float(none.detach()) == 0
    assert not torch.autograd.grad(none, leaf)[0].any()


def test_gradients_whose_squares_vanish_count(data, make_step, network):
    x, y = data
    step = make_step(network(), x, y, eps=EPS)
    rows = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    second = rows.roll(1, dims=3)
    usual = misalignment(step, rows, second)
    assert float(misalignment(step, 1e-30 * rows, 1e-32 * second)) == pytest.approx(
        float(usual), rel=1e-5
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_trains(variant, network, data):
    recipe = GradAlign(eps=EPS, weight=0.5, variant=variant)
    model = network("norm")
    result = train(model, data, recipe, epochs=3, batch_size=6, precision="bf16")
    assert result.losses.isfinite().all()
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert all(-1 <= row["gradient_cosine"] <= 1 for row in result.history)


def test_the_penalty_brings_gradients_into_line(network, samples):
    x, y = samples
    noise = 0.3 * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 1)
    found = {}
    for weight in (0.0, 5.0):
        model = network(scale=3)
        adam = {"optimizer": "adam", "learning_rate": 0.02, "batch_size": 30}
        train(model, samples, GradAlign(eps=0.3, weight=weight), epochs=30, **adam)
        found[weight] = float(penalty(gradient(model, x, y), gradient(model, x + noise, y)))
    assert found[5.0] < found[0.0] / 4


def test_an_attention_layer_has_a_second_derivative(data):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(16, 3)

        def forward(self, x):
            rows = x.squeeze(1).unsqueeze(1)
            mixed = functional.scaled_dot_product_attention(rows, rows, rows)
            return self.last(mixed.flatten(1))

    result = train(Attention(), data, GradAlign(eps=EPS, weight=0.5), epochs=1, batch_size=6)
    assert result.losses.isfinite().all()


def test_weights_are_those_of_the_table():
    for radius, weight in TABLE:
        assert GradAlign(eps=radius / 255).weight == pytest.approx(weight, rel=1e-12)
    assert weight_at(6 / 255, "linf") == pytest.approx((0.063 + 0.2) / 2)
    assert weight_at(11 / 255, "linf") == pytest.approx((0.356 + 0.632) / 2)
    assert GradAlign(eps=0.3, weight=0.1).weight == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": 0.3}, r"weight must be given for radii outside 4/255 to 12/255 in linf.*eps=0.3"),
        ({"eps": 3.9 / 255}, "weight must be given"),
        ({"norm": "l2"}, "got none for eps=0.03.* in l2"),
        ({"weight": -1.0}, "weight must be a finite number >= 0, got -1.0"),
        ({"variant": "one"}, "variant must be one of 'detached', 'both', got 'one'"),
        ({"bn_mode": "test"}, "bn_mode must be one of 'eval', 'train', 'batch'"),
        ({"step_size": 0.0}, "step_size must be"),
        ({"boxed_start": 1}, "boxed_start must be True or False, got 1"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        GradAlign(**arguments)


def test_a_compiled_network_is_an_error(network, data, tmp_path):
    with pytest.raises(ValueError, match="compile must be False for grad-align"):
        train(network(), data, "grad-align", epochs=1, compile=True, checkpoint_dir=tmp_path / "a")
    assert not (tmp_path / "a").exists()
