"""Transforms in front of a model: their draws, their cost, and the attacks that take them."""

from __future__ import annotations

import functools
import json
import math

import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks import auto_pgd, fgsm, frank_wolfe, hmcam, mi_fgsm, pgd, square
from art_ext.core.attacks.engine.planning import planning
from art_ext.core.losses import embedding_goal
from art_ext.core.transforms import input_diversity
from art_ext.evaluation import evaluate, transfer
from tests.toys import Counting

EPS = 0.1
ATTACKS = {
    "fgsm": (fgsm, {}),
    "mi_fgsm": (mi_fgsm, {"num_steps": 4}),
    "pgd": (pgd, {"num_steps": 3, "num_restarts": 2}),
    "hmcam": (hmcam, {"num_steps": 3, "num_transitions": 2}),
    "auto_pgd": (auto_pgd, {"num_steps": 6, "stop_on_success": False}),
    "frank_wolfe": (frank_wolfe, {"num_steps": 4, "stop_on_success": False}),
}


@pytest.fixture
def images():
    return torch.rand(6, 3, 11, 8, generator=torch.Generator().manual_seed(0))


IDS = torch.arange(6) * 7


def parts(image, made):
    """Return side, row and column of the resized image inside its frame, from what is not zero."""
    rows = made.abs().sum(dim=(0, 2)).nonzero().flatten()
    columns = made.abs().sum(dim=(0, 1)).nonzero().flatten()
    return (len(rows), len(columns)), int(rows[0]), int(columns[0])


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("low", [0.5, 1.6])
def test_rows_are_resized_and_padded(images, mode, low):
    images = images + 0.1  # no pixel is zero
    made = input_diversity(1.0, low, mode)(images, IDS, 3, 0)
    frame = (11, 8) if low < 1 else (int(11 * low), int(8 * low))
    assert made.shape == (6, 3, *frame)
    sides = set()
    for image, row in zip(images, made, strict=True):
        side, top, left = parts(image, row)
        sides.add(side)
        assert int(min(low, 1) * 8) <= side[1] < (8 if low < 1 else frame[1])
        options = {} if mode == "nearest" else {"align_corners": False}
        alone = functional.interpolate(image[None], size=side, mode=mode, **options)[0]
        found = row[:, top : top + side[0], left : left + side[1]]
        assert torch.allclose(found, alone, atol=1e-6)
    assert len(sides) > 1


def test_draws_are_of_the_sample_and_the_step(images):
    transform = input_diversity(0.6, 0.5)
    whole = transform(images, IDS, 2, 5)
    order = torch.tensor([4, 0, 3])
    assert torch.equal(transform(images[order], IDS[order], 2, 5), whole[order])
    assert not torch.equal(transform(images, IDS, 3, 5), whole)
    assert not torch.equal(transform(images, IDS, 2, 6), whole)
    drawn = input_diversity(0.5)(torch.ones(4000, 1, 10, 10), torch.arange(4000), 0, 0)
    untouched = (drawn == 1).flatten(1).all(dim=1).double().mean()
    assert float(untouched) == pytest.approx(0.5, abs=0.04)


def test_probability_zero_is_the_plain_attack(digits_net, digits):
    x, y = digits
    with torch.no_grad():
        right = digits_net(x).argmax(1) == y
    x, y = x[right], y[right]
    for attack, options in ATTACKS.values():
        plain = attack(digits_net, x, y, eps=EPS, seed=0, on_failure="last", **options)
        found = attack(
            digits_net,
            x,
            y,
            eps=EPS,
            seed=0,
            on_failure="last",
            transform=input_diversity(0.0),
            **options,
        )
        assert torch.equal(found.x_adv, plain.x_adv)
        assert torch.equal(found.success, plain.success)
        assert torch.equal(found.gradients, plain.gradients)


@pytest.mark.parametrize("name", ATTACKS)
def test_each_gradient_costs_a_query_more(name, digits_net, digits):
    x, y = digits
    attack, options = ATTACKS[name]
    counting = Counting(digits_net)
    plain = attack(digits_net, x, y, eps=EPS, seed=0, **options)
    transform = input_diversity(0.7, 0.6)
    found = attack(counting, x, y, eps=EPS, seed=0, transform=transform, **options)
    assert int(found.queries.sum()) == counting.rows
    attacked = ~found.already_adversarial
    ends = {"pgd": 2, "hmcam": 1, "auto_pgd": 1}.get(name, 0)
    assert torch.equal(found.queries[attacked], (plain.queries + plain.gradients)[attacked] + ends)
    assert (found.queries[~attacked] == 1).all()
    assert torch.equal(found.gradients, plain.gradients)
    with torch.no_grad():
        labels = digits_net(found.x_adv).argmax(1)
    assert torch.equal(found.success, labels != y)
    with planning() as plan:
        attack(digits_net, x[:0], y[:0], eps=EPS, transform=transform, **options)
    assert plan.rows.forward == int(found.queries.max())
    halves = [
        attack(digits_net, x[part], y[part], eps=EPS, seed=0, transform=transform, **options)
        for part in (slice(0, 15), slice(15, 40))
    ]
    joined = torch.cat([half.x_adv for half in halves])
    assert torch.allclose(joined, found.x_adv, atol=1e-4)


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 7, 9])
def test_the_budget_is_kept(budget, digits_net, digits):
    x, y = digits
    for attack, options in ATTACKS.values():
        found = attack(
            digits_net,
            x,
            y,
            eps=EPS,
            seed=0,
            max_queries=budget,
            transform=input_diversity(),
            **options,
        )
        assert int(found.queries.max()) <= budget


def test_success_is_counted_where_it_was_found(digits_net, digits):
    x, y = digits
    found = mi_fgsm(
        digits_net,
        x,
        y,
        eps=0.3,
        num_steps=6,
        stop_on_success=True,
        seed=0,
        transform=input_diversity(),
    )
    won = found.success & ~found.already_adversarial
    assert torch.equal(found.queries[won], found.queries_to_success[won])
    assert torch.equal(found.queries[won], 1 + 2 * found.gradients[won])


def test_the_name_stands_for_the_defaults(digits_net, digits):
    x, y = digits
    options = {"eps": EPS, "num_steps": 3, "seed": 0, "on_failure": "last"}
    named = mi_fgsm(digits_net, x, y, transform="input-diversity", **options)
    given = mi_fgsm(digits_net, x, y, transform=input_diversity(), **options)
    assert torch.equal(named.x_adv, given.x_adv)


def test_wrong_transforms_are_named(digits_net, digits, images):
    x, y = digits
    with pytest.raises(ValueError, match=r"one row for each of \d+ rows, got \(38, 1, 8, 8\)"):
        pgd(digits_net, x, y, eps=EPS, num_steps=1, transform=lambda rows, *_: rows[:-1])
    with pytest.raises(ValueError, match="transform must be a callable of rows"):
        pgd(digits_net, x, y, eps=EPS, transform="dim")
    with pytest.raises(TypeError, match="unexpected keyword argument 'transform'"):
        square(digits_net, x, y, eps=EPS, transform=input_diversity())
    with pytest.raises(ValueError, match="input_diversity needs images"):
        input_diversity()(images.flatten(1), IDS, 0, 0)
    for wrong in ({"probability": 1.1}, {"low": 0}, {"low": 1}, {"mode": "cubic"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            input_diversity(**wrong)


@pytest.mark.parametrize("measure", ["inner", "cosine"])
@pytest.mark.parametrize("toward", [True, False])
def test_embedding_goal(measure, toward, digits_net, digits):
    x, _ = digits
    wanted = digits_net(x.roll(1, dims=0)).detach()
    own = digits_net(x).detach()
    index = torch.tensor([3, 0, 5])
    scale = 1 if measure == "inner" else own[index].norm(dim=1) * wanted[index].norm(dim=1)
    by_hand = (own[index] * wanted[index]).sum(dim=1) / scale
    threshold = float(by_hand.median())
    loss, criterion = embedding_goal(wanted, threshold, measure, toward)
    assert torch.allclose(loss(own[index], index), by_hand if toward else -by_hand, atol=1e-5)
    assert criterion(own[index], index).tolist() == [
        bool((one >= threshold) == toward) for one in by_hand
    ]
    assert not bool(criterion(own[index] * math.nan, index).any())
    before = loss(own, torch.arange(40))
    found = pgd(
        digits_net,
        x,
        eps=0.2,
        num_steps=5,
        loss=loss,
        criterion=criterion,
        seed=0,
        on_failure="last",
    )
    with torch.no_grad():
        assert bool((criterion(digits_net(found.x_adv), torch.arange(40)) == found.success).all())
        attacked = ~found.already_adversarial
        after = loss(digits_net(found.x_adv), torch.arange(40))
    assert float((after - before)[attacked].mean()) > 0


def test_wrong_embeddings_are_named(digits_net, digits):
    x, _ = digits
    for wrong in (torch.ones(4), torch.ones(4, 2, dtype=torch.int64), "faces"):
        with pytest.raises(ValueError, match="target_embeddings must"):
            embedding_goal(wrong, 0.5)
    with pytest.raises(ValueError, match="measure must be"):
        embedding_goal(torch.ones(4, 2), 0.5, "euclid")
    loss, criterion = embedding_goal(torch.ones(40, 2), 0.5)
    with pytest.raises(ValueError, match="embeddings of length 2"):
        pgd(digits_net, x, eps=EPS, num_steps=1, loss=loss, criterion=criterion)


def same_rows(rows, ids, step, seed):
    return rows


@pytest.mark.parametrize(
    ("transform", "told"),
    [
        (input_diversity(), "InputDiversity(probability=0.5, low=0.9, mode='nearest')"),
        (same_rows, "tests.test_input_diversity:same_rows ("),
    ],
)
def test_run_folders_recognise_callables(transform, told, digits_net, digits, tmp_path):
    def run(command, given):
        arguments = {"pgd": {"transform": given, "num_steps": 2}}
        options = {"eps": 0.1, "attack_args": arguments}
        samples = (digits[0][:4], digits[1][:4])
        if command == "evaluate":
            return evaluate(digits_net, samples, tmp_path / command, attacks=["pgd"], **options)
        return transfer(digits_net, None, samples, ["pgd"], str(tmp_path / command), **options)

    for command in ("evaluate", "transfer"):
        first, again = (run(command, transform).records for _ in range(2))
        assert first.equals(again), "the second call finds a complete run"
        kept = json.loads((tmp_path / command / "run.json").read_text())
        if command == "evaluate":
            found = kept["attacks"]["pgd"]["arguments"]["transform"]
        else:
            found = kept["configuration"]["craftings"][0]["arguments"]["transform"]
        assert found.startswith(told)
        with pytest.raises(ValueError, match="holds"):
            run(command, input_diversity(probability=0.25))
        with pytest.raises(ValueError, match=r"^pgd\.transform must be a value that a run folder"):
            run(command, functools.partial(same_rows))
