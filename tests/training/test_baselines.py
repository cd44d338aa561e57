"""Natural, PGD, Fast, TRADES, Fast TRADES and Free training by hand; what crafting may not
touch.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from art_ext.training import (
    BackwardSmoothing,
    Fast,
    FastTrades,
    Free,
    Natural,
    Pgd,
    Trades,
    War,
    make_recipe,
    train,
)
from tests.toys import RADIUS, small_recipe

EPS = 0.125
SGD = {"batch_size": 6, "learning_rate": 0.3, "momentum": 0.0, "weight_decay": 0.0}
CRAFTING = [
    Pgd(eps=EPS, num_steps=3),
    Pgd(eps=EPS, num_steps=3, tolerance=1),
    Fast(eps=EPS),
    Trades(eps=EPS, num_steps=3),
    FastTrades(eps=EPS),
    BackwardSmoothing(eps=EPS),
    BackwardSmoothing(eps=EPS, variant="pgd"),
    War(eps=EPS, num_steps=3),
    War(eps=EPS, num_steps=3, regulariser="at"),
]


def named(recipe):
    return "-".join(str(value) for value in recipe.settings().values() if isinstance(value, str))


def in_mode(recipe, mode):
    return type(recipe)(
        **{**{k: v for k, v in recipe.settings().items() if k != "name"}, "bn_mode": mode}
    )


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def gradient(model, rows, value):
    leaf = rows.clone().requires_grad_(True)
    return torch.autograd.grad(value(model(leaf)).sum(), leaf)[0]


def into(rows, x, norm="linf", eps=EPS):
    moved = rows - x
    if norm == "linf":
        moved = moved.clamp(-eps, eps)
    else:
        lengths = moved.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        moved = moved * (eps / lengths.clamp(min=1e-12)).clamp(max=1)
    return (x + moved).clamp(0, 1)


def ascend(model, rows, x, value, steps, length, norm="linf", eps=EPS):
    """Projected ascent of the summed ``value(logits)``, textbook."""
    for _ in range(steps):
        g = gradient(model, rows, value)
        direction = g.sign() if norm == "linf" else g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        rows = into(rows + length * direction, x, norm, eps)
    return rows


def cross_entropy(y):
    return lambda logits: functional.cross_entropy(logits, y, reduction="none")


def kl_from(p):
    return lambda logits: functional.kl_div(logits.log_softmax(1), p, reduction="none").sum(1)


# --- by hand ---


def test_natural_is_plain_minibatch_descent(network, data):
    ours, theirs = network(), network()
    settings = {
        "epochs": 3,
        "batch_size": 6,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-2,
    }
    seen = []

    class Recorder(Natural):
        def loss(self, step):
            seen.append((step.x, step.y))
            return super().loss(step)

    result = train(ours, data, Recorder(), **settings)
    assert [len(x) for x, _ in seen] == [6, 6, 2] * 3
    optimizer = torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9, weight_decay=1e-2)
    for (x, y), loss in zip(seen, result.losses, strict=True):
        optimizer.zero_grad()
        wanted = functional.cross_entropy(theirs(x), y)
        wanted.backward()
        optimizer.step()
        assert float(loss) == pytest.approx(float(wanted.detach()), abs=1e-6)
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-6)
    # each epoch sees every sample once, in an order of its own
    for epoch in range(3):
        rows = torch.cat([x for x, _ in seen[3 * epoch : 3 * epoch + 3]]).flatten(1)
        assert {tuple(row.tolist()) for row in rows} == {
            tuple(row.tolist()) for row in data[0].flatten(1)
        }
    assert not torch.equal(seen[0][0], seen[3][0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("step_size", [None, 0.07])
def test_pgd_is_projected_ascent_from_a_random_point(
    norm, step_size, network, data, make_step, draws
):
    x, y = data
    eps, model = {"linf": EPS, "l2": 0.6}[norm], network(scale=3)
    recipe = Pgd(eps=eps, norm=norm, num_steps=4, step_size=step_size)
    found = recipe.craft(make_step(model, x, y, eps=eps))
    assert into(draws[0], x, norm, eps).sub(draws[0]).abs().max() < 1e-6
    assert not torch.equal(draws[0], x)
    length = 2.5 * eps / 4 if step_size is None else step_size
    wanted = ascend(model, draws[0], x, cross_entropy(y), 4, length, norm, eps)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)
    loss = recipe.loss(make_step(model, x, y, eps=eps))
    torch.testing.assert_close(loss, functional.cross_entropy(model(found), y), rtol=1e-6, atol=0)


def test_pgd_reaches_the_corner_of_a_linear_model_of_two_classes(network, batch, make_step):
    x, y = batch[0], batch[1].clamp(max=1)
    model = network("linear")
    with torch.no_grad():
        model[1].bias[2] = -1e4  # a third class that nothing reaches
    found = Pgd(eps=EPS, num_steps=10).craft(make_step(model, x, y, eps=EPS))
    towards = (model[1].weight[1] - model[1].weight[0]).view(1, 1, 4, 4) * torch.where(
        y == 0, 1.0, -1.0
    ).view(-1, 1, 1, 1)
    assert torch.equal(found, x + EPS * towards.sign())


@pytest.mark.parametrize(("steps", "share"), [(1, 1.25), (2, 1.0), (3, 1.0)])
def test_fast_is_pgd_with_few_long_steps(steps, share, network, data, make_step, draws):
    x, y = data
    model = network(scale=3)
    found = Fast(eps=EPS, num_steps=steps).craft(make_step(model, x, y, eps=EPS))
    wanted = ascend(model, draws[0], x, cross_entropy(y), steps, share * EPS)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    same = Pgd(eps=EPS, num_steps=steps, step_size=share * EPS).craft(
        make_step(model, x, y, eps=EPS)
    )
    assert torch.equal(found, same)
    ours, theirs = network(), network()
    train(ours, data, Fast(eps=EPS, num_steps=steps), epochs=2, batch_size=6)
    train(
        theirs, data, Pgd(eps=EPS, num_steps=steps, step_size=share * EPS), epochs=2, batch_size=6
    )
    assert torch.equal(weights_of(ours), weights_of(theirs))


def test_the_random_start_fills_the_ball(network, batch, make_step, draws):
    """Uniform in [-eps, eps], away from the box: mean 0, variance eps^2 / 3."""
    x, y = batch[0].repeat(200, 1, 1, 1), batch[1].repeat(200)
    Fast(eps=EPS).craft(make_step(network(), x, y, eps=EPS))
    moved = (draws[0] - x).double() / EPS
    count = moved.numel()
    assert moved.abs().max() <= 1 + 1e-6
    assert moved.abs().max() > 0.999
    assert abs(float(moved.mean())) < 4 / (3 * count) ** 0.5
    assert float(moved.square().mean()) == pytest.approx(1 / 3, abs=4 * (4 / 45 / count) ** 0.5)


@pytest.mark.parametrize(
    "recipe",
    [
        Trades(eps=EPS, num_steps=4),
        FastTrades(eps=EPS),
        FastTrades(eps=EPS, num_steps=2),
        FastTrades(eps=EPS, boxed_start=False),
        FastTrades(eps=EPS, boxed_start=False, num_steps=2),
    ],
)
def test_trades_ascends_the_divergence_from_the_clean_answer(
    recipe, network, data, make_step, draws
):
    x, y = data
    model = network(scale=3)
    found = recipe.craft(make_step(model, x, y, eps=EPS))
    if recipe.name == "trades":
        start, length = (x + 1e-3 * draws[0]).clamp(0, 1), 2.5 * EPS / 4
        # standard normal numbers
        assert float(draws[0].square().mean()) == pytest.approx(1, abs=0.4)
    else:
        start, length = draws[0], EPS
        assert (draws[0] - x).abs().max() > 0.9 * EPS
        assert bool((draws[0] < 0).any()) != recipe.boxed_start
        assert bool((draws[0] > 1).any()) != recipe.boxed_start
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    p = model(x).softmax(1).detach()
    wanted = ascend(model, start, x, kl_from(p), recipe.num_steps, length)
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)


def test_the_loss_of_trades_has_gradients_through_both_answers(network, batch, make_step):
    x, y = batch
    model, recipe = network(scale=3), Trades(eps=EPS, num_steps=2, beta=5.0)
    x_adv = recipe.craft(make_step(model, x, y, eps=EPS))
    loss = recipe.loss(make_step(model, x, y, eps=EPS))
    clean, robust = model(x), model(x_adv)
    natural = functional.cross_entropy(clean, y)
    both = natural + 5 * kl_from(clean.softmax(1))(robust).mean()
    one = natural + 5 * kl_from(clean.softmax(1).detach())(robust).mean()
    torch.testing.assert_close(loss, both, rtol=1e-5, atol=0)
    found, wanted, short = (
        torch.autograd.grad(value, model[1].weight, retain_graph=True)[0]
        for value in (loss, both, one)
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert not torch.allclose(found, short, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "recipe", [Trades(eps=EPS, beta=0.0, num_steps=2), FastTrades(eps=EPS, beta=0.0)]
)
def test_beta_zero_is_natural_training(recipe, network, data):
    model, natural = network(), network()
    train(model, data, recipe, epochs=3, batch_size=6)
    train(natural, data, Natural(), epochs=3, batch_size=6)
    torch.testing.assert_close(weights_of(model), weights_of(natural), rtol=0, atol=1e-6)


# --- early-stopped steps ---


def test_tolerance_none_or_large_is_plain_pgd(network, data):
    found = {}
    for tolerance in (None, 0, 1, 5, 100):
        model = network(scale=3)
        train(model, data, Pgd(eps=EPS, num_steps=5, tolerance=tolerance), epochs=2, batch_size=6)
        found[tolerance] = weights_of(model)
    assert torch.equal(found[None], found[5])
    assert torch.equal(found[None], found[100])
    for tolerance in (0, 1):
        assert not torch.allclose(found[None], found[tolerance], atol=1e-4)


@pytest.mark.parametrize("tolerance", [0, 1, 2])
def test_a_misclassified_sample_is_frozen_after_so_many_steps(
    tolerance, network, data, make_step, draws
):
    x, y = data
    model = network(scale=3)
    found = Pgd(eps=EPS, num_steps=6, tolerance=tolerance).craft(make_step(model, x, y, eps=EPS))
    wanted = []
    # the authors' counter
    for row, clean, label in zip(draws[0].split(1), x.split(1), y.split(1), strict=True):
        counter = tolerance + 1
        for _ in range(6):
            counter -= int(model(row).argmax() != label)
            if counter == 0:
                break
            row = ascend(model, row, clean, cross_entropy(label), 1, 2.5 * EPS / 6)
        wanted.append(row)
    torch.testing.assert_close(found, torch.cat(wanted), rtol=0, atol=1e-6)
    wrong = model(draws[0]).argmax(1) != y
    assert 0 < int(wrong.sum()) < len(x)
    still = (found == draws[0]).flatten(1).all(1)
    assert torch.equal(still, wrong if tolerance == 0 else torch.zeros_like(wrong))


@pytest.mark.parametrize("kind", [Pgd, Trades])
def test_a_schedule_of_tolerances_holds_from_each_of_its_epochs_on(kind, network, data, make_step):
    x, y = data
    model = network(scale=3)

    def craft(tolerance, epoch):
        return kind(eps=EPS, num_steps=5, tolerance=tolerance).craft(
            make_step(model, x, y, eps=EPS, epoch=epoch)
        )

    schedule = {0: 0, 2: None, 5: 1}
    for epoch, wanted in enumerate([0, 0, None, None, None, 1, 1]):
        assert torch.equal(craft(schedule, epoch), craft(wanted, 0))
    assert len({tuple(craft(wanted, 0).flatten().tolist()) for wanted in (0, None, 1)}) == 3


@pytest.mark.parametrize("kind", [Pgd, Trades])
def test_the_loop_tells_a_schedule_of_tolerances_the_epoch(kind, network, data):
    found = {}
    for name, tolerance in {"schedule": {0: 0, 1: None}, "first": 0, "second": None}.items():
        model, epochs = network(scale=3), []
        recipe = kind(eps=EPS, num_steps=5, tolerance=tolerance)
        save = [lambda end, epochs=epochs: epochs.append(weights_of(end.model)) or {}]
        train(model, data, recipe, epochs=2, batch_size=6, callbacks=save)
        found[name] = epochs
    assert torch.equal(found["schedule"][0], found["first"][0])
    assert not torch.equal(found["first"][0], found["second"][0])
    assert not torch.equal(found["schedule"][1], found["first"][1])


def test_trades_does_not_move_a_sample_that_is_misclassified(network, data, make_step):
    x, y = data
    model = network(scale=3)
    step = make_step(model, x, y, eps=EPS)
    found = Trades(eps=EPS, num_steps=4, tolerance=0).craft(step)
    with torch.no_grad():
        wrong = model(x).argmax(1) != y
    still = (found - x).abs().flatten(1).amax(1) < 0.01  # the noise of the start
    assert 0 < int(wrong.sum()) < len(y)
    assert torch.equal(still, wrong)


@pytest.mark.parametrize("kind", [Fast, FastTrades])
def test_rows_that_never_move_from_a_start_outside_the_box_are_brought_to_it(
    kind, network, data, make_step
):
    x, y = data
    step = make_step(network(scale=3), x, y, eps=EPS)
    found = kind(eps=EPS, tolerance=0, boxed_start=False).craft(step)
    assert found.min() >= 0
    assert found.max() <= 1


def test_tolerance_serves_fast_training_too(network, data, make_step, draws):
    x, y = data
    model = network(scale=3)
    found = Fast(eps=EPS, tolerance=0).craft(make_step(model, x, y, eps=EPS))
    still = (found == draws[0]).flatten(1).all(1)
    assert torch.equal(still, model(draws[0]).argmax(1) != y)
    assert 0 < int(still.sum()) < len(x)


# --- Free ---


def free_by_hand(model, minibatches, replays, step_size, rate, delta=None):
    """Free training as printed; returns delta (6, 1, 4, 4) after each weight update."""
    delta = torch.zeros(6, 1, 4, 4) if delta is None else delta
    after = []
    for x, y in minibatches:
        for _ in range(replays):
            leaf = (x + delta[: len(x)]).clamp(0, 1).requires_grad_(True)
            model.zero_grad()
            functional.cross_entropy(model(leaf), y).backward()
            moved = into(leaf.detach() + step_size * leaf.grad.sign(), x) - x
            delta = torch.cat([moved, delta[len(x) :]])
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= rate * parameter.grad
            after.append(delta)
    return after


@pytest.mark.parametrize("step_size", [None, 0.03])
def test_free_is_its_loop_by_hand(step_size, network, data):
    """delta persists over replays, minibatches and epochs; a short minibatch moves the first
    rows.
    """
    minibatches, deltas = [], []

    class Recorder(Free):
        def loss(self, step):
            if step.replay == 0:
                minibatches.append((step.x, step.y))
            return super().loss(step)

        def after_backward(self, step):
            super().after_backward(step)
            deltas.append(step.carried["delta"])

    ours, theirs = network(scale=3), network(scale=3)
    train(ours, data, Recorder(eps=EPS, num_replays=3, step_size=step_size), epochs=2, **SGD)
    assert [len(x) for x, _ in minibatches] == [6, 6, 2] * 2
    wanted = free_by_hand(
        theirs, minibatches, 3, EPS if step_size is None else step_size, SGD["learning_rate"]
    )
    assert len(deltas) == 2 * 3 * 3
    for delta, hand in zip(deltas, wanted, strict=True):
        torch.testing.assert_close(delta, hand, rtol=0, atol=1e-6)
        assert delta.abs().max() <= EPS + 1e-6
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-6)
    # the two rows of the last minibatch moved, the four others waited for the next epoch
    assert torch.equal(deltas[8][2:], deltas[5][2:])
    assert not torch.equal(deltas[8][:2], deltas[5][:2])


def test_free_starts_at_zero_and_uses_the_gradient_before_the_step(network, batch, make_step):
    x, y = batch
    model, step = network(scale=3), make_step(network(scale=3), x, y, eps=EPS)
    recipe = Free(eps=EPS)
    recipe.loss(step).backward()
    recipe.after_backward(step)
    sign = gradient(model, x, cross_entropy(y)).sign()
    assert torch.equal(step.carried["delta"], EPS * sign)


def test_free_takes_a_longer_minibatch_after_a_shorter_one(network, data):
    x, y = data
    rows = []

    class Recorder(Free):
        def after_backward(self, step):
            rows.append(step.memory["leaf"].detach() - step.x)
            super().after_backward(step)

    loader = [(x[:2], y[:2]), (x[2:8], y[2:8])]
    train(network(scale=3), loader, Recorder(eps=EPS, num_replays=1), epochs=1)
    assert rows[1][:2].abs().max() > 0.9 * EPS
    assert torch.equal(rows[1][2:], torch.zeros(4, 1, 4, 4))


# --- what crafting may not touch ---


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("recipe", CRAFTING, ids=named)
def test_examples_stay_in_the_ball_and_in_the_box(recipe, norm, network, data, make_step):
    x, y = data
    eps = {"linf": 0.3, "l2": 0.8, "l1": 2.0}[norm]
    settings = {
        **{k: v for k, v in recipe.settings().items() if k != "name"},
        "eps": eps,
        "norm": norm,
    }
    given = x.clone()
    found = type(recipe)(**settings).craft(make_step(network("norm", scale=3), x, y, eps=eps))
    lengths = (found - x).flatten(1).norm({"linf": float("inf"), "l2": 2, "l1": 1}[norm], dim=1)
    assert found.shape == x.shape
    assert not found.requires_grad
    assert 0.3 * eps < lengths.max() <= eps * (1 + 1e-5)
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(x, given)


@pytest.mark.parametrize("mode", ["eval", "train", "batch"])
@pytest.mark.parametrize("recipe", CRAFTING, ids=named)
def test_crafting_leaves_the_model_as_it_was(recipe, mode, network, data, make_step):
    x, y = data
    model = network("norm", scale=3).train()
    model[1].eval()
    model[1].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    found = in_mode(recipe, mode).craft(make_step(model, x, y, eps=EPS))
    assert [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, value in model.state_dict().items():
        moved = mode == "train" and ("running" in name or "tracked" in name)
        assert torch.equal(value, before[name]) is not moved
    assert not torch.equal(found, x)


def test_the_statistics_that_crafting_uses_are_those_of_its_mode(network, data, make_step):
    x, y = data
    model = network("norm", scale=3)
    with torch.no_grad():
        model[2].running_mean.fill_(0.7)
        model[2].running_var.fill_(4.0)
    found = {
        mode: in_mode(Pgd(eps=EPS, num_steps=3), mode).craft(make_step(model, x, y, eps=EPS))
        for mode in ("eval", "batch", "train")
    }
    assert torch.equal(found["batch"], found["train"])
    assert not torch.equal(found["batch"], found["eval"])


TRAINING_FORWARDS = dict.fromkeys(
    ("trades", "fast-trades", "grad-align", "backward-smoothing", "war", "yopo-trades"), 2
)


@pytest.mark.parametrize("mode", ["eval", "batch", "train"])
@pytest.mark.parametrize(
    "name", [name for name in RADIUS if "bn_mode" in make_recipe(name).settings()]
)
def test_batchnorm_counts_the_training_forwards_and_in_train_mode_all_of_them(
    name, mode, network, batch
):
    model = network("norm")
    settings = make_recipe(name).settings()
    arguments = {"craft": "pgd"} if "craft" in settings else {}
    arguments |= {"num_steps": 2} if "num_steps" in settings else {}
    recipe = small_recipe(name, EPS, bn_mode=mode, **arguments)
    updates = 2 * recipe.replays
    train(model, batch, recipe, updates=updates, batch_size=6)
    each = recipe.cost().forwards if mode == "train" else TRAINING_FORWARDS.get(name, 1)
    assert int(model[2].num_batches_tracked) == updates * each


def test_free_has_no_pass_of_crafting_to_choose_a_mode_for(network, batch):
    with pytest.raises(ValueError, match=r"the recipe free takes .*got 'bn_mode'"):
        make_recipe("free", bn_mode="eval")
    model = network("norm")
    train(model, batch, make_recipe("free", eps=EPS, num_replays=3), updates=3, batch_size=6)
    assert int(model[2].num_batches_tracked) == 3


class Failing(torch.nn.Module):
    """A network that fails from its third forward on."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, rows):
        self.calls += 1
        if self.calls > 2:
            raise RuntimeError("out of order")
        return self.inner(rows)


@pytest.mark.parametrize("mode", ["eval", "train", "batch"])
def test_an_error_while_crafting_leaves_the_model_as_it_was(mode, network, batch, make_step):
    model = Failing(network("norm")).train()
    model.inner[1].bias.requires_grad_(False)
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(RuntimeError, match="out of order"):
        Pgd(eps=EPS, bn_mode=mode).craft(make_step(model, *batch, eps=EPS))
    assert model.calls == 3
    assert all(module.training for module in model.modules())
    assert model.inner[2].track_running_stats
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted


@pytest.mark.parametrize("name", RADIUS)
def test_seeds_reproduce_runs_and_differ(name, network, data):
    found = {}
    for seed, again in ((0, False), (0, True), (1, False)):
        model = network()
        arguments = {"craft": "pgd"} if "craft" in make_recipe(name).settings() else {}
        recipe = small_recipe(name, EPS, **arguments)
        train(model, data, recipe, epochs=1, batch_size=6, seed=seed)
        found[seed, again] = weights_of(model)
    assert torch.equal(found[0, False], found[0, True])
    assert not torch.allclose(found[0, False], found[1, False], atol=1e-5)


@pytest.mark.parametrize(
    "recipe", [Pgd(eps=0.0), Fast(eps=0.0), Free(eps=0.0, num_replays=1), Trades(eps=0.0)]
)
def test_radius_zero_is_natural_training(recipe, network, data):
    model, natural = network(), network()
    train(model, data, recipe, epochs=2, batch_size=6)
    train(natural, data, Natural(), epochs=2, batch_size=6)
    torch.testing.assert_close(weights_of(model), weights_of(natural), rtol=0, atol=1e-6)


def test_fast_may_start_outside_the_box_and_ends_inside(network, make_step):
    x, y = torch.zeros(6, 1, 4, 4), torch.arange(6) % 3  # on a face of the box, as most of MNIST
    model = network()
    found = {
        boxed: Fast(eps=EPS, boxed_start=boxed).craft(make_step(model, x, y, eps=EPS))
        for boxed in (True, False)
    }
    for rows in found.values():
        assert rows.min() >= 0
        assert rows.max() <= EPS
    inside = {boxed: ((rows > 0) & (rows < EPS)).float().mean() for boxed, rows in found.items()}
    assert inside[True] == 0, "from the box, a step of 1.25 eps ends at 0 or eps"
    assert inside[False] > 0.1, "from below it, the same step ends in between"
    with pytest.raises(ValueError, match="boxed_start must be True or False, got 1"):
        Fast(boxed_start=1)
