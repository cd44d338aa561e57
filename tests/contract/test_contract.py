"""What every attack promises, in every shell (DESIGN section 3)."""

from __future__ import annotations

import copy
import inspect
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.core.attacks import registry
from art_ext.core.geometry import distances
from art_ext.core.result import AttackResult

BATCHES = (64, 16, 5)


@pytest.mark.skipif("ART_EXT_CONTRACT" in os.environ, reason="the entries of a user's file")
def test_every_registered_attack_has_an_entry(entries):
    assert {spec.name for spec in registry.specs() if registry.is_built_in(spec)} == entries


def test_ledger_budget_ball_and_box(attack, counting, digits, digits_net):
    x, y = digits
    model = counting(digits_net)
    result = attack.run(model, x, y, batch_size=16)
    assert model.rows == int((result.queries + result.wasted_rows).sum())
    assert model.backward_rows <= int(result.gradients.sum()) <= model.differentiated_rows
    assert attack.kind.flat or model.backward_rows == int(result.gradients.sum())
    assert attack.kind.gradients == (model.backward_rows > 0)
    assert model.largest <= 16
    assert int(result.queries.max()) <= attack.cost(attack.kind.budget)
    # rows of each of the first eight samples, by the shells' probe
    probed = 0 if attack.shell == "core" else 3
    assert result.wasted_rows.tolist() == [probed] * 8 + [0] * 32
    assert bool(result.success.any())
    assert not bool(result.success.all()), (
        "eps or the budget no longer separates the samples: the test says nothing"
    )
    distance = (result.x_adv.double() - x.double()).abs().flatten(1).amax(1)  # of failed rows too
    assert float(distance.max()) <= attack.kind.eps + 1e-6
    assert float(result.x_adv.min()) >= 0
    assert float(result.x_adv.max()) <= 1
    assert result.x_adv.dtype == torch.float32


def test_what_is_reported_fooled_the_model(attack, digits, digits_net):
    x, y = digits
    result = attack.run(digits_net, x, y)
    with torch.no_grad():
        wrong = torch.cat([digits_net(row[None]).argmax(1) for row in result.x_adv]) != y
    assert torch.equal(wrong, result.success)
    unmoved = (result.x_adv == x).flatten(1).all(1)
    assert torch.equal(
        unmoved[~result.success].unique(), torch.tensor([attack.on_failure == "input"])
    )
    assert (result.x_nearest is None) == attack.kind.ball
    assert (result.nearest_distance is None) == attack.kind.ball
    if result.x_nearest is not None:
        found = result.nearest_distance.isfinite()
        with torch.no_grad():
            assert bool((digits_net(result.x_nearest[found]).argmax(1) != y[found]).all())
        measured = distances(result.x_nearest, x, result.norm)
        torch.testing.assert_close(
            measured[found].float(), result.nearest_distance[found], rtol=0, atol=1e-7
        )


def test_distances_are_those_of_what_is_returned(attack, digits, digits_net):
    x, y = digits
    result = attack.run(digits_net, x, y)
    delta = (result.x_adv.double() - x.double()).flatten(1)
    exact = {
        "l0": (result.x_adv != x).flatten(1).sum(1).double(),
        "l1": delta.abs().sum(1),
        "l2": delta.square().sum(1).sqrt(),
        "linf": delta.abs().amax(1),
    }
    found = result.distortions()
    assert list(found) == ["l0", "l1", "l2", "linf"]
    for name, lengths in exact.items():
        wanted = lengths.masked_fill(~result.success, torch.inf)
        torch.testing.assert_close(found[name], wanted, rtol=1e-12, atol=0)
    assert torch.equal(result.distance, found[result.norm].float())
    assert found["l0"][result.already_adversarial].tolist() == [0.0] * int(
        result.already_adversarial.sum()
    )
    parts = (slice(0, 20), slice(20, 40))
    # a seed that is drawn anew in each call keeps results apart, and says nothing about lengths
    halves = [replace(attack.run(digits_net, x[part], y[part]), seed=0) for part in parts]
    assert torch.equal(
        AttackResult.cat(halves).lengths, torch.cat([half.lengths for half in halves])
    )


def test_already_adversarial_rows_cost_one_query(attack, digits, digits_net):
    x, y = digits
    with torch.no_grad():
        wrong_label = (digits_net(x).argmax(1) + 1) % 10
    result = attack.run(digits_net, x[:8], torch.cat([wrong_label[:4], y[4:8]]))
    assert bool(result.already_adversarial[:4].all())
    assert bool(result.success[:4].all())
    assert result.queries[:4].tolist() == result.queries_to_success[:4].tolist() == [1] * 4
    assert result.distance[:4].tolist() == [0.0] * 4
    assert result.gradients[:4].tolist() == [0] * 4
    assert torch.equal(result.x_adv[:4], x[:4])


def test_queries_to_success_are_those_of_the_round_of_the_success(core_attack, digits, digits_net):
    x, y = digits
    seen = torch.full_like(y, -1)
    steps = []

    def note(progress):
        steps.append(progress.step)
        new = progress.success & (seen[progress.index] < 0)
        seen[progress.index[new]] = progress.queries[new]

    result = core_attack.run(digits_net, x, y, callback=note)
    assert bool((result.success & ~result.already_adversarial).any())
    assert torch.equal(result.queries_to_success, torch.where(result.success, seen, -1))
    assert steps == list(range(len(steps)))
    if result.stop_on_success:
        assert torch.equal(
            result.queries_to_success[result.success], result.queries[result.success]
        )


def test_missing_labels_are_the_predictions(attack, check_same, counting, digits, digits_net):
    x = digits[0]
    with torch.no_grad():
        predicted = digits_net(x).argmax(1)
    model = counting(digits_net)
    result = attack.run(model, x, None)
    check_same(result, attack.run(digits_net, x, predicted))
    if attack.shell == "core":  # each call of the model labels its own samples
        parts = attack.run(digits_net, x, None, batch_size=16)
        check_same(parts, attack.run(digits_net, x, predicted, batch_size=16))
    asked = int((result.queries + result.wasted_rows).sum())
    assert model.rows == asked, "finding the labels must cost nothing beyond the clean check"
    assert int(result.wasted_rows.sum()) == (0 if attack.shell == "core" else 3 * 8)  # the probe's


@pytest.mark.parametrize("batch_size", BATCHES[1:])
def test_batch_size_changes_no_bit_of_a_row_by_row_model(
    attack, check_same, digits, row_by_row, batch_size
):
    x, y = digits
    reference = attack.run(row_by_row, x, y, batch_size=BATCHES[0])
    check_same(reference, attack.run(row_by_row, x, y, batch_size=batch_size))


@pytest.mark.parametrize("batch_size", BATCHES[1:])
def test_batch_size_changes_no_verdict_of_a_network(attack, digits, digits_net, batch_size):
    x, y = digits
    reference, other = (
        attack.run(digits_net, x, y, batch_size=size) for size in (BATCHES[0], batch_size)
    )
    assert torch.equal(reference.success, other.success)
    torch.testing.assert_close(reference.distance, other.distance, rtol=0, atol=1e-4)


def test_order_changes_nothing(attack, check_same, reorder, digits, row_by_row):
    x, y = digits
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    check_same(
        attack.run(row_by_row, x[order], y[order]), reorder(attack.run(row_by_row, x, y), order)
    )


def test_order_changes_nothing_with_sample_ids(
    core_attack, check_same, reorder, digits, row_by_row
):
    x, y = digits
    names = torch.arange(len(x)) + 1000
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    reference = core_attack.run(row_by_row, x, y, sample_ids=names)
    check_same(
        core_attack.run(row_by_row, x[order], y[order], sample_ids=names[order]),
        reorder(reference, order),
    )


def test_neighbours_change_nothing(attack, check_same, reorder, digits, row_by_row):
    x, y = digits
    some = torch.tensor([3, 17, 30])
    check_same(
        attack.run(row_by_row, x[some], y[some]), reorder(attack.run(row_by_row, x, y), some)
    )


def test_seed_repeats_the_run(attack, check_same, digits, digits_net):
    x, y = digits
    options = {"seed": 7} if attack.takes("seed") else {}
    assert options or not attack.kind.draws
    first, second = (attack.run(digits_net, x, y, **options) for _ in range(2))
    check_same(first, second)
    if options:
        assert first.seed == 7


def test_input_model_and_global_random_state_stay_untouched(attack, counting, digits, digits_net):
    x, y = digits
    network = nn.Sequential(copy.deepcopy(digits_net), nn.Dropout(0.5), nn.BatchNorm1d(10)).train()
    network[2].eval()  # a frozen layer inside a training network
    network[2].weight.requires_grad_(False)
    modes = [module.training for module in network.modules()]
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    weights = copy.deepcopy(network.state_dict())
    before, states = x.clone(), (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    model = counting(network)
    model.eval()
    for module, mode in zip(network.modules(), modes, strict=True):
        module.training = mode
    attack.run(model, x, y, max_queries=20)
    assert not model.training_seen
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002


def test_modes_come_back_after_an_error(attack, digits):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, x):
            if len(x) < 40:
                raise RuntimeError("the model broke")
            return self.layer(x.flatten(1))

    model = Broken().train()
    with pytest.raises(RuntimeError, match="the model broke"):
        attack.run(model, *digits, batch_size=32)
    assert model.training
    assert model.layer.training
    assert model.layer.weight.requires_grad


@pytest.mark.parametrize("budget", [37, 4])
def test_a_constant_label_spends_the_whole_budget(attack, digits, budget):
    x, y = digits

    class Constant(nn.Module):
        def forward(self, rows):
            return 3 * torch.eye(10)[y[0]] + 0 * rows.flatten(1).sum(1, keepdim=True)

    result = attack.run(Constant(), x[:1], y[:1], max_queries=budget, **attack.kind.unstopped)
    assert result.success.tolist() == [False]
    assert result.distance.tolist() == [float("inf")]
    assert result.queries.tolist() == [attack.cost(budget)]
    assert result.queries_to_success.tolist() == [-1]
    if attack.on_failure == "input" or not attack.kind.random_start:
        assert torch.equal(result.x_adv, x[:1]), "nothing to climb: the last iterate is the input"


def test_a_budget_of_one_is_the_clean_check(attack, digits, digits_net):
    x, y = digits
    result = attack.run(digits_net, x, y, max_queries=1)
    assert result.queries.tolist() == [1] * len(x)
    assert torch.equal(result.success, result.already_adversarial)


def test_empty_batch(attack, digits, digits_net):
    result = attack.run(digits_net, digits[0][:0], digits[1][:0])
    assert len(result) == 0
    assert result.x_adv.shape == (0, 1, 8, 8)
    assert int(result.queries.sum()) == 0


def test_mask_keeps_coordinates(masked_attack, digits, digits_net):
    x, y = digits
    mask = torch.zeros(8, 8)
    mask[2:6] = 1
    result = masked_attack.run(digits_net, x, y, mask=mask, eps=0.9)
    kept = ~mask.bool().expand_as(x)
    assert torch.equal(result.x_adv[kept], x[kept])
    assert bool((result.success & ~result.already_adversarial).any())
    own = torch.rand(len(x), 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    result = masked_attack.run(digits_net, x, y, mask=own, eps=0.9)
    assert torch.equal(result.x_adv[~own], x[~own])
    assert bool((result.success & ~result.already_adversarial).any())


def test_box_other_than_zero_one(boxed_attack, digits, digits_net):
    x, y = digits
    kind = boxed_attack.kind

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = digits_net

        def forward(self, rows):
            return self.network((rows + 2) / 4)

    # for the same random numbers
    named = {"sample_ids": torch.arange(len(x))} if boxed_attack.shell == "core" else {}
    reference = boxed_attack.run(digits_net, x, y, max_queries=200, **named)
    defaults = inspect.signature(kind.spec.function).parameters
    scaled = {
        name: 4**power * kind.settings.get(name, defaults[name].default)
        for name, power in kind.units.items()
    }
    result = boxed_attack.run(
        Shifted(),
        4 * x - 2,
        y,
        clip_values=(-2.0, 2.0),
        eps=4 * kind.eps,
        max_queries=200,
        **scaled,
        **named,
    )
    assert float(result.x_adv.min()) >= -2
    assert float(result.x_adv.max()) <= 2
    if kind.draws and not named:  # other samples draw other numbers
        assert abs(int(result.success.sum()) - int(reference.success.sum())) <= 4
    elif kind.ball:
        assert torch.equal(result.success, reference.success)
    else:
        # RayS' tolerance is an absolute length, optimisations round: verdicts agree but on the edge
        # of the ball
        edge = (reference.distance - kind.eps).abs() < 1e-3
        assert torch.equal(result.success | edge, reference.success | edge)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": 0}, "eps must be > 0"),
        ({"eps": 8}, "8/255"),
        ({"max_queries": 0}, "max_queries must be an integer >= 1, got 0"),
        ({"max_queries": 2.5}, "max_queries must be an integer >= 1, got 2.5"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"norm": "l7"}, "norm must be"),
    ],
)
def test_bad_arguments(attack, digits, digits_net, change, message):
    if message == "8/255" and "linf" not in attack.kind.spec.norms:
        return  # a ball of another norm may be larger than the box
    with pytest.raises(ValueError, match=message):
        attack.run(digits_net, *digits, **change)


def test_bad_samples(attack, digits, digits_net):
    x, y = digits
    with pytest.raises(
        ValueError, match=r"x must lie in \[0, 1\]; got min=.*, max=2.*normalisation"
    ):
        attack.run(digits_net, x + 1, y)
    within = (x + 5e-5).contiguous()
    assert float(attack.run(digits_net, within, y, max_queries=2).x_adv.max()) <= 1
    broken = x.clone()
    broken[5, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity first in sample 5"):
        attack.run(digits_net, broken, y)
    raw = (x * 255).to(torch.uint8)
    # through ART integers are numbers in clip_values; elsewhere they are refused
    error, message = (ValueError, "max=255") if attack.shell == "art" else (TypeError, "/ 255")
    with pytest.raises(error, match=message):
        attack.run(digits_net, raw, y)
    double = attack.run(digits_net, x.double(), y, max_queries=5)
    assert double.x_adv.dtype == torch.float32


def test_bad_labels(attack, digits, digits_net):
    x, y = digits
    with pytest.raises(ValueError, match=r"y must have shape"):
        attack.run(digits_net, x, y[:5])
    with pytest.raises(ValueError, match="below 10, the model's width, got 10"):
        attack.run(digits_net, x, torch.full_like(y, 10))
    with pytest.raises(ValueError, match="class indices >= 0, got -1"):
        attack.run(digits_net, x, torch.full_like(y, -1))
    with pytest.raises(ValueError, match="integer"):
        attack.run(digits_net, x, y.float() + 0.5)


def test_bad_models(attack, digits):
    x, y = digits

    class Returns(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, rows):
            return self.value(rows)

    def nan_for_the_sixth(rows):
        scores = torch.zeros(len(rows), 10)
        scores[(rows == x[6]).flatten(1).all(1)] = float("nan")
        return scores

    with pytest.raises(ValueError, match="NaN for the clean input, first in sample 6"):
        attack.run(Returns(nan_for_the_sixth), x, y)
    with pytest.raises(ValueError, match=r"or one column for two classes, got shape \(\d+, 1, 2\)"):
        attack.run(Returns(lambda rows: torch.zeros(len(rows), 1, 2)), x, y)


def test_nan_outputs_never_pass_for_success(attack, digits):
    x, y = digits

    class NanAway(nn.Module):
        def forward(self, rows):  # right on the data, NaN everywhere else
            scores = 0 * rows.flatten(1).sum(1, keepdim=True) + float("nan") * torch.ones(10)
            for k in range(len(rows)):
                match = (rows[k] == x).flatten(1).all(1)
                if bool(match.any()):
                    scores[k] = 3 * torch.eye(10)[y[match][0]] + 0.01 * rows[
                        k
                    ].sum() * torch.linspace(0, 1, 10)
            return scores

    result = attack.run(NanAway(), x, y, max_queries=12)
    assert not bool(result.success.any())
    assert bool(result.distance.isinf().all())
