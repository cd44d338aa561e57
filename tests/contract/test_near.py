"""What the attacks that look for a near adversarial promise besides: radius, budget, margin, the
cases of Table 5.
"""

from __future__ import annotations

import pytest
import torch


def margins(model: torch.nn.Module, rows: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(N,) how far the best wrong class is above y."""
    with torch.no_grad():
        scores = torch.cat([model(row[None]) for row in rows])
    own = torch.nn.functional.one_hot(y, 10).bool()
    return scores.masked_fill(own, -torch.inf).amax(1) - scores[own]


def test_the_radius_decides_the_verdict_and_nothing_else(near_attack, digits, digits_net):
    x, y = digits
    inside, anywhere = (
        near_attack.run(digits_net, x, y, eps=eps) for eps in (near_attack.kind.eps, None)
    )
    for name in ("nearest_distance", "x_nearest", "queries", "gradients"):
        assert torch.equal(getattr(inside, name), getattr(anywhere, name)), name
    assert torch.equal(anywhere.success, anywhere.nearest_distance.isfinite())
    assert torch.equal(inside.success, anywhere.nearest_distance <= near_attack.kind.eps + 1e-6)
    assert 0 < int(inside.success.sum()) < int(anywhere.success.sum())
    first = anywhere.queries_to_success[inside.success]
    assert bool((first <= inside.queries_to_success[inside.success]).all())


def test_a_larger_budget_goes_on_where_a_smaller_one_ended(near_attack, digits, digits_net):
    x, y = digits
    short, full = (
        near_attack.run(digits_net, x, y, eps=None, max_queries=budget) for budget in (20, 150)
    )
    assert bool((full.nearest_distance <= short.nearest_distance).all())
    assert bool((full.nearest_distance < short.nearest_distance).any())
    assert torch.equal(
        full.queries_to_success[short.success], short.queries_to_success[short.success]
    )
    later = full.success & ~short.success
    assert bool((full.queries_to_success[later] > short.queries[later]).all())
    assert bool((full.queries >= short.queries).all())


def test_the_budget_of_a_first_success_suffices_and_one_query_less_does_not(
    near_attack, digits, row_by_row
):
    x, y = digits
    result = near_attack.run(row_by_row, x, y)
    fell = (result.success & ~result.already_adversarial).nonzero().squeeze(1)[:3]
    assert len(fell) == 3
    for index in fell.tolist():
        one, first = slice(index, index + 1), int(result.queries_to_success[index])
        enough, short = (
            near_attack.run(row_by_row, x[one], y[one], max_queries=first - less) for less in (0, 1)
        )
        assert enough.success.tolist() == [True]
        assert enough.queries.tolist() == enough.queries_to_success.tolist() == [first]
        assert short.success.tolist() == [False]


def test_confidence_is_the_margin_of_every_success(near_attack, digits, digits_net):
    x, y = digits
    plain, sure = (
        near_attack.run(digits_net, x, y, eps=None, confidence=margin) for margin in (0.0, 1.5)
    )
    found = sure.success & ~sure.already_adversarial
    assert int(found.sum()) >= 5
    for rows in (sure.x_adv, sure.x_nearest):
        assert float(margins(digits_net, rows[found], y[found]).min()) >= 1.5 - 1e-5
    assert float(margins(digits_net, plain.x_adv[found], y[found]).min()) < 1.5
    assert bool(
        (plain.nearest_distance[found] <= sure.nearest_distance[found] + 0.05).float().mean() > 0.8
    )
    assert torch.equal(sure.already_adversarial, margins(digits_net, x, y) >= 1.5)


def test_the_nearest_and_the_farthest_wrong_class(core_near_attack, counting, digits, row_by_row):
    x, y = digits[0][:8], digits[1][:8]
    model = counting(row_by_row)
    best, average, worst = (
        core_near_attack.run(model, x, y, targets=case, eps=None, max_queries=None)
        for case in ("best", "average", "worst")
    )
    assert model.rows == sum(
        int((one.queries + one.wasted_rows).sum()) for one in (best, average, worst)
    )
    assert bool((best.nearest_distance <= average.nearest_distance).all())
    assert bool((average.nearest_distance <= worst.nearest_distance).all())
    assert bool((best.nearest_distance < worst.nearest_distance).any())
    alone = [
        core_near_attack.run(row_by_row, x, None, targets=(y + k) % 10, eps=None, max_queries=None)
        for k in range(1, 10)
    ]
    distance = torch.stack([one.nearest_distance for one in alone])
    assert torch.equal(best.nearest_distance, distance.amin(0))
    assert torch.equal(worst.nearest_distance, distance.amax(0))
    total = 1 + torch.stack([one.queries for one in alone]).sum(0)
    assert torch.equal(worst.queries, total)
    right = ~best.already_adversarial
    assert torch.equal(best.queries[right], total[right])
    assert bool((best.queries[~right] < 3).all()), "a sample that is wrong needs no attack"


@pytest.mark.parametrize("case", ["best", "average", "worst"])
def test_cases_depend_on_no_batch_and_no_neighbour(
    core_near_attack, check_same, reorder, digits, row_by_row, case
):
    x, y = digits[0][:10], digits[1][:10]
    some = torch.tensor([7, 2, 5])
    reference = core_near_attack.run(row_by_row, x, y, targets=case)
    check_same(reference, core_near_attack.run(row_by_row, x, y, targets=case, batch_size=7))
    check_same(
        core_near_attack.run(row_by_row, x[some], y[some], targets=case), reorder(reference, some)
    )
    assert int(reference.queries.max()) <= core_near_attack.kind.budget
