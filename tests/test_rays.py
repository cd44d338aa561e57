"""RayS against its closed form, the paper's invariants and a sequential reading of Algorithms 4
to 6.
"""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from art_ext.core.attacks import rays
from tests.toys import Recorder


def half_spaces(dimension, seed, classes=3):
    """A model that computes row by row and whose labels change now and then along a ray."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, dimension, generator=generator)
    bias = torch.randn(classes, generator=generator)

    def model(rows):
        flat = rows.flatten(1)
        return (torch.sin(3 * flat)[:, None] * weight).sum(-1) + bias

    return model


def sequential(
    model, x, y, budget, eps, tol=1e-3, stop_on_success=True, hierarchical=True, free=None
):
    """Algorithm 6 for one sample as a plain loop over blocks; returns the rows asked and the radius
    reached.

    Written straight from the paper with its slips mended, without tensors over samples, to be
    compared with.
    """
    dimension = x.numel()
    coordinates = torch.arange(dimension) if free is None else free.nonzero().squeeze(1)
    count = len(coordinates)
    signs = torch.zeros(dimension)
    signs[coordinates] = 1.0
    root = torch.tensor(float(count)).sqrt()
    asked, best, radius = [], None, torch.tensor(math.inf)

    def point(s, r):
        step = r / root if r < root else torch.tensor(2.0)
        return (x.flatten() + step * s).clamp(0, 1)

    def adversarial(row):
        asked.append(row)
        return int(model(row.view(1, *x.shape)).argmax()) != y

    def distance(row):
        return float((row.double() - x.flatten().double()).abs().max())

    if adversarial(x.flatten()) or budget == 1:
        return asked, best, radius
    stage = 0 if hierarchical else max(0, dimension - 1).bit_length()
    while True:
        size = max(1, math.ceil(count / 2**stage))
        for first in range(0, count, size):
            candidate = signs.clone()
            candidate[coordinates[first : first + size]] *= -1
            if adversarial(point(candidate, radius)):
                low, high = torch.tensor(0.0), torch.minimum(radius, root)
                while len(asked) < budget:
                    middle = (low + high) / 2
                    if adversarial(point(candidate, middle)):
                        high = middle
                    else:
                        low = middle
                    if high - low <= tol:
                        break
                if high < radius:
                    radius, signs = high, candidate
                    row = point(signs, radius)
                    if best is None or distance(row) < distance(best):
                        best = row
                if stop_on_success and best is not None and distance(best) <= eps + 1e-6:
                    return asked, best, radius
            if len(asked) == budget:
                return asked, best, radius
        stage = min(stage + 1, max(0, dimension - 1).bit_length())


@settings(max_examples=60, deadline=None)
@given(
    dimension=st.integers(1, 21),
    seed=st.integers(0, 10_000),
    budget=st.integers(1, 160),
    stop_on_success=st.booleans(),
    hierarchical=st.booleans(),
    masked=st.booleans(),
    batch_size=st.sampled_from([1, 3, 7, 64]),
)
def test_every_question_is_the_sequential_algorithm_s(
    dimension, seed, budget, stop_on_success, hierarchical, masked, batch_size
):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, dimension, generator=generator)
    model = half_spaces(dimension, seed)
    y = model(x).argmax(1)
    free = torch.rand(3, dimension, generator=generator) < 0.7 if masked else None
    options = {
        "eps": 0.2,
        "max_queries": budget,
        "stop_on_success": stop_on_success,
        "hierarchical": hierarchical,
        "mask": free,
    }
    plain = rays(model, x, y, **options, batch_size=batch_size, speculate=False)
    ahead = rays(model, x, y, **options, batch_size=batch_size, speculate=True)
    for k in range(3):
        if masked and not bool(free[k].any()):
            assert plain.queries[k] == 1
            continue
        recorder = Recorder(model)
        rays(
            recorder,
            x[k : k + 1],
            y[k : k + 1],
            **{**options, "mask": None if free is None else free[k : k + 1]},
        )
        asked, best, _ = sequential(
            model,
            x[k],
            int(y[k]),
            budget,
            0.2,
            stop_on_success=stop_on_success,
            hierarchical=hierarchical,
            free=None if free is None else free[k],
        )
        assert torch.equal(torch.cat(recorder.rows), torch.stack(asked))
        for result in (plain, ahead):
            assert int(result.queries[k]) == len(asked)
            assert bool(result.nearest_distance[k].isfinite()) == (best is not None)
            if best is not None:
                assert torch.equal(result.x_nearest[k], best)
    assert torch.equal(plain.queries_to_success, ahead.queries_to_success)
    assert int(plain.wasted_rows.sum()) == 0


def test_linear_model_reaches_its_closed_form():
    generator = torch.Generator().manual_seed(0)
    weight, x = (
        torch.randn(2, 32, generator=generator),
        0.3 + 0.4 * torch.rand(20, 32, generator=generator),
    )
    model = nn.Linear(32, 2)
    model.weight.data, model.bias.data = weight, -(weight * x.mean(0)).sum(1)
    y = model(x).argmax(1)
    margin = model(x)[:, 0] - model(x)[:, 1]
    # the L-inf distance to the hyperplane
    optimum = margin.abs() / (weight[0] - weight[1]).abs().sum()
    result = rays(model, x, y, eps=0.5, max_queries=3000, stop_on_success=False, tol=1e-4)
    assert bool((result.nearest_distance >= optimum - 1e-6).all())
    torch.testing.assert_close(
        result.nearest_distance.double(), optimum.detach().double(), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("hierarchical", [True, False])
def test_no_single_flip_is_better_in_the_end(hierarchical):
    # Theorem 3.3.2: given enough queries, the direction is a local optimum of the decision boundary
    # radius (up to the tolerance; a linear model's cells are convex, so that a ray leaves them
    # once)
    generator = torch.Generator().manual_seed(0)
    x, weight = (
        0.4 + 0.2 * torch.rand(20, 12, generator=generator),
        torch.randn(4, 12, generator=generator),
    )

    def model(rows):
        return ((rows - 0.5)[:, None] * weight).sum(-1)

    y = model(x).argmax(1)
    result = rays(
        model, x, y, eps=0.5, max_queries=2000, stop_on_success=False, hierarchical=hierarchical
    )
    inside = result.nearest_distance < 0.35  # nothing clipped: the signs can be read off the result
    assert int(inside.sum()) >= 10
    signs = torch.sign(result.x_nearest[inside] - x[inside])
    step = (result.nearest_distance[inside] - 1.01e-3 / math.sqrt(12)).clamp(min=0).unsqueeze(1)
    for coordinate in range(12):
        flipped = signs.clone()
        flipped[:, coordinate] *= -1
        assert bool((model(x[inside] + step * flipped).argmax(1) == y[inside]).all())


@pytest.mark.parametrize(
    ("shape", "steps"), [((1, 28, 28), 15), ((3, 32, 32), 16), ((3, 224, 224), 19)]
)
def test_first_success_costs_one_check_and_the_bisection(shape, steps):
    x = torch.full((1, *shape), 0.5)

    def model(rows):  # any change of the first coordinate by more than 0.1 changes the label
        moved = (rows.flatten(1)[:, 0] - 0.5).abs() > 0.1
        return torch.stack([~moved, moved], 1).float()

    result = rays(model, x, torch.zeros(1, dtype=torch.int64), eps=0.3)
    assert int(result.queries) == int(result.queries_to_success) == 1 + 1 + steps
    assert 0.1 < float(result.nearest_distance) <= 0.1 + 1e-3 / math.sqrt(x.numel()) + 1e-6


def test_goal_is_tested_when_a_direction_ends():
    # the fast check of the second direction is inside the ball already, but counting goes on to its
    # bisection's end
    x = torch.full((1, 4), 0.5)

    def model(rows):
        moved = rows[:, 0] < 0.4
        return torch.stack([~moved, moved], 1).float()

    result = rays(model, x, eps=0.49, tol=1e-2)
    bisection = math.ceil(math.log2(2 / 1e-2))
    assert result.queries_to_success.tolist() == [1 + 1 + bisection]


def test_stop_on_success_false_spends_the_budget_on_a_smaller_radius(digits, digits_net):
    x, y = digits
    first = rays(digits_net, x, y, eps=0.3, max_queries=400)
    whole = rays(digits_net, x, y, eps=0.3, max_queries=400, stop_on_success=False)
    hit = first.success & ~first.already_adversarial
    assert bool((whole.nearest_distance <= first.nearest_distance).all())
    assert bool((whole.nearest_distance[hit] < first.nearest_distance[hit]).any())
    assert torch.equal(whole.success, first.success)
    assert torch.equal(whole.queries_to_success, first.queries_to_success)
    assert bool((whole.queries[~whole.already_adversarial] == 400).all())


def test_distance_never_increases_and_callback_sees_every_sample(digits, digits_net):
    x, y = digits
    last = torch.full((len(x),), math.inf)
    left, queries, steps = set(), torch.zeros(len(x), dtype=torch.int64), []

    def watch(progress):
        nonlocal last
        steps.append(progress.step)
        assert bool((progress.distance <= last[progress.index]).all())
        last[progress.index] = progress.distance
        queries[progress.index] = progress.queries
        finished = progress.index[progress.finished].tolist()
        assert not left.intersection(finished)
        left.update(finished)

    mask = torch.ones(len(x), 1, 1, 1)
    mask[-2:] = 0  # nothing to change: these leave right after the clean check
    result = rays(
        digits_net, x, y, eps=0.15, max_queries=200, batch_size=16, mask=mask, callback=watch
    )
    assert result.queries[-2:].tolist() == [1, 1]
    assert left == set(range(len(x)))
    assert steps == list(range(len(steps)))
    assert torch.equal(queries, result.queries)
    assert torch.equal(last, result.nearest_distance)


@pytest.mark.parametrize("outputs", ["logits", "probabilities", "labels"])
def test_only_labels_are_used(digits, digits_net, outputs):
    x, y = digits
    read = {
        "logits": lambda rows: digits_net(rows),
        "probabilities": lambda rows: digits_net(rows).softmax(1),
        "labels": lambda rows: digits_net(rows).argmax(1),
    }[outputs]
    reference = rays(digits_net, x, y, eps=0.15, max_queries=100)
    result = rays(read, x, y, eps=0.15, max_queries=100, outputs=outputs)
    assert torch.equal(result.queries, reference.queries)
    assert torch.equal(result.x_adv, reference.x_adv)


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("l1", 1), ("linf", math.inf)])
def test_norms_measure_the_same_search(digits, digits_net, norm, order):
    x, y = digits
    eps = {"l2": 1.0, "l1": 7.0, "linf": 0.15}[norm]
    result = rays(digits_net, x, y, eps=eps, norm=norm, max_queries=200, stop_on_success=False)
    measured = torch.linalg.vector_norm(
        (result.x_nearest - x).flatten(1).double(), ord=order, dim=1
    )
    found = result.nearest_distance.isfinite()
    torch.testing.assert_close(
        result.nearest_distance[found].double(), measured[found], rtol=1e-6, atol=1e-7
    )
    assert torch.equal(result.success, result.nearest_distance <= eps + 1e-6)
    assert 0 < int(result.success.sum()) < len(x)


def test_sequences_and_a_box_per_feature():
    lower, upper = torch.tensor([0.0, -5.0, 100.0]), torch.tensor([1.0, 5.0, 200.0])
    generator = torch.Generator().manual_seed(0)
    # sequences of six rows of three features
    x = lower + (upper - lower) * torch.rand(12, 6, 3, generator=generator)
    weight = torch.randn(18, generator=generator)

    def model(rows):
        score = (((rows - lower) / (upper - lower) - 0.5).flatten(1) * weight).sum(1)
        return torch.stack([score, -score], 1)

    result = rays(
        model, x, eps=2.0, max_queries=500, clip_values=(lower, upper), stop_on_success=False
    )
    assert bool(((result.x_nearest >= lower) & (result.x_nearest <= upper)).all())
    found = result.nearest_distance.isfinite()
    assert bool(found.all())
    assert bool((model(result.x_nearest).argmax(1) != model(x).argmax(1)).all())


def test_eps_none_counts_any_adversarial(digits, digits_net):
    result = rays(digits_net, *digits, eps=None, max_queries=60)
    assert torch.equal(result.success, result.nearest_distance.isfinite())
    assert result.eps is None


def test_targets_need_starting_points(digits, digits_net):
    x, y = digits
    with pytest.raises(ValueError, match="targeted RayS needs x_init"):
        rays(digits_net, x, targets=(y + 1) % 10)
    with pytest.raises(ValueError, match=r"x_init must be a tensor of x's shape \(40, 1, 8, 8\)"):
        rays(digits_net, x, targets=y, x_init=x[:3])


def test_targeted_search_ends_at_the_target(digits, digits_net):
    x, y = digits
    predicted = digits_net(x).argmax(1)
    start = torch.stack([x[predicted == (label + 1) % 10][0] for label in predicted])
    targets = (predicted + 1) % 10
    result = rays(
        digits_net,
        x,
        y,
        targets=targets,
        x_init=start,
        eps=0.5,
        max_queries=800,
        stop_on_success=False,
    )
    assert bool(result.nearest_distance.isfinite().all()), (
        "the starting points are adversarial themselves"
    )
    assert bool((digits_net(result.x_nearest).argmax(1) == targets).all())
    started = (start - x).abs().flatten(1).amax(1)
    assert bool((result.nearest_distance <= started).all())
    assert float(result.nearest_distance.median()) < 0.7 * float(started.median())
    assert bool(result.success.any())
    assert bool(
        (digits_net(result.x_adv[result.success]).argmax(1) == targets[result.success]).all()
    )


def test_a_wrong_starting_point_is_a_failure_of_its_sample_only(digits, digits_net):
    x, _ = digits
    predicted = digits_net(x).argmax(1)
    targets = (predicted + 1) % 10
    start = torch.stack([x[predicted == label][0] for label in targets])
    start[0] = x[0]
    options = {"eps": 0.9, "max_queries": 50}
    result = rays(digits_net, x, targets=targets, x_init=start, **options)
    others = rays(digits_net, x[1:], targets=targets[1:], x_init=start[1:], **options)
    assert torch.equal(result.queries[1:], others.queries)
    assert bool(result.nearest_distance[1:].isfinite().all())
    # without a verified start the sample asked for its clean check, the start, and then searched by
    # sign directions
    assert int(result.queries[0]) > 2
    assert not torch.equal(result.x_nearest[0], start[0]) or not bool(result.success[0])


def test_a_start_inside_the_ball_ends_the_search_at_once(digits, digits_net):
    x, _ = digits
    predicted = digits_net(x).argmax(1)
    targets = (predicted + 1) % 10
    start = torch.stack([x[predicted == label][0] for label in targets])
    reports = []
    result = rays(
        digits_net,
        x,
        targets=targets,
        x_init=start,
        eps=1.0,
        max_queries=50,
        callback=reports.append,
    )
    assert bool(result.success.all())
    assert result.queries.tolist() == [2] * len(x)
    assert bool(reports[0].finished.all())
    assert torch.equal(result.x_adv, start)


def test_padding_makes_batch_sizes_bitwise_equal(digits, digits_net):
    x, y = digits
    results = [
        rays(digits_net, x, y, eps=0.15, max_queries=150, batch_size=size, pad_rows=8)
        for size in (64, 16, 5)
    ]
    for other in results[1:]:
        assert torch.equal(results[0].x_nearest, other.x_nearest)
        assert torch.equal(results[0].queries, other.queries)
    assert int(results[2].wasted_rows.sum()) > 0


def test_speculation_charges_what_the_sequential_search_asks(digits, digits_net):
    x, y = (part[:8] for part in digits)
    calls = {}
    results = {}
    for speculate in (False, True):
        recorder = Recorder(digits_net)
        results[speculate] = rays(
            recorder, x, y, eps=0.1, max_queries=500, batch_size=64, speculate=speculate
        )
        calls[speculate] = len(recorder.rows)
        rows = sum(map(len, recorder.rows))
        assert rows == int((results[speculate].queries + results[speculate].wasted_rows).sum())
        assert max(map(len, recorder.rows)) <= 64
    assert torch.equal(results[True].queries, results[False].queries)
    assert torch.equal(results[True].success, results[False].success)
    assert calls[False] >= 3 * calls[True]
    automatic = rays(digits_net, x, y, eps=0.1, max_queries=50, batch_size=64)
    assert int(automatic.wasted_rows.sum()) == 0, "on a CPU rows cost time"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tol": 0}, "tol must be > 0, got 0"),
        ({"tol": "fine"}, "tol must be a number, got 'fine'"),
        ({"eps": "8/255"}, "eps must be a number, got '8/255'"),
        ({"seed": "one"}, "seed must be an integer"),
        (
            {"sample_ids": torch.arange(3)},
            r"sample_ids must have shape \(40,\) of torch.int64.*got \(3,\)",
        ),
        ({"speculate": 1}, "speculate must be 'auto', True or False, got 1"),
        ({"speculate": "yes"}, "speculate must be"),
        ({"max_queries": None}, "max_queries must be an integer >= 1, got None"),
        ({"clip_values": None}, "clip_values must be a pair"),
        ({"clip_values": (1, 0)}, "lower < upper"),
        ({"outputs": "scores"}, "outputs must be one of"),
        ({"mask": -torch.ones(8, 8)}, "mask must hold no negative value"),
        ({"mask": -torch.ones(8, 8, dtype=torch.int64)}, "mask must hold no negative value"),
        ({"mask": torch.ones(3, 3)}, "mask must broadcast to x's shape"),
    ],
)
def test_bad_arguments(digits, digits_net, change, message):
    with pytest.raises(ValueError, match=message):
        rays(digits_net, *digits, **change)


def test_true_labels_given_as_targets_are_suspected(digits, digits_net, caplog):
    x, y = digits
    rays(digits_net, x, targets=y, x_init=x, max_queries=5)
    assert "by mistake" in caplog.text


def test_samples_must_be_a_batch_of_tensors(digits_net):
    with pytest.raises(TypeError, match="x must be a torch tensor, got ndarray"):
        rays(digits_net, torch.zeros(2, 1, 8, 8).numpy())
    with pytest.raises(ValueError, match=r"x must have shape \(samples, \*features\), got \(5,\)"):
        rays(digits_net, torch.zeros(5))


def test_unknown_keyword_is_refused(digits, digits_net):
    with pytest.raises(TypeError, match="query_limit"):
        rays(digits_net, *digits, query_limit=5)


@pytest.mark.slow
def test_ten_thousand_cifar_sized_inputs_fit_into_two_gigabytes():
    program = """
import resource, torch
from art_ext.core.attacks import rays
x, model = torch.rand(10_000, 3, 32, 32), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rays(model, x, eps=0.01, max_queries=12)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    kilobytes = int(done.stdout) / (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 2e6
