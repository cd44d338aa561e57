"""CAT and ATCD against chains computed by hand, their algebra, and Free adversarial training."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from art_ext.training import Atcd, Cat, Free, Natural, train

EPS = 0.125
ORDERS = ("free", "printed", "fresh")
SGD = {"batch_size": 6, "learning_rate": 0.5, "momentum": 0.0, "weight_decay": 0.0}
STILL = {**SGD, "learning_rate": 1e-30}  # weights that a run leaves as they are


def recorded(kind=Atcd, edit=None, **arguments):
    """A recipe that keeps, for each weight update, the minibatch, the states of the chain, and a
    copy of the weights.

    ``theta`` and ``v`` are those after the update; ``start`` is theta before it, None at a
    minibatch's first replay.
    """
    records = []

    class Recorder(kind):
        def loss(self, step):
            record = SimpleNamespace(
                x=step.x, y=step.y, replay=step.replay, start=step.memory.get("theta")
            )
            record.v_start = step.memory.get("v")
            records.append(record)
            record.weights = [weight.detach().clone() for weight in step._engine.plain.parameters()]
            loss = super().loss(step)
            if edit is not None:
                edit(step)
            return loss

        def after_backward(self, step):
            super().after_backward(step)
            records[-1].theta, records[-1].v = step.memory["theta"], step.memory["v"]
            records[-1].carried = dict(step.carried)

    return Recorder(**{"eps": EPS, **arguments}), records


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def by_hand(model, x, y, recipe, draws, rate):
    """The chain and the weight updates of one minibatch, by the papers' formulas and autograd
    alone.

    The contrast is differentiated as printed, by its gradient at the last layer, ``lam (f - y) -
    rho (f~ - y)``.
    """
    eps, alpha = recipe.eps, recipe.eps if recipe.alpha is None else recipe.alpha
    length = eps if recipe.step_size is None else recipe.step_size
    wanted = functional.one_hot(y, 3).float()
    draws = iter(draws)
    stale = None
    states = []

    def project(rows):
        return torch.minimum(torch.maximum(rows, x - eps), x + eps).clamp(0, 1)

    def gradient(rows):
        leaf = rows.clone().requires_grad_(True)
        logits = model(leaf)
        f = logits.softmax(1).detach()
        contrast = (
            f - wanted
            if stale is None
            else recipe.lam * (f - wanted) - recipe.rho * (stale - wanted)
        )
        return torch.autograd.grad(logits, leaf, contrast)[0]

    def climb(v, g):
        if not recipe.momentum:
            return g
        return (v + alpha * g / g.abs().mean(dim=(1, 2, 3), keepdim=True)).clamp(-eps, eps)

    v = eps * (2 * next(draws) - 1)
    theta = project(x + v)
    for _ in range(recipe.num_replays):
        old = theta, v
        for k in range(recipe.num_steps):
            if recipe.order == "free":
                theta = project(theta + length * v.sign())
                v = climb(v, gradient(theta)) if k + 1 < recipe.num_steps else v
            elif recipe.order == "printed":
                theta, v = project(theta + length * v.sign()), climb(v, gradient(theta))
            else:
                v = climb(v, gradient(theta))
                theta = project(theta + length * v.sign())
        if recipe.metropolis:
            new, before = (
                functional.cross_entropy(model(rows), y, reduction="none")
                for rows in (theta, old[0])
            )
            rise = new - before
            if recipe.kinetic:
                rise = rise + (v.abs() - old[1].abs()).mean(dim=(1, 2, 3))
            accepted = (next(draws) < (rise / recipe.temperature).exp().clamp(max=1)).view(
                -1, 1, 1, 1
            )
            theta, v = torch.where(accepted, theta, old[0]), torch.where(accepted, v, old[1])
        if recipe.order == "free":  # the chain's last gradient, at the point that is trained on
            v = climb(v, gradient(theta))
        model.zero_grad()
        logits = model(theta)
        functional.cross_entropy(logits, y).backward()
        stale = logits.softmax(1).detach()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
        states.append((theta, v))
    return states


# --- the chain by hand ---


@pytest.mark.parametrize("rho", [0.0, 1.0])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": False},
        {"alpha": 0.02},
        {"step_size": 0.04},
        {"metropolis": True, "eps": 0.5},
        {"metropolis": True, "eps": 0.5, "shared_test": False},
        {"metropolis": True, "eps": 0.5, "temperature": 5.0, "kinetic": True, "step_size": 0.4},
    ],
    ids=[
        "plain",
        "no-momentum",
        "small-alpha",
        "step-size",
        "metropolis",
        "test-apart",
        "temperature",
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_theta_v_and_weights_are_those_of_a_chain_by_hand(
    order, settings, rho, network, batch, draws
):
    recipe, records = recorded(
        **{
            "order": order,
            "num_replays": 3,
            "num_steps": 2,
            "rho": rho,
            "metropolis": False,
            **settings,
        }
    )
    # long steps on a steep model miss the top, and are rejected
    scale = 12 if recipe.metropolis else 3
    model, other = network(scale=scale), network(scale=scale)
    result = train(model, batch, recipe, updates=3, seed=1, **SGD)
    states = by_hand(other, records[0].x, records[0].y, recipe, draws, SGD["learning_rate"])
    for record, (theta, v) in zip(records, states, strict=True):
        torch.testing.assert_close(record.theta, theta, rtol=0, atol=1e-6)
        if recipe.momentum:
            torch.testing.assert_close(record.v, v, rtol=0, atol=2e-6)
        else:  # v is the gradient, of a loss whose scale is no matter
            assert torch.equal(record.v.sign(), v.sign())
    torch.testing.assert_close(weights_of(model), weights_of(other), rtol=0, atol=1e-6)
    if recipe.metropolis:
        shares = [row["acceptance"] for row in result.history]
        assert 0 < sum(shares) < len(shares)  # both outcomes were seen


def test_the_orders_differ_in_the_gradient_that_the_first_replay_moves_along(network, batch, draws):
    """One step: "printed" and "free" move along the first v; "fresh" takes the gradient first."""
    moved, v = {}, {}
    for order in ORDERS:
        recipe, records = recorded(
            order=order, num_replays=2, num_steps=1, metropolis=False, momentum=False, rho=0.0
        )
        model = network(scale=3)
        first = network(scale=3)
        train(model, batch, recipe, updates=2, **SGD)
        x, y, drawn = records[0].x, records[0].y, EPS * (2 * draws[-1] - 1)

        def gradient_sign(rows, first=first, y=y):
            leaf = rows.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(functional.cross_entropy(first(leaf), y), leaf)
            return gradient.sign()

        moved[order], v[order] = records[0].theta, records[0].v.sign()
        start = (x + drawn).clamp(0, 1)
        if order == "fresh":
            along = gradient_sign(start)
            expected = torch.minimum(torch.maximum(start + EPS * along, x - EPS), x + EPS)
            torch.testing.assert_close(moved[order], expected, rtol=0, atol=1e-7)
        else:
            assert torch.equal(moved[order], x + EPS * drawn.sign())
            along = gradient_sign(start if order == "printed" else moved[order])
        assert torch.equal(v[order], along)
    assert not torch.equal(v["printed"], v["free"])
    assert not torch.equal(moved["fresh"], moved["free"])


@pytest.mark.parametrize("order", ORDERS)
def test_theta_stays_in_the_ball_and_in_the_box(order, network, data):
    recipe, records = recorded(order=order, num_replays=3, num_steps=2, eps=0.3)
    train(network("norm", scale=3), data, recipe, epochs=2, batch_size=6)
    assert len(records) == 2 * 3 * 3
    for record in records:
        assert (record.theta - record.x).abs().max() <= 0.3 + 1e-6
        assert record.theta.min() >= 0
        assert record.theta.max() <= 1
        assert record.v.abs().max() <= 0.3
    # the bound is reached, so it is the projection that holds it
    assert max(float((record.theta - record.x).abs().max()) for record in records) > 0.299


def test_a_chain_lives_for_one_minibatch(network, data, draws):
    recipe, records = recorded(num_replays=2, metropolis=False)
    train(network(), data, recipe, epochs=1, batch_size=6)
    assert [record.start is None for record in records] == [True, False] * 3
    assert [tuple(drawn.shape) for drawn in draws] == [(6, 1, 4, 4), (6, 1, 4, 4), (2, 1, 4, 4)]
    for first, second in itertools.pairwise(records):
        if second.replay:
            assert torch.equal(second.start, first.theta)
            assert torch.equal(second.v_start, first.v)
    assert all(record.carried == {} for record in records)


# --- the contrast ---


class Scores(nn.Module):
    """The inputs are the logits, so that an input gradient is the gradient at the last layer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, rows):
        return self.scale * rows


@pytest.mark.parametrize(
    ("lam", "rho"), [(2.0, 1.0), (4.0, 1.0), (1.0, 1.0), (1.0, 2.0), (3.0, 0.5), (2.0, 0.0)]
)
def test_the_soft_label_carries_the_gradient_of_the_contrast(lam, rho):
    """Equation 14: ``lam (f - q) = lam (f - y) - rho (f~ - y)`` at the last layer, and q sums to
    1.
    """
    x = torch.rand(6, 3, generator=torch.Generator().manual_seed(1))
    recipe, records = recorded(
        num_replays=2, num_steps=1, momentum=False, metropolis=False, lam=lam, rho=rho
    )
    train(Scores(), (x, torch.arange(6) % 3), recipe, updates=2, **STILL)
    stale, now = records[0].theta.softmax(1), records[1].theta.softmax(1)
    assert not torch.equal(stale, now)
    y = functional.one_hot(records[1].y, 3).float()
    # without contrast it is that of the minibatch's mean
    gradient = records[1].v * (6 if not rho else 1)
    torch.testing.assert_close(
        lam * gradient, lam * (now - y) - rho * (stale - y), rtol=0, atol=2e-6
    )
    q = now - gradient
    torch.testing.assert_close(q.sum(1), torch.ones(6), rtol=0, atol=1e-6)
    torch.testing.assert_close(q, (rho * stale + (lam - rho) * y) / lam, rtol=0, atol=2e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_the_stale_softmax_matters_with_rho_alone(order, network, batch):
    def spoil(step):
        step.memory["stale"] = step.memory["stale"].roll(1, dims=1)

    weights = {}
    for rho, edit in itertools.product((0.0, 1.0), (None, spoil)):
        recipe, _ = recorded(
            order=order, num_replays=3, num_steps=2, rho=rho, edit=edit, metropolis=False
        )
        model = network(scale=3)
        train(model, batch, recipe, updates=3, **SGD)
        weights[rho, edit] = weights_of(model)
    assert torch.equal(weights[0.0, None], weights[0.0, spoil])
    assert not torch.allclose(weights[1.0, None], weights[1.0, spoil], atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_replay_does_not_depend_on_rho(order, network, batch):
    """There ``f~ = f``: the contrast's gradient is ``(lam - rho)`` times that of cross-entropy."""
    found = []
    for rho in (0.0, 0.5, 1.0, 3.0):
        recipe, records = recorded(order=order, num_replays=1, num_steps=3, rho=rho)
        model = network(scale=3)
        train(model, batch, recipe, updates=1, **SGD)
        found.append((records[0].theta, records[0].v, weights_of(model)))
    for theta, v, weights in found[1:]:
        assert torch.equal(theta, found[0][0])
        torch.testing.assert_close(v, found[0][1], rtol=0, atol=1e-6)
        torch.testing.assert_close(weights, found[0][2], rtol=0, atol=1e-7)


# --- limits and Metropolis ---


def test_without_contrast_test_and_momentum_it_is_free_step_for_step(network, batch):
    """(T, K) = (8, 1) on one minibatch, where Free starts from ``eps sgn(v_0)``: the same bits,
    on a dyadic grid.
    """
    settings = {
        "num_replays": 8,
        "num_steps": 1,
        "lam": 1.0,
        "momentum": False,
        "metropolis": False,
    }
    recipe, records = recorded(rho=0.0, **settings)
    moved = []

    class Shifted(Free):
        def loss(self, step):
            if "delta" not in step.carried:
                v = step.eps * (2 * step.uniform(tuple(step.x.shape[1:])) - 1)
                step.carried["delta"] = step.eps * v.sign()
            moved.append(step.x + step.carried["delta"])
            return super().loss(step)

    chain, free, contrast = (network(scale=3) for _ in range(3))
    ours = train(chain, batch, recipe, updates=8, **SGD)
    theirs = train(free, batch, Shifted(eps=EPS, num_replays=8), updates=8, **SGD)
    for record, rows in zip(records, moved, strict=True):
        assert torch.equal(record.theta, rows)
    assert torch.equal(ours.losses, theirs.losses)
    assert torch.equal(weights_of(chain), weights_of(free))
    assert len({tuple(rows.flatten().tolist()) for rows in moved}) > 1  # the perturbation did move
    train(contrast, batch, recorded(**settings, rho=0.9)[0], updates=8, **SGD)
    assert not torch.allclose(weights_of(contrast), weights_of(free), atol=1e-4)


@pytest.mark.parametrize("momentum", [True, False])
@pytest.mark.parametrize("order", ORDERS)
def test_radius_zero_is_natural_training(order, momentum, network, data):
    recipe, records = recorded(order=order, eps=0.0, num_replays=1, num_steps=2, momentum=momentum)
    model, natural = network(scale=3), network(scale=3)
    result = train(model, data, recipe, epochs=2, **SGD)
    reference = train(natural, data, Natural(), epochs=2, **SGD)
    assert all(torch.equal(record.theta, record.x) for record in records)
    assert [row["acceptance"] for row in result.history] == [1.0, 1.0]
    assert torch.equal(result.losses, reference.losses)
    assert torch.equal(weights_of(model), weights_of(natural))


def test_radius_zero_repeats_the_minibatch(network, batch):
    model, natural = network(scale=3), network(scale=3)
    train(model, batch, recorded(eps=0.0, num_replays=4)[0], updates=4, **SGD)
    # one minibatch is the whole data: another order of its rows
    train(natural, batch, Natural(), updates=4, **SGD)
    torch.testing.assert_close(weights_of(model), weights_of(natural), rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_metropolis_accepts_each_sample_with_the_textbook_probability(order, network, draws):
    """Weights that stand still; moves that only a random corner decides raise some losses and
    lower others.
    """
    count = 600
    generator = torch.Generator().manual_seed(5)
    x, y = torch.rand(count, 1, 4, 4, generator=generator), torch.arange(count) % 3
    model = network("linear", scale=4)
    # so small that all orders move by v_0
    settings = {"order": order, "num_replays": 1, "num_steps": 1, "alpha": 1e-6}
    recipe, records = recorded(**settings)
    plain, moves = recorded(**settings, metropolis=False)
    result = train(model, (x, y), recipe, updates=1, **{**STILL, "batch_size": count})
    start = (records[0].x + EPS * (2 * draws[0] - 1)).clamp(0, 1)
    train(model, (x, y), plain, updates=1, **{**STILL, "batch_size": count})
    moved, labels = moves[0].theta, records[0].y
    assert torch.equal(moves[0].x, records[0].x)
    with torch.no_grad():
        before, after = (
            functional.cross_entropy(model(rows), labels, reduction="none")
            for rows in (start, moved)
        )
    chance = (after - before).exp().clamp(max=1).double()
    taken, kept = (
        (records[0].theta - rows).abs().flatten(1).amax(1) < 1e-6 for rows in (moved, start)
    )
    assert bool((taken ^ kept).all())  # whole samples, each by itself
    assert bool(taken[chance == 1].all())  # a rise is always accepted
    assert kept.sum() > 20
    assert abs(float(taken.sum() - chance.sum())) < 4 * float((chance * (1 - chance)).sum().sqrt())
    assert result.history[0]["acceptance"] == pytest.approx(float(taken.float().mean()), abs=1e-6)


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_the_shared_test_changes_nothing_on_a_network_that_has_one_mode(rho, network, data):
    """Rows that are rejected are trained where their replay began, as without sharing."""
    runs = {}
    for shared in (True, False):
        model = network(scale=12)
        recipe, records = recorded(eps=0.5, num_replays=3, num_steps=2, rho=rho, shared_test=shared)
        result = train(model, data, recipe, epochs=2, batch_size=6)
        runs[shared] = (
            weights_of(model),
            torch.stack([record.theta[:2] for record in records]),
            result,
        )
    for ours, theirs in zip(runs[True][:2], runs[False][:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    shares = [[row["acceptance"] for row in runs[shared][2].history] for shared in (True, False)]
    assert shares[0] == shares[1]
    assert shares[0][0] < 1
    assert runs[True][2].forwards < runs[False][2].forwards


class Noted(nn.Module):
    """Passes its input on, and keeps the mode, the statistics' mode and the number of rows of
    each call.
    """

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, rows):
        self.calls.append((self.training, len(rows)))
        return rows


@pytest.mark.parametrize(("mode", "tracked"), [("eval", 1), ("batch", 1), ("train", 3)])
def test_both_energies_are_taken_in_the_mode_of_the_training_forward(
    mode, tracked, batch, network, make_step
):
    noted, model = Noted(), network("norm", scale=3)
    model.insert(1, noted)
    model.train()
    recipe = Atcd(eps=EPS, num_replays=1, num_steps=2, bn_mode=mode, temperature=1e6)
    recipe.loss(make_step(model, *batch, eps=EPS))
    crafting = mode != "eval"
    assert noted.calls == [(crafting, 6), (True, 6), (True, 6)]
    assert int(model[3].num_batches_tracked) == tracked


def test_without_sharing_both_energies_are_taken_in_the_mode_of_crafting(batch, network, make_step):
    noted, model = Noted(), network("norm", scale=3)
    model.insert(1, noted)
    model.train()
    Atcd(eps=EPS, num_replays=1, num_steps=2, shared_test=False).loss(
        make_step(model, *batch, eps=EPS)
    )
    assert noted.calls == [(False, 6), (False, 6), (False, 6), (True, 6)]


@pytest.mark.parametrize("spare", [True, False])
@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_one_rejected_row_is_trained_where_it_was_beside_batchnorm(
    rho, spare, batch, network, make_step
):
    """It is sent again by itself, on the running statistics, which stay; without room for it, it
    adds no gradient.
    """
    x, y = batch
    model = network("norm", scale=3).train()
    chosen = torch.tensor([True, True, False, True, True, True])

    class Chosen(Atcd):
        def _accepted(self, step, rise, old, new):
            return chosen

    noted = Noted()
    model.insert(1, noted)
    step = make_step(model, x, y, eps=EPS, spare=spare)
    recipe = Chosen(eps=EPS, num_replays=1, num_steps=1, rho=rho)
    start = {}
    original = step.crafting_logits

    def crafting_logits(rows, mode):
        start["theta"] = rows
        return original(rows, mode)

    step.crafting_logits = crafting_logits
    loss = recipe.loss(step)
    theta = step.memory["theta"]
    assert torch.equal(theta[2], start["theta"][2])
    assert not torch.equal(theta[0], start["theta"][0])
    assert [rows for _, rows in noted.calls] == [6, 6, 1][: 2 + spare]
    statistics = model[3].running_mean.clone()
    assert int(model[3].num_batches_tracked) == 1
    loss.backward()
    recipe.after_backward(step)
    assert bool(step.memory["v"].isfinite().all())
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    # by hand: the five others in train mode among all six, the one in eval mode
    moved = step.ball("linf").step(start["theta"], 2 * step_v(step, recipe), EPS)
    twin = network("norm", scale=3).train()
    losses = functional.cross_entropy(twin(moved), y, reduction="none")[chosen].sum()
    if spare:
        twin[2].eval()
        losses = losses + functional.cross_entropy(twin(theta[2:3]), y[2:3])
    (losses / 6).backward()
    wanted = torch.cat([parameter.grad.flatten() for parameter in twin.parameters()])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert torch.equal(model[3].running_mean, statistics)
    engine = step._engine
    assert (engine.forwards, engine.backwards) == (12 + spare, (1 + (rho > 0)) * (6 + spare))


def step_v(step, recipe):
    """The first momentum of a fresh step: that of its first draw."""
    from art_ext.core.streams import uniform_pairs

    return uniform_pairs(0, step.ids, 0, tuple(step.x.shape[1:])) - 0.5


def test_cat_is_atcd_without_the_test(network, data):
    cat, atcd, tested = (network(scale=12) for _ in range(3))
    settings = {"eps": 0.5, "num_replays": 2}
    for model, recipe in (
        (cat, Cat(**settings)),
        (atcd, Atcd(**settings, metropolis=False)),
        (tested, Atcd(**settings)),
    ):
        result = train(model, data, recipe, epochs=2, batch_size=6)
    assert torch.equal(weights_of(cat), weights_of(atcd))
    assert result.history[0]["acceptance"] < 1
    assert not torch.equal(weights_of(tested), weights_of(atcd))
    assert {**Cat().settings(), "name": "atcd", "metropolis": True} == Atcd().settings()


@pytest.mark.parametrize(
    "recipe", [Free(eps=EPS), Atcd(eps=EPS, rho=0.0, metropolis=False)], ids=["free", "atcd"]
)
def test_an_overflow_of_float16_does_not_stay_in_the_perturbation(
    recipe, network, batch, make_step
):
    """The scaler leaves such an update out; the rows go on from where they are, and the others
    as ever.
    """
    states = []
    for overflow in (False, True):
        step = make_step(network(scale=3), *batch, eps=EPS)
        step._engine.scale = 1024.0
        recipe.loss(step).backward()
        leaf = step.memory["leaf"]
        if overflow:
            leaf.grad[0], leaf.grad[1] = float("nan"), float("inf")
        recipe.after_backward(step)
        states.append(step.carried["delta"] if recipe.name == "free" else step.memory["v"])
    assert bool(states[1].isfinite().all())
    assert torch.equal(states[0][2:], states[1][2:])
    assert not torch.equal(states[0], states[1])
