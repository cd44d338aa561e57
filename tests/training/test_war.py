"""Width adjusted regularisation: lambda by hand, and its limits: natural training, TRADES,
adversarial training.
"""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks import pgd
from art_ext.core.metrics import robust_accuracy
from art_ext.data import load_data
from art_ext.models import mnist_two_conv
from art_ext.training import Natural, Pgd, Trades, War, measure_zeta, train

EPS = 0.125
FAST = {"eps": EPS, "num_steps": 2}
BOTH = pytest.mark.parametrize("regulariser", ["trades", "at"])


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def recorded(rule="printed", **arguments):
    """WAR that keeps, for each minibatch, lambda, the ratio and both terms, as logged and as
    found by hand.
    """
    records = []

    class Recorder(War):
        def craft(self, step):
            x_adv = super().craft(step)
            with torch.no_grad():
                clean, robust = (step._engine.plain.eval()(rows) for rows in (step.x, x_adv))
            step._engine.plain.train()
            natural = functional.cross_entropy(clean, step.y)
            if self.regulariser == "trades":
                term = functional.kl_div(
                    robust.log_softmax(1), clean.softmax(1), reduction="batchmean"
                )
            else:
                losses = [
                    functional.cross_entropy(rows, step.y, reduction="none")
                    for rows in (robust, clean)
                ]
                term = (losses[0] - losses[1]).clamp(min=0).mean()
            records.append(SimpleNamespace(l_nat=float(natural), l_rob=float(term)))
            return x_adv

        def loss(self, step):
            loss = super().loss(step)
            records[-1].logged = {name: float(value) for name, value in step.log.items()}
            return loss

    return Recorder(**{**FAST, "rule": rule, **arguments}), records


def lambdas(records, zeta, alpha=0.1, cap=math.inf, ema=0.0):
    """The printed rule, from the terms that were found by hand."""
    found, average, weight = [], None, 0.0
    for record in records:
        ratio = record.l_nat / max(record.l_rob, 1e-8)
        if cap < math.inf:
            ratio = min(ratio, cap * zeta)
        average = ratio if average is None else ema * average + (1 - ema) * ratio
        weight = max(weight + alpha * (zeta - average), 0.0)
        found.append(weight)
    return found


@BOTH
@pytest.mark.parametrize(
    "settings",
    [
        {"zeta": 3.0, "cap": math.inf},
        {"zeta": 20.0, "cap": math.inf, "alpha": 0.5},
        {"zeta": 3.0, "cap": 1.2},
        {"zeta": 10.0, "cap": math.inf, "ema": 0.9},
        {"zeta": 10.0, "cap": 1.5, "ema": 0.5},
    ],
    ids=str,
)
def test_lambda_follows_the_printed_rule(settings, regulariser, network, data):
    recipe, records = recorded(regulariser=regulariser, **settings)
    result = train(network(scale=4), data, recipe, epochs=3, batch_size=6, learning_rate=0.05)
    assert len(records) == 9  # one update of lambda a minibatch
    for record in records:
        assert record.logged["l_nat"] == pytest.approx(record.l_nat, rel=1e-5)
        assert record.logged["l_rob"] == pytest.approx(record.l_rob, rel=1e-4, abs=1e-7)
    wanted = lambdas(records, **settings)
    assert [record.logged["lambda"] for record in records] == pytest.approx(
        wanted, rel=1e-3, abs=1e-4
    )
    assert min(wanted) >= 0
    assert max(wanted) > 0
    for row, epoch in zip(result.history, (records[:3], records[3:6], records[6:]), strict=True):
        for name in ("lambda", "ratio", "l_nat", "l_rob"):
            assert row[name] == pytest.approx(
                sum(record.logged[name] for record in epoch) / 3, rel=1e-5, abs=1e-7
            )


def lambdas_of_the_log_rule(records, zeta, per_epoch, gain=0.02, lambda_0=6.0, hold_epochs=1.0):
    """The log rule, from the terms that were found by hand."""
    found, weight = [], lambda_0
    for update, record in enumerate(records):
        if update / per_epoch >= hold_epochs:
            error = math.log(zeta / (record.l_nat / max(record.l_rob, 1e-8)))
            weight *= math.exp(gain * min(max(error, -1.0), 1.0))
        found.append(weight)
    return found


@BOTH
@pytest.mark.parametrize(
    "settings",
    [
        {"zeta": 3.0},
        {"zeta": 20.0, "gain": 0.5, "hold_epochs": 0.0},
        {"zeta": 1e-3, "gain": 0.3, "lambda_0": 0.1, "hold_epochs": 1.5},
        {"zeta": 1e6, "gain": 0.3, "lambda_0": 2.0, "hold_epochs": 0.4},
    ],
    ids=str,
)
def test_lambda_follows_the_log_rule(settings, regulariser, network, data):
    recipe, records = recorded(rule="log", regulariser=regulariser, **settings)
    train(network(scale=4), data, recipe, epochs=3, batch_size=6, learning_rate=0.05)
    assert len(records) == 9
    wanted = lambdas_of_the_log_rule(records, per_epoch=3, **settings)
    assert [record.logged["lambda"] for record in records] == pytest.approx(wanted, rel=1e-4)
    assert len(set(wanted)) > 3  # it moved
    held = math.ceil(3 * settings.get("hold_epochs", 1.0))
    assert wanted[:held] == [settings.get("lambda_0", 6.0)] * held


def test_the_log_rule_moves_by_the_clamped_log_error(network, batch, make_step):
    x, y = batch

    def moved(lambda_0, zeta):
        step = make_step(network(scale=3), x, y, eps=EPS, time=1.0)
        War(**FAST, zeta=zeta, gain=0.1, lambda_0=lambda_0).loss(step)
        assert not step.carried["lambda"].requires_grad
        return float(step.log["lambda"]), float(step.log["ratio"])

    _, ratio = moved(5.0, 1.0)
    assert moved(5.0, ratio)[0] == pytest.approx(5.0, abs=1e-5)
    assert moved(5.0, 1.5 * ratio)[0] == pytest.approx(5.0 * 1.5**0.1, rel=1e-5)
    for lambda_0 in (0.01, 5.0, 700.0):
        assert moved(lambda_0, 1e3 * ratio)[0] == pytest.approx(lambda_0 * math.exp(0.1), rel=1e-5)
        assert moved(lambda_0, 1e-3 * ratio)[0] == pytest.approx(
            lambda_0 * math.exp(-0.1), rel=1e-5
        )
    # an unbounded ratio is one step down, not a fall to 0
    step = make_step(network(), x, y, eps=0.0, time=1.0)
    War(**FAST, regulariser="at").loss(step)
    assert float(step.log["l_rob"]) == 0
    assert float(step.log["lambda"]) == pytest.approx(6 * math.exp(-0.02), rel=1e-6)


def test_the_printed_rule_takes_a_start_and_an_epoch_of_rest_too(network, data):
    recipe, records = recorded(zeta=1e4, cap=math.inf, lambda_0=2.5, hold_epochs=1.0)
    train(network(scale=3), data, recipe, epochs=2, batch_size=6, learning_rate=1e-30)
    values = [record.logged["lambda"] for record in records]
    assert values[:3] == [2.5] * 3
    gaps = [1e4 - record.l_nat / record.l_rob for record in records[3:]]
    assert values[3] == pytest.approx(2.5 + 0.1 * gaps[0], rel=1e-4)
    assert values[5] == pytest.approx(2.5 + 0.1 * sum(gaps), rel=1e-4)


def test_each_rule_fills_in_its_own_arguments():
    log = {
        "lambda_0": 6.0,
        "hold_epochs": 1.0,
        "gain": 0.02,
        "alpha": None,
        "cap": None,
        "ema": None,
    }
    printed = {
        "lambda_0": 0.0,
        "hold_epochs": 0.0,
        "gain": None,
        "alpha": 0.1,
        "cap": 10.0,
        "ema": 0.0,
    }
    for recipe, rule, wanted in ((War(), "log", log), (War(rule="printed"), "printed", printed)):
        settings = recipe.settings()
        assert settings["rule"] == rule
        assert {name: settings[name] for name in wanted} == wanted
    assert War(rule="printed", lambda_0=6.0, hold_epochs=2).settings()["lambda_0"] == 6.0
    assert War(zeta=0.0, fixed=2.0).fixed == 2.0  # neither rule is used
    assert War(rule="printed", cap=math.inf).cap == math.inf


def test_a_huge_zeta_raises_lambda_by_alpha_times_the_gap(network, data):
    recipe, records = recorded(zeta=1e4, cap=math.inf)
    train(network(scale=3), data, recipe, epochs=2, batch_size=6, learning_rate=1e-30)
    values = torch.tensor(
        [0.0, *(record.logged["lambda"] for record in records)], dtype=torch.float64
    )
    gaps = torch.tensor(
        [1e4 - record.l_nat / record.l_rob for record in records], dtype=torch.float64
    )
    assert bool((gaps > 0).all())
    torch.testing.assert_close(values.diff(), 0.1 * gaps, rtol=1e-3, atol=0)


@BOTH
def test_zeta_zero_is_natural_training(regulariser, network, data):
    model, natural = network(), network()
    result = train(
        model,
        data,
        War(**FAST, rule="printed", zeta=0.0, regulariser=regulariser),
        epochs=3,
        batch_size=6,
    )
    train(natural, data, Natural(), epochs=3, batch_size=6)
    assert [row["lambda"] for row in result.history] == [0.0] * 3
    torch.testing.assert_close(weights_of(model), weights_of(natural), rtol=0, atol=1e-6)


@BOTH
def test_losses_in_the_ratio_zeta_leave_lambda_alone(regulariser, network, batch, make_step):
    x, y = batch
    model = network(scale=3)
    step = make_step(model, x, y, eps=EPS)
    War(**FAST, regulariser=regulariser, fixed=1.0).loss(step)
    ratio = float(step.log["ratio"])
    for start in (0.0, 5.0):
        again = make_step(model, x, y, eps=EPS, carried={"lambda": torch.tensor(start)})
        War(**FAST, rule="printed", regulariser=regulariser, zeta=ratio).loss(again)
        assert float(again.carried["lambda"]) == pytest.approx(start, abs=1e-6)
    # a little more or less, and it moves by alpha times the difference
    for shift in (1.0, -1.0):
        again = make_step(model, x, y, eps=EPS, carried={"lambda": torch.tensor(5.0)})
        War(**FAST, rule="printed", regulariser=regulariser, zeta=ratio + shift, alpha=0.2).loss(
            again
        )
        assert float(again.carried["lambda"]) == pytest.approx(5.0 + 0.2 * shift, abs=1e-4)


def test_lambda_is_never_negative_and_the_cap_bounds_its_fall(network, batch, make_step):
    x, y = batch
    step = {}
    for cap in (math.inf, 10.0, 2.0):
        step[cap] = make_step(network(), x, y, eps=1e-4, carried={"lambda": torch.tensor(3.0)})
        War(**FAST, rule="printed", zeta=1.0, cap=cap).loss(step[cap])
    # so small a radius makes the ratio huge: uncapped it throws lambda to 0, capped it falls by
    # alpha zeta (cap - 1)
    assert float(step[math.inf].log["l_nat"] / step[math.inf].log["l_rob"]) > 1e3
    assert [float(step[cap].carried["lambda"]) for cap in (math.inf, 10.0, 2.0)] == pytest.approx(
        [0.0, 2.1, 2.9]
    )
    assert [float(step[cap].log["ratio"]) for cap in (10.0, 2.0)] == [10.0, 2.0]


def test_a_robust_term_of_zero_is_no_division_by_zero(network, batch, make_step):
    x, y = batch
    step = make_step(network(), x, y, eps=0.0, carried={"lambda": torch.tensor(3.0)})
    loss = War(**FAST, rule="printed", regulariser="at", cap=math.inf).loss(step)
    assert bool(loss.isfinite())
    assert float(step.log["l_rob"]) == 0
    assert float(step.carried["lambda"]) == 0


@BOTH
def test_no_gradient_goes_through_lambda(regulariser, network, batch, make_step):
    x, y = batch
    recipe = War(
        **FAST, rule="printed", regulariser=regulariser, zeta=50.0, cap=math.inf, alpha=1.0
    )
    model = network(scale=3)
    carried = {"lambda": torch.tensor(2.0)}
    step = make_step(model, x, y, eps=EPS, carried=carried)
    (found,) = torch.autograd.grad(recipe.loss(step), model[1].weight)
    weight = float(step.log["lambda"])
    assert weight != 2.0
    assert not step.carried["lambda"].requires_grad
    assert not step.carried["ratio"].requires_grad
    x_adv = recipe.craft(make_step(model, x, y, eps=EPS))
    clean, robust = model(x), model(x_adv)
    natural, term = (
        functional.cross_entropy(clean, y),
        functional.cross_entropy(robust, y, reduction="none"),
    )
    if regulariser == "trades":
        term = (clean.softmax(1) * (clean.log_softmax(1) - robust.log_softmax(1))).sum(1).mean()
    else:
        term = (term - functional.cross_entropy(clean, y, reduction="none")).clamp(min=0).mean()
    moving = 2.0 + 1.0 * (50.0 - natural / term)
    assert float(moving.detach()) == pytest.approx(weight, rel=1e-4)
    (constant,) = torch.autograd.grad(natural + weight * term, model[1].weight, retain_graph=True)
    (through,) = torch.autograd.grad(natural + moving * term, model[1].weight)
    torch.testing.assert_close(found, constant, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(through, constant, rtol=1e-2, atol=1e-3)


def test_a_fixed_lambda_is_trades_bit_for_bit(network, data):
    settings = {"epochs": 3, "batch_size": 6}
    ours, theirs = network("norm"), network("norm")
    war = train(ours, data, War(eps=EPS, num_steps=3, fixed=4.5), **settings)
    trades = train(theirs, data, Trades(eps=EPS, num_steps=3, beta=4.5), **settings)
    assert torch.equal(war.losses, trades.losses)
    assert all(
        torch.equal(a, b)
        for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    )
    assert [row["lambda"] for row in war.history] == [4.5] * 3


def test_generalised_training_with_lambda_one_is_madrys(network, batch, make_step):
    """Where the examples have the larger loss, ``CE(x) + 1 (CE(x') - CE(x))`` is ``CE(x')``, and
    so are the weights.
    """
    x, y = batch
    model = network("linear", scale=3)
    generalised = War(eps=EPS, num_steps=5, regulariser="at", fixed=1.0)
    madry = Pgd(eps=EPS, num_steps=5)
    steps = [make_step(model, x, y, eps=EPS) for _ in range(2)]
    crafted = madry.craft(make_step(model, x, y, eps=EPS))
    losses = [functional.cross_entropy(model(rows), y, reduction="none") for rows in (crafted, x)]
    assert bool((losses[0] > losses[1]).all())
    found, wanted = (
        torch.autograd.grad(recipe.loss(step), list(model.parameters()))
        for recipe, step in zip((generalised, madry), steps, strict=True)
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    ours, theirs = network("linear", scale=3), network("linear", scale=3)
    settings = {"updates": 5, "batch_size": 6, "learning_rate": 0.05}
    train(ours, batch, generalised, **settings)
    train(theirs, batch, madry, **settings)
    torch.testing.assert_close(weights_of(ours), weights_of(theirs), rtol=0, atol=1e-5)


def test_generalised_training_clips_each_sample_by_itself(network, batch, make_step):
    """Examples of a lower loss count as 0, not against the others."""
    x, y = batch
    model = network("linear", scale=4)
    x_adv = (x + EPS * torch.where(torch.arange(16).view(1, 1, 4, 4) % 2 == 0, 1.0, -1.0)).clamp(
        0, 1
    )

    class Fixed(War):
        def craft(self, step):
            return x_adv

    step = make_step(model, x, y, eps=EPS)
    loss = Fixed(**FAST, regulariser="at", fixed=3.0).loss(step)
    with torch.no_grad():
        rise = functional.cross_entropy(
            model(x_adv), y, reduction="none"
        ) - functional.cross_entropy(model(x), y, reduction="none")
        natural = functional.cross_entropy(model(x), y)
    assert bool((rise > 0.01).any())
    assert bool((rise < -0.01).any())
    assert float(step.log["l_rob"]) == pytest.approx(float(rise.clamp(min=0).mean()), abs=1e-6)
    assert float(step.log["l_rob"]) > max(0.0, float(rise.mean())) + 1e-3
    assert float(loss.detach()) == pytest.approx(
        float(natural + 3 * rise.clamp(min=0).mean()), abs=1e-5
    )


def test_generalised_training_crafts_as_pgd_does(network, data, make_step):
    x, y = data
    for norm, eps in (("linf", EPS), ("l2", 0.5)):
        settings = {"eps": eps, "norm": norm, "num_steps": 3, "step_size": 0.04}
        war, pgd = (
            recipe.craft(make_step(network(scale=3), x, y, eps=eps))
            for recipe in (War(regulariser="at", **settings), Pgd(**settings))
        )
        assert torch.equal(war, pgd)


def test_lambda_is_carried_from_minibatch_to_minibatch_and_over_epochs(network, data):
    recipe, records = recorded(zeta=1e4, cap=math.inf)
    train(network(scale=3), data, recipe, epochs=3, batch_size=6, learning_rate=1e-30)
    values = [record.logged["lambda"] for record in records]
    assert values == sorted(values)
    assert values[-1] > 8 * values[0] > 0


def test_label_smoothing_smooths_the_natural_term(network, batch, make_step):
    x, y = batch
    model = network(scale=3)
    step = make_step(model, x, y, eps=EPS, smoothing=0.3)
    War(**FAST).loss(step)
    target = torch.full((6, 3), 0.15).scatter(1, y[:, None], 0.7)
    wanted = functional.cross_entropy(model(x), target).detach()
    assert float(step.log["l_nat"]) == pytest.approx(float(wanted), abs=1e-6)


@BOTH
def test_zeta_is_the_mean_ratio_of_the_last_epoch_at_a_fixed_lambda(regulariser, network, data):
    recipe, records = recorded(**FAST, regulariser=regulariser, fixed=6.0)
    zeta = measure_zeta(network(), data, recipe, epochs=2, batch_size=6, learning_rate=0.05)
    assert len(records) == 6, "minibatches of 6, 6 and 2, twice"
    by_hand = [one.l_nat / one.l_rob for one in records[3:]]  # l_rob without lambda
    assert zeta == pytest.approx(sum(by_hand) / 3, rel=1e-3)
    same = network()
    train(
        same,
        data,
        War(**FAST, regulariser=regulariser, fixed=6.0),
        epochs=2,
        batch_size=6,
        learning_rate=0.05,
    )
    other = network()
    assert measure_zeta(
        other, data, recipe, epochs=2, batch_size=6, learning_rate=0.05
    ) == pytest.approx(zeta)
    assert torch.equal(weights_of(same), weights_of(other)), "the thin network is trained in place"


def test_zeta_needs_a_lambda_that_stays(network, data):
    for recipe in (War(**FAST), Trades(**FAST)):
        with pytest.raises(ValueError, match="a War recipe with a fixed lambda"):
            measure_zeta(network(), data, recipe, epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_log_rule_comes_back_to_the_lambda_at_which_zeta_was_measured(seed):
    if not os.environ.get("ART_EXT_DATA"):
        pytest.skip("ART_EXT_DATA names no folder with MNIST")
    images, test = load_data("mnist", split="train").first(6000), load_data("mnist").first(1000)
    settings = {
        "epochs": 8,
        "optimizer": "adam",
        "learning_rate": 4e-3,
        "weight_decay": 0.0,
        "schedule": "piecewise",
        "eps_warmup_epochs": 1.0,
        "seed": seed,
    }

    def thin():
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return mnist_two_conv(channels=(4, 8), hidden=(25,))

    def robust(model):
        result = pgd(model.eval(), test.x, test.y, eps=0.2, num_steps=20, seed=0, on_failure="last")
        return robust_accuracy(result)

    data, recipe = (images.x, images.y), {"eps": 0.2, "num_steps": 5}
    fixed, found = thin(), thin()
    zeta = measure_zeta(fixed, data, War(fixed=6.0, **recipe), **settings)
    last = train(found, data, War(zeta=zeta, **recipe), **settings).history[-1]
    assert last["lambda"] == pytest.approx(6.0, rel=0.25)
    assert last["lambda"] != 6.0
    assert robust(found) == pytest.approx(robust(fixed), abs=0.03)
