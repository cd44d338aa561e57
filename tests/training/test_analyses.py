"""Trajectory shift, and the measures that a run enters into its history."""

from __future__ import annotations

import pytest
import torch

from art_ext.core.geometry import Ball, Box
from art_ext.core.metrics import hessian_eigenvalue, local_lipschitz, loss_increment
from art_ext.core.streams import fingerprint
from art_ext.training import (
    Atcd,
    BackwardSmoothing,
    Cat,
    EpochEnd,
    Fast,
    Free,
    GradAlign,
    Natural,
    Pgd,
    Rce,
    TrackHessian,
    TrackLipschitz,
    TrackLossIncrement,
    Trades,
    Yopo,
    YopoTrades,
    train,
    trajectory_shift,
)
from art_ext.training.analysis import crafted_points

EPS = 0.1


# --- trajectory shift ---


@pytest.mark.parametrize("recipe", [Atcd(eps=EPS), Cat(eps=EPS), "atcd"])
def test_equal_lengths_have_no_shift(recipe, network, data):
    found = trajectory_shift(
        network(), data, recipe=recipe, lengths=(5, 5), batches=4, batch_size=6, learning_rate=0.1
    )
    assert set(found.distance.values()) == {0.0}
    assert set(found.relative.values()) == {0.0}
    assert set(found.cosine.values()) == {1.0}
    assert list(found.cosine) == ["1.weight", "1.bias", "3.weight", "3.bias"]


def test_other_lengths_have_one_that_grows_along_the_way(network, data):
    model = network("norm")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    stream = torch.get_rng_state()
    settings = {"recipe": Cat(eps=EPS), "batch_size": 6, "learning_rate": 0.1}
    short = trajectory_shift(model, data, batches=1, **settings)
    long = trajectory_shift(model, data, batches=6, **settings)
    for name in short.distance:
        assert short.distance[name] > 0
        assert -1 <= short.cosine[name] < 1
    assert long.distance["4.weight"] != short.distance["4.weight"]
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    assert torch.equal(stream, torch.get_rng_state())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_with_a_rate_of_0_one_update_is_a_plain_gradient(network, data, make_step):
    """One minibatch and one length: the gradient is that of the recipe's loss."""
    x, y = data[0][:6], data[1][:6]
    model = network()
    recipe = Cat(eps=EPS, num_replays=1, num_steps=4)
    found = trajectory_shift(
        model, (x, y), recipe=recipe, lengths=(4, 1), total=4, batches=1, learning_rate=0.0
    )
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    rows = {}
    for length in (4, 1):
        total = [torch.zeros_like(one) for one in model.parameters()]
        memory = {}
        method = Cat(eps=EPS, num_replays=4 // length, num_steps=length)
        for replay in range(method.replays):
            step = make_step(
                model, x, y, eps=EPS, recipe=method, update=replay, replay=replay, memory=memory
            )
            step.ids = order
            model.zero_grad()
            method.loss(step).backward()
            method.after_backward(step)
            for one, parameter in zip(total, model.parameters(), strict=True):
                one += parameter.grad / method.replays
        rows[length] = total
    for name, one, other in zip(found.distance, rows[4], rows[1], strict=True):
        assert found.distance[name] == pytest.approx(float((one - other).norm()), rel=1e-4)
        cosine = torch.cosine_similarity(one.flatten(), other.flatten(), dim=0)
        assert found.cosine[name] == pytest.approx(float(cosine), rel=1e-4)


def test_bad_arguments_of_a_shift_are_named(network, data):
    model = network()
    with pytest.raises(ValueError, match="lengths must divide total, 10, got 3"):
        trajectory_shift(model, data, lengths=(3, 10))
    with pytest.raises(ValueError, match="such as atcd and cat, got 'pgd'"):
        trajectory_shift(model, data, recipe=Pgd(eps=EPS))
    with pytest.raises(ValueError, match="did you mean 'atcd'"):
        trajectory_shift(model, data, recipe="atdc")
    with pytest.raises(ValueError, match="batches must be an integer >= 1"):
        trajectory_shift(model, data, batches=0)


# --- the loss increment of a run ---


@pytest.mark.parametrize(
    "recipe",
    [
        Pgd(eps=EPS, num_steps=2),
        Fast(eps=EPS),
        Trades(eps=EPS, num_steps=2),
        BackwardSmoothing(eps=EPS),
        Free(eps=EPS, num_replays=2),
        Atcd(eps=EPS, num_replays=2),
        Rce(eps=EPS, craft="pgd", num_steps=2),
        GradAlign(eps=EPS, weight=0.2),
        Yopo(eps=EPS, num_outer=2, num_inner=2),
        YopoTrades(eps=EPS, num_outer=2, num_inner=2),
    ],
    ids=lambda recipe: recipe.name,
)
@pytest.mark.parametrize("kind", ["smooth", "norm"])
def test_tracking_leaves_the_weights_and_is_counted(recipe, kind, network, data, count_rows):
    settings = {"epochs": 3, "batch_size": 6, "drop_last": True, "learning_rate": 0.05}
    plain = train(network(kind), data, recipe, **settings)
    model = network(kind)
    watched = count_rows(model)
    tracked = train(model, data, recipe, callbacks=[TrackLossIncrement(every=2)], **settings)
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(weight, tracked.model.state_dict()[name]), name
    measured = -(-tracked.updates // 2)
    assert tracked.forwards == plain.forwards + 6 * measured
    assert tracked.backwards == plain.backwards
    assert (watched.forwards, watched.backwards) == (tracked.forwards, tracked.backwards)
    assert all("loss_increment" in row for row in tracked.history)


@pytest.mark.parametrize(
    "recipe",
    [Pgd(eps=EPS, num_steps=3), Fast(eps=EPS, start="zero"), GradAlign(eps=EPS, weight=0.2)],
    ids=lambda recipe: recipe.name,
)
def test_the_increment_of_a_run_is_that_of_its_examples(recipe, network, batch, make_step):
    """One update: the examples at the first weights."""
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    x, y = (one[order] for one in batch)
    found = train(
        network(), batch, recipe, epochs=1, batch_size=6, callbacks=[TrackLossIncrement()]
    ).history[0]
    model = network()
    step = make_step(model, x, y, eps=EPS, recipe=recipe)
    step.ids = order
    recipe.loss(step)
    x_adv = step.trained[0][0].detach()
    wanted = float(loss_increment(model, x, x_adv, y).mean())
    assert found["loss_increment"] == pytest.approx(wanted, abs=1e-6)
    assert found["loss_increment"] > 0
    assert found["loss_increment_negative"] == 0.0


def test_an_epoch_averages_its_measured_updates_only(network, data):
    seen = []

    class Listed(TrackLossIncrement):
        def after_update(self, step):
            found = super().after_update(step)
            seen.extend(float(one) for name, one in found.items() if name == "loss_increment")
            return found

    result = train(
        network(), data, Fast(eps=EPS), epochs=2, batch_size=6, callbacks=[Listed(every=2)]
    )
    first, second = (row["loss_increment"] for row in result.history)
    assert len(seen) == 3  # updates 0 and 2 of the first epoch, 4 of the second
    assert first == pytest.approx((seen[0] + seen[1]) / 2)
    assert second == pytest.approx(seen[2])


# --- measures at the end of an epoch ---


def test_hessian_points_are_those_of_the_figure(network, batch):
    x, y = batch
    model = network().eval()
    found = TrackHessian(x, y, EPS, options={"num_iterations": 20})(EpochEnd(model, 1, {}))
    box = Box.of((0.0, 1.0), x.shape[1:], x.device)
    drawn = Ball(x, EPS, "linf", box).draw(0, fingerprint(x), 0)
    craft = BackwardSmoothing(eps=EPS, num_steps=0).crafting
    smoothed = crafted_points(model, x, y, craft, eps=EPS)
    assert bool(((smoothed - x).abs() - EPS).abs().max() < 1e-6), "a step of eps for each pixel"
    for name, points in (("clean", x), ("uniform", drawn), ("backward", smoothed)):
        wanted = hessian_eigenvalue(model, points.clamp(0, 1), y, num_iterations=20).mean
        assert found[f"hessian_{name}"] == pytest.approx(wanted, rel=1e-4)
    assert set(TrackHessian(x, y, EPS, points=("clean",))(EpochEnd(model, 1, {}))) == {
        "hessian_clean"
    }
    with pytest.raises(ValueError, match="points must be one of"):
        TrackHessian(x, y, EPS, points=("smooth",))


def test_lipschitz_constants_of_both_losses(network, batch):
    x, y = batch
    model = network().eval()
    found = TrackLipschitz(x, EPS, losses=("kl", "ce"), y=y)(EpochEnd(model, 1, {}))
    assert found == {
        "lipschitz_kl": local_lipschitz(model, x, eps=EPS).mean,
        "lipschitz_ce": local_lipschitz(model, x, eps=EPS, loss="ce", y=y).mean,
    }


def test_track_enters_a_column_for_each_measure(network, samples):
    result = train(
        network(),
        samples,
        Pgd(eps=EPS, num_steps=2),
        epochs=1,
        batch_size=8,
        validation=8,
        track=("stability", "lipschitz", "loss-increment", "hessian"),
    )
    wanted = {
        *("stability", "lipschitz_kl", "lipschitz_ce", "loss_increment"),
        *("hessian_clean", "hessian_uniform", "hessian_backward"),
    }
    assert wanted <= set(result.history[0])


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        (Pgd(), {"track": ("stabilty",)}, "did you mean 'stability'"),
        (Pgd(), {"track": "hessian"}, "track must be a sequence of names"),
        (Pgd(), {"track": ("hessian",)}, "needs held-out samples: pass validation"),
        (Natural(), {"track": ("loss-increment",)}, "without a radius"),
        (Natural(), {"track": ("stability",), "validation": 8}, "pass validation_eps, got 0"),
    ],
)
def test_measures_that_cannot_be_taken_are_named(recipe, options, message, network, samples):
    with pytest.raises(ValueError, match=message):
        train(network(), samples, recipe, epochs=1, **options)
