"""Auto-PGD against Algorithm 1 of its paper written sample by sample, and against closed forms."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks import auto_pgd
from art_ext.core.attacks.auto_pgd import checkpoints
from art_ext.core.geometry import project, project_l1_box
from tests.toys import Recorder, inputs, linear, never, waves

WAVES = waves(12, seed=5, classes=4, frequency=6)
EPS = {"linf": 0.1, "l2": 0.3, "l1": 0.8}


# The textbook, for one sample (D,) at a time.


def loss_and_gradient(model, row, label):
    row = row.clone().requires_grad_(True)
    loss = functional.cross_entropy(model(row[None]), label[None])
    (gradient,) = torch.autograd.grad(loss, row)
    return float(loss.detach()), gradient


def into(row, x, eps, norm):
    """P: onto the ball and into the box."""
    if norm == "linf":
        return torch.minimum(torch.maximum(row, x - eps), x + eps).clamp(0, 1)
    delta = row.clamp(0, 1) - x
    return (x + delta * min(1.0, eps / max(float(delta.norm()), 1e-12))).clamp(0, 1)


def textbook_checkpoints(steps):
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    return [math.ceil(one * steps) for one in p if one <= 1]


def textbook(model, x, label, start, eps, steps, norm="linf"):
    """Algorithm 1: the iterates after the start, and the step sizes."""
    marks = textbook_checkpoints(steps)
    eta, etas, iterates = 2 * eps, [], [start]
    (loss, gradient), current, previous = loss_and_gradient(model, start, label), start, start
    best, best_loss, best_gradient = start, loss, gradient
    values, best_at, eta_at = [loss], {0: loss}, {0: eta}
    for k in range(1, steps + 1):
        direction = gradient.sign() if norm == "linf" else gradient / gradient.norm()
        z = into(current + eta * direction, x, eps, norm)
        moved = (
            z
            if k == 1
            else into(current + 0.75 * (z - current) + 0.25 * (current - previous), x, eps, norm)
        )
        etas.append(eta)
        iterates.append(moved)
        previous, current = current, moved
        loss, gradient = loss_and_gradient(model, current, label)
        values.append(loss)
        ascended = [after > before for before, after in pairwise(values)]
        if loss > best_loss:
            best, best_loss, best_gradient = current, loss, gradient
        if k in marks:
            last = max(mark for mark in marks if mark < k)
            few = sum(ascended[last:k]) < 0.75 * (k - last)
            stuck = eta_at[last] == eta and best_at[last] == best_loss
            best_at[k], eta_at[k] = best_loss, eta
            if few or stuck:
                eta, current, gradient, values[-1] = eta / 2, best, best_gradient, best_loss
    return iterates[1:], etas


class TestTextbook:
    def test_checkpoints(self):
        assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
        for steps in (1, 2, 7, 10, 33, 50, 100, 1000):
            assert checkpoints(steps) == sorted(set(textbook_checkpoints(steps)) - {0})

    @pytest.mark.parametrize("norm", ["linf", "l2"])
    @pytest.mark.parametrize("steps", [10, 40])
    def test_every_iterate(self, norm, steps):
        x, y = inputs(WAVES, 12)
        spy = Recorder(WAVES)
        auto_pgd(spy, x, y, eps=EPS[norm], norm=norm, num_steps=steps, criterion=never, seed=0)
        mine = torch.stack(spy.rows[1:])
        assert len(mine) == steps + 1
        halved = []
        for sample in range(len(x)):
            iterates, etas = textbook(
                WAVES, x[sample], y[sample], mine[0, sample], EPS[norm], steps, norm
            )
            # where a loss hardly rises, rounding decides
            tolerance = 2e-5 if norm == "linf" else 5e-4
            torch.testing.assert_close(
                mine[1:, sample], torch.stack(iterates), rtol=0, atol=tolerance
            )
            halved.append(len(set(etas)) - 1)
        assert len(set(halved)) > 1, (
            "the samples' step sizes must go their own ways, or the test says little"
        )

    def test_start_is_the_streams_and_one_per_phase(self):
        x, y = inputs(WAVES)
        calls = []
        for order in (torch.arange(16), torch.arange(16).flip(0)):
            spy = Recorder(WAVES)
            auto_pgd(
                spy,
                x[order],
                y[order],
                eps=0.1,
                num_steps=2,
                num_targets=2,
                stop_on_success=False,
                seed=3,
            )
            assert len(spy.rows) == 1 + 2 * 3
            calls.append([rows[order.argsort()] for rows in spy.rows])
        for one, other in zip(*calls, strict=True):
            assert torch.equal(one, other)
        first, second = calls[0][1], calls[0][4]
        assert not torch.equal(first, second)
        assert float((first - x).abs().max()) <= 0.1 + 1e-6
        assert bool((first != x).any(1).all())


class TestSteps:
    """One coordinate between 0.1 and 0.9, and a loss whose values and slopes are written down,
    look by look.
    """

    EPS = 0.4

    def path(self, values, slopes):
        """(T + 1, N) the iterates, where the loss of sample n at iterate t is ``values[n][t]`` and
        its slope ``slopes[n][t]``."""
        values, slopes = (
            torch.tensor(values, dtype=torch.float32),
            torch.tensor(slopes, dtype=torch.float32),
        )
        count, steps, t = len(values), values.shape[1] - 1, -2

        def loss(outputs, index):
            nonlocal t
            t += 1  # -1 at the clean check, whose loss says nothing
            up = outputs[:, 0] - outputs[:, 0].detach()
            return values[index, max(t, 0)] + slopes[index, max(t, 0)] * up

        spy = Recorder(lambda rows: torch.cat([rows, torch.zeros_like(rows)], dim=1))
        auto_pgd(
            spy,
            torch.full((count, 1), 0.5),
            torch.zeros(count, dtype=torch.int64),
            eps=self.EPS,
            num_steps=steps,
            loss=loss,
            criterion=never,
            seed=0,
        )
        return torch.stack(spy.rows[1:]).squeeze(2)

    def step(self, current, previous, eta, slope):
        z = (current + eta * slope).clamp(0.1, 0.9)
        return (current + 0.75 * (z - current) + 0.25 * (current - previous)).clamp(0.1, 0.9)

    def test_who_ascends_keeps_the_step_and_who_does_not_halves_it_and_returns(self):
        turns = [(-1.0) ** t for t in range(11)]
        found = self.path([list(range(11)), [3] * 11], [turns, [1.0] * 11])
        rising, flat = found.unbind(1)
        for t in range(1, 10):  # steps of 2 eps lead to the faces of the ball from everywhere
            assert float(rising[t + 1]) == pytest.approx(
                float(self.step(rising[t], rising[t - 1], 2 * self.EPS, turns[t])), abs=1e-6
            )
        eta, marks = 2 * self.EPS, [3, 5, 6, 7, 8, 9]
        for mark in marks:
            eta /= 2
            before = flat[0] if mark - 1 in marks else flat[mark - 1]
            assert float(flat[mark + 1]) == pytest.approx(
                float(self.step(flat[0], before, eta, 1.0)), abs=1e-6
            )

    def test_no_new_maximum_halves_the_step_if_the_last_checkpoint_did_not(self):
        # nearly every step ascends, but never above the start
        found = self.path([[1000, *range(1, 101)]], [[1.0] * 101]).squeeze(1)
        eta = 2 * self.EPS
        for mark in (22, 57, 80, 93):
            eta /= 2
            wanted = self.step(found[0], found[mark - 1], eta, 1.0)
            assert float(found[mark + 1]) == pytest.approx(float(wanted), abs=1e-6)
        for mark in (41, 70, 87, 99):
            wanted = self.step(
                found[mark], found[mark - 1], eta if mark == 99 else 2 * self.EPS, 1.0
            )
            assert float(found[mark + 1]) == pytest.approx(float(wanted), abs=1e-6)

    def test_a_failure_may_show_the_point_of_highest_loss(self):
        x, y = inputs(WAVES)
        spy = Recorder(WAVES)
        result = auto_pgd(spy, x, y, eps=0.02, num_steps=12, on_failure="last", seed=0)
        failed = ~result.success
        assert 0 < int(failed.sum()) == len(spy.rows[-1])
        for n in failed.nonzero().flatten().tolist():
            alone = Recorder(WAVES)
            auto_pgd(alone, x[n : n + 1], y[n : n + 1], eps=0.02, num_steps=12, seed=0)
            calls = alone.rows[1:]
            losses = [float(functional.cross_entropy(WAVES(rows), y[n : n + 1])) for rows in calls]
            assert torch.equal(result.x_adv[n], calls[losses.index(max(losses))][0])


class TestClosedForm:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"loss": "margin"},
            {"loss": "probability_margin"},
            {"loss": "dlr"},
            {"num_targets": 1},
            {"num_targets": 1, "loss": "probability_margin"},
        ],
    )
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_optimum_of_a_linear_model(self, norm, options):
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(12, generator=generator)
        x = 0.5 + 0.02 * torch.randn(40, 12, generator=generator).clamp(-3, 3)
        model, eps = linear(weight), {"linf": 0.006, "l2": 0.02, "l1": 0.03}[norm]
        y = model(x).argmax(1)
        result = auto_pgd(
            model, x, y, eps=eps, norm=norm, num_steps=60, on_failure="last", seed=0, **options
        )
        margin = ((x - 0.5) @ weight).abs()
        dual = {"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}[norm]
        assert torch.equal(result.success, margin < eps * dual)
        failed = ~result.success
        assert 0 < int(failed.sum()) < 40
        gained = ((result.x_adv - x) @ weight).abs()[failed]
        torch.testing.assert_close(gained, (eps * dual).expand_as(gained), rtol=2e-3, atol=0)

    def test_l1_optimum_fills_the_box_along_the_largest_weights(self):
        """From 0 in [0, 1] with radius 2.5: two coordinates go all the way, and the third half
        of it.
        """
        weight = torch.tensor([1.0, 5.0, -9.0, 4.0, 3.0, 0.5])
        result = auto_pgd(
            lambda rows: torch.stack([20 - rows @ weight, rows @ weight - 20], dim=1),
            torch.zeros(1, 6),
            torch.tensor([0]),
            eps=2.5,
            norm="l1",
            num_steps=100,
            loss="margin",
            on_failure="last",
            seed=0,
        )
        wanted = torch.tensor([[0.0, 1.0, 0.0, 1.0, 0.5, 0.0]])
        torch.testing.assert_close(result.x_adv, wanted, rtol=0, atol=5e-3)

    @pytest.mark.parametrize("radius", [0.05, 0.7, 3.0, 50.0])
    def test_projection_onto_ball_and_box(self, radius):
        generator = torch.Generator().manual_seed(1)
        delta = torch.randn(200, 30, generator=generator)
        room = torch.rand(200, 30, generator=generator) * (
            torch.rand(200, 30, generator=generator) < 0.8
        )
        found = project_l1_box(delta, radius, room)
        low, high = (
            torch.zeros(200, 1, dtype=torch.float64),
            delta.abs().amax(1, keepdim=True).double(),
        )
        for _ in range(60):  # the least threshold at which the norm is within the radius
            t = (low + high) / 2
            outside = (
                torch.minimum((delta.abs() - t).clamp(min=0), room.double()).sum(1, keepdim=True)
                > radius
            )
            low, high = torch.where(outside, t, low), torch.where(outside, high, t)
        wanted = delta.sign() * torch.minimum((delta.abs() - high).clamp(min=0), room.double())
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)
        assert float((found.double().abs().sum(1) - radius).max()) < 1e-5
        assert torch.equal(project_l1_box(found, radius + 1e-4, room), found)

    @pytest.mark.parametrize("radius", [0.05, 0.7, 50.0])
    def test_projection_of_few_moved_coordinates_is_that_of_each_row_alone(self, radius):
        """Rows beside it decide how many entries the CPU looks at, and change no bit."""
        generator = torch.Generator().manual_seed(3)
        delta = torch.randn(40, 30, generator=generator)
        delta[torch.rand(40, 30, generator=generator) < torch.linspace(0, 1, 40)[:, None]] = 0
        room = torch.rand(40, 30, generator=generator).round(decimals=1)  # with ties
        alone = [project_l1_box(delta[[n]], radius, room[[n]]) for n in range(40)]
        assert torch.equal(project_l1_box(delta, radius, room), torch.cat(alone))

    def test_projection_without_a_box_is_that_onto_the_ball(self):
        delta = torch.randn(50, 20, generator=torch.Generator().manual_seed(2))
        free = torch.full_like(delta, 1e6)
        torch.testing.assert_close(
            project_l1_box(delta, 2.0, free), project(delta, "l1", 2.0), rtol=0, atol=1e-6
        )


class TestL1:
    def test_a_step_moves_the_coordinates_of_largest_slope(self):
        """A fifth of them at first: 4 of 20, each by a quarter of eps."""
        weight = torch.arange(1.0, 21.0) * torch.tensor([1.0, -1.0]).repeat(10)
        spy = Recorder(linear(weight))
        x = torch.full((1, 20), 0.5)
        auto_pgd(
            spy,
            x,
            torch.tensor([0]),
            eps=0.4,
            norm="l1",
            num_steps=1,
            loss=lambda z, index: z[:, 1],
            criterion=never,
            seed=0,
        )
        start, after = (rows - x for rows in spy.rows[1:])
        wanted = start.clone()
        wanted[0, 16:] += 0.1 * weight[16:].sign()
        torch.testing.assert_close(after, project(wanted, "l1", 0.4), rtol=0, atol=1e-5)

    def test_the_step_shrinks_by_a_third_down_to_a_tenth_of_eps(self):
        """The loss falls all the time, so that every second step divides eta by 1.5. The slopes
        change sign at every step, so that one of two steps in a row leads into the ball.
        """
        steps, eps, calls = 50, 0.4, 0
        weight = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])

        def loss(outputs, index):
            nonlocal calls
            calls += 1
            rise = outputs[:, 1] - outputs[:, 1].detach()
            return (-1) ** calls * rise - calls

        spy = Recorder(linear(weight))
        auto_pgd(
            spy,
            torch.full((8, 5), 0.5),
            torch.zeros(8, dtype=torch.int64),
            eps=eps,
            norm="l1",
            num_steps=steps,
            loss=loss,
            criterion=never,
            sample_ids=torch.arange(8),
            seed=0,
        )
        moves = torch.stack(spy.rows[1:]).diff(dim=0).abs().sum(2)
        found = moves.view(steps // 2, 2, 8).amax(1)
        for number in range(3, steps // 2):
            wanted = torch.full((8,), max(eps / 1.5**number, eps / 10))
            torch.testing.assert_close(found[number], wanted, rtol=0, atol=1e-5)

    def test_the_sparsity_follows_the_best_point(self):
        x, y = inputs(WAVES, 40)
        result = auto_pgd(WAVES, x, y, eps=0.2, norm="l1", num_steps=75, on_failure="last", seed=0)
        few = (result.x_adv != x).sum(1)[~result.success].double()
        assert len(few) >= 4
        assert float(few.mean()) < 6, "of 12 coordinates, all of which the start moves"


class TestLargerBalls:
    """Balls of 3 eps and 2 eps first, in L1."""

    COMMON: ClassVar = {"eps": 0.2, "norm": "l1", "num_steps": 20, "larger_balls": True, "seed": 0}

    def test_each_ball_has_its_steps_and_begins_at_the_projection_of_the_best_point(self):
        x, y = inputs(WAVES)
        spy = Recorder(WAVES)
        auto_pgd(spy, x, y, criterion=never, **self.COMMON)
        lengths = [float((rows.double() - x).abs().sum(1).max()) for rows in spy.rows[1:]]
        assert len(lengths) == 21
        for first, last, ball in ((0, 6, 3), (6, 12, 2), (12, 21, 1)):
            assert max(lengths[first:last]) == pytest.approx(0.2 * ball, abs=1e-5)
        for first, last, ball in ((0, 6, 2), (6, 12, 1)):
            rows = torch.stack(spy.rows[1 + first : 1 + last])
            losses = torch.stack(
                [functional.cross_entropy(WAVES(one), y, reduction="none") for one in rows]
            )
            delta = rows[losses.argmax(0), torch.arange(len(x))] - x
            room = torch.where(delta > 0, 1 - x, x)
            wanted = x + project_l1_box(delta, 0.2 * ball, room)
            torch.testing.assert_close(spy.rows[1 + last], wanted, rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        "options", [{}, {"num_targets": 3}, {"num_targets": 3, "survey_steps": 10}]
    )
    @pytest.mark.parametrize("stop", [True, False])
    def test_no_point_outside_the_ball_counts(self, options, stop):
        x, y = inputs(WAVES, 40)
        spy = Recorder(WAVES)
        options = {"keep_samples": True, "on_failure": "last", "stop_on_success": stop, **options}
        found = auto_pgd(spy, x, y, **self.COMMON, **options)
        assert any(bool((WAVES(rows).argmax(1) != y).any()) for rows in spy.rows[2:6])
        assert 0 < int(found.success.sum()) < 40
        for rows in (found.x_adv, *found.samples):
            assert float((rows.double() - x).abs().sum(1).max()) <= 0.2 + 1e-6
        assert torch.equal(WAVES(found.x_adv).argmax(1) != y, found.success)
        begin = 2 + 6 if "survey_steps" in options else 2 + 12
        right = WAVES(x).argmax(1) == y
        assert int(found.queries_to_success[found.success & right].min()) >= begin

    def test_a_budget_that_ends_in_a_larger_ball_finds_nothing(self):
        x, y = inputs(WAVES, 40)
        y = WAVES(x).argmax(1)
        found = auto_pgd(WAVES, x, y, max_queries=9, on_failure="last", **self.COMMON)
        assert not bool(found.success.any())
        assert set(found.queries.tolist()) == {9}
        assert float((found.x_adv.double() - x).abs().sum(1).max()) <= 0.2 + 1e-6

    def test_rows_are_those_without_larger_balls(self):
        x, y = inputs(WAVES, 12)
        options = {**self.COMMON, "num_targets": 2, "stop_on_success": False}
        larger = auto_pgd(WAVES, x, y, **options)
        plain = auto_pgd(WAVES, x, y, **{**options, "larger_balls": False})
        assert set(larger.queries.tolist()) == {1 + 2 * 21}
        assert torch.equal(larger.queries, plain.queries)
        assert torch.equal(larger.gradients, plain.gradients)

    def test_other_samples_change_nothing(self):
        x, y = inputs(WAVES, 20)
        options = {**self.COMMON, "num_targets": 2, "survey_steps": 5, "on_failure": "last"}
        whole = auto_pgd(WAVES, x, y, **options)
        order = torch.arange(19, -1, -1)
        turned = auto_pgd(WAVES, x[order], y[order], batch_size=3, **options)
        assert torch.equal(whole.x_adv, turned.x_adv[order])
        assert torch.equal(whole.queries, turned.queries[order])

    @pytest.mark.parametrize(("norm", "steps"), [("linf", 8), ("l2", 8), ("l1", 3)])
    def test_without_effect_in_other_norms_and_with_few_steps(self, norm, steps):
        x, y = inputs(WAVES)
        options = {"eps": EPS[norm] / 4, "norm": norm, "num_steps": steps, "seed": 0}
        plain = auto_pgd(WAVES, x, y, on_failure="last", **options)
        larger = auto_pgd(WAVES, x, y, on_failure="last", larger_balls=True, **options)
        assert torch.equal(plain.x_adv, larger.x_adv)
        assert torch.equal(plain.queries, larger.queries)

    def test_it_is_a_flag(self):
        x, y = inputs(WAVES, 2)
        with pytest.raises(ValueError, match="larger_balls"):
            auto_pgd(WAVES, x, y, eps=0.1, larger_balls=3)


class TestTargets:
    """Four classes of a linear model whose scores at 0.5 are 3, 2, 1, 0: class 0 is left for 2
    alone.
    """

    weight = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 1.0]])

    def model(self, rows):
        return ((rows - 0.5)[:, None] * self.weight).sum(-1) + torch.tensor([3.0, 2.0, 1.0, 0.0])

    def test_rivals_are_attacked_from_the_highest_score_down(self):
        spy = Recorder(self.model)
        x = torch.full((1, 3), 0.5)
        y = torch.tensor([0])
        result = auto_pgd(
            spy, x, y, eps=0.05, num_steps=4, num_targets=9, stop_on_success=False, seed=0
        )
        assert not bool(result.success)
        assert int(result.queries) == len(spy.rows) == 1 + 3 * 5, (
            "there are three other classes, not nine"
        )
        assert int(result.gradients) == 3 * 4
        for phase in range(3):
            start, *rows = torch.cat(spy.rows[1 + 5 * phase : 6 + 5 * phase])
            wanted = start.clone()  # the others stay where the start put them
            wanted[phase] = 0.55
            for row in rows[1:]:
                torch.testing.assert_close(row, wanted, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("norm", ["linf", "l1"])
    def test_the_score_of_a_target_alone_is_ascended(self, norm):
        """Pixel 2 lowers the score of the label, which only the margin follows."""
        weight = torch.tensor([[0.0, 0.0, -5.0], [1.0, 0.0, 0.0]])

        def model(rows):
            return ((rows - 0.5)[:, None] * weight).sum(-1) + torch.tensor([9.0, 0.0])

        x, y = torch.full((1, 3), 0.5), torch.tensor([0])
        options = {"eps": 0.05, "norm": norm, "num_steps": 25, "num_targets": 1, "seed": 0}
        options |= {"on_failure": "last"}
        for loss, wanted in (("margin", 2), ("score", 0)):
            moved = auto_pgd(model, x, y, loss=loss, **options).x_adv[0] - 0.5
            assert float(moved[wanted]) == pytest.approx(0.05, abs=2e-3), loss

    def test_a_success_ends_all_phases(self):
        spy = Recorder(self.model)
        x = torch.full((2, 3), 0.5)
        x[1, 1] = 0.2  # out of reach
        result = auto_pgd(
            spy, x, torch.tensor([0, 0]), eps=0.12, num_steps=4, num_targets=3, seed=1
        )
        assert result.success.tolist() == [True, False]
        within = int(result.queries[0])
        assert within == int(result.queries_to_success[0])
        # class 1 does not come within reach, so that its whole phase was spent, unless the start
        # did it
        starts = [float(calls[0, 1]) > 0.6 for calls in (spy.rows[1], spy.rows[6])]
        assert within > 6 or any(starts)
        assert int(result.queries[1]) == 1 + 3 * 5
        assert int(self.model(result.x_adv)[0].argmax()) == 2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_targets": -1}, "num_targets must be an integer >= 0, got -1"),
            ({"num_targets": 2.5}, "num_targets must be an integer >= 0, got 2.5"),
            ({"num_targets": 2, "targeted": True}, "num_targets must be 0 in a targeted attack"),
            (
                {"num_targets": 2, "targets": torch.ones(16, dtype=torch.int64)},
                "num_targets must be 0 in a targeted",
            ),
            (
                {"num_targets": 2, "loss": "ce"},
                "loss with num_targets must be one of 'margin', 'probability_margin', 'dlr',",
            ),
            ({"num_targets": 2, "criterion": never}, "criterion must be None with num_targets"),
            ({"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
            ({"loss": ""}, "loss must be one of 'ce', 'margin'"),
        ],
    )
    def test_arguments_that_make_no_sense(self, options, message):
        x, y = inputs(WAVES)
        with pytest.raises(ValueError, match=message):
            auto_pgd(WAVES, x, y, eps=0.1, **options)

    def test_probabilities_do_as_logits(self):
        x, y = inputs(WAVES)
        logits = auto_pgd(WAVES, x, y, eps=0.05, num_steps=8, num_targets=2, seed=0)
        probabilities = auto_pgd(
            lambda rows: WAVES(rows).softmax(1),
            x,
            y,
            eps=0.05,
            num_steps=8,
            num_targets=2,
            outputs="probabilities",
            seed=0,
        )
        assert torch.equal(logits.success, probabilities.success)
        assert 0 < int(logits.success.sum()) < 16


class TestLedger:
    @pytest.mark.parametrize(("num_targets", "phases"), [(0, 1), (1, 1), (2, 2), (9, 3)])
    def test_queries_and_gradients(self, num_targets, phases):
        x, y = inputs(WAVES, 12)
        y[:3] = (y[:3] + 1) % 4  # wrong from the start: they leave at once
        spy = Recorder(WAVES)
        result = auto_pgd(
            spy, x, y, eps=0.1, num_steps=5, num_targets=num_targets, stop_on_success=False, seed=0
        )
        wrong = result.already_adversarial
        assert wrong.tolist() == [True] * 3 + [False] * 9
        assert result.queries[~wrong].unique().tolist() == [1 + phases * 6]
        assert result.gradients[~wrong].unique().tolist() == [phases * 5]
        assert result.queries[wrong].unique().tolist() == [1]
        assert result.gradients[wrong].unique().tolist() == [0]
        assert sum(map(len, spy.rows)) == int(result.queries.sum())

    @pytest.mark.parametrize("num_targets", [0, 2])
    @pytest.mark.parametrize("budget", [1, 2, 3, 7, 8, 9])
    def test_the_budget_cuts_the_path_and_changes_no_step_before(self, num_targets, budget):
        x, y = inputs(WAVES, 12)
        options = {
            "eps": 0.1,
            "num_steps": 5,
            "num_targets": num_targets,
            "stop_on_success": False,
            "seed": 0,
        }
        spies = [Recorder(WAVES), Recorder(WAVES)]
        whole = auto_pgd(spies[0], x, y, **options)
        cut = auto_pgd(spies[1], x, y, max_queries=budget, **options)
        spent = min(budget, int(whole.queries[0]))
        assert cut.queries.unique().tolist() == [spent]
        assert len(spies[1].rows) == spent
        for mine, theirs in zip(spies[1].rows, spies[0].rows, strict=False):
            assert torch.equal(mine, theirs)

    @pytest.mark.parametrize("num_targets", [0, 3])
    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_batch_size_and_order_change_nothing(self, norm, num_targets):
        x, y = inputs(WAVES, 20)
        options = {
            "eps": EPS[norm] / 4,
            "norm": norm,
            "num_steps": 8,
            "num_targets": num_targets,
            "on_failure": "last",
            "seed": 2,
        }
        whole = auto_pgd(WAVES, x, y, **options)
        assert 0 < int(whole.success.sum()) < 20
        for size in (1, 7):
            assert torch.equal(auto_pgd(WAVES, x, y, batch_size=size, **options).x_adv, whole.x_adv)
        order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
        turned = auto_pgd(WAVES, x[order], y[order], **options)
        assert torch.equal(turned.x_adv, whole.x_adv[order])
        assert torch.equal(turned.queries, whole.queries[order])

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_ball_box_and_mask_hold_at_every_iterate(self, norm):
        x, y = inputs(WAVES)
        mask = torch.zeros(12)
        mask[2:9] = 1
        spy = Recorder(WAVES)
        eps = EPS[norm]
        auto_pgd(
            spy,
            x,
            y,
            eps=eps,
            norm=norm,
            num_steps=10,
            num_targets=2,
            mask=mask,
            stop_on_success=False,
            seed=0,
        )
        for rows in spy.rows:
            delta = rows.double() - x
            length = torch.linalg.vector_norm(
                delta, ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1
            )
            assert float(length.max()) <= eps + 1e-6
            assert bool(((rows >= 0) & (rows <= 1)).all())
            assert torch.equal(rows[:, mask == 0], x[:, mask == 0])
        assert bool((spy.rows[1] != x).any(1).all())


class Steps(torch.nn.Module):
    """Scores of the digits' network in steps, with gradients of zero."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        scores = self.network(x)
        return (scores.detach() * 4).round() / 4 + 0 * scores


def test_a_search_begins_where_gradients_lead_nowhere(digits, digits_net):
    x, y = digits[0][:40], digits[1][:40]
    common = {"eps": 0.25, "loss": "margin", "num_steps": 5, "seed": 0}
    alone = auto_pgd(Steps(digits_net), x, y, **common)
    searched = auto_pgd(Steps(digits_net), x, y, search_queries=150, **common)
    assert int(searched.success.sum()) > int(alone.success.sum())
    assert torch.equal(Steps(digits_net)(searched.x_adv).argmax(1) != y, searched.success)


def test_a_search_is_charged_and_its_successes_cost_no_gradient(digits, digits_net):
    x, y = digits[0][:40], digits[1][:40]
    found = auto_pgd(digits_net, x, y, eps=0.1, num_steps=7, search_queries=30, seed=0)
    kept = ~found.success
    early = found.success & (found.queries <= 31)
    assert bool(kept.any())
    assert bool(early.any())
    assert set(found.queries[kept].tolist()) == {1 + 30 + 1 + 7}
    assert set(found.gradients[kept].tolist()) == {7}
    assert not bool(found.gradients[early].any())


def test_a_search_does_not_depend_on_other_samples(digits, digits_net):
    x, y = digits[0][:12], digits[1][:12]
    common = {"eps": 0.1, "num_steps": 4, "search_queries": 20, "seed": 0, "pad_rows": 8}
    whole = auto_pgd(digits_net, x, y, **common)
    order = torch.arange(11, -1, -1)
    turned = auto_pgd(digits_net, x[order], y[order], batch_size=5, **common)
    assert torch.equal(whole.x_adv, turned.x_adv[order])
    assert torch.equal(whole.queries, turned.queries[order])


def test_l1_has_no_search(digits, digits_net):
    x, y = digits[0][:6], digits[1][:6]
    with pytest.raises(
        ValueError, match=r"\(search_queries\) must be one of 'linf', 'l2', got 'l1'"
    ):
        auto_pgd(digits_net, x, y, search_queries=20, eps=1.0, norm="l1", num_steps=5)


@pytest.mark.parametrize("given", [{"num_targets": 3}, {"num_restarts": 2}, {"search_queries": -1}])
def test_a_search_has_one_ascent(digits, digits_net, given):
    with pytest.raises(ValueError, match="search_queries"):
        auto_pgd(
            digits_net, digits[0][:2], digits[1][:2], eps=0.1, **{"search_queries": 10, **given}
        )


def test_a_survey_gives_the_steps_to_the_nearest_target(digits, digits_net):
    x, y = digits[0][:60], digits[1][:60]
    common = {"eps": 0.12, "num_targets": 9, "num_steps": 40, "seed": 0}
    whole = auto_pgd(digits_net, x, y, **common)
    short = auto_pgd(digits_net, x, y, **{**common, "num_steps": 8})
    found = auto_pgd(digits_net, x, y, survey_steps=8, **common)
    kept = ~found.success
    assert set(found.queries[kept].tolist()) == {1 + 9 * 9 + 41}
    assert set(found.gradients[kept].tolist()) == {9 * 8 + 40}
    assert bool(found.success[short.success].all())  # it begins with the same ascents
    assert int(found.success.sum()) >= int(whole.success.sum()) - 1


def test_a_survey_of_a_linear_model_chooses_the_nearest_class():
    # leads over class 0 within the ball: at most -0.6, 0.04 and -0.36
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.9, 0.1], [0.0, -0.2]])
    x = torch.full((1, 2), 0.5)
    found = auto_pgd(
        lambda rows: rows @ weight.T,
        x,
        torch.zeros(1, dtype=torch.int64),
        eps=0.2,
        num_targets=3,
        survey_steps=3,
        num_steps=5,
        seed=0,
        stop_on_success=False,
        keep_samples=True,
    )
    assert len(found.samples) == 4
    assert bool(found.success)
    last = found.samples[-1] @ weight.T
    assert float(last[0, 2] - last[0, 0]) == pytest.approx(0.04, abs=1e-4)


@pytest.mark.parametrize("given", [{"num_targets": 0}, {"num_restarts": 2}, {"survey_steps": -1}])
def test_a_survey_has_one_long_ascent(digits, digits_net, given):
    with pytest.raises(ValueError, match="survey_steps"):
        auto_pgd(
            digits_net,
            digits[0][:2],
            digits[1][:2],
            eps=0.1,
            **{"survey_steps": 3, "num_targets": 2, **given},
        )
