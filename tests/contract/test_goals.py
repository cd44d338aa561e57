"""What attacks promise about goals, in every shell: targets, failures, stopping, norms,
progress, seeds.
"""

from __future__ import annotations

import pytest
import torch

from art_ext.core.geometry import distances


def predictions(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(rows).argmax(1)


def test_targets_are_what_the_model_says(targeted_attack, digits, digits_net):
    x, y = digits
    targets = (y + 1) % 10
    eps = 2 * targeted_attack.kind.eps
    result = targeted_attack.run(digits_net, x, y, targets=targets, eps=eps)
    assert torch.equal(predictions(digits_net, result.x_adv) == targets, result.success)
    assert torch.equal(predictions(digits_net, x) == targets, result.already_adversarial)
    assert int((result.success & ~result.already_adversarial).sum()) >= 3
    assert not bool(result.success.all())
    assert float(distances(result.x_adv, x, "linf").max()) <= eps + 1e-6


def test_targets_are_y_where_the_attack_is_targeted(
    core_targeted_attack, check_same, digits, digits_net
):
    x, y = digits
    targets = (y + 1) % 10
    given = core_targeted_attack.run(digits_net, x, targets, targeted=True)
    check_same(given, core_targeted_attack.run(digits_net, x, None, targets=targets))
    with pytest.raises(ValueError, match="a targeted attack needs the classes to reach"):
        core_targeted_attack.run(digits_net, x, None, targeted=True)
    with pytest.raises(
        ValueError, match="targets must hold class indices below 10, the model's width, got 10"
    ):
        core_targeted_attack.run(digits_net, x, y, targets=torch.full_like(y, 10))


def test_a_failed_row_is_the_input_or_the_last_iterate(ball_attack, digits, digits_net):
    x, y = digits
    left, last = (ball_attack.run(digits_net, x, y, on_failure=kind) for kind in ("input", "last"))
    for name in ("success", "distance", "queries", "gradients"):
        assert torch.equal(getattr(left, name), getattr(last, name)), name
    assert torch.equal(left.x_adv[left.success], last.x_adv[left.success])
    assert torch.equal(left.x_adv[~left.success], x[~left.success])
    moved = (last.x_adv != x).flatten(1).any(1)
    assert bool(moved[~last.success].all())
    assert torch.equal(predictions(digits_net, last.x_adv) != y, last.success)
    with pytest.raises(ValueError, match=r"on_failure must be .*, got 'first'"):
        ball_attack.run(digits_net, x, y, on_failure="first")


def test_stopping_changes_the_cost_and_not_the_verdict(ball_attack, digits, row_by_row):
    x, y = digits
    stop, run_on = (
        ball_attack.run(row_by_row, x, y, stop_on_success=kind) for kind in (True, False)
    )
    fell = stop.success & ~stop.already_adversarial
    assert 0 < int(fell.sum()) < len(x) - int(stop.already_adversarial.sum())
    assert torch.equal(stop.success, run_on.success)
    assert torch.equal(stop.queries_to_success, run_on.queries_to_success)
    assert torch.equal(stop.queries[stop.success], stop.queries_to_success[stop.success])
    full = ball_attack.cost(ball_attack.kind.budget)
    assert stop.queries[~stop.success].unique().tolist() == [full]
    assert run_on.queries[~run_on.already_adversarial].unique().tolist() == [full]
    assert (stop.stop_on_success, run_on.stop_on_success) == (True, False)
    if ball_attack.kind.gradients:
        asked = ~run_on.already_adversarial
        assert len(run_on.gradients[asked].unique()) == 1, (
            "every iterate but the last is differentiated"
        )
        # and a success that stops its sample is not
        if ball_attack.kind.variant:
            return  # the last iterate of each restart is not differentiated either
        assert torch.equal(
            (run_on.gradients - stop.gradients)[fell], (run_on.queries - stop.queries)[fell]
        )


@pytest.mark.parametrize(("norm", "eps"), [("l2", 1.0), ("l1", 4.0)])
def test_balls_of_other_norms(attack, digits, digits_net, norm, eps):
    x, y = digits
    # the L1 ball's own vertices lie far outside the box
    options = {"box": "vertex"} if attack.takes("box") else {}
    if attack.kind.ball and "step_size" in attack.kind.units:
        options["step_size"] = attack.kind.settings["step_size"] * eps / attack.kind.eps
    if norm not in attack.kind.spec.norms:
        with pytest.raises(ValueError, match="norm must be one of"):
            attack.run(digits_net, x, y, norm=norm, eps=eps, **options)
        return
    result = attack.run(digits_net, x, y, norm=norm, eps=eps, **options)
    length = distances(result.x_adv, x, norm)
    assert float(length.max()) <= eps + 1e-6
    assert float(result.x_adv.min()) >= 0
    assert float(result.x_adv.max()) <= 1
    assert result.norm == norm
    assert torch.equal(predictions(digits_net, result.x_adv) != y, result.success)
    assert float(length.max()) > 0.1 * eps
    nearest = length if result.x_nearest is None else distances(result.x_nearest, x, norm)
    found = result.success & ~result.already_adversarial
    torch.testing.assert_close(
        result.distance[found], length[found].to(torch.float32), rtol=0, atol=1e-6
    )
    if result.nearest_distance is not None:
        torch.testing.assert_close(
            result.nearest_distance[found], nearest[found].float(), rtol=0, atol=1e-6
        )
    assert bool((nearest[found] <= length[found]).all())


def test_progress_reports_every_sample_until_it_leaves(core_attack, digits, digits_net):
    x, y = digits
    finished = torch.zeros(len(x), dtype=torch.int64)
    queries = torch.zeros(len(x), dtype=torch.int64)
    met = torch.zeros(len(x), dtype=torch.bool)
    rounds = []

    def watch(progress):
        rounds.append(progress.step)
        assert not bool(finished[progress.index].any()), "a sample that has left is reported again"
        assert (
            progress.queries.shape
            == progress.distance.shape
            == progress.success.shape
            == progress.index.shape
        )
        assert bool((progress.queries >= queries[progress.index]).all())
        assert bool((progress.queries <= core_attack.kind.budget).all())
        assert torch.equal(progress.success, progress.distance <= core_attack.kind.eps + 1e-6)
        queries[progress.index] = progress.queries
        met[progress.index] = progress.success
        finished[progress.index] += progress.finished.to(torch.int64)

    result = core_attack.run(digits_net, x, y, callback=watch)
    assert rounds == list(range(len(rounds)))
    assert finished.tolist() == [1] * len(x)
    assert torch.equal(queries, result.queries)
    assert torch.equal(met, result.success)


def test_a_seed_of_its_own_is_recorded(core_attack, check_same, digits, digits_net):
    x, y = digits
    first = core_attack.run(digits_net, x, y, seed=None)
    check_same(first, core_attack.run(digits_net, x, y, seed=first.seed))
    assert core_attack.run(digits_net, x[:2], y[:2], seed=None).seed != first.seed


def test_other_seeds_draw_other_numbers(core_attack, digits, digits_net):
    x, y = digits

    # it falls as often as it rises: otherwise HMCAM's tests are all passed
    def wavy(outputs, index):
        return (20 * outputs[:, 0]).sin()

    options = {"on_failure": "last", "loss": wavy} if core_attack.kind.ball else {}
    one, other = (core_attack.run(digits_net, x, y, seed=seed, **options) for seed in (1, 2))
    same = torch.equal(one.x_adv, other.x_adv) and torch.equal(one.queries, other.queries)
    assert same != core_attack.kind.draws


def test_all_samples_wrong_from_the_start(attack, digits, digits_net):
    x = digits[0]
    result = attack.run(digits_net, x, (predictions(digits_net, x) + 1) % 10)
    assert bool(result.already_adversarial.all())
    assert result.queries.unique().tolist() == [1]
    assert result.gradients.unique().tolist() == [0]
    assert torch.equal(result.x_adv, x)
