"""What every attack that looks for a near adversarial keeps to on hard inputs: budgets, boxes,
masks, odd models.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import fields

import pytest
import torch
from torch import nn

from art_ext.core import attacks
from art_ext.core.attacks import registry
from art_ext.core.attacks.engine.options import NEEDS_GRADIENTS, MinimumNormOptions
from art_ext.core.geometry import NORMS, distances
from art_ext.core.result import AttackResult

QUICK = {
    "ead": {"num_steps": 20, "search_steps": 3, "initial_const": 0.1},
    "cw": {"num_steps": 25, "search_steps": 3, "initial_const": 0.1, "step_size": 0.1},
    "i_fgm": {"resolution": 0.01, "num_steps": 5},
    "zoo": {
        "num_steps": 20,
        "search_steps": 3,
        "initial_const": 1.0,
        "step_size": 0.1,
        "coordinates": 8,
    },
}
every = pytest.mark.parametrize("name", QUICK)


def run(name, model, x, y=None, **options):
    return getattr(attacks, name)(model, x, y, **{"seed": 0, **QUICK[name], **options})


def labels(model, rows):
    with torch.no_grad():
        return torch.cat([model(row[None]).argmax(1) for row in rows])


class Wrapped(nn.Module):
    """A network of which something is done to the answer."""

    def __init__(self, network, after):
        super().__init__()
        self.network, self.after = network, after

    def forward(self, rows):
        return self.after(self.network(rows))


class Counter(nn.Module):
    """Counts the rows of a network, and those through which a gradient went."""

    def __init__(self, network):
        super().__init__()
        self.network, self.rows, self.backward_rows = network, 0, 0

    def forward(self, rows):
        outputs = self.network(rows)
        self.rows += len(rows)
        if outputs.requires_grad:
            outputs.register_hook(
                lambda slope: setattr(self, "backward_rows", self.backward_rows + len(slope))
            )
        return outputs


@pytest.fixture
def few(digits, linear_net):
    """Eight digits that the linear model gets right, and their classes."""
    right = (labels(linear_net, digits[0]) == digits[1]).nonzero().squeeze(1)[:8]
    return digits[0][right], digits[1][right]


# ---- what it is called with


@every
def test_signature_names_every_option(name):
    shown = inspect.signature(getattr(attacks, name)).parameters
    assert not [
        parameter for parameter in shown.values() if parameter.kind is parameter.VAR_KEYWORD
    ]
    wanted = {field.name for field in fields(MinimumNormOptions)}
    if registry.get(name).access != "gradients":
        wanted -= set(NEEDS_GRADIENTS)
        assert not set(NEEDS_GRADIENTS) & set(shown)
    assert wanted <= set(shown)
    assert not {"stop_on_success", "on_failure", "loss", "criterion"} & set(shown)
    assert shown["eps"].default is None


@every
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": math.inf}, "eps must be finite, got inf"),
        ({"eps": 0.0}, r"eps must be > 0, got 0\.0"),
        ({"eps": "1"}, "eps must be a number, got '1'"),
        ({"norm": "l3"}, "norm must be one of"),
        ({"confidence": -1.0}, "confidence must be .*>= 0.*, got -1"),
        ({"confidence": math.nan}, "confidence must be .*, got nan"),
        ({"confidence": math.inf}, "confidence must be .*, got inf"),
        ({"confidence": None}, "confidence must be a number, got None"),
        (
            {"targets": "hardest"},
            "targets must be one of 'best', 'average', 'worst', 'all', got 'hardest'",
        ),
        ({"targets": "best", "targeted": True}, "leave targeted=False"),
        ({"targets": torch.zeros(8)}, "targets must be a tensor of integer class indices"),
        ({"targets": torch.full((8,), 10)}, "targets must hold class indices below 10"),
        ({"max_queries": 0}, "max_queries must be an integer >= 1, got 0"),
        ({"outputs": "labels"}, "needs scores"),
    ],
)
def test_what_makes_no_sense_is_refused(name, options, message, few, linear_net):
    with pytest.raises(ValueError, match=message):
        run(name, linear_net, *few, **options)


@pytest.mark.parametrize("name", ["ead", "cw", "zoo"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
        ({"search_steps": 2.0}, r"search_steps must be an integer >= 1, got 2\.0"),
        ({"initial_const": 0.0}, r"initial_const must be > 0, got 0\.0"),
        ({"initial_const": math.inf}, "initial_const must be finite"),
        ({"step_size": -0.1}, r"step_size must be > 0, got -0\.1"),
        ({"step_size": math.nan}, "step_size must be > 0, got nan"),
    ],
)
def test_settings_of_a_search_that_make_no_sense_are_refused(
    name, options, message, few, linear_net
):
    with pytest.raises(ValueError, match=message):
        run(name, linear_net, *few, **options)


@pytest.mark.parametrize("name", ["ead", "cw", "i_fgm"])
def test_a_model_without_gradients_is_refused(name, few, linear_net):
    def model(rows):
        with torch.no_grad():
            return linear_net(rows)

    with pytest.raises(ValueError, match="does not depend on the input through autograd"):
        run(name, model, *few)


# ---- nothing to do


@every
def test_nothing_to_do(name, few, linear_net):
    """Samples that are all wrong cost one query each, and none at all cost nothing."""
    x, y = few
    wrong = run(name, linear_net, x, (y + 1) % 10)
    assert wrong.already_adversarial.tolist() == wrong.success.tolist() == [True] * 8
    assert wrong.queries.tolist() == wrong.queries_to_success.tolist() == [1] * 8
    assert wrong.gradients.tolist() == [0] * 8
    assert wrong.nearest_distance.tolist() == [0.0] * 8
    assert torch.equal(wrong.x_adv, x)
    assert torch.equal(wrong.x_nearest, x)
    assert all(bool(values.isnan().all()) for values in wrong.trace.values())


@every
@pytest.mark.parametrize("targets", [None, "best", "average", "worst"])
def test_no_samples_at_all(name, targets, few, linear_net):
    x, y = few
    for labelled in (y[:0], None):
        nothing = run(name, linear_net, x[:0], labelled, targets=targets)
        assert len(nothing) == 0
        assert nothing.x_adv.shape == nothing.x_nearest.shape == (0, 1, 8, 8)
        assert len(AttackResult.cat([nothing, run(name, linear_net, x, y)])) == 8


@every
def test_chunks_join_whatever_they_hold(name, few, linear_net):
    x, y = few
    shifted = torch.cat([y[:4], (y[4:] + 1) % 10])
    joined = AttackResult.cat(
        [run(name, linear_net, x[part], shifted[part]) for part in (slice(0, 4), slice(4, 8))]
    )
    whole = run(name, linear_net, x, shifted)
    assert torch.equal(joined.success, whole.success)
    assert torch.equal(joined.queries, whole.queries)
    torch.testing.assert_close(joined.nearest_distance, whole.nearest_distance, rtol=0, atol=1e-4)
    assert whole.trace
    for key, values in whole.trace.items():
        assert values.shape[1] == 8
        assert not bool(values[:, :4].isnan().all(0).any())
        assert bool(values[:, 4:].isnan().all())
        torch.testing.assert_close(joined.trace[key], values, rtol=0, atol=1e-3, equal_nan=True)


@every
def test_missing_labels_are_the_predictions_and_targeted_labels_the_targets(name, few, row_model):
    x, y = few
    known, unknown = run(name, row_model, x, y), run(name, row_model, x)
    assert torch.equal(known.x_adv, unknown.x_adv)
    assert torch.equal(known.queries, unknown.queries)
    one, other = (
        run(name, row_model, x, (y + 1) % 10, targeted=True),
        run(name, row_model, x, targets=(y + 1) % 10),
    )
    assert torch.equal(one.x_adv, other.x_adv)
    assert (
        labels(row_model, one.x_adv[one.success]).tolist() == ((y + 1) % 10)[one.success].tolist()
    )
    assert bool(one.success.any())


@pytest.fixture
def row_model(linear_net):
    """The linear model as sums along each row: no kernel sees two rows at once."""
    weight, bias = linear_net[1].weight.detach(), linear_net[1].bias.detach()
    return lambda rows: (rows.flatten(1)[:, None] * weight).sum(-1) + bias


# ---- what is reported


@every
@pytest.mark.parametrize("norm", NORMS)
def test_what_is_reported_fooled_the_model_and_is_where_it_says(name, norm, digits, digits_net):
    x, y = digits[0][:10], digits[1][:10]
    before = x.clone()
    result = run(name, digits_net, x, y, norm=norm)
    assert torch.equal(x, before)
    moved = result.success & ~result.already_adversarial
    assert int(moved.sum()) >= 6
    assert torch.equal(labels(digits_net, result.x_adv) != y, result.success)
    assert torch.equal(labels(digits_net, result.x_nearest) != y, result.success)
    chosen, nearest = distances(result.x_adv, x, norm), distances(result.x_nearest, x, norm)
    found = result.success
    torch.testing.assert_close(
        nearest[found].float(), result.nearest_distance[found], rtol=1e-6, atol=0
    )
    assert bool((nearest[found] <= chosen[found]).all())
    assert bool(result.nearest_distance[~found].isinf().all())
    assert torch.equal(result.x_adv[~found], x[~found])
    for rows in (result.x_adv, result.x_nearest):
        assert float(rows.min()) >= 0
        assert float(rows.max()) <= 1
    spent = result.queries_to_success[moved]
    assert bool((spent > 1).all() & (spent <= result.queries[moved]).all())
    assert bool((result.queries_to_success[~found] == -1).all())


@every
@pytest.mark.parametrize("norm", NORMS)
def test_a_radius_changes_the_verdict_and_nothing_else(name, norm, few, linear_net):
    x, y = few
    free = run(name, linear_net, x, y, norm=norm)
    eps = float(free.nearest_distance.sort().values[3])  # half of them lie within
    held = run(name, linear_net, x, y, norm=norm, eps=eps)
    for part in ("x_nearest", "nearest_distance", "queries", "gradients"):
        assert torch.equal(getattr(free, part), getattr(held, part)), part
    assert torch.equal(held.success, free.nearest_distance <= eps)
    assert int(held.success.sum()) == 4
    assert bool((distances(held.x_adv, x, norm)[held.success] <= eps + 1e-6).all())
    assert torch.equal(labels(linear_net, held.x_adv) != y, held.success)
    assert torch.equal(held.x_adv[~held.success], x[~held.success])
    assert bool((held.queries_to_success >= free.queries_to_success)[held.success].all())


@pytest.mark.parametrize(("name", "norm"), [("ead", "linf"), ("cw", "l1"), ("zoo", "l1")])
def test_where_the_choice_lies_outside_the_ball_the_nearest_is_handed_over(
    name, norm, few, linear_net
):
    x, y = few
    free = run(name, linear_net, x, y, norm=norm)
    chosen = distances(free.x_adv, x, norm)
    gap = chosen - free.nearest_distance
    widest = int(gap.argmax())
    assert float(gap[widest]) > 1e-3, (
        "the rule's choice is the nearest everywhere: the test says nothing"
    )
    held = run(
        name,
        linear_net,
        x,
        y,
        norm=norm,
        eps=float(free.nearest_distance[widest] + chosen[widest]) / 2,
    )
    assert bool(held.success[widest])
    assert torch.equal(held.x_adv[widest], free.x_nearest[widest])


@every
def test_the_ledger_is_what_an_independent_counter_sees(name, few, linear_net):
    x, y = few[0][:3], few[1][:3]
    for options in (
        {},
        {"targets": "best"},
        {"targets": "average"},
        {"targets": (y + 3) % 10},
        {"max_queries": 37},
    ):
        model = Counter(linear_net)
        result = run(name, model, x, y, batch_size=5, **options)
        assert model.rows == int(result.queries.sum())
        assert int(result.wasted_rows.sum()) == 0
        assert model.backward_rows == int(result.gradients.sum())
        assert (model.backward_rows > 0) == (name != "zoo")


# ---- budgets


@every
@pytest.mark.parametrize("tight", [False, True])
def test_a_budget_cuts_the_same_run_short(name, tight, few, row_model):
    """Whatever was found within the budget is reported, and nothing else; within a ball too."""
    x, y = few
    full = run(name, row_model, x, y)
    eps = None
    if tight:  # the hardest sample's nearest lies within, what is found of it before does not
        eps = float(full.nearest_distance.max())
        beyond, full = full, run(name, row_model, x, y, eps=eps)
        assert bool((full.queries_to_success > beyond.queries_to_success).any())
    before = torch.full_like(full.nearest_distance, torch.inf)
    for budget in (1, 2, 3, 4, 5, 17, 18, 19, 20, 40, 41, 100, 10**6):
        cut = run(name, row_model, x, y, eps=eps, max_queries=budget)
        assert int(cut.queries.max()) <= budget
        assert bool((cut.queries <= full.queries).all())
        found = (full.queries_to_success > 0) & (full.queries_to_success <= cut.queries)
        assert torch.equal(cut.success, found), budget
        assert torch.equal(cut.queries_to_success, torch.where(found, full.queries_to_success, -1))
        assert torch.equal(labels(row_model, cut.x_adv) != y, found)
        assert bool((cut.nearest_distance <= before).all())
        before = cut.nearest_distance
    assert torch.equal(cut.x_adv, full.x_adv)
    assert bool(full.success.all())


@pytest.mark.parametrize("name", ["ead", "cw", "i_fgm"])
@pytest.mark.parametrize("budget", [1, 2, 3, 4, 5, 18, 19])
def test_a_budget_is_spent_as_far_as_a_round_fits(name, budget, few, row_model):
    """A round of EAD costs two queries but for the first of an optimisation; all others one."""
    patient = {"num_steps": 30, "resolution": 1e-3} if name == "i_fgm" else {"abort_early": False}
    result = run(name, row_model, *few, max_queries=budget, confidence=1e3, **patient)  # never met
    spent = budget // 2 * 2 or 1 if name == "ead" else budget
    assert result.queries.tolist() == [spent] * 8
    assert not bool(result.success.any())
    # EAD and I-FGM begin with the clean gradient, which a single query buys nothing with
    rounds = (spent - 1) // 2 if name == "ead" else spent - 1
    assert result.gradients.tolist() == [int(name != "cw" and budget > 1) + rounds] * 8


def test_the_first_query_of_a_further_optimisation_is_worth_its_budget(few, row_model):
    """Of EAD: 1 for the clean check, and 1, 2, 2 for the three iterations of each optimisation."""
    spent = [
        int(
            run(
                "ead",
                row_model,
                *few,
                max_queries=budget,
                confidence=1e3,
                num_steps=3,
                abort_early=False,
            ).queries[0]
        )
        for budget in range(1, 14)
    ]
    assert spent == [1, 2, 2, 4, 4, 6, 7, 7, 9, 9, 11, 12, 12]


# ---- boxes and masks


@every
def test_boxes(name, digits, digits_net):
    """A box of its own for every pixel; nothing leaves it, and numbers are the same box as
    tensors of them.
    """
    x, y = digits[0][:6] * 4 - 1, digits[1][:6]
    model = Wrapped(digits_net, lambda outputs: outputs)
    model.forward = lambda rows: digits_net((rows + 1) / 4)
    numbers = run(name, model, x, y, clip_values=(-1.0, 3.0))
    tensors = run(
        name, model, x, y, clip_values=(torch.full((1, 8, 8), -1.0), torch.full((8, 8), 3.0))
    )
    assert torch.equal(numbers.x_adv, tensors.x_adv)
    assert torch.equal(numbers.queries, tensors.queries)
    low, high = x.amin(0) - 0.3, x.amax(0) + 0.3
    own = run(name, model, x, y, clip_values=(low, high))
    for result, (lower, upper) in ((numbers, (-1.0, 3.0)), (own, (low, high))):
        assert bool(((result.x_adv >= lower) & (result.x_adv <= upper)).all())
        assert bool(((result.x_nearest >= lower) & (result.x_nearest <= upper)).all())
        assert torch.equal(labels(model, result.x_adv) != y, result.success)
        assert int((result.success & ~result.already_adversarial).sum()) >= 3


@every
def test_masked_pixels_stay_as_they_are(name, few, row_model):
    x, y = few
    own = torch.zeros(8, 1, 8, 8)
    for sample in range(8):  # another half of the image for each
        own[sample, :, :, sample % 4 : sample % 4 + 5] = 1.0
    shared = own[0, 0] != 0
    for mask in (own, shared, own.to(torch.uint8)):
        result = run(name, row_model, x, y, mask=mask)
        still = (mask == 0).expand_as(x)
        for rows in (result.x_adv, result.x_nearest):
            assert torch.equal(rows[still], x[still])
        assert int(result.success.sum()) >= 2
    alone = run(name, row_model, x[2:5], y[2:5], mask=own[2:5])
    together = run(name, row_model, x, y, mask=own)
    assert torch.equal(alone.x_adv, together.x_adv[2:5])
    assert torch.equal(alone.queries, together.queries[2:5])


@every
def test_nothing_may_change(name, few, linear_net):
    result = run(name, linear_net, *few, mask=torch.zeros(8, 8))
    assert not bool(result.success.any())
    assert torch.equal(result.x_adv, few[0])
    assert bool(result.nearest_distance.isinf().all())


@every
def test_a_mask_per_sample_follows_it_through_the_cases(name, few, linear_net):
    x, y = few
    own = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    for case in ("best", "average"):
        result = run(name, linear_net, x, y, mask=own, targets=case)
        assert torch.equal(result.x_adv[~own], x[~own])
        assert torch.equal(result.x_nearest[~own], x[~own])
        assert bool(result.success.any())


# ---- models


@every
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_scores_of_other_precisions(name, dtype, digits, digits_net):
    x, y = digits[0][:8], digits[1][:8]
    probes = {"h": 0.1} if name == "zoo" else {}  # far apart, because halves round to three digits
    result = run(name, Wrapped(digits_net, lambda outputs: outputs.to(dtype)), x, y, **probes)
    with torch.no_grad():
        fooled = digits_net(result.x_adv).to(dtype).argmax(1) != y
    assert torch.equal(fooled, result.success)
    assert result.x_adv.dtype == result.nearest_distance.dtype == torch.float32
    assert int((result.success & ~result.already_adversarial).sum()) >= 5


@every
@pytest.mark.parametrize("kappa", [0.0, 0.5])
def test_probabilities_say_what_their_logarithms_say(name, kappa, few, linear_net):
    """log p_i - log p_j is z_i - z_j: hinge, margin and kappa are the same."""
    x, y = few
    logits = run(name, linear_net, x, y, confidence=kappa)
    softmax = Wrapped(linear_net, lambda outputs: outputs.double().softmax(1))
    probabilities = run(name, softmax, x, y, confidence=kappa, outputs="probabilities")
    assert torch.equal(logits.success, probabilities.success)
    assert bool(logits.success.any())
    # one iterate on the other side of the boundary, by rounding, is another choice: the median is
    # robust
    off = (logits.nearest_distance - probabilities.nearest_distance)[logits.success].abs()
    assert float(off.median()) < 1e-3


@every
def test_confidence_is_the_margin_of_what_is_reported(name, few, linear_net):
    x, y = few
    before = torch.zeros(8)
    for kappa in (0.0, 1.0, 3.0):
        result = run(name, linear_net, x, y, confidence=kappa)
        found = result.success
        assert int(found.sum()) >= 4
        for rows in (result.x_adv, result.x_nearest):
            with torch.no_grad():
                scores = linear_net(rows)
            own = scores.gather(1, y[:, None]).squeeze(1)
            margin = scores.scatter(1, y[:, None], -torch.inf).amax(1) - own
            assert bool((margin[found] >= kappa - 1e-4).all())
        assert bool((result.nearest_distance > before)[found].all())
        before = torch.where(found, result.nearest_distance, before)


@every
def test_a_wrong_sample_without_the_margin_is_attacked_all_the_same(name, few, linear_net):
    x = few[0]
    with torch.no_grad():
        order = linear_net(x).sort(1, descending=True)
    second, lead = order.indices[:, 1], order.values[:, 0] - order.values[:, 1]
    sure = run(name, linear_net, x, second, confidence=float(lead.max()) + 0.5)
    assert not bool(sure.already_adversarial.any())
    assert bool((sure.queries > 1).all())
    some = run(name, linear_net, x, second, confidence=float(lead.median()))
    assert torch.equal(some.already_adversarial, lead >= lead.median())


@every
def test_rows_of_nan_are_no_success(name, few, linear_net):
    """The model answers for the inputs alone, or for what lies on one side."""
    x, y = few
    known = {row.numpy().tobytes() for row in x}

    def blind(rows):
        seen = torch.tensor([row.detach().numpy().tobytes() in known for row in rows])
        return torch.where(seen[:, None], linear_net(rows), torch.nan)

    lost = run(name, blind, x, y)
    assert not bool(lost.success.any())
    assert torch.equal(lost.x_adv, x)

    def partial(rows):
        shift = (rows - x.mean()).flatten(1).sum(1, keepdim=True)
        return torch.where(shift > 4, torch.nan, linear_net(rows))

    partly = run(name, partial, x[:4] * 0.5, labels(linear_net, x[:4] * 0.5))
    assert bool(partly.x_adv.isfinite().all())
    with torch.no_grad():
        assert bool(partial(partly.x_adv).isfinite().all())


@every
def test_a_slope_without_a_number_moves_nothing(name, few, linear_net):
    """The square root's derivative at 0 is infinite, times 0 it is NaN: that pixel stays, the
    others do the work.
    """
    x, y = few
    x = x.clone()
    x[:, 0, 0, 0] = 0.0

    def model(rows):
        return linear_net(rows) + 0 * rows[:, 0, 0, :1].clamp(min=0).sqrt()

    result = run(name, model, x, y)
    assert bool(result.x_adv.isfinite().all())
    assert torch.equal(result.success, labels(linear_net, x) == y)


@every
def test_models_that_work_in_place_do_not_change_what_is_reported(name, few, linear_net):
    x, y = few
    before = x.clone()

    def model(rows):
        if not rows.requires_grad:
            return linear_net(rows.mul_(0.5).mul_(2.0).sub_(1.0).add_(0.0)) + linear_net[
                1
            ].weight.detach().sum(1)
        return linear_net(rows - 1.0) + linear_net[1].weight.detach().sum(1)

    def pure(rows):
        return linear_net(rows - 1.0) + linear_net[1].weight.detach().sum(1)

    result, reference = run(name, model, x, y), run(name, pure, x, y)
    assert torch.equal(x, before)
    assert torch.equal(result.x_adv, reference.x_adv)
    assert torch.equal(result.queries, reference.queries)
    cases, reference = (
        run(name, model, x[:2], y[:2], targets="best"),
        run(name, pure, x[:2], y[:2], targets="best"),
    )
    assert torch.equal(cases.x_adv, reference.x_adv)


# ---- while it runs


@every
@pytest.mark.parametrize("eps", [None, 0.1])
def test_callbacks_see_every_sample_until_it_leaves(name, eps, few, linear_net):
    x, y = few
    seen = []
    labelled = torch.cat([(y[:1] + 1) % 10, y[1:]])
    result = run(name, linear_net, x, labelled, eps=eps, norm="linf", callback=seen.append)
    assert [progress.step for progress in seen] == list(range(len(seen)))
    assert seen[0].index.tolist() == list(range(8))
    left, nearest = torch.zeros(8, dtype=torch.bool), torch.full((8,), torch.inf)
    spent, success = torch.zeros(8, dtype=torch.int64), torch.zeros(8, dtype=torch.bool)
    for progress in seen:
        assert progress.index.tolist() == (~left).nonzero().squeeze(1).tolist()
        assert bool((progress.distance <= nearest[progress.index]).all())
        assert bool((progress.queries > spent[progress.index]).all())
        nearest[progress.index], spent[progress.index] = progress.distance, progress.queries
        success[progress.index] = progress.success
        left[progress.index[progress.finished]] = True
    assert bool(left.all())
    assert torch.equal(nearest, result.nearest_distance)
    assert torch.equal(spent, result.queries)
    assert torch.equal(success, result.success)
