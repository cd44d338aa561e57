"""Backward Smoothing against its equations by hand, and the limits that the dissertation names."""

from __future__ import annotations

import os

import pytest
import torch
from torch.nn import functional

from art_ext.data import load_data
from art_ext.models import mnist_two_conv
from art_ext.training import BackwardSmoothing, Natural, Pgd, Trades, train

EPS = 0.125


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def kl(p, logits):
    """(r,) ``KL(p || softmax(logits))`` by torch's own."""
    return functional.kl_div(logits.log_softmax(1), p, reduction="none").sum(1)


def climb(model, rows, x, value, length=EPS):
    """One step of sign ascent of the summed ``value(logits)``, into the ball and the box."""
    leaf = rows.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(value(model(leaf)).sum(), leaf)
    return torch.minimum(torch.maximum(rows + length * gradient.sign(), x - EPS), x + EPS).clamp(
        0, 1
    )


def first_value(recipe, clean, y, drawn):
    """What the first step ascends, as printed: minus the distance from each random target, in
    the mean over them.
    """
    psi = 2 * drawn - 1

    def value(logits):
        values = []
        for one in psi.unbind(1):
            if recipe.start == "odi":
                values.append((logits * one).sum(1))
            elif recipe.variant == "trades":  # (6.4.4)
                values.append(-kl((clean + recipe.gamma * one).softmax(1), logits))
            else:  # (6.7.5)
                wanted = recipe.gamma * one + (clean if recipe.target == "shifted" else 0)
                values.append(-((logits - wanted).gather(1, y[:, None]).squeeze(1) ** 2))
        return torch.stack(values).mean(0)

    return value


def by_hand(model, x, y, recipe, drawn):
    """x + xi + delta: one step to the random output, then ``num_steps`` of ascent."""
    clean = model(x).detach()
    rows = climb(model, x, x, first_value(recipe, clean, y, drawn))
    for _ in range(recipe.num_steps):
        if recipe.variant == "trades":  # (6.4.5)
            rows = climb(model, rows, x, lambda logits: kl(clean.softmax(1), logits))
        else:
            rows = climb(
                model, rows, x, lambda logits: functional.cross_entropy(logits, y, reduction="none")
            )
    return rows


@pytest.mark.parametrize("points", [1, 4])
@pytest.mark.parametrize("num_steps", [0, 1, 3])
@pytest.mark.parametrize("target", ["printed", "shifted"])
@pytest.mark.parametrize("start", ["backward", "odi"])
@pytest.mark.parametrize("variant", ["trades", "pgd"])
def test_examples_are_those_of_the_equations(
    variant, start, target, num_steps, points, network, data, make_step, draws
):
    x, y = data
    recipe = BackwardSmoothing(
        eps=EPS,
        variant=variant,
        start=start,
        target=target,
        num_steps=num_steps,
        points=points,
        gamma=0.7,
    )
    model = network(scale=2)
    found = recipe.craft(make_step(model, x, y, eps=EPS))
    assert draws[0].shape == (14, points, 3)
    torch.testing.assert_close(found, by_hand(model, x, y, recipe, draws[0]), rtol=0, atol=1e-6)
    assert not torch.equal(found, x)


def test_loss_is_that_of_trades_or_of_adversarial_training(network, batch, make_step):
    x, y = batch
    for variant in ("trades", "pgd"):
        recipe, model = BackwardSmoothing(eps=EPS, beta=4.0, variant=variant), network(scale=3)
        x_adv = recipe.craft(make_step(model, x, y, eps=EPS))
        expected = functional.cross_entropy(model(x_adv), y)
        if variant == "trades":
            expected = (
                functional.cross_entropy(model(x), y)
                + 4 * kl(model(x).softmax(1), model(x_adv)).mean()
            )
        loss = recipe.loss(make_step(model, x, y, eps=EPS))
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
        (wanted, found) = (
            torch.autograd.grad(value, model[1].weight)[0] for value in (expected, loss)
        )
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", ["trades", "pgd"])
def test_with_alpha_eps_each_coordinate_takes_three_values(variant, network, batch, make_step):
    """-eps, 0 or +eps, at least eps away from every face of the box: 0 where the two signs
    disagree.

    Exact on the grid of these pixels.
    """
    x, y = batch
    model = network(scale=3)
    step = make_step(model, x, y, eps=EPS)
    moved = (BackwardSmoothing(eps=EPS, variant=variant).craft(step) - x) / EPS
    assert set(moved.unique().tolist()) == {-1.0, 0.0, 1.0}
    alone = (
        BackwardSmoothing(eps=EPS, variant=variant, num_steps=0).craft(
            make_step(model, x, y, eps=EPS)
        )
        - x
    ) / EPS
    assert set(alone.unique().tolist()) == {-1.0, 1.0}
    agree = moved != 0
    assert torch.equal(moved[agree], alone[agree])


@pytest.mark.parametrize("variant", ["trades", "pgd"])
@pytest.mark.parametrize("boxed_start", [True, False])
def test_a_pixel_at_a_face_of_the_box_keeps_a_trace_of_the_first_step_if_it_may_leave_it(
    boxed_start, variant, network, batch, make_step, draws
):
    """A pixel at 0 becomes eps where both signs are +, or, if the first step is boxed, where the
    last one is.
    """
    x, y = batch
    x = torch.where(torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.4, 0.0, x)
    x = torch.where(torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.2, 1.0, x)
    model = network(scale=3)
    recipe = BackwardSmoothing(eps=EPS, variant=variant, boxed_start=boxed_start)
    found = recipe.craft(make_step(model, x, y, eps=EPS))
    clean = model(x).detach()

    def sign(rows, value):
        leaf = rows.clone().requires_grad_(True)
        return torch.autograd.grad(value(model(leaf)).sum(), leaf)[0].sign()

    first = sign(x, first_value(recipe, clean, y, draws[0]))
    between = x + EPS * first
    last = sign(
        between.clamp(0, 1) if boxed_start else between,
        (lambda logits: kl(clean.softmax(1), logits))
        if variant == "trades"
        else (lambda logits: functional.cross_entropy(logits, y, reduction="none")),
    )
    for face, up in ((0.0, 1), (1.0, -1)):
        at, one, two = x == face, first == up, last == up
        arrives = two if boxed_start else one & two
        assert torch.equal(((found - face).abs() == EPS)[at], arrives[at])
        assert torch.equal((found == face)[at], ~arrives[at])
        # the two rules differ for these pixels, and each sign occurs
        assert bool((two & ~one)[at].any())
        assert bool((one & two)[at].any())
    inside = (x > 0) & (x < 1)
    assert torch.equal((found == x)[inside], (first != last)[inside])


def test_on_mnist_a_boxed_first_step_leaves_no_trace_on_black_pixels():
    """30 % of the black pixels become eps at first where both signs count, 48 % where the last
    one alone does.
    """
    if not os.environ.get("ART_EXT_DATA"):
        pytest.skip("ART_EXT_DATA names no folder with MNIST")
    images = load_data("mnist", split="train").first(128)
    assert float((images.x == 0).float().mean()) == pytest.approx(0.81, abs=0.02)
    shares = {}
    for boxed in (True, False):
        torch.manual_seed(0)
        recipe, moved = BackwardSmoothing(eps=0.3, boxed_start=boxed), []

        class Watched(type(recipe)):
            def craft(self, step, moved=moved):
                rows = super().craft(step)
                moved.append(float((rows == 0.3)[step.x == 0].float().mean()))
                assert float(rows.min()) >= 0
                assert float(rows.max()) <= 1
                return rows

        train(
            mnist_two_conv(), (images.x, images.y), Watched(eps=0.3, boxed_start=boxed), updates=1
        )
        shares[boxed] = moved[0]
    assert shares[True] == pytest.approx(0.48, abs=0.05)
    assert shares[False] == pytest.approx(0.30, abs=0.05)


@pytest.mark.parametrize("boxed_start", [True, False])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize(
    ("step_size", "num_steps"), [(None, 2), (0.05, 2), (1.0, 2), (None, 0), (1.0, 0)]
)
def test_examples_stay_in_the_ball_and_in_the_box(
    step_size, num_steps, norm, boxed_start, network, data, make_step
):
    x, y = data
    eps = {"linf": 0.3, "l2": 0.8, "l1": 2.0}[norm]
    recipe = BackwardSmoothing(
        eps=eps, norm=norm, step_size=step_size, num_steps=num_steps, boxed_start=boxed_start
    )
    found = recipe.craft(make_step(network(scale=3), x, y, eps=eps))
    order = {"linf": float("inf"), "l2": 2, "l1": 1}[norm]
    lengths = (found - x).flatten(1).norm(order, dim=1)
    assert lengths.max() <= eps * (1 + 1e-5)
    assert lengths.min() > 0
    assert found.min() >= 0
    assert found.max() <= 1


def test_gamma_zero_leaves_the_input_itself(network, data, make_step):
    x, y = data
    for steps in (0, 1, 2):
        recipe = BackwardSmoothing(eps=EPS, gamma=0.0, num_steps=steps)
        assert torch.equal(recipe.craft(make_step(network(scale=3), x, y, eps=EPS)), x)
    # of the PGD variant the first step alone
    alone = BackwardSmoothing(eps=EPS, gamma=0.0, variant="pgd", target="shifted", num_steps=0)
    assert torch.equal(alone.craft(make_step(network(scale=3), x, y, eps=EPS)), x)
    model, natural = network(), network()
    train(model, data, BackwardSmoothing(eps=EPS, gamma=0.0, num_steps=1), epochs=2, batch_size=6)
    # the divergence of an input from itself has no gradient
    train(natural, data, Natural(), epochs=2, batch_size=6)
    torch.testing.assert_close(weights_of(model), weights_of(natural), rtol=0, atol=1e-6)


def test_a_large_gamma_drowns_the_clean_answer(network, data, make_step, draws):
    """The target is ``softmax(f(x) + r)``, for a large r ``softmax(r)``."""
    x, y = data
    recipe = BackwardSmoothing(eps=EPS, gamma=3e3, num_steps=0)
    model = network(scale=2)
    found = recipe.craft(make_step(model, x, y, eps=EPS))
    target = (3e3 * (2 * draws[0][:, 0] - 1)).softmax(1)
    assert torch.equal(found, climb(model, x, x, lambda logits: -kl(target, logits)))
    small = BackwardSmoothing(eps=EPS, gamma=0.1, num_steps=0).craft(
        make_step(model, x, y, eps=EPS)
    )
    assert not torch.equal(small, found)


def test_beta_zero_is_natural_training(network, data):
    model, natural, other = network(), network(), network()
    settings = {"epochs": 3, "batch_size": 6}
    train(model, data, BackwardSmoothing(eps=EPS, beta=0.0), **settings)
    train(natural, data, Natural(), **settings)
    train(other, data, BackwardSmoothing(eps=EPS, beta=1.0), **settings)
    torch.testing.assert_close(weights_of(model), weights_of(natural), rtol=0, atol=1e-6)
    assert not torch.allclose(weights_of(other), weights_of(natural), atol=1e-4)


def test_the_first_step_brings_the_output_nearer_to_the_target(network, data, make_step, draws):
    x, y = data
    model = network(scale=2)
    recipe = BackwardSmoothing(eps=0.02, gamma=1.0, num_steps=0)
    found = recipe.craft(make_step(model, x, y, eps=0.02))
    target = (model(x) + 2 * draws[0][:, 0] - 1).softmax(1)
    assert bool((kl(target, model(found)) < kl(target, model(x))).all())


@pytest.mark.parametrize(
    "recipe",
    [
        BackwardSmoothing(eps=EPS),
        BackwardSmoothing(eps=EPS, variant="pgd", points=2),
        BackwardSmoothing(eps=EPS, start="odi"),
    ],
    ids=["trades", "pgd", "odi"],
)
def test_a_seed_reproduces_its_run(recipe, network, data):
    found = {}
    for seed, again in ((0, False), (0, True), (1, False)):
        model = network()
        result = train(model, data, recipe, epochs=2, batch_size=6, seed=seed)
        found[seed, again] = torch.cat([weights_of(model), result.losses])
    assert torch.equal(found[0, False], found[0, True])
    assert not torch.allclose(found[0, False], found[1, False], atol=1e-5)


def test_the_targets_are_drawn_anew_for_each_update(network, batch, draws):
    train(network(), batch, BackwardSmoothing(eps=EPS), updates=2, batch_size=6)
    assert not torch.allclose(draws[0].sort(0).values, draws[1].sort(0).values)
    assert all(drawn.shape == (6, 1, 3) for drawn in draws)


def test_several_points_cost_no_further_pass_and_change_the_first_step(network, data, make_step):
    x, y = data
    crafted = []
    for points in (1, 10):
        step = make_step(network(scale=2), x, y, eps=EPS)
        crafted.append(BackwardSmoothing(eps=EPS, points=points, num_steps=0).craft(step))
        assert step._engine.forwards == 2 * len(x)
    assert not torch.equal(*crafted)


def test_it_is_stronger_alone_than_nothing_and_weaker_than_with_its_ascent(
    network, data, make_step
):
    """On average over samples, the divergence from the clean answer grows with the ascent."""
    x, y = data
    model = network(scale=2)
    p = model(x).softmax(1).detach()
    reached = []
    for steps in (0, 1, 4):
        found = BackwardSmoothing(eps=EPS, num_steps=steps).craft(make_step(model, x, y, eps=EPS))
        reached.append(float(kl(p, model(found)).detach().mean()))
    alone, one, many = reached
    assert 0 < alone < one < many


def test_trades_and_pgd_share_the_outer_loss(network, batch, make_step):
    """With the same examples, the variants' losses are those of the methods that they speed up."""
    x, y = batch
    model, x_adv = network(scale=3), (batch[0] + EPS).clamp(0, 1)

    def fixed(kind, **arguments):
        frozen = type("Fixed", (kind,), {"craft": lambda recipe, step: x_adv})
        return frozen(eps=EPS, **arguments).loss(make_step(model, x, y, eps=EPS))

    assert torch.equal(fixed(BackwardSmoothing, beta=5.0), fixed(Trades, beta=5.0))
    assert torch.equal(fixed(BackwardSmoothing, variant="pgd"), fixed(Pgd))
