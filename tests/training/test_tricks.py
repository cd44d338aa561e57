"""The bag of tricks: optimiser, rate, padding, clean forwards and losses of a run, and the objective
``mixture``.
"""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from art_ext.models import preact_resnet18, wide_resnet
from art_ext.training import RECIPES, Free, Natural, Pgd, Rce, Trades, TrainingOptions, train
from art_ext.training.augmentation import crop_flip
from art_ext.training.optimizers import CentralisedSGD, make_optimizer
from art_ext.training.step import Step

EPS = 0.1
MIX = {"num_steps": 2, "mixture": 0.5}
options = functools.partial(TrainingOptions, updates=1)


def weights_of(model):
    return torch.cat([one.detach().flatten() for one in model.parameters()])


# --- optimiser ---


def layers():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)
    ).double()


def set_gradients(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("decay", ["all", "weights"])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(("kind", "least"), [("none", 9), ("all", 2), ("conv", 4)])
def test_centralised_gradients_are_those_of_a_step_by_hand(kind, least, nesterov, decay):
    model = layers()
    settings = {"learning_rate": 0.3, "momentum": 0.8, "weight_decay": 0.05, "nesterov": nesterov}
    optimizer = make_optimizer(
        options(**settings, gradient_centralisation=kind, decay=decay), model
    )
    wanted = [weight.detach().clone() for weight in model.parameters()]
    speeds = [0.0] * len(wanted)
    for seed in range(5):
        set_gradients(model, seed)
        for place, weight in enumerate(model.parameters()):
            own = 0.05 if decay == "all" or weight.dim() > 1 else 0.0
            gradient = weight.grad + own * wanted[place]
            if gradient.dim() >= least:
                flat = gradient.flatten(1)
                gradient = (flat - flat.mean(1, keepdim=True)).reshape(gradient.shape)
            speeds[place] = 0.8 * speeds[place] + gradient
            moved = gradient + 0.8 * speeds[place] if nesterov else speeds[place]
            wanted[place] = wanted[place] - 0.3 * moved
        optimizer.step()
    for weight, hand in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(weight.detach(), hand, rtol=1e-10, atol=1e-12)
    # the groups state the decay, for records and checkpoints
    assert {group["weight_decay"] for group in optimizer.param_groups} <= {0.05, 0.0}
    assert isinstance(optimizer, CentralisedSGD) == (kind != "none")


def test_a_centralised_update_keeps_the_mean_of_each_output(network, data):
    model = network()
    before = model[1].weight.detach().clone()
    bias = model[1].bias.detach().clone()
    train(
        model, data, Natural(), epochs=2, weight_decay=0.0, gradient_centralisation="all"
    )  # a Linear layer
    after = model[1].weight.detach()
    assert not torch.equal(after, before)
    torch.testing.assert_close(after.mean(1), before.mean(1), rtol=0, atol=1e-6)
    assert not torch.equal(model[1].bias.detach(), bias)


def test_gcc_leaves_a_network_without_convolutions_as_sgd_does(network, data):
    found = []
    for kind in ("none", "conv"):
        model = network()
        train(model, data, Natural(), epochs=2, gradient_centralisation=kind)
        found.append(weights_of(model))
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "build", [preact_resnet18, functools.partial(wide_resnet, depth=10, widen_factor=1)]
)
def test_weights_decay_as_by_the_names_of_the_slides_program(build):
    model = build()
    optimizer = make_optimizer(options(decay="weights"), model)
    decaying, others = optimizer.param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (5e-4, 0.0)
    names = {weight: name for name, weight in model.named_parameters()}
    found = {names[weight] for weight in decaying["params"]}
    assert found == {name for name in names.values() if "bn" not in name and "bias" not in name}
    assert len(found) + len(others["params"]) == len(names)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_biases_do_not_decay(optimizer, network, data):
    found = {}
    for decay in (0.0, 0.5):
        model = network("norm")
        train(
            model,
            data,
            Natural(),
            updates=1,
            optimizer=optimizer,
            learning_rate=0.1,
            weight_decay=decay,
            decay="weights",
        )
        found[decay] = dict(model.named_parameters())
    for name, weight in found[0.0].items():
        assert torch.equal(weight, found[0.5][name]) == (weight.dim() < 2), name


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_rate_is_scaled_with_the_minibatch(optimizer, network, data):
    found = []
    for rate, scale in ((0.03, False), (0.02, True)):
        model = network()
        result = train(
            model,
            data,
            Natural(),
            epochs=2,
            batch_size=6,
            optimizer=optimizer,
            learning_rate=rate,
            scale_rate=scale,
            reference_batch=4,
        )
        assert [row["learning_rate"] for row in result.history] == pytest.approx([0.03] * 2)
        found.append(weights_of(model))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)


# --- padding ---


def test_reflected_crops_are_pieces_of_the_mirrored_image():
    x = torch.rand(64, 2, 6, 7, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(64)
    found = crop_flip(x, ids, 0, 0, fill="reflect").numpy()
    zeros = crop_flip(x, ids, 0, 0)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    places = []
    for image, mirrored in zip(found, padded, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(mirrored, (2, 6, 7))[0]
        same = (windows == image).all((2, 3, 4)) | (windows[..., ::-1] == image).all((2, 3, 4))
        assert same.any()
        places.append(tuple(np.argwhere(same)[0]))
    assert len(set(places)) > 20
    # the same crop as with zeros, which are the only difference
    inside = zeros.numpy() != 0
    assert (found[inside] == zeros.numpy()[inside]).all()
    assert (found[~inside] > 0).mean() > 0.99


def test_a_run_pads_as_it_is_told(network):
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    data = (x, torch.arange(8) % 3)
    found = {}
    for fill in ("zeros", "reflect"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        torch.nn.init.zeros_(model[1].weight)
        torch.nn.init.zeros_(model[1].bias)
        train(model, data, Natural(), updates=1, augmentation="crop_flip", crop_padding=fill)
        found[fill] = weights_of(model)
    assert not torch.equal(found["zeros"], found["reflect"])


# --- clean forwards ---


@pytest.mark.parametrize("recipe", [Pgd(eps=EPS, num_steps=2), Free(eps=EPS, num_replays=2)])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_clean_forwards_are_counted(count, recipe, network, data, count_rows):
    model = network("norm")
    rows = count_rows(model)
    result = train(model, data, recipe, epochs=2, batch_size=6, clean_forwards=count)
    updates = 2 * len(data[0]) * recipe.replays  # of single samples, six, six and two a minibatch
    assert result.forwards == rows.forwards == (recipe.cost().forwards + count) * updates
    assert result.backwards == rows.backwards == recipe.cost().backwards * updates


def test_a_budget_pays_for_clean_forwards(network, data):
    result = train(
        network(), data, Pgd(eps=EPS, num_steps=1), passes=17.9, batch_size=6, clean_forwards=2
    )
    spent = (result.forwards + result.backwards) / len(data[0])
    assert 17.9 - 6 * 6 / 14 < spent <= 17.9


@pytest.mark.parametrize("count", [1, 2])
def test_clean_forwards_change_the_statistics_of_batchnorm_alone(count, network, data):
    x = data[0]
    model, plain = network("norm"), network("norm")
    train(model, data, Natural(), updates=1, clean_forwards=count, weight_decay=0.0)
    train(plain, data, Natural(), updates=1, weight_decay=0.0)
    assert torch.equal(weights_of(model), weights_of(plain))
    start = network("norm")
    order = [start] * count + [plain]  # the training forward, one before the update, one after it
    mean = torch.zeros(8)
    for one in order:
        mean = 0.9 * mean + 0.1 * one[:2](x).mean(0).detach()
    torch.testing.assert_close(model[2].running_mean, mean, rtol=1e-5, atol=1e-6)
    assert int(model[2].num_batches_tracked) == count + 1


# --- losses ---


def margin_by_hand(z, y):
    own = z[torch.arange(len(y)), y]
    others = z.masked_fill(torch.nn.functional.one_hot(y, z.shape[1]).bool(), -torch.inf)
    return others.max(1).values - own


def dlr_by_hand(z, y):
    ordered = z.sort(dim=1, descending=True).values
    return margin_by_hand(z, y) / (ordered[:, 0] - ordered[:, 2])


@pytest.mark.parametrize(("name", "loss"), [("cw", margin_by_hand), ("dlr", dlr_by_hand)])
def test_the_loss_turns_from_cross_entropy_into_another(name, loss, network, make_step):
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(5, (9,), generator=generator)
    entropy = cross_entropy(z, y, reduction="none")
    for share in (0.0, 0.3, 1.0):
        step = make_step(
            network(), z, y, eps=EPS, outer_loss=name, craft_loss=name, ramp=share, smoothing=0.2
        )
        wanted = (1 - share) * entropy + share * loss(z, y)
        torch.testing.assert_close(step.crafting_loss(z), wanted, rtol=1e-10, atol=0)
        assert torch.equal(step.hard_cross_entropy(z), entropy)
        target = torch.full_like(z, 0.05).scatter(1, y[:, None], 0.8)
        smoothed = cross_entropy(z, target, reduction="none")
        wanted = (1 - share) * smoothed + share * loss(z, y)
        torch.testing.assert_close(step.cross_entropy(z), wanted, rtol=1e-10, atol=1e-12)


def test_the_share_grows_with_the_run_from_nothing(network, data, monkeypatch):
    shares = []
    original = Step.__init__

    def watch(step, *arguments, **keywords):
        original(step, *arguments, **keywords)
        shares.append(keywords["ramp"])

    monkeypatch.setattr(Step, "__init__", watch)
    train(network(), data, Pgd(eps=EPS), epochs=4, batch_size=6, outer_loss="cw", loss_ramp=0.6)
    assert shares == pytest.approx([0.6 * update / 12 for update in range(12)])


def test_crafting_follows_its_loss_and_the_weights_theirs(network, batch, make_step):
    x, y = batch
    model = network(scale=3)
    recipe = Pgd(eps=EPS, num_steps=1, step_size=0.02)
    plain = recipe.craft(make_step(model, x, y, eps=EPS))
    start = make_step(model, x, y, eps=EPS).uniform_start(
        make_step(model, x, y, eps=EPS).ball("linf")
    )
    for name in ("cw", "dlr"):  # which of three classes are the same
        step = make_step(model, x, y, eps=EPS, craft_loss=name, ramp=1.0)
        found = recipe.craft(step)
        leaf = start.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(margin_by_hand(model(leaf), y).sum(), leaf)
        wanted = (start + 0.02 * gradient.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
        # the weights' loss is an option of its own
        assert torch.equal(step.cross_entropy(model(x)), step.hard_cross_entropy(model(x)))
        outer = make_step(model, x, y, eps=EPS, outer_loss=name, ramp=1.0)
        assert torch.equal(recipe.craft(outer), plain)


@pytest.mark.parametrize("option", ["outer_loss", "craft_loss"])
def test_without_a_ramp_training_is_by_cross_entropy(option, network, data):
    found = []
    for more in ({}, {option: "dlr", "loss_ramp": 0.0}, {option: "dlr"}):
        model = network(scale=3)
        train(model, data, Pgd(eps=EPS, num_steps=2), epochs=3, batch_size=6, **more)
        found.append(weights_of(model))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


# --- mixture ---


@pytest.mark.parametrize(("alpha", "other"), [(1.0, Pgd(eps=EPS, num_steps=2)), (0.0, Natural())])
def test_a_mixture_of_one_part_is_that_part_bit_for_bit(alpha, other, network, data):
    found = []
    for recipe in (Pgd(eps=EPS, num_steps=2, mixture=alpha), other):
        model = network()
        result = train(model, data, recipe, epochs=3, batch_size=6)
        found.append(weights_of(model))
        assert result.forwards == sum(recipe.cost()) / 2 * 3 * 14
    assert torch.equal(*found)


def test_a_mixture_weighs_examples_and_inputs(network, batch, make_step):
    x, y = batch
    model = network()
    recipe = Pgd(eps=EPS, num_steps=2, mixture=0.3)
    rows = recipe.craft(make_step(model, x, y, eps=EPS))
    found = recipe.loss(make_step(model, x, y, eps=EPS))
    wanted = 0.3 * cross_entropy(model(rows), y) + 0.7 * cross_entropy(model(x), y)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    plain = Pgd(eps=EPS, num_steps=2).cost()
    assert recipe.cost() == (plain.forwards + 1, plain.backwards + 1)


# --- early-stopped steps ---

SCHEDULES = [{0: 0, 40: 1, 70: 2}, {0: 0, 40: 1, 100: 2}, {0: 0, 60: 1, 100: 2}]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["40/70", "40/100", "60/100"])
def test_trades_stops_early_by_the_counters_of_the_slides(schedule, network, data, make_step):
    x, y = data
    model = network(scale=3)
    second, third = [start for start in schedule if start]
    for epoch in (0, second - 1, second, third - 1, third, 109):
        counters = torch.full_like(y, 1 + (epoch >= second) + (epoch >= third))
        step = make_step(model, x, y, eps=EPS, epoch=epoch)
        found = Trades(eps=EPS, num_steps=5, tolerance=schedule).craft(step)
        rows = (x + 1e-3 * make_step(model, x, y, eps=EPS).normal_like_x()).clamp(0, 1)
        p = model(x).softmax(1).detach()
        for _ in range(5):
            leaf = rows.clone().requires_grad_(True)
            z = model(leaf)
            counters -= (z.argmax(1) != y).to(counters.dtype)
            (gradient,) = torch.autograd.grad(-(p * z.log_softmax(1)).sum(), leaf)
            moved = (rows + 0.5 * EPS * gradient.sign()).clamp(x - EPS, x + EPS).clamp(0, 1)
            rows = torch.where((counters > 0).view(-1, 1, 1, 1), moved, rows)
        torch.testing.assert_close(found, rows, rtol=0, atol=1e-6)


# --- bad input ---


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"gradient_centralisation": "all", "optimizer": "adam"},
            "needs optimizer='sgd', by its name",
        ),
        ({"gradient_centralisation": "conf"}, "did you mean 'conv'"),
        ({"decay": "weight"}, "did you mean 'weights'"),
        ({"crop_padding": "reflct", "augmentation": "crop_flip"}, "did you mean 'reflect'"),
        ({"crop_padding": "reflect"}, "crop_padding belongs to augmentation='crop_flip', got"),
        ({"outer_loss": "dlrr"}, "did you mean 'dlr'"),
        ({"craft_loss": "margin"}, "craft_loss must be one of 'ce', 'dlr', 'cw', got 'margin'"),
        ({"loss_ramp": 1.5}, r"loss_ramp must lie in \[0, 1\], got 1.5"),
        ({"clean_forwards": 3}, "clean_forwards must be an integer from 0 to 2, got 3"),
        ({"clean_forwards": True}, "clean_forwards must be an integer from 0 to 2, got True"),
        ({"reference_batch": 0}, "reference_batch must be an integer >= 1, got 0"),
        ({"scale_rate": 2}, "scale_rate must be True or False, got 2"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_options_that_make_no_sense(given, message):
    with pytest.raises(ValueError, match=message):
        options(**given)


@pytest.mark.parametrize(
    "more", [{"scale_rate": True}, {"decay": "weights"}, {"gradient_centralisation": "all"}]
)
def test_an_optimiser_of_the_callers_own_has_settings_of_its_own(more, network, data):
    model = network()
    own = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="SGD"):
        train(model, data, Natural(), updates=1, optimizer=own, **more)


@pytest.mark.parametrize(
    ("recipe", "more", "message"),
    [
        (
            Free(eps=EPS),
            {"craft_loss": "dlr"},
            "craft_loss is for .* such as pgd, got 'dlr' beside",
        ),
        (Trades(eps=EPS), {"craft_loss": "cw"}, "got 'cw' beside trades"),
        (Natural(), {"craft_loss": "cw"}, "got 'cw' beside natural"),
        (Rce(), {"outer_loss": "dlr"}, "outer_loss does not apply to the loss of rce, got 'dlr'"),
        (Natural(), {"augmentation": "crop_flip", "crop_padding": "reflect"}, "more than 4 pixels"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_recipe_says_which_tricks_it_does_not_take(
    recipe, more, message, network, data, tmp_path
):
    with pytest.raises(ValueError, match=message):
        train(network(), data, recipe, updates=1, checkpoint_dir=tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("alpha", [-0.1, 1.1, "half"])
def test_a_mixture_outside_its_range(alpha):
    with pytest.raises(ValueError, match=r"mixture must (lie in \[0, 1\]|be a number), got"):
        Pgd(mixture=alpha)


def test_a_loader_has_batch_sizes_of_its_own(network, data):
    with pytest.raises(ValueError, match="scale_rate is for data in tensors and datasets"):
        train(network(), [data], Natural(), updates=1, scale_rate=True)


# --- folders of earlier versions ---


def test_a_folder_without_the_new_options_is_resumed(network, data, tmp_path):
    folder = tmp_path / "run"
    kept = {"checkpoint_dir": folder, "checkpoint_every": 2, "batch_size": 6}
    recipe = Pgd(eps=EPS, num_steps=2)
    whole = network()
    train(whole, data, recipe, updates=6, **kept)
    file = folder / "training.json"
    facts = json.loads(file.read_text())
    for name in ("decay", "scale_rate", "clean_forwards", "outer_loss", "crop_padding"):
        del facts["options"][name]
    del facts["recipe"]["mixture"]
    file.write_text(json.dumps(facts))
    model = network()
    train(model, data, recipe, updates=6, resume=True, **kept)
    assert mse_loss(weights_of(model), weights_of(whole)) == 0
    with pytest.raises(ValueError, match=r"options\.decay: 'all' there, 'weights' here"):
        train(model, data, recipe, updates=6, resume=True, decay="weights", **kept)


def test_every_recipe_says_whether_its_crafting_ascends_the_labels():
    found = {name for name, kind in RECIPES.items() if ":" not in name and kind().ascends_labels}
    assert {"pgd", "fast"} <= found
    assert not {"natural", "trades", "free", "fast-trades", "atcd"} & found
