"""Recipes by their names, and arguments that make no sense."""

from __future__ import annotations

import pytest

from art_ext.training import RECIPES, Cat, make_recipe, train
from tests.toys import RADIUS, small_recipe


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("trade", {}, "recipe must be one of natural, .*got 'trade' .did you mean 'trades'"),
        ("backward_smoothing", {}, "did you mean 'backward-smoothing'"),
        ("zzz", {}, "recipe must be one of .*got 'zzz'$"),
        (3, {}, "recipe must be one of .*got 3"),
        ("pgd", {"epsilon": 0.1}, "the recipe pgd takes .*got 'epsilon' .did you mean 'eps'"),
        ("atcd", {"metropolish": True}, "did you mean 'metropolis'"),
        ("natural", {"eps": 0.1}, "the recipe natural takes no argument, got 'eps'"),
        ("war", {"beta": 6.0}, "the recipe war takes .*got 'beta'"),
        ("fast-trades", {"start": 0.1}, "the recipe fast-trades takes .*got 'start'"),
        ("pgd", {"eps": -0.1}, "eps must be a finite number >= 0, got -0.1"),
        ("pgd", {"eps": float("nan")}, "eps must be a finite number >= 0, got nan"),
        ("pgd", {"eps": "8/255"}, "eps must be a number, got '8/255'"),
        ("pgd", {"eps": None}, "eps must be a number, got None"),
        ("pgd", {"norm": "L3"}, "norm must be one of 'linf', .*got 'L3'"),
        ("pgd", {"bn_mode": "test"}, "bn_mode must be one of 'eval', 'train', 'batch', got 'test'"),
        ("pgd", {"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
        ("pgd", {"num_steps": 2.5}, "num_steps must be an integer >= 1, got 2.5"),
        ("pgd", {"num_steps": "10"}, "num_steps must be an integer >= 1, got '10'"),
        ("pgd", {"step_size": 0.0}, "step_size must be > 0, got 0.0"),
        ("fast", {"step_size": "a"}, "step_size must be a number, got 'a'"),
        (
            "pgd",
            {"tolerance": -1},
            "tolerance must be an integer >= 0, None, or a schedule .* epoch 0, got -1",
        ),
        ("pgd", {"tolerance": True}, "tolerance must be .*, got True"),
        ("pgd", {"tolerance": "{0: 1}"}, "tolerance must be .*, got '{0: 1}'"),
        ("pgd", {"tolerance": {}}, "tolerance must be .* that begins at epoch 0, got {}"),
        (
            "trades",
            {"tolerance": {5: 1}},
            "tolerance must be .* that begins at epoch 0, got {5: 1}",
        ),
        ("trades", {"tolerance": {0: 0, 5: -1}}, "tolerance must be .*, got {0: 0, 5: -1}"),
        ("trades", {"tolerance": {0: 0, -5: 1}}, "tolerance must be .*, got {0: 0, -5: 1}"),
        ("trades", {"tolerance": {0: 0, 2.5: 1}}, "tolerance must be .*, got {0: 0, 2.5: 1}"),
        ("war", {"tolerance": 1.5}, "tolerance must be .*, got 1.5"),
        ("trades", {"beta": -1.0}, "beta must be a finite number >= 0, got -1.0"),
        ("trades", {"start": -1e-3}, "start must be a finite number >= 0"),
        ("free", {"num_replays": 0}, "num_replays must be an integer >= 1, got 0"),
        ("atcd", {"order": "Free"}, "order must be one of 'free', 'printed', 'fresh', got 'Free'"),
        ("atcd", {"norm": "l2"}, "norm='linf', got 'l2'"),
        ("atcd", {"lam": 0.0}, "lam must be > 0, got 0.0"),
        ("atcd", {"rho": -1.0}, "rho must be a finite number >= 0, got -1.0"),
        ("cat", {"alpha": -1.0}, "alpha must be > 0, got -1.0"),
        ("cat", {"momentum": "no"}, "momentum must be True or False, got 'no'"),
        ("atcd", {"metropolis": 1}, "metropolis must be True or False, got 1"),
        ("atcd", {"shared_test": 0}, "shared_test must be True or False, got 0"),
        ("atcd", {"kinetic": "yes"}, "kinetic must be True or False, got 'yes'"),
        ("atcd", {"temperature": 0.0}, "temperature must be > 0, got 0.0"),
        ("atcd", {"temperature": "1"}, "temperature must be a number, got '1'"),
        ("cat", {"step_size": -0.1}, "step_size must be > 0, got -0.1"),
        ("atcd", {"stepsize": 0.1}, "did you mean 'step_size'"),
        ("atcd", {"num_replays": True}, "num_replays must be an integer >= 1, got True"),
        ("backward-smoothing", {"num_steps": -1}, "num_steps must be an integer >= 0, got -1"),
        ("backward-smoothing", {"points": 0}, "points must be an integer >= 1, got 0"),
        ("backward-smoothing", {"gamma": -1.0}, "gamma must be a finite number >= 0, got -1.0"),
        (
            "backward-smoothing",
            {"variant": "at"},
            "variant must be one of 'trades', 'pgd', got 'at'",
        ),
        (
            "backward-smoothing",
            {"start": "random"},
            "start must be one of 'backward', 'odi', got 'random'",
        ),
        ("backward-smoothing", {"target": 1}, "target must be one of 'printed', 'shifted', got 1"),
        ("backward-smoothing", {"boxed_start": 0}, "boxed_start must be True or False, got 0"),
        ("fast-trades", {"boxed_start": "no"}, "boxed_start must be True or False, got 'no'"),
        ("war", {"regulariser": "pgd"}, "regulariser must be one of 'trades', 'at', got 'pgd'"),
        ("war", {"zeta": -1.0}, "zeta must be a finite number >= 0, got -1.0"),
        ("war", {"zeta": float("inf")}, "zeta must be a finite number >= 0, got inf"),
        ("war", {"rule": "Log"}, "rule must be one of 'log', 'printed', got 'Log'"),
        ("war", {"rule": "printed", "alpha": 0.0}, "alpha must be > 0, got 0.0"),
        ("war", {"rule": "printed", "ema": 1.0}, r"ema must lie in \[0, 1\), got 1.0"),
        ("war", {"rule": "printed", "cap": 0.0}, "cap must be > 0, got 0.0"),
        ("war", {"rule": "printed", "cap": "all"}, "cap must be a number, got 'all'"),
        (
            "war",
            {"alpha": 0.1},
            "alpha belongs to rule='printed', got alpha=0.1 with rule='log'; rule='log' takes ",
        ),
        ("war", {"cap": 10.0}, "cap belongs to rule='printed', got cap=10.0 with rule='log'"),
        (
            "war",
            {"ema": 0.0, "rule": "log"},
            "ema belongs to rule='printed', got ema=0.0 with rule='log'",
        ),
        (
            "war",
            {"gain": 0.02, "rule": "printed"},
            "gain belongs to rule='log', got gain=0.02 with rule='printed'",
        ),
        ("war", {"lambda_0": 0.0}, "lambda_0 must be > 0 with rule='log', .*got 0"),
        ("war", {"lambda_0": -1.0}, "lambda_0 must be a finite number >= 0, got -1.0"),
        ("war", {"hold_epochs": -1}, "hold_epochs must be a finite number >= 0, got -1"),
        ("war", {"gain": 0.0}, "gain must be > 0, got 0.0"),
        ("war", {"zeta": 0.0}, "zeta must be > 0 with rule='log', got 0"),
        ("war", {"fixed": -2.0}, "fixed must be a finite number >= 0, got -2.0"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_recipe(name, **arguments)


@pytest.mark.parametrize("name", RADIUS)
def test_eps_of_eight_on_unit_images_is_refused_before_anything_happens(
    name, network, data, tmp_path, count_rows
):
    model = network()
    rows, folder = count_rows(model), tmp_path / "run"
    with pytest.raises(ValueError, match=r"eps must not exceed the box width 1 .*got 8.*8/255"):
        train(model, data, small_recipe(name, 8.0), epochs=1, checkpoint_dir=folder)
    assert rows.forwards == 0
    assert not folder.exists()
    # and is right where the box is that of 8-bit images
    x, y = data
    result = train(
        model,
        (x * 255, y),
        small_recipe(name, 8.0),
        updates=1,
        batch_size=6,
        clip_values=(0.0, 255.0),
    )
    assert result.updates == 1


def test_every_recipe_is_made_by_its_name():
    for name, kind in RECIPES.items():
        recipe = make_recipe(name)
        assert type(recipe) is kind
        assert recipe.settings()["name"] == name
    changed = make_recipe("atcd", order="fresh", eps=0.3)
    assert (changed.order, changed.eps, changed.lam) == ("fresh", 0.3, 2.0)
    assert Cat().cost() == (2, 3)


def test_no_recipe_is_a_kind_of_another():
    kinds = list(RECIPES.values())
    assert [(a, b) for a in kinds for b in kinds if a is not b and issubclass(a, b)] == []
