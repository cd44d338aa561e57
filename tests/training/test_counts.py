"""Rows forward and backward of every recipe, counted by hooks on the network, against the
papers' counts.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from art_ext.training import (
    RECIPES,
    Adp,
    Atcd,
    BackwardSmoothing,
    Cat,
    Fast,
    FastPlus,
    FastTrades,
    Free,
    GradAlign,
    Mmc,
    Mmlda,
    Natural,
    Pgd,
    Rce,
    Trades,
    War,
    Yopo,
    YopoTrades,
    make_recipe,
    train,
)
from tests.toys import small_recipe

EPS = 0.1
EPOCHS = 2
UPDATES = 3  # minibatches of fourteen samples by six: the last has two


def chain(order, replays, steps, metropolis, rho, shared=True):
    """The chain's count for a weight update: K passes, of which order "free" shares the last with
    the weights.

    Nothing is rejected: the temperature sees to it.
    """
    tested = 0 if not metropolis else 2 if order == "free" and not shared else 1
    if order == "free":
        expected = (steps + tested, steps + 1 if rho else steps)
    else:
        expected = (steps + 1 + tested, steps + 1)
    return (
        Atcd(
            eps=EPS,
            order=order,
            num_replays=replays,
            num_steps=steps,
            metropolis=metropolis,
            rho=rho,
            shared_test=shared,
            temperature=1e6,
        ),
        *expected,
    )


def smoothing(variant, start, target, steps):
    """One pass seeks the random output, ``steps`` ascend; then the loss, and the clean answer if
    any part needs it.
    """
    clean = variant == "trades" or (start, target) == ("backward", "shifted")
    outer = 2 if variant == "trades" else 1
    recipe = BackwardSmoothing(
        eps=EPS, variant=variant, start=start, target=target, num_steps=steps, points=2
    )
    return recipe, clean + 1 + steps + outer, 1 + steps + outer


# (recipe, forwards, backwards) of one weight update and sample; TRADES' one backward call
# differentiates two forwards
CASES = [
    (Natural(), 1, 1),
    (Pgd(eps=EPS, num_steps=3), 4, 4),
    (Pgd(eps=EPS, num_steps=3, tolerance=0), 4, 4),
    (Pgd(eps=EPS, num_steps=3, mixture=0.5), 3 + 2, 3 + 2),
    (Pgd(eps=EPS, num_steps=2, norm="l2"), 3, 3),
    (Pgd(eps=EPS, num_steps=2, norm="l1", bn_mode="train"), 3, 3),
    (Trades(eps=EPS, num_steps=2), 1 + 2 + 2, 2 + 2),
    (Trades(eps=EPS, num_steps=1, beta=0.0), 1 + 1 + 2, 1 + 2),
    (Fast(eps=EPS), 2, 2),
    (Fast(eps=EPS, num_steps=2), 3, 3),
    (Fast(eps=EPS, start="zero"), 2, 2),
    (Fast(eps=EPS, start="previous"), 2, 2),
    (FastTrades(eps=EPS), 1 + 1 + 2, 1 + 2),
    (FastTrades(eps=EPS, num_steps=2), 1 + 2 + 2, 2 + 2),
    (Free(eps=EPS, num_replays=1), 1, 1),
    (Free(eps=EPS, num_replays=3), 1, 1),
    # the gradient at a random point is differentiated again, and counts as two backwards
    (GradAlign(eps=EPS, weight=0.2), 1 + 1 + 1, 1 + 1 + 2),
    (GradAlign(eps=EPS, weight=0.2, variant="both"), 1 + 1 + 2, 1 + 1 + 2 * 2),
    (GradAlign(eps=EPS, weight=0.0), 2, 2),
    (FastPlus(eps=EPS), 2, 2),
    (Cat(eps=EPS, num_replays=2, num_steps=3), 3, 4),
    (Cat(eps=EPS, num_replays=8, num_steps=1, rho=0.0), 1, 1),
    (Atcd(eps=0.0, num_replays=2, num_steps=2, shared_test=False), 4, 3),
    (Atcd(eps=EPS, num_replays=2, momentum=False, shared_test=False), 4, 3),
    (Atcd(eps=EPS, num_replays=2, num_steps=2, temperature=1e6), 3, 3),
    (
        Atcd(eps=EPS, num_replays=2, num_steps=2, temperature=1e6, kinetic=True, step_size=0.02),
        3,
        3,
    ),
    (Adp(members=2), 2, 2),
    (Adp(members=2, adversarial="plain", num_steps=2), 2 * (2 + 2), 2 * (2 + 2)),
    (Adp(members=2, adversarial="regularised", num_steps=3, bn_mode="train"), 10, 10),
    (War(eps=EPS, num_steps=2), 1 + 2 + 2, 2 + 2),
    (War(eps=EPS, num_steps=2, regulariser="at"), 2 + 2, 2 + 2),
    (War(eps=EPS, num_steps=1, regulariser="at", fixed=2.0), 1 + 2, 1 + 2),
    (Yopo(eps=EPS, num_outer=3, num_inner=2), 3, 3),
    (Yopo(eps=EPS, num_outer=1, num_inner=1, first_gradient="both"), 1, 1),
    (YopoTrades(eps=EPS, num_outer=2, num_inner=3), 1 + 2 + 2, 2 + 2),
    (YopoTrades(eps=EPS, num_outer=2, bn_mode="train"), 1 + 2 + 2, 2 + 2),
    (Rce(), 1, 1),
    (Mmlda(), 1, 1),
    (Mmc(), 1, 1),
    (Rce(eps=EPS, craft="pgd", num_steps=3), 4, 4),
    (Mmlda(eps=EPS, craft="trades", num_steps=2), 1 + 2 + 1, 2 + 1),
    (Mmc(eps=EPS, craft="pgd", num_steps=2, gain="margin", target="random"), 3, 3),
    *(
        chain(*case)
        for case in itertools.product(
            ("free", "printed", "fresh"), (1, 3), (1, 2), (True, False), (0.0, 1.0)
        )
    ),
    *(chain("free", 3, 2, True, rho, shared=False) for rho in (0.0, 1.0)),
    *(
        smoothing(*case)
        for case in itertools.product(
            ("trades", "pgd"), ("backward", "odi"), ("printed", "shifted"), (0, 1, 2)
        )
    ),
]


def label(case):
    settings = (
        f"{key}={value}" for key, value in case[0].settings().items() if key not in ("eps", "name")
    )
    return f"{case[0].name}-{'-'.join(settings)}"


@pytest.mark.parametrize("case", CASES, ids=label)
def test_hooks_count_what_the_recipe_states(case, network, data, count_rows):
    recipe, forwards, backwards = case
    assert recipe.cost() == (forwards, backwards)
    model = recipe.build(lambda seed: network("norm", seed=seed), 0)
    rows, steps = count_rows(model), []
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    optimizer.register_step_post_hook(lambda *_: steps.append(rows.forwards))
    result = train(model, data, recipe, epochs=EPOCHS, batch_size=6, optimizer=optimizer)
    updates = EPOCHS * recipe.replays * len(data[0])  # of single samples
    assert rows.forwards == result.forwards == forwards * updates
    assert rows.backwards == result.backwards == backwards * updates
    assert result.updates == len(steps) == len(result.losses) == EPOCHS * UPDATES * recipe.replays
    # each weight update costs the same, by the rows of its own minibatch
    sizes = [6, 6, 2] * EPOCHS
    between = torch.tensor(steps).diff(prepend=torch.tensor([0])).tolist()
    assert between == [forwards * size for size in sizes for _ in range(recipe.replays)]
    half = result.history[0]
    assert (half["forwards"], half["backwards"]) == (result.forwards / 2, result.backwards / 2)


def test_every_recipe_is_counted():
    assert {recipe.name for recipe, *_ in CASES} == set(ONE_PHASE)


@pytest.mark.parametrize(
    "recipe", [Free(eps=EPS, num_replays=3), Atcd(eps=EPS, num_replays=3)], ids=lambda r: r.name
)
def test_a_run_that_ends_between_two_replays_counts_those_done(recipe, network, data, count_rows):
    model = network()
    rows = count_rows(model)
    result = train(model, data, recipe, updates=4, batch_size=6)
    assert result.updates == 4
    assert (rows.forwards, rows.backwards) == tuple(4 * 6 * cost for cost in recipe.cost())
    assert (result.forwards, result.backwards) == (rows.forwards, rows.backwards)


@pytest.mark.parametrize(
    ("recipe", "updates", "equivalent"),
    [
        (Free(eps=EPS, num_replays=4), 4, 4),
        (Atcd(eps=EPS, num_replays=4, num_steps=2), 4, 8),
        (Pgd(eps=EPS), 1, 1),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_equivalent_epochs_are_those_of_the_papers(recipe, updates, equivalent, network, data):
    assert recipe.worth == equivalent
    result = train(network(), data, recipe, equivalent_epochs=2 * equivalent, batch_size=6)
    assert result.updates == 2 * UPDATES * updates
    assert len(result.history) == 2


def spent(result, samples=14):
    """Rows forward and backward per training sample."""
    return (result.forwards + result.backwards) / samples


# a run of several phases has no budget, and is counted in test_distillation
ONE_PHASE = [name for name in RECIPES if len(make_recipe(name).phases()) == 1]


@pytest.mark.parametrize("passes", [24.0, 61.5])
@pytest.mark.parametrize("name", ONE_PHASE)
def test_passes_end_a_run_within_one_update_of_the_budget(name, passes, network, data, count_rows):
    recipe = small_recipe(name, EPS)
    loader = DataLoader(TensorDataset(*data), 6, shuffle=True)
    runs = {}
    for kind, samples in {"tensors": data, "list": list(loader), "loader": loader}.items():
        model = recipe.build(lambda seed: network(seed=seed), 0)
        rows = count_rows(model)
        runs[kind] = train(model, samples, recipe, passes=passes, batch_size=6)
        assert (rows.forwards, rows.backwards) == (runs[kind].forwards, runs[kind].backwards)
        assert spent(runs[kind]) <= passes
        assert spent(runs[kind]) > passes - sum(recipe.cost()) * 6 / 14
        assert len(runs[kind].history) == len({row["epoch"] for row in runs[kind].history})
    assert len({run.updates for run in runs.values()}) == 1


@pytest.mark.parametrize("name", ONE_PHASE)
def test_passes_below_one_update_are_refused(name, network, data, tmp_path):
    recipe, folder = small_recipe(name, EPS), tmp_path / "run"
    one = sum(recipe.cost()) * 6 / 14

    def build():
        return recipe.build(lambda seed: network(seed=seed), 0)

    with pytest.raises(
        ValueError, match=f"passes must be at least {one:.4g}, the rows of one weight update"
    ):
        train(build(), data, recipe, passes=one * 0.999, batch_size=6, checkpoint_dir=folder)
    assert not folder.exists()
    assert train(build(), data, recipe, passes=one, batch_size=6).updates == 1


def test_natural_training_spends_two_passes_an_epoch(network, data):
    by_passes = train(network(), data, "natural", passes=6.0, batch_size=6)
    by_epochs = train(network(), data, "natural", epochs=3, batch_size=6)
    assert by_passes.updates == 9
    assert torch.equal(by_passes.losses, by_epochs.losses)
    assert spent(by_passes) == 6.0


def rejecting(**arguments):
    """ATCD on a steep network with steps so long that many moves miss the top."""
    return Atcd(**{"eps": 0.5, "num_replays": 3, "num_steps": 2, **arguments})


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_rejected_rows_are_sent_again_and_counted(rho, network, data, count_rows):
    model = network("norm", scale=12)
    rows = count_rows(model)
    result = train(model, data, rejecting(rho=rho), epochs=4, batch_size=6)
    assert result.history[0]["acceptance"] < 1
    usual = rejecting(rho=rho).cost()
    again = result.forwards - 4 * 3 * 14 * usual.forwards
    assert again > 0
    assert result.backwards == 4 * 3 * 14 * usual.backwards + again * (2 if rho else 1)
    assert (rows.forwards, rows.backwards) == (result.forwards, result.backwards)


def test_a_budget_holds_with_rejected_rows_too(network, data, count_rows):
    """The last update leaves them out where they do not fit."""
    recipe = rejecting()
    most, usual = sum(recipe.largest_cost()), sum(recipe.cost())
    assert (most, usual) == (9, 6)
    for passes in (60.0, 61.0, 62.0, 63.0, 64.0):
        model = network(scale=12)
        rows = count_rows(model)
        result = train(model, data, recipe, passes=passes, batch_size=6)
        assert (rows.forwards, rows.backwards) == (result.forwards, result.backwards)
        assert passes - usual * 6 / 14 < spent(result) <= passes
        assert any(row["acceptance"] < 1 for row in result.history)


def test_validation_is_not_counted_as_training(network, data):
    recipe = Pgd(eps=EPS, num_steps=2)
    runs = [
        train(network(), data, recipe, epochs=1, batch_size=6, validation_data=held)
        for held in (None, data)
    ]
    assert runs[0].forwards == runs[1].forwards == 3 * len(data[0])
    assert "validation_robust" in runs[1].history[0]
