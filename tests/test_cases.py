"""The best, average and worst case of targeted attacks, against attacking every class by itself."""

from __future__ import annotations

import logging

import pytest
import torch

from art_ext.core import attacks
from art_ext.core.metrics import case_distortions
from art_ext.core.result import AttackResult
from art_ext.data import load_data
from art_ext.models import load_weights, mnist_lenet5

QUICK = {
    "ead": {"num_steps": 20, "search_steps": 3, "initial_const": 0.1, "step_size": 0.05},
    "cw": {"num_steps": 25, "search_steps": 3, "initial_const": 0.1, "step_size": 0.1},
    "i_fgm": {"resolution": 0.01},
    "zoo": {
        "num_steps": 20,
        "search_steps": 2,
        "initial_const": 10.0,
        "step_size": 0.3,
        "coordinates": 8,
    },
}
every = pytest.mark.parametrize("name", QUICK)


def run(name, model, x, y=None, **options):
    return getattr(attacks, name)(model, x, y, **{"seed": 0, **QUICK[name], **options})


@pytest.fixture
def model(linear_net):
    """The linear model as sums along each row: no kernel sees two rows at once."""
    weight, bias = linear_net[1].weight.detach(), linear_net[1].bias.detach()
    return lambda rows: (rows.flatten(1)[:, None] * weight).sum(-1) + bias


@pytest.fixture
def few(digits, model):
    """Four digits that the model gets right, their classes, and the nine others of each in
    order.
    """
    right = (model(digits[0]).argmax(1) == digits[1]).nonzero().squeeze(1)[:4]
    y = digits[1][right]
    return (
        digits[0][right],
        y,
        torch.stack([torch.tensor([k for k in range(10) if k != own]) for own in y.tolist()]),
    )


def each(name, model, x, others, **options):
    """Every class attacked by itself."""
    return [
        run(name, model, x, targets=others[:, place].contiguous(), **options)
        for place in range(others.shape[1])
    ]


def stack(results, part):
    return torch.stack([getattr(result, part) for result in results], dim=1)


def check_case(result, alone, case, x):
    """The case of attacks on every class by itself: chosen by the attack's own rule, paid for
    one after another.
    """
    queries, rows = stack(alone, "queries"), torch.arange(len(x))

    def chosen_by(name):
        values = stack(alone, name)
        return values.argmax(1) if case == "worst" else values.argmin(1)

    nearest = chosen_by("nearest_distance")
    for part in ("x_nearest", "nearest_distance"):
        assert torch.equal(getattr(result, part), stack(alone, part)[rows, nearest]), part
    column = chosen_by("value")
    for part in ("x_adv", "distance", "already_adversarial", "value", "lengths"):
        assert torch.equal(getattr(result, part), stack(alone, part)[rows, column]), part
    for key, values in result.trace.items():
        if key in ("target", "success"):  # of all classes
            continue
        chosen = torch.stack([one.trace[key] for one in alone], dim=2)[:, rows, column]
        torch.testing.assert_close(values, chosen, rtol=0, atol=0, equal_nan=True)
    assert result.queries.tolist() == (1 + queries.sum(1)).tolist()
    assert result.gradients.tolist() == stack(alone, "gradients").sum(1).tolist()
    success = stack(alone, "success")
    assert torch.equal(result.success, success.all(1) if case == "worst" else success.any(1))
    # in order of the classes: what the ones before have cost, and then the charge of this one
    first, clock = (
        [],
        torch.cat([torch.ones(len(x), 1, dtype=torch.int64), 1 + queries.cumsum(1)[:, :-1]], dim=1),
    )
    for sample in range(len(x)):
        met = [
            int(clock[sample, place] + one.queries_to_success[sample])
            for place, one in enumerate(alone)
            if one.success[sample]
        ]
        first.append(-1 if not result.success[sample] else met[-1] if case == "worst" else met[0])
    assert result.queries_to_success.tolist() == first


@every
@pytest.mark.parametrize("case", ["best", "worst"])
def test_best_and_worst_are_those_of_all_classes_attacked_by_themselves(name, case, few, model):
    x, y, others = few
    alone = each(name, model, x, others)
    assert bool((stack(alone, "value").amin(1) < stack(alone, "value").amax(1)).all())
    for batch_size in (256, 7):
        check_case(run(name, model, x, y, targets=case, batch_size=batch_size), alone, case, x)


@pytest.mark.parametrize("case", ["best", "worst"])
@pytest.mark.parametrize("share", [pytest.param(0.15, marks=pytest.mark.slow), 0.6])
def test_within_a_ball_the_best_case_needs_one_class_and_the_worst_all(case, share, few, model):
    x, y, others = few
    free = stack(each("i_fgm", model, x, others), "nearest_distance")
    # between the easiest classes of the samples, or between their hardest
    eps = float((free.amin(1) if case == "best" else free.amax(1)).quantile(share))
    result = run("i_fgm", model, x, y, targets=case, eps=eps)
    check_case(result, each("i_fgm", model, x, others, eps=eps), case, x)
    assert 0 < int(result.success.sum()) < 4
    assert torch.equal(result.x_adv[~result.success], x[~result.success])
    hit = model(result.x_adv).argmax(1) != y
    assert torch.equal(hit, result.success)
    assert bool((result.distance[result.success] <= eps + 1e-6).all())


@every
def test_nothing_is_reached(name, few, model):
    """No margin is so large: inputs come back, each its own, and the worst case waits for no
    class.
    """
    x, y, _ = few
    for case in ("best", "worst", "average"):
        result = run(name, model, x, y, targets=case, confidence=1e4)
        assert not bool(result.success.any())
        assert torch.equal(result.x_adv, x)
        assert torch.equal(result.x_nearest, x)
        assert bool(result.distance.isinf().all() & result.nearest_distance.isinf().all())
        assert result.queries_to_success.tolist() == [-1] * 4


# ---- which example a case chooses


@every
def test_the_value_is_that_of_the_returned_example(name, few, model):
    """The trace holds it, and the returned tensor has it."""
    x, others = few[0], few[2]
    result = run(name, model, x, targets=others[:, 0].contiguous())
    found = result.success
    assert int(found.sum()) >= 3
    kept = result.trace["radius"][0] if name == "i_fgm" else result.trace["value"][-1]
    assert torch.equal(result.value, torch.where(found, kept, torch.inf))
    of = {
        "ead": lambda d: 1e-3 * d["l1"] + d["l2"].square(),
        "cw": lambda d: d["l2"].square(),
        "zoo": lambda d: d["l2"].square(),
        "i_fgm": None,
    }[name]
    if of is None:
        assert bool((result.distance <= result.value + 1e-6)[found].all())
    else:
        measured = of(result.distortions()).float()
        torch.testing.assert_close(result.value[found], measured[found], rtol=1e-4, atol=0)


def test_the_rule_and_not_the_nearest_chooses_the_class(few, model):
    """In L-inf the elastic net's best class is not the nearest one of every sample."""
    x, y, others = few
    alone = each("ead", model, x, others, norm="linf", beta=0.05)
    by_rule, by_distance = (
        stack(alone, "value").argmin(1),
        stack(alone, "nearest_distance").argmin(1),
    )
    assert bool((by_rule != by_distance).any()), (
        "both choose the same classes: the test says nothing"
    )
    result = run("ead", model, x, y, norm="linf", beta=0.05, targets="best")
    assert torch.equal(model(result.x_adv).argmax(1), others[torch.arange(4), by_rule])
    assert torch.equal(result.nearest_distance, stack(alone, "nearest_distance").amin(1))
    assert bool((result.nearest_distance <= result.distance).all())


def test_where_the_choice_lies_outside_the_ball_its_stand_in_has_a_value_too(few, model):
    x, others = few[0], few[2]
    target = others[:, 0].contiguous()
    free = run("ead", model, x, targets=target, norm="linf", beta=0.05)
    gap = free.distance - free.nearest_distance
    widest = int(gap.argmax())
    assert float(gap[widest]) > 1e-3, (
        "the rule's choice is the nearest everywhere: the test says nothing"
    )
    eps = float(free.distance[widest] + free.nearest_distance[widest]) / 2
    held = run("ead", model, x, targets=target, norm="linf", beta=0.05, eps=eps)
    found = held.distortions()
    elastic = (0.05 * found["l1"] + found["l2"].square()).float()
    assert bool(held.success[widest])
    assert float(held.value[widest]) > float(free.value[widest])
    torch.testing.assert_close(held.value, elastic, rtol=1e-4, atol=0)
    assert torch.equal(held.value.isinf(), ~held.success)


# ---- all classes


@every
def test_all_holds_every_example_beside_the_best_case(name, few, model):
    x, y, others = few
    alone = each(name, model, x, others)
    result = run(name, model, x, y, targets="all")
    check_case(result, alone, "all", x)
    assert result.samples.shape == (9, *x.shape)
    assert torch.equal(result.trace["target"], others.T)
    for place, one in enumerate(alone):
        assert torch.equal(result.samples[place], one.x_adv)
        assert torch.equal(result.trace["success"][place], one.success)
    best = run(name, model, x, y, targets="best")
    for part in ("x_adv", "distance", "x_nearest", "queries", "success", "value"):
        assert torch.equal(getattr(result, part), getattr(best, part)), part
    parts = [
        run(name, model, x[rows], y[rows], targets="all") for rows in (slice(0, 3), slice(3, 4))
    ]
    joined = AttackResult.cat(parts)
    assert torch.equal(joined.samples, result.samples)
    assert torch.equal(joined.trace["target"], result.trace["target"])


def test_all_of_a_wrong_sample_begins_with_what_it_is_taken_for(few, model):
    x, y, _ = few
    result = run("i_fgm", model, x, (y + 1) % 10, targets="all")
    assert result.already_adversarial.tolist() == result.success.tolist() == [True] * 4
    assert result.queries_to_success.tolist() == [1] * 4
    assert result.distance.tolist() == result.nearest_distance.tolist() == [0.0] * 4
    taken = result.trace["target"] == y
    assert taken.sum(0).tolist() == [1] * 4
    assert torch.equal(result.samples.movedim(1, 0)[taken.T], x)


def test_case_distortions_take_each_metric_by_itself(few, model):
    x, y, others = few
    result = run("ead", model, x, y, targets="all", beta=0.05)
    alone = each("ead", model, x, others, beta=0.05)
    classes = [one.distortions() for one in alone]
    assert bool(stack(alone, "success").all())
    best, worst = (case_distortions(result, x, case) for case in ("best", "worst"))
    for name in ("l0", "l1", "l2", "linf"):
        table = torch.stack([one[name] for one in classes])
        assert torch.equal(best[name], table.amin(0))
        assert torch.equal(worst[name], table.amax(0))
    assert best["success"].tolist() == worst["success"].tolist() == [True] * 4
    minima = {
        name: torch.stack([one[name] for one in classes]).argmin(0) for name in ("l1", "linf")
    }
    assert bool((minima["l1"] != minima["linf"]).any()), (
        "one class has all minima: the test says nothing"
    )


def test_case_distortions_of_the_average_case_are_those_of_targets_average(few, model):
    x, y, _ = few
    for seed in range(3):
        average = run("i_fgm", model, x, y, targets="average", seed=seed)
        found = case_distortions(run("i_fgm", model, x, y, targets="all", seed=seed), x, "average")
        assert torch.equal(found["success"], average.success)
        for name, lengths in average.distortions().items():
            assert torch.equal(found[name], lengths)
    ids = torch.tensor([5, 6, 7, 8])
    named = run("i_fgm", model, x, y, targets="average", sample_ids=ids)
    every_class = run("i_fgm", model, x, y, targets="all", sample_ids=ids)
    assert torch.equal(
        case_distortions(every_class, x, "average", sample_ids=ids)["l2"], named.distortions()["l2"]
    )


@pytest.mark.slow
def test_the_figures_of_the_thesis_on_mnist(art_ext_data):
    """Each metric from an example of its own; one class by the nearest distance would give 9.439
    / 1.818 / .780.
    """
    network = load_weights(
        mnist_lenet5(), art_ext_data / "checkpoints" / "mnist_lenet5_advertorch_nat.safetensors"
    )
    network.eval()
    data = load_data("mnist", root=art_ext_data).first(40)
    with torch.no_grad():
        right = (network(data.x).argmax(1) == data.y).nonzero().squeeze(1)[:8]
    x, y = data.x[right], data.y[right]
    result = attacks.ead(
        network,
        x,
        y,
        beta=0.01,
        num_steps=60,
        search_steps=3,
        initial_const=0.3,
        abort_early=False,
        targets="all",
    )
    for case, wanted in (("best", (9.21, 1.76, 0.610)), ("worst", (32.7, 3.86, 0.992))):
        found = case_distortions(result, x, case)
        assert found["success"].tolist() == [True] * 8
        means = tuple(float(found[name].mean()) for name in ("l1", "l2", "linf"))
        assert means == pytest.approx(wanted, rel=0.01), case
    assert float(result.distortions()["l2"].mean()) == pytest.approx(1.76, rel=0.01)
    # what the record of the nearest would have claimed
    assert float(result.nearest_distance.mean()) < 0.7 * float(result.distance.mean())


def test_the_worst_case_needs_every_class():
    """Class 2 is out of reach: the best case knows class 1 only, the worst none."""

    def never_two(rows):
        return torch.stack([rows[:, 0], rows[:, 1], rows[:, 0] - 5], dim=1)

    x = torch.tensor([[0.6, 0.4], [0.9, 0.1]])
    result = run("i_fgm", never_two, x, torch.tensor([0, 0]), targets="all")
    assert result.trace["success"].tolist() == [[True, True], [False, False]]
    best, worst = (case_distortions(result, x, case) for case in ("best", "worst"))
    assert best["success"].tolist() == [True, True]
    assert worst["success"].tolist() == [False, False]
    assert torch.equal(best["l2"], result.distortions()["l2"])
    assert bool(worst["l2"].isinf().all())


def test_case_distortions_refuse_what_they_cannot_read(few, model):
    x, y, _ = few
    best = run("i_fgm", model, x, y, targets="best")
    with pytest.raises(
        ValueError, match="needs the examples of all classes: run the attack with targets='all'"
    ):
        case_distortions(best, x, "best")
    result = run("i_fgm", model, x, y, targets="all")
    with pytest.raises(
        ValueError, match="case must be one of 'best', 'average', 'worst', got 'all'"
    ):
        case_distortions(result, x, "all")
    with pytest.raises(ValueError, match="x must have the shape of x_adv"):
        case_distortions(result, x[:2], "best")


# ---- samples that are wrong already


@every
def test_the_best_case_of_a_wrong_sample_is_the_wrong_class_itself(name, few, model):
    x, y, _ = few
    wrong = torch.cat([(y[:2] + 1) % 10, y[2:]])
    mixed, right = (
        run(name, model, x, wrong, targets="best"),
        run(name, model, x[2:], y[2:], targets="best"),
    )
    assert mixed.already_adversarial.tolist() == [True] * 2 + [False] * 2
    assert mixed.success[:2].tolist() == [True, True]
    assert mixed.queries[:2].tolist() == mixed.queries_to_success[:2].tolist() == [1, 1]
    assert mixed.gradients[:2].tolist() == [0, 0]
    assert mixed.distance[:2].tolist() == [0.0, 0.0]
    assert torch.equal(mixed.x_adv[:2], x[:2])
    assert torch.equal(mixed.x_adv[2:], right.x_adv)
    assert torch.equal(mixed.queries[2:], right.queries)
    for key, values in mixed.trace.items():
        assert bool(values[:, :2].isnan().all())
        torch.testing.assert_close(values[:, 2:], right.trace[key], rtol=0, atol=0, equal_nan=True)
    wrong_all = run(name, model, x, (y + 1) % 10, targets="best")
    assert wrong_all.queries.tolist() == [1] * 4
    assert torch.equal(wrong_all.x_adv, x)
    assert len(AttackResult.cat([mixed, wrong_all])) == 8


@every
def test_the_worst_case_of_a_wrong_sample_is_still_the_farthest_class(name, few, model):
    x, y, _ = few
    shifted = (y + 1) % 10
    others = torch.stack(
        [torch.tensor([k for k in range(10) if k != own]) for own in shifted.tolist()]
    )
    result = run(name, model, x, shifted, targets="worst")
    check_case(result, each(name, model, x, others), "worst", x)
    assert not bool(result.already_adversarial.any())
    assert bool((result.distance > 0).all())


@pytest.mark.parametrize("case", ["best", "worst"])
def test_a_wrong_sample_without_the_margin_is_attacked_in_every_class(case):
    """Predicted as class 1 whose score hardly moves; class 2 gets the margin within a short way."""

    def model(rows):
        return torch.stack([0 * rows[:, 0], 0.01 * rows[:, 1] + 0.01, 10 * rows[:, 0] - 5], dim=1)

    x, y = torch.full((3, 2), 0.5), torch.tensor([0, 2, 0])
    others = torch.tensor([[1, 2], [0, 1], [1, 2]])
    options = {"confidence": 1.0, "num_steps": 60, "search_steps": 3}
    alone = each("ead", model, x, others, **options)
    assert stack(alone, "success").tolist() == [[False, True], [False, False], [False, True]]
    check_case(run("ead", model, x, y, targets=case, **options), alone, case, x)


def test_failures_get_their_own_input_back():
    """A wrong sample too, for which the margin is out of reach."""
    x = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
    result = run(
        "ead", lambda rows: rows.flatten(1), x, torch.tensor([0, 0]), targets="best", confidence=5.0
    )
    assert not bool(result.success.any())
    assert torch.equal(result.x_adv, x)
    assert torch.equal(result.x_nearest, x)


def test_of_a_model_that_changes_its_mind_the_first_answer_counts():
    """It is wrong for the last sample, and right ever after: no other sample's row is taken for
    that one.
    """
    x, answers = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)), []

    def model(rows):
        answers.append(len(rows))
        scores = torch.tensor([5.0, 0.0, -1.0]).repeat(len(rows), 1)
        if len(answers) == 1:
            scores[2] = torch.tensor([0.0, 0.0, 5.0])
        return scores + 0 * rows.sum(1, keepdim=True)

    result = run("cw", model, x, torch.tensor([0, 0, 0]), targets="best")
    assert answers[:2] == [3, 4]  # nothing more is asked about the last sample
    assert result.success.tolist() == result.already_adversarial.tolist() == [False, False, True]
    assert result.distance.tolist() == [torch.inf, torch.inf, 0.0]
    assert torch.equal(result.x_adv, x)
    assert torch.equal(result.x_nearest, x)


def test_classes_that_the_case_chose_are_no_mistake_of_the_caller(few, model, caplog):
    x, y, _ = few
    with caplog.at_level(logging.WARNING, logger="art_ext"):
        run("i_fgm", model, x, (y + 1) % 10, targets="best")
    assert caplog.text == ""


# ---- the average case


@every
def test_the_average_case_is_one_wrong_class(name, few, model):
    x, y, _ = few
    result = run(name, model, x, y, targets="average")
    assert bool(result.success.all())
    reached = model(result.x_adv).argmax(1)
    assert bool((reached != y).all())
    alone = run(name, model, x, targets=reached)
    for part in ("x_adv", "distance", "gradients"):
        assert torch.equal(getattr(result, part), getattr(alone, part)), part
    assert torch.equal(result.queries, alone.queries + 1)
    assert torch.equal(result.queries_to_success, alone.queries_to_success + 1)


def test_the_class_depends_on_seed_and_sample_only(digits, model):
    x = digits[0]
    y = model(x).argmax(1)

    def reached(rows, **options):
        result = run("i_fgm", model, x[rows], y[rows], targets="average", **options)
        assert bool(result.success.all())
        return model(result.x_adv).argmax(1)

    everything = torch.arange(40)
    reference = reached(everything)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(reached(order), reference[order])
    assert torch.equal(reached(everything[11:14]), reference[11:14])
    assert torch.equal(reached(everything, batch_size=7), reference)
    assert int((reached(everything, seed=1) != reference).sum()) > 20
    named = reached(everything, sample_ids=everything + 5)
    assert torch.equal(reached(order, sample_ids=order + 5), named[order])
    assert int((named != reference).sum()) > 20
    assert bool((reference != y).all())
    assert len(set(reference.tolist())) >= 8


def test_every_wrong_class_is_as_likely_as_any_other():
    x = torch.rand(3000, 5, generator=torch.Generator().manual_seed(0))
    y = torch.full((3000,), 1)
    result = attacks.i_fgm(
        lambda rows: rows * 1.0,
        x,
        y,
        targets="average",
        num_steps=1,
        norm="linf",
        max_radius=1.0,
        resolution=1.0,
        seed=0,
    )
    hit = ~result.already_adversarial
    assert bool(result.success.all())
    reached = result.x_adv.argmax(1)
    counts = torch.bincount(reached, minlength=5)
    assert int(counts[1]) == 0
    # 750 each, a standard deviation of 24
    assert bool(((counts[[0, 2, 3, 4]] - 750).abs() < 120).all())
    # a fifth of the drawn classes are what the model says anyway
    assert 400 < int((~hit).sum()) < 800


# ---- budgets and labels


@every
@pytest.mark.parametrize("budget", [10, 27, 100])
def test_a_budget_is_shared_among_the_classes(name, budget, few, model):
    x, y, others = few
    for case in ("best", "worst"):
        result = run(name, model, x, y, targets=case, max_queries=budget)
        assert int(result.queries.max()) <= budget
        check_case(result, each(name, model, x, others, max_queries=(budget - 1) // 9), case, x)


@every
def test_a_budget_that_reaches_no_class_is_refused(name, few, model):
    x, y, _ = few
    for case, budget, width in (("best", 9, 9), ("worst", 1, 9), ("average", 1, 1)):
        with pytest.raises(
            ValueError, match=f"max_queries must be > {width}, one for each class attacked, got"
        ):
            run(name, model, x, y, targets=case, max_queries=budget)
    for bad in (0, 2.5, True):
        with pytest.raises(ValueError, match="max_queries must be an integer"):
            run(name, model, x, y, targets="best", max_queries=bad)


@every
def test_missing_labels_cost_nothing(name, few, model):
    x, y, _ = few
    for case in ("best", "average", "worst"):
        known, unknown = run(name, model, x, y, targets=case), run(name, model, x, targets=case)
        assert torch.equal(known.x_adv, unknown.x_adv)
        assert torch.equal(known.queries, unknown.queries)


def test_labels_beyond_the_model_are_refused(few, model):
    x, y, _ = few
    with pytest.raises(
        ValueError, match="y must hold class indices below 10, the model's width, got 10"
    ):
        run("ead", model, x, torch.full_like(y, 10), targets="best")


def test_callbacks_are_shown_samples_not_rows(few, model):
    x, y, _ = few
    seen = []
    result = run("ead", model, x, y, targets="best", callback=seen.append)
    assert seen[0].index.tolist() == torch.arange(4).repeat_interleave(9).tolist()
    assert {int(position) for progress in seen for position in progress.index} == set(range(4))
    nearest = torch.full((4,), torch.inf)
    for progress in seen:
        nearest = nearest.scatter_reduce(0, progress.index, progress.distance, "amin")
    assert torch.equal(nearest, result.nearest_distance)


def test_distortions_and_all_examples_survive_a_file(few, model, tmp_path):
    x, y, _ = few
    result = run("ead", model, x, y, targets="all", eps=2.0)
    result.save(tmp_path / "result.safetensors")
    kept = AttackResult.load(tmp_path / "result.safetensors")
    for name, lengths in result.distortions().items():
        assert torch.equal(kept.distortions()[name], lengths)
    assert torch.equal(kept.nearest_distance, result.nearest_distance)
    assert torch.equal(kept.samples, result.samples)
    for name in ("target", "success"):
        assert torch.equal(kept.trace[name], result.trace[name])
        assert kept.trace[name].dtype == result.trace[name].dtype
    for case in ("best", "average", "worst"):
        assert torch.equal(
            case_distortions(kept, x, case)["l1"], case_distortions(result, x, case)["l1"]
        )
