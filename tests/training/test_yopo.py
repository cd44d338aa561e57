"""YOPO and TRADES+YOPO against references written from the formulas, and the first layer that they
run alone.
"""

from __future__ import annotations

import dataclasses
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional

from art_ext.models import digits_cnn, preact_resnet18
from art_ext.training import Cost, Pgd, Yopo, YopoTrades, make_recipe, train

EPS = 0.125
TIGHT = {"rtol": 1e-10, "atol": 1e-14}


def convolutional(seed=0, inplace=False):
    """A smooth network from (r, 1, 4, 4) to three logits, in float64."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(inplace=True) if inplace else nn.Tanh(),
        nn.Conv2d(4, 3, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(12, 3),
    ).double()


def updated(recipe, model, x, y, make_step, **state):
    """The step after the backward of one update, with the gradients in the network."""
    step = make_step(model, x, y, eps=EPS, recipe=recipe, **state)
    model.zero_grad()
    loss = recipe.loss(step)
    loss.backward()
    return step, loss.detach()


def fitted(recipe, model, x):
    return recipe.fitted(model, x[:2], 0)


def reference(model, cut, x, y, eta, m, n, size, box=(0.0, 1.0), both=False):
    """YOPO's gradients and last input from two graphs: that of the rest of the network at a leaf
    h, and that of the first layer.

    Args:
        model: a Sequential, whose first ``cut`` modules are the first layer.
        x, y: the samples.
        eta: the start.
        m, n, size: passes, steps and their length.
        box: of x + eta.
        both: add the first layer's own gradient.
    """
    first, rest = model[:cut], model[cut:]
    sums = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    losses, path = [], []

    def add(gradients, names):
        for name, gradient in zip(names, gradients, strict=True):
            sums[name] += gradient

    outer = [name for name in sums if int(name.split(".")[0]) >= cut]
    inner = [name for name in sums if name not in outer]
    known = dict(model.named_parameters())
    for _ in range(m):
        h = first(x + eta).detach().requires_grad_(True)
        loss = functional.cross_entropy(rest(h), y)
        p, *found = torch.autograd.grad(loss, [h, *(known[name] for name in outer)])
        add(found, outer)
        losses.append(loss.detach())
        if both:
            whole = functional.cross_entropy(model(x + eta), y)
            add(torch.autograd.grad(whole, [known[name] for name in inner]), inner)
        for _ in range(n):
            inside = (x + eta).clamp(*box).requires_grad_(True)
            slope = torch.autograd.grad((first(inside) * p).sum(), inside)[0]
            slope = slope * (inside == x + eta)  # the slope of the clamp
            eta = (eta + size * slope.sign()).clamp(-EPS, EPS)
            eta = (x + eta).clamp(*box) - x
            path.append(eta)
        value = (first(x + eta) * p).sum()
        add(torch.autograd.grad(value, [known[name] for name in inner]), inner)
    return sums, torch.stack(losses).mean(), path


@pytest.fixture
def rows(data):
    x, y = data  # some pixels on faces of the box
    return x.double(), y


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 3), (2, 1), (3, 2), (5, 3)])
@pytest.mark.parametrize(("both", "cut"), [(False, 1), (True, 1), (False, 2)])
def test_gradients_are_those_of_two_graphs(m, n, both, cut, rows, make_step, draws):
    model = convolutional()
    recipe = Yopo(
        eps=EPS,
        num_outer=m,
        num_inner=n,
        first=str(cut - 1),
        first_gradient="both" if both else "adjoint",
    )
    _, loss = updated(fitted(recipe, model, rows[0]), model, *rows, make_step)
    start = draws[0] - rows[0]
    assert bool((rows[0] + start < 0).any())  # the start leaves the box
    sums, wanted, _ = reference(model, cut, *rows, start, m, n, EPS / 4, both=both)
    torch.testing.assert_close(loss, wanted, **TIGHT)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, sums[name], **TIGHT)
        assert float(sums[name].abs().max()) > 1e-4


def test_a_layer_that_works_in_place_changes_no_gradient(rows, make_step):
    recipe = Yopo(eps=EPS, num_outer=2, first="0")
    found = []
    for inplace in (False, True):
        model = convolutional(inplace=inplace)
        model[1] = nn.ReLU(inplace)
        updated(fitted(recipe, model, rows[0]), model, *rows, make_step)
        found.append([weight.grad for weight in model.parameters()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("m", [1, 4])
def test_without_steps_the_gradient_is_the_sum_of_plain_ones(m, rows, make_step, draws):
    model = convolutional()
    recipe = Yopo(eps=EPS, num_outer=m, step_size=0.0, boxed_start=True)
    updated(fitted(recipe, model, rows[0]), model, *rows, make_step)
    plain = functional.cross_entropy(model(draws[0]), rows[1])
    wanted = torch.autograd.grad(plain, list(model.parameters()))
    for weight, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(weight.grad, m * gradient, **TIGHT)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_with_one_inner_step_the_path_is_that_of_projected_ascent(norm, rows, make_step, draws):
    """At fixed weights, the adjoint and the first layer give the whole gradient."""
    model, (x, y) = convolutional(), rows
    sent = []
    recipe = fitted(Yopo(eps=EPS, num_outer=4, num_inner=1, boxed_start=True, norm=norm), model, x)
    model.register_forward_pre_hook(lambda _, inputs: sent.append(inputs[0].detach().clone()))
    step, _ = updated(recipe, model, x, y, make_step)
    assert len(sent) == 4 * 3  # a pass, a step, then the weights' rows
    found = sent[2::3]
    ball = step.ball(norm)
    point = draws[0]
    for k in range(4):
        leaf = point.clone().requires_grad_(True)
        slope = torch.autograd.grad(functional.cross_entropy(model(leaf), y), leaf)[0]
        point = ball.step(point, slope, EPS / 4)
        torch.testing.assert_close(found[k], point, rtol=0, atol=1e-12)
        if norm == "linf":
            moved = (found[k] - x).sign() == (point - x).sign()
            assert bool(moved.all())


def test_examples_of_trades_are_those_of_two_graphs(rows, make_step, monkeypatch):
    model, (x, y) = convolutional().eval(), rows
    recipe = fitted(YopoTrades(eps=EPS, num_outer=3, num_inner=2, start=0.05), model, x)
    step = make_step(model, x, y, eps=EPS, recipe=recipe)
    found = recipe.craft(step)
    noise = make_step(model, x, y, eps=EPS, recipe=recipe).normal_like_x()
    eta = ((x + (0.05 * noise).clamp(-EPS, EPS)).clamp(0, 1)) - x
    q = model(x).detach().softmax(1)
    for _ in range(3):
        h = model[:1](x + eta).detach().requires_grad_(True)
        divergence = functional.kl_div(model[1:](h).log_softmax(1), q, reduction="sum")
        p = torch.autograd.grad(divergence, h)[0]
        for _ in range(2):
            leaf = eta.clone().requires_grad_(True)
            slope = torch.autograd.grad((model[:1](x + leaf) * p).sum(), leaf)[0]
            eta = (eta + 0.007 / 0.031 * EPS * slope.sign()).clamp(-EPS, EPS)
            eta = (x + eta).clamp(0, 1) - x
    torch.testing.assert_close(found, x + eta, rtol=0, atol=1e-12)
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(
    ("recipe", "alone"),
    [
        (Yopo(eps=EPS, num_outer=3, num_inner=2), 3 * (2 + 1)),
        (YopoTrades(eps=EPS, num_outer=2, num_inner=3), 2 * 3),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_rows_of_the_first_layer_are_counted_apart(recipe, alone, network, data, count_rows):
    model = network("norm")
    through = count_rows(model[1])
    result = train(model, data, recipe, epochs=2, batch_size=6)
    assert recipe.cost().first_layer_rows == alone
    assert result.first_layer_rows == alone * 2 * len(data[0])
    assert through.forwards == result.forwards + result.first_layer_rows
    assert result.history[0]["first_layer_rows"] == result.first_layer_rows / 2
    assert train(network(), data, Pgd(eps=EPS), epochs=1, batch_size=6).first_layer_rows == 0


def test_costs_add_up():
    cost = Cost(1, 2, 3).plus(Cost(4, 5, 6)).times(2)
    assert (cost, cost.first_layer_rows) == ((10, 14), 18)
    assert sum(cost) == 24  # of the whole network only


class Odd(nn.Module):
    """A network whose input passes by its first convolution, and meets BatchNorm and dropout."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Identity()
        self.beside = nn.Conv2d(1, 2, 1)
        self.main = nn.Conv2d(1, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.5)
        self.unused = nn.Linear(3, 3)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        x = self.scale(x)
        mixed = self.norm(self.main(x) + self.beside(x))
        return self.head(self.drop(mixed).flatten(1))


@pytest.mark.parametrize(
    ("build", "given", "found"),
    [
        (digits_cnn, None, "0"),
        (lambda: preact_resnet18(width=4), None, "conv1"),
        (lambda: preact_resnet18(width=4), "conv1", "conv1"),
        (convolutional, "3", "3"),
        (convolutional, 3, "3"),  # as a command line reads it
        (Odd, "scale", "scale"),
    ],
    ids=["digits", "convolution", "convolution given", "child given", "number given", "odd given"],
)
@pytest.mark.parametrize("kind", [Yopo, YopoTrades])
def test_the_first_layer_of_a_network(build, given, found, kind):
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    shape = {digits_cnn: (1, 8, 8), convolutional: (1, 4, 4), Odd: (1, 4, 4)}.get(
        build, (3, 32, 32)
    )
    x = torch.rand(2, *shape, dtype=next(model.parameters()).dtype)
    assert kind(first=given).fitted(model, x, 0).first == found
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("convl", "a module of the network, one of scale, .*, got 'convl'"),
        ("mains", r"got 'mains'.*'main'"),
        (
            "main",
            "all paths from x pass and that runs alone, .* got 'main': it can be one of scale$",
        ),
        (None, "got None, which takes '(main|beside)': it can be one of scale$"),
        ("norm", "got 'norm'"),
        ("drop", "got 'drop'"),
        ("unused", "got 'unused'"),
    ],
)
def test_a_module_that_cannot_be_the_first_layer(given, message, data, tmp_path):
    recipe = Yopo(eps=EPS, first=given)
    with pytest.raises(ValueError, match=message) as caught:
        train(Odd(), data, recipe, epochs=1, batch_size=6, checkpoint_dir=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [Yopo, YopoTrades])
def test_the_first_layer_is_given_by_name(kind):
    for given, found in ((torch.nn.Linear(2, 2), "Linear"), (True, "bool"), (0.5, "float")):
        with pytest.raises(ValueError, match=f"first must be the name of a module, got {found}"):
            kind(eps=EPS, first=given)


@pytest.mark.parametrize("first", [None, "1"])
def test_a_network_of_nan_is_blamed_and_not_its_first_layer(first, data):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        model[1].weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"^the loss is nan in batch 0 of epoch 0"):
        train(model, data, Yopo(eps=EPS, first=first), epochs=1)


def test_crafting_in_eval_mode_may_run_a_norm_and_dropout_alone(data):
    x = data[0]
    assert YopoTrades(eps=EPS, first="drop").fitted(Odd(), x, 0).first == "drop"
    with pytest.raises(ValueError, match="got 'drop'"):
        YopoTrades(eps=EPS, first="drop", bn_mode="train").fitted(Odd(), x, 0)


def test_a_weight_that_no_output_depends_on_gets_no_gradient(data, make_step):
    """Several processes do not wait for one."""
    torch.manual_seed(0)
    model, (x, y) = Odd().eval(), data
    recipe = fitted(Yopo(eps=EPS, num_outer=2, first="scale"), model, x)
    step, _ = updated(recipe, model, x, y, make_step)
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert without == ["unused.weight", "unused.bias"]
    assert step._engine.first_layer_rows == 2 * 3 * len(x)  # this layer has no weights


def test_a_compiled_network_is_refused(data, network):
    with pytest.raises(ValueError, match="compile must be False for yopo, which runs the first"):
        train(network(), data, Yopo(eps=EPS), epochs=1, batch_size=6, compile=True)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("yopo", {"num_outer": 0}, "num_outer must be"),
        ("yopo", {"num_inner": 0}, "num_inner must be"),
        ("yopo", {"step_size": -0.1}, "step_size must be"),
        ("yopo", {"first_gradient": "own"}, "first_gradient must be"),
        ("yopo-trades", {"beta": -1.0}, "beta must be"),
        ("yopo-trades", {"num_outer": 0}, "num_outer must be"),
        ("yopo-trades", {"outer": 2}, "num_outer"),
    ],
)
def test_arguments_out_of_range(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_recipe(name, **arguments)


def test_frozen_first_layers_and_bfloat16(data, network):
    """Only the other weights move; half types change signs here and there, not the course."""
    model = network()
    model[1].requires_grad_(False)
    before = model[1].weight.clone()
    result = train(model, data, Yopo(eps=EPS), epochs=1, batch_size=6)
    assert torch.equal(model[1].weight, before)
    assert result.forwards == 5 * len(data[0])
    runs = [
        train(network(), data, Yopo(eps=EPS), epochs=4, batch_size=6, precision=precision)
        for precision in ("no", "bf16")
    ]
    torch.testing.assert_close(runs[0].losses, runs[1].losses, rtol=0.05, atol=0.02)


def test_a_minibatch_is_one_update_of_the_summed_gradient(rows, make_step):
    """With no radius, YOPO is natural training with m times the gradient."""
    model = convolutional()
    recipe = dataclasses.replace(fitted(Yopo(num_outer=3), model, rows[0]), eps=0.0)
    step = make_step(model, *rows, eps=0.0, recipe=recipe)
    recipe.loss(step).backward()
    plain = torch.autograd.grad(
        functional.cross_entropy(model(rows[0]), rows[1]), list(model.parameters())
    )
    for weight, gradient in zip(model.parameters(), plain, strict=True):
        torch.testing.assert_close(weight.grad, 3 * gradient, **TIGHT)


def test_every_pair_of_passes_is_taken():
    for m, n in product((1, 2), (1, 4)):
        assert Yopo(num_outer=m, num_inner=n).cost() == (m, m)
        assert YopoTrades(num_outer=m, num_inner=n).cost() == (m + 3, m + 2)
