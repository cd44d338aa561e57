"""The Frank-Wolfe white-box attack against closed forms, its theorem, and a plain reading of
Algorithm 1.
"""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from scipy import optimize
from torch.nn import functional

from art_ext.core.attacks import frank_wolfe
from art_ext.core.attacks.engine.plateau import Plateau
from art_ext.core.geometry import NORMS, project, row_norms, uniform_in_ball
from tests.toys import Recorder, identity, never, samples, waves

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
WIDE = (-4.0, 4.0)  # a box that no ball of these tests reaches


def linear(direction):
    """Two classes, scores -<a, x> and <a, x>: to leave class 0 or to reach class 1 is to ascend
    <a, x>.
    """
    return lambda rows: torch.stack(
        [-(rows.flatten(1) * direction).sum(1), (rows.flatten(1) * direction).sum(1)], 1
    )


def size(delta, norm):
    return row_norms(delta.double(), norm)


def iterates(model, x, y=None, **keywords):
    """x_0 to x_T as the model saw them, and the result; nobody succeeds, so nobody leaves."""
    recorder = Recorder(model)
    result = frank_wolfe(recorder, x, y, criterion=never, on_failure="last", seed=0, **keywords)
    assert torch.equal(recorder.rows[0], x)
    assert torch.equal(recorder.rows[-1], result.x_adv)
    return recorder.rows, result


class TestFGSM:
    @pytest.mark.parametrize("targeted", [False, True])
    @pytest.mark.parametrize("box", ["clip", "vertex"])
    def test_one_full_step_is_fgsm(self, digits, digits_net, targeted, box):
        x, y = digits
        label = (y + 1) % 10 if targeted else y
        leaf = x.clone().requires_grad_()
        functional.cross_entropy(digits_net(leaf), label, reduction="sum").backward()
        wanted = (x + (-1 if targeted else 1) * 0.1 * leaf.grad.sign()).clamp(0, 1)
        result = frank_wolfe(
            digits_net,
            x,
            label,
            eps=0.1,
            step_fraction=1.0,
            num_steps=1,
            targeted=targeted,
            box=box,
            on_failure="last",
        )
        live = ~result.already_adversarial
        torch.testing.assert_close(
            result.x_adv[live], wanted[live], rtol=0, atol=0 if box == "clip" else 1e-7
        )
        assert torch.equal(result.x_adv[~live], x[~live])
        answer = digits_net(wanted).argmax(dim=1)
        assert torch.equal(
            result.success[live], ((answer == label) if targeted else (answer != label))[live]
        )
        assert 0 < int(result.success[live].sum()) < int(live.sum()), "the test shows both outcomes"

    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_momentum_says_nothing_in_the_first_step(self, momentum):
        x, y = samples(), torch.zeros(8, dtype=torch.int64)
        rows, _ = iterates(waves(12), x, y, eps=0.1, momentum=momentum, num_steps=1)
        plain, _ = iterates(waves(12), x, y, eps=0.1, momentum=0.0, num_steps=1)
        assert torch.equal(rows[1], plain[1])


class TestStaysInTheBall:
    @pytest.mark.parametrize("targeted", [False, True])
    @pytest.mark.parametrize("box", ["clip", "vertex"])
    @pytest.mark.parametrize("norm", NORMS)
    def test_every_row_asked_obeys_the_bound_of_convex_steps(self, norm, box, targeted):
        """||x_t - x|| <= eps (1 - (1 - gamma)^t), which a projection would not give."""
        x, y, gamma, eps = (
            samples(),
            torch.zeros(8, dtype=torch.int64),
            0.3,
            {"linf": 0.2, "l2": 0.6, "l1": 0.9}[norm],
        )
        rows, result = iterates(
            waves(12),
            x,
            y,
            eps=eps,
            norm=norm,
            step_fraction=gamma,
            num_steps=15,
            box=box,
            targeted=targeted,
        )
        assert len(rows) == 16
        for t, asked in enumerate(rows):
            assert float(size(asked - x, norm).max()) <= eps * (1 - (1 - gamma) ** t) + 1e-6
            assert bool(((asked >= 0) & (asked <= 1)).all())
        assert not bool(result.success.any())

    def test_the_authors_untargeted_step_would_not(self):
        """Their x_{t+1} = x_t - gamma (v_t - x_t), v_t = x - eps sgn(m_t), without the
        projection that follows it.
        """
        model, x, y, gamma, eps = waves(12), samples(), torch.zeros(8, dtype=torch.int64), 0.3, 0.2
        point, m = x, torch.zeros_like(x)
        for t in range(1, 16):
            leaf = point.clone().requires_grad_()
            functional.cross_entropy(model(leaf), y, reduction="sum").backward()
            m = 0.9 * m + 0.1 * leaf.grad
            point = point - gamma * (x - eps * m.sign() - point)
            if t > 1:
                assert float(size(point - x, "linf").max()) > eps * (1 - (1 - gamma) ** t) + 1e-3
        assert float(size(point - x, "linf").max()) > 2 * eps, "it has left the ball itself too"


class TestLinearModel:
    """Minimising a linear function over a ball: one vertex, and the iterates walk straight to
    it.
    """

    A = torch.tensor([0.5, -2.0, 0.0, 1.0, 0.25, -1.0])

    def vertex(self, norm, eps):
        if norm == "linf":
            return eps * self.A.sign()
        if norm == "l2":
            return eps * self.A / self.A.norm()
        return eps * torch.tensor([0.0, -1.0, 0.0, 0.0, 0.0, 0.0])

    @pytest.mark.parametrize("loss", ["ce", "margin", lambda outputs, index: outputs[:, 1]])
    @pytest.mark.parametrize("targeted", [False, True])
    @pytest.mark.parametrize("norm", NORMS)
    def test_iterates_are_those_of_the_closed_form(self, norm, targeted, loss):
        x, eps, gamma = samples(5, 6, low=-1), 0.5, 0.4
        label = torch.full((5,), int(targeted))
        rows, _ = iterates(
            linear(self.A),
            x,
            label,
            eps=eps,
            norm=norm,
            step_fraction=gamma,
            num_steps=6,
            targeted=targeted,
            loss=loss,
            clip_values=WIDE,
        )
        for t, asked in enumerate(rows):
            wanted = x + (1 - (1 - gamma) ** t) * self.vertex(norm, eps)
            torch.testing.assert_close(asked, wanted, rtol=0, atol=1e-5)
            rise = ((asked - x) * self.A).sum(dim=1)
            best = eps * float(size(self.A[None], DUAL[norm])) * (1 - (1 - gamma) ** t)
            torch.testing.assert_close(rise, torch.full((5,), best), rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("norm", NORMS)
    def test_success_is_where_the_ball_reaches_the_boundary(self, norm):
        """The distance to the plane <a, x> = 0 is |<a, x>| / ||a||_dual; one full step decides."""
        x = samples(200, 6, low=-1)
        slope = float(size(self.A[None], DUAL[norm]))
        away = -(x.double() @ self.A.double()) / slope  # > 0 for class 0
        x, away = x[away > 0], away[away > 0]
        eps = float(away.median()) + 1e-3
        y = torch.zeros(len(x), dtype=torch.int64)
        result = frank_wolfe(
            linear(self.A),
            x,
            y,
            eps=eps,
            norm=norm,
            step_fraction=1.0,
            num_steps=1,
            clip_values=WIDE,
        )
        clear = (away - eps).abs() > 1e-4
        assert torch.equal(result.success[clear], (away < eps)[clear])
        assert bool(result.success.any() & ~result.success.all())

    @pytest.mark.parametrize("norm", NORMS)
    def test_vertex_box_is_the_optimum_of_ball_and_box(self, norm):
        eps = {"linf": 0.3, "l2": 0.6, "l1": 0.8}[norm]
        x = samples(6, 6)
        x[:3] = x[:3].round()  # at the walls of the box
        y = torch.zeros(6, dtype=torch.int64)
        options = {"eps": eps, "norm": norm, "step_fraction": 1.0, "num_steps": 1}
        rise = ((iterates(linear(self.A), x, y, box="vertex", **options)[0][1] - x) * self.A).sum(
            dim=1
        )
        for number in range(6):
            if norm != "l2":
                best = linear_programme(
                    self.A.numpy(), norm, eps, -x[number].numpy(), 1 - x[number].numpy()
                )
                assert float(rise[number]) == pytest.approx(best, abs=1e-5)
            tries = uniform_in_ball(norm, eps, 0, torch.arange(3000), 0, 6)
            tries = (x[number] + tries).clamp(0, 1) - x[number]
            assert float((tries @ self.A).max()) <= float(rise[number]) + 1e-5
        clipped = ((iterates(linear(self.A), x, y, box="clip", **options)[0][1] - x) * self.A).sum(
            dim=1
        )
        assert bool((clipped <= rise + 1e-5).all())
        if norm != "linf":  # there the clipped vertex is the vertex of the intersection
            assert float((rise - clipped).max()) > 0.1
        else:
            torch.testing.assert_close(clipped, rise)

    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    @pytest.mark.parametrize("norm", NORMS)
    def test_the_gap_shrinks_by_the_step(self, norm, momentum):
        rows, result = iterates(
            linear(self.A),
            samples(5, 6, low=-1),
            torch.zeros(5, dtype=torch.int64),
            eps=0.5,
            norm=norm,
            step_fraction=0.4,
            momentum=momentum,
            num_steps=6,
            clip_values=WIDE,
            loss=lambda outputs, index: outputs[:, 1],
        )
        first = 0.5 * float(size(self.A[None], DUAL[norm]))
        wanted = first * 0.6 ** torch.arange(6.0)
        torch.testing.assert_close(
            result.trace["gap"], wanted[:, None].expand(6, 5), rtol=1e-4, atol=1e-5
        )
        losses = torch.stack([-(asked * self.A).sum(dim=1) for asked in rows[:-1]])
        torch.testing.assert_close(result.trace["loss"], losses)


def linear_programme(slope, norm, eps, low, high):
    """The greatest <a, delta> over ball and box."""
    if norm == "linf":
        bounds = list(zip(np.maximum(low, -eps), np.minimum(high, eps), strict=True))
        return -optimize.linprog(-slope, bounds=bounds).fun
    bounds = [(0, bound) for bound in (*high, *-low)]
    costs, ones = np.r_[-slope, slope], np.ones((1, 2 * len(slope)))
    return -optimize.linprog(costs, A_ub=ones, b_ub=[eps], bounds=bounds).fun


class TestGap:
    @pytest.mark.parametrize("norm", NORMS)
    def test_is_the_formula_of_the_ball(self, norm):
        """max <x' - x_t, -g> over the ball is <x_t - x, g> + eps ||g||_dual, g the gradient of f
        = -J at x_t.
        """
        model, x, y, eps = waves(12), samples(), torch.zeros(8, dtype=torch.int64), 0.2
        rows, result = iterates(model, x, y, eps=eps, norm=norm, num_steps=8, clip_values=WIDE)
        for t, asked in enumerate(rows[:-1]):
            leaf = asked.clone().requires_grad_()
            losses = -functional.cross_entropy(model(leaf), y, reduction="none")
            (slope,) = torch.autograd.grad(losses.sum(), leaf)
            wanted = ((asked - x) * slope).sum(dim=1).double() + eps * size(slope, DUAL[norm])
            torch.testing.assert_close(
                result.trace["gap"][t].double(), wanted, rtol=1e-4, atol=1e-4
            )
            torch.testing.assert_close(result.trace["loss"][t], losses)

    @pytest.mark.parametrize("box", ["clip", "vertex"])
    @pytest.mark.parametrize("norm", NORMS)
    def test_is_never_negative_and_bounds_every_fall(self, norm, box):
        """No point of X lies further down the slope than the gap; with box="vertex" X is within
        the box.
        """
        model, x, y, eps = waves(12), samples(), torch.zeros(8, dtype=torch.int64), 0.4
        x[:4] = x[:4].round()
        rows, result = iterates(model, x, y, eps=eps, norm=norm, num_steps=10, box=box)
        gap = result.trace["gap"]
        assert float(gap.min()) >= -1e-5
        tries = torch.cat(
            [uniform_in_ball(norm, eps, 0, torch.arange(500), 0, 12), torch.zeros(1, 12)]
        )
        points = x[:, None] + tries
        points = points.clamp(0, 1) if box == "vertex" else points
        for t in (0, 4, 9):
            leaf = rows[t].clone().requires_grad_()
            (slope,) = torch.autograd.grad(
                -functional.cross_entropy(model(leaf), y, reduction="sum"), leaf
            )
            fall = ((rows[t][:, None] - points) * slope[:, None]).sum(dim=2).amax(dim=1)
            assert bool((fall <= gap[t] + 1e-5).all())

    def test_vertex_box_has_the_smaller_gap(self):
        x, y = samples().round(), torch.zeros(8, dtype=torch.int64)
        gaps = [
            iterates(waves(12), x, y, eps=0.4, num_steps=1, box=box)[1].trace["gap"][0]
            for box in ("clip", "vertex")
        ]
        assert bool((gaps[1] < gaps[0] - 0.01).all())

    @pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
    @pytest.mark.parametrize("norm", NORMS)
    def test_theorem_2_4_4(self, norm, beta):
        """min over 1 <= k <= T of the gap is at most sqrt(2 C L D^2 (f(x_0) - f*) / T) at the
        theorem's step size.

        f = ||x - c||^2 / 2 has L = 1, and its optimum over a ball around x_0 is the projection of
        c. T = 60 is enough for every step size to be a share of the way.
        """
        x, centre, eps, steps = (
            samples(6, 10, low=-1),
            samples(6, 10, seed=2, low=-2, high=2),
            0.5,
            60,
        )
        diameter = 2 * eps * (math.sqrt(10) if norm == "linf" else 1)
        best = 0.5 * (x + project(centre - x, norm, eps) - centre).square().sum(dim=1)
        for row in range(6):
            above = float(0.5 * (x[row] - centre[row]).square().sum() - best[row])
            constant = (1 + beta) / (1 - beta) * diameter**2
            gamma = math.sqrt(2 * above / (constant * steps))
            assert gamma <= 1
            _, result = iterates(
                identity,
                x[row : row + 1],
                eps=eps,
                norm=norm,
                step_fraction=gamma,
                momentum=beta,
                momentum_init="gradient",
                num_steps=steps + 1,
                clip_values=WIDE,
                loss=lambda outputs, index, row=row: (
                    -0.5 * (outputs - centre[row]).square().sum(dim=1)
                ),
            )
            gap = result.trace["gap"][:, 0]
            assert float(gap[1:].min()) <= math.sqrt(2 * constant * above / steps)
            assert float(gap[1:].min()) < 0.5 * float(gap[0])

    def test_vanishes_at_the_optimum_only(self):
        x, centre = samples(6, 10, low=-1), samples(6, 10, low=-1) + 0.1
        options = {"eps": 0.5, "clip_values": WIDE, "momentum": 0.0}

        def trace(start, steps, gamma, target):
            loss = lambda outputs, index: -0.5 * (outputs - target).square().sum(dim=1)  # noqa: E731
            return iterates(
                identity, start, num_steps=steps, step_fraction=gamma, loss=loss, **options
            )[1].trace["gap"]

        assert bool((trace(centre, 2, 0.5, centre)[0] == 0).all()), "f is stationary there"
        walk = trace(x, 400, 0.01, centre)  # the optimum lies within the ball
        assert float((walk[-1] / walk[0]).max()) < 0.05
        corner = trace(x, 2, 1.0, x + 3)  # the optimum is the corner that one full step reaches
        assert float(corner[1].max()) < 1e-5
        assert float(corner[0].min()) > 1

    def test_is_nan_where_a_sample_had_left(self, digits, digits_net):
        x, y = digits
        result = frank_wolfe(digits_net, x, y, eps=0.2, step_fraction=0.3, num_steps=10)
        done = result.trace["gap"].isnan()
        assert torch.equal(done, result.trace["loss"].isnan())
        assert result.trace["gap"].shape == (10, 40)
        assert torch.equal((~done).sum(dim=0), result.gradients)


def walk(model, x, y, norm, eps, beta, init, rates):
    """Algorithm 1 as printed, for untargeted attacks; rates(t, losses so far) is gamma_t, a
    number or (N, 1).
    """
    point, m, rows, losses = x, None, [x], []
    while True:
        leaf = point.clone().requires_grad_()
        values = -functional.cross_entropy(model(leaf), y, reduction="none")
        (slope,) = torch.autograd.grad(values.sum(), leaf)
        losses.append(values.detach())
        m = (
            beta * ((torch.zeros_like(x) if init == "zero" else slope) if m is None else m)
            + (1 - beta) * slope
        )
        if norm == "linf":
            vertex = x - eps * m.sign()
        elif norm == "l2":
            vertex = x - eps * m / m.norm(dim=1, keepdim=True)
        else:
            best = functional.one_hot(m.abs().argmax(dim=1), x.shape[1])
            vertex = x - eps * m.sign() * best
        gamma = rates(len(rows) - 1, losses)
        if gamma is None:
            return rows
        point = (point + gamma * (vertex - point)).clamp(0, 1)
        rows.append(point)


def plateau_rates(losses, gamma):
    """gamma, until f falls by less than 0.1 % over five iterates from x_1 on; then gamma /
    sqrt(3), / sqrt(4), ...
    """
    window, since, rates = [], None, [gamma]
    for t, loss in enumerate(losses[1:], start=1):
        window = [*window, loss][-5:]
        if len(window) == 5 and window[0] - window[-1] < 1e-3 * abs(window[0]):
            window, since = [], t if since is None else since
        rates.append(gamma if since is None else gamma / math.sqrt(3 + t - since))
    return rates


class TestAlgorithm:
    STEPS = 14

    @pytest.mark.parametrize("init", ["zero", "gradient"])
    @pytest.mark.parametrize("norm", NORMS)
    def test_step_by_step(self, norm, init):
        model, x, y, eps = waves(12), samples(), torch.zeros(8, dtype=torch.int64), 0.4
        rows, _ = iterates(
            model,
            x,
            y,
            eps=eps,
            norm=norm,
            step_fraction=0.3,
            momentum=0.8,
            momentum_init=init,
            num_steps=self.STEPS,
        )
        wanted = walk(
            model, x, y, norm, eps, 0.8, init, lambda t, losses: 0.3 if t < self.STEPS else None
        )
        assert len(rows) == len(wanted)
        for asked, point in zip(rows, wanted, strict=True):
            torch.testing.assert_close(asked, point, rtol=0, atol=1e-5)

    def test_the_two_beginnings_differ(self):
        x, y = samples(), torch.zeros(8, dtype=torch.int64)
        ends = [
            iterates(
                waves(12), x, y, eps=0.4, momentum=0.9, momentum_init=init, num_steps=self.STEPS
            )[0]
            for init in ("zero", "gradient")
        ]
        # under the sign the first step is the same
        torch.testing.assert_close(ends[0][1], ends[1][1])
        assert float((ends[0][-1] - ends[1][-1]).abs().max()) > 0.1

    def test_inverse_sqrt_divides_by_the_root_of_the_steps(self):
        model, x, y = waves(12), samples(), torch.zeros(8, dtype=torch.int64)
        rows, _ = iterates(
            model, x, y, eps=0.4, step_fraction=0.9, schedule="inverse_sqrt", num_steps=9
        )
        wanted = walk(
            model, x, y, "linf", 0.4, 0.9, "zero", lambda t, losses: 0.3 if t < 9 else None
        )
        for asked, point in zip(rows, wanted, strict=True):
            torch.testing.assert_close(asked, point, rtol=0, atol=1e-5)

    def test_plateau_slows_each_sample_at_its_own_time(self):
        model, x, y, steps = waves(12), samples(), torch.zeros(8, dtype=torch.int64), 30
        rows, _ = iterates(
            model, x, y, eps=0.4, step_fraction=0.8, schedule="plateau", num_steps=steps
        )
        starts = []

        def rates(t, losses):
            if t == steps:
                return None
            columns = torch.stack(losses).T.tolist()
            every = [plateau_rates(column, 0.8) for column in columns]
            if t == steps - 1:
                starts.extend(sum(rate == 0.8 for rate in column) for column in every)
            return torch.tensor([column[-1] for column in every])[:, None]

        wanted = walk(model, x, y, "linf", 0.4, 0.9, "zero", rates)
        for asked, point in zip(rows, wanted, strict=True):
            torch.testing.assert_close(asked, point, rtol=0, atol=1e-5)
        assert len(set(starts)) > 1, "the losses become flat at different times"
        assert min(starts) < steps

    def test_plateau_watches_five_values(self):
        generator = torch.Generator().manual_seed(0)
        losses = (
            2 - torch.rand(60, 50, generator=generator).cumsum(dim=0) * 2e-3 * torch.arange(50) / 50
        )
        plateau, flat = Plateau.empty(losses.T), []
        for row in losses:
            plateau, now = plateau.enter(row)
            flat.append(now)
        for column in range(50):
            window = []
            for t in range(60):
                window = [*window, losses[t, column]][-5:]
                wanted = len(window) == 5 and bool(window[0] - window[-1] < 1e-3 * window[0].abs())
                assert bool(flat[t][column]) == wanted
                window = [] if wanted else window
        share = float(torch.stack(flat).double().mean())
        assert 0 < share < 0.2, "some are flat, at most every fifth time"


class TestLedger:
    @pytest.mark.parametrize("stop", [True, False])
    def test_gradients_are_iterations_and_queries_one_more(self, digits, digits_net, stop):
        x, y = digits
        y = torch.where(torch.arange(40) < 5, (y + 1) % 10, y)  # wrong from the start
        recorder = Recorder(digits_net)
        result = frank_wolfe(
            recorder, x, y, eps=0.15, step_fraction=0.3, num_steps=8, stop_on_success=stop
        )
        assert sum(map(len, recorder.rows)) == int(result.queries.sum())
        assert torch.equal(result.queries, 1 + result.gradients)
        wrong = result.already_adversarial
        assert int(wrong.sum()) >= 5
        assert bool((result.gradients[wrong] == 0).all() & (result.distance[wrong] == 0).all())
        assert bool((result.queries_to_success[wrong] == 1).all())
        assert torch.equal(result.x_adv[wrong], x[wrong])
        hit = result.success & ~wrong
        assert bool(hit.any())
        assert bool((~result.success).any())
        spent = result.queries_to_success if stop else torch.full_like(result.queries, 9)
        assert torch.equal(result.queries[hit], spent[hit])
        assert bool((result.queries[~result.success] == 9).all())
        assert bool((result.queries_to_success[hit] <= result.queries[hit]).all())

    def test_budget_cuts_the_iterations(self):
        x, y = samples(), torch.zeros(8, dtype=torch.int64)
        for limit in (1, 2, 5):
            rows, result = iterates(waves(12), x, y, eps=0.2, max_queries=limit)
            assert bool((result.queries == limit).all())
            assert bool((result.gradients == limit - 1).all())
            assert len(rows) == limit

    def test_samples_that_succeeded_are_frozen(self):
        model, x = waves(12), samples(40)
        y = model(x).argmax(dim=1)
        recorder = Recorder(model)
        long = frank_wolfe(recorder, x, y, eps=0.25, step_fraction=0.2, num_steps=12)
        left = long.queries_to_success.where(long.success, torch.tensor(99))
        for call, rows in enumerate(recorder.rows):
            assert len(rows) == int((left > call).sum()), "who has succeeded is not asked again"
        assert len(left.unique()) > 3, "they succeed at different times"
        for steps in (1, 3, 6):
            short = frank_wolfe(model, x, y, eps=0.25, step_fraction=0.2, num_steps=steps)
            done = short.success
            assert torch.equal(done, left <= steps + 1)
            assert torch.equal(short.x_adv[done], long.x_adv[done])

    def test_without_stopping_the_last_success_is_reported(self):
        """Iterates succeed by a script here, and later ones of the same sample fail again."""
        x, answers = samples(4), iter([0b0000, 0b0001, 0b0111, 0b0001, 0b0010, 0b0000])
        recorder = Recorder(waves(12))

        def criterion(outputs, index):
            return torch.tensor(next(answers)) >> index & 1 == 1

        result = frank_wolfe(
            recorder,
            x,
            eps=0.25,
            step_fraction=0.2,
            num_steps=5,
            stop_on_success=False,
            criterion=criterion,
        )
        assert result.success.tolist() == [True, True, True, False]
        assert result.queries_to_success.tolist() == [2, 3, 3, -1]
        for row, last in enumerate((3, 4, 2, 0)):
            assert torch.equal(result.x_adv[row], recorder.rows[last][row])
        assert bool((result.queries == 6).all())

    @pytest.mark.parametrize("batch_size", [1, 3, 256])
    def test_neighbours_and_batches_say_nothing(self, batch_size):
        model, x = waves(12), samples(20)
        y = model(x).argmax(dim=1)
        for norm in NORMS:
            options = {
                "eps": 0.3,
                "norm": norm,
                "num_steps": 8,
                "schedule": "plateau",
                "box": "vertex",
            }
            together = frank_wolfe(model, x, y, batch_size=batch_size, **options)
            for row in (0, 7, 19):
                alone = frank_wolfe(model, x[row : row + 1], y[row : row + 1], **options)
                assert torch.equal(alone.x_adv[0], together.x_adv[row])
                assert torch.equal(alone.queries[0], together.queries[row])

    def test_masked_coordinates_stay(self):
        x, y = samples(), torch.zeros(8, dtype=torch.int64)
        mask = torch.arange(12) % 3 != 0
        for norm in NORMS:
            for box in ("clip", "vertex"):
                rows, _ = iterates(
                    waves(12), x, y, eps=0.3, norm=norm, mask=mask, box=box, num_steps=5
                )
                for asked in rows:
                    assert torch.equal(asked[:, ~mask], x[:, ~mask])
                assert bool((rows[-1] != x).any(dim=1).all())

    def test_nothing_to_do(self):
        empty = frank_wolfe(waves(12), torch.empty(0, 12), eps=0.1)
        assert len(empty) == 0
        x = samples()
        met = frank_wolfe(waves(12), x, (waves(12)(x).argmax(dim=1) + 1) % 3, eps=0.1)
        assert bool(
            met.already_adversarial.all() & (met.queries == 1).all() & (met.gradients == 0).all()
        )


class TestLosses:
    def test_margin_is_the_best_other_class_above_the_own(self):
        model, x = waves(12), samples()
        y = model(x).argmax(dim=1)
        rows, result = iterates(model, x, y, eps=0.2, loss="margin", num_steps=4)
        for t, asked in enumerate(rows[:-1]):
            scores = model(asked)
            own = scores.gather(1, y[:, None]).squeeze(1)
            other = scores.masked_fill(functional.one_hot(y, 3).bool(), -math.inf).amax(dim=1)
            torch.testing.assert_close(result.trace["loss"][t], own - other)

    def test_targeted_margin_ends_where_the_target_wins(self):
        model, x = waves(12), samples(30)
        targets = (model(x).argmax(dim=1) + 1) % 3
        result = frank_wolfe(model, x, targets=targets, eps=0.3, loss="margin", num_steps=15)
        assert torch.equal(result.success, model(result.x_adv).argmax(dim=1) == targets)
        assert float(result.success.double().mean()) > 0.5
        scores = model(x)
        own = scores.gather(1, targets[:, None]).squeeze(1)
        torch.testing.assert_close(result.trace["loss"][0], scores.amax(dim=1) - own)

    def test_targets_and_targeted_labels_are_one(self):
        model, x = waves(12), samples()
        targets = (model(x).argmax(dim=1) + 1) % 3
        one = frank_wolfe(model, x, targets=targets, eps=0.3)
        other = frank_wolfe(model, x, targets, eps=0.3, targeted=True)
        assert torch.equal(one.x_adv, other.x_adv)

    def test_a_missing_label_is_the_models_own_answer(self):
        model, x = waves(12), samples(30)
        one, other = (frank_wolfe(model, x, y, eps=0.2) for y in (None, model(x).argmax(dim=1)))
        assert torch.equal(one.x_adv, other.x_adv)
        assert torch.equal(one.queries, other.queries)
        assert not bool(one.already_adversarial.any())

    def test_a_callable_loss_and_criterion_stand_for_an_embedding(self):
        """Inner product with a wanted embedding, and a success once it passes a threshold."""
        x, wanted = samples(), samples(seed=3)
        seen = []

        def loss(outputs, index):
            seen.append(index)
            return (outputs * wanted[index]).sum(dim=1)

        def criterion(outputs, index):
            return (outputs * wanted[index]).sum(dim=1) > (x[index] * wanted[index]).sum(
                dim=1
            ) + 0.3

        result = frank_wolfe(
            identity, x, eps=0.2, loss=loss, criterion=criterion, num_steps=5, batch_size=3
        )
        rise = ((result.x_adv - x) * wanted).sum(dim=1)
        assert bool(result.success.all() & (rise > 0.3).all())
        assert torch.equal(torch.cat(seen[:3]), torch.arange(8))

    @pytest.mark.parametrize("loss", ["ce", "margin"])
    def test_probabilities_are_read_as_their_logarithms(self, digits, digits_net, loss):
        x, y = digits
        one = frank_wolfe(
            lambda rows: digits_net(rows).softmax(dim=1),
            x,
            y,
            eps=0.1,
            loss=loss,
            outputs="probabilities",
        )
        tiny = torch.finfo(torch.float32).tiny
        other = frank_wolfe(
            lambda rows: digits_net(rows).softmax(dim=1).clamp(min=tiny).log(),
            x,
            y,
            eps=0.1,
            loss=loss,
        )
        assert torch.equal(one.x_adv, other.x_adv)
        assert torch.equal(one.queries, other.queries)
        assert int((one.success & ~one.already_adversarial).sum()) > 5

    def test_targets_that_are_met_already_are_warned_of(self, caplog):
        model, x = waves(12), samples()
        with caplog.at_level(logging.WARNING, logger="art_ext"):
            result = frank_wolfe(model, x, targets=model(x).argmax(dim=1), eps=0.1)
        assert "are they the true labels by mistake?" in caplog.text
        assert bool(result.already_adversarial.all())
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="art_ext"):
            frank_wolfe(model, x, targets=(model(x).argmax(dim=1) + 1) % 3, eps=0.1)
        assert not caplog.text


class TestBadInput:
    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"eps": -0.1}, r"eps must be > 0, got -0\.1"),
            ({"eps": "0.1"}, r"eps must be a number, got '0\.1'"),
            ({"eps": None}, "eps must be a number, got None"),
            ({"eps": 8.0}, "eps must not exceed the box width 1 for norm='linf', got 8.0"),
            ({"norm": "l3"}, "norm must be one of 'linf', 'l2', 'l1', got 'l3'"),
            (
                {"step_fraction": 0},
                r"step_fraction must lie in \(0, 1\], of the way to the vertex, got 0",
            ),
            ({"step_fraction": 1.5}, r"step_fraction must lie in \(0, 1\].*got 1\.5"),
            ({"step_fraction": "half"}, "step_fraction must be a number, got 'half'"),
            ({"step_fraction": math.nan}, "step_fraction must lie in .* got nan"),
            ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1\.0"),
            ({"momentum": -0.1}, r"momentum must lie in \[0, 1\), got -0\.1"),
            ({"momentum": None}, "momentum must be a number, got None"),
            ({"num_steps": 0}, "num_steps must be an integer >= 1, got 0"),
            ({"num_steps": 2.5}, "num_steps must be an integer >= 1, got 2.5"),
            (
                {"schedule": "cosine"},
                "schedule must be one of 'constant', 'inverse_sqrt', 'plateau', got 'cosine'",
            ),
            (
                {"momentum_init": "grad"},
                "momentum_init must be one of 'zero', 'gradient', got 'grad'",
            ),
            ({"box": "none"}, "box must be one of 'clip', 'vertex', got 'none'"),
            ({"loss": "dlrs"}, "loss must be one of .* callable, got 'dlrs' .did you mean 'dlr'"),
            (
                {"loss": lambda outputs, index: outputs.sum()},
                "loss must return one value for each of 8 rows",
            ),
            ({"outputs": "labels"}, "needs scores"),
            ({"on_failure": "best"}, "on_failure must be one of 'input', 'last', got 'best'"),
            ({"max_queries": 0}, "max_queries must be an integer >= 1, got 0"),
            ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
            ({"targeted": True}, "a targeted attack needs the classes to reach"),
            (
                {"targets": torch.full((8,), 3)},
                "targets must hold class indices below 3, the model's width, got 3",
            ),
            (
                {"y": torch.full((8,), 3)},
                "y must hold class indices below 3, the model's width, got 3",
            ),
            ({"y": torch.zeros(7, dtype=torch.int64)}, r"y must have shape \(8,\)"),
            ({"mask": torch.ones(5)}, "mask must broadcast to x's shape"),
            (
                {"sample_ids": torch.zeros(3, dtype=torch.int64)},
                r"sample_ids must have shape \(8,\)",
            ),
        ],
    )
    def test_is_refused_by_name(self, keywords, message):
        with pytest.raises(ValueError, match=message):
            frank_wolfe(waves(12), samples(), **{"eps": 0.1, **keywords})

    def test_inputs_outside_the_box_are_refused(self):
        with pytest.raises(
            ValueError, match=r"x must lie in \[0, 1\]; got min=.*max=254.*clip_values"
        ):
            frank_wolfe(waves(12), torch.full((2, 12), 254.0), eps=0.1)
        with pytest.raises(TypeError, match=r"x must be floating point.*/ 255"):
            frank_wolfe(waves(12), torch.ones(2, 12, dtype=torch.uint8), eps=0.1)

    def test_models_without_gradients_are_refused(self):
        with pytest.raises(
            ValueError, match="output does not depend on the input through autograd"
        ):
            frank_wolfe(lambda rows: waves(12)(rows).detach(), samples(), eps=0.1)

    def test_nan_for_a_clean_input_is_named(self):
        x = samples()
        with pytest.raises(ValueError, match="NaN for the clean input, first in sample 3"):
            frank_wolfe(
                lambda rows: waves(12)(rows) + torch.where((rows == x[3])[:, :1], torch.nan, 0),
                x,
                eps=0.1,
            )


class TestStart:
    """``x_init``: another x_0 than the input, at the price of a query."""

    def test_iterates_are_those_of_the_algorithm_from_there(self, digits):
        x, y = digits[0][:5], torch.zeros(5, dtype=torch.int64)
        start = (x + 0.05).clamp(0, 1)
        direction = torch.linspace(-1.0, 1.0, 64)
        recorder = Recorder(linear(direction))
        result = frank_wolfe(
            recorder,
            x,
            y,
            eps=0.2,
            x_init=start,
            step_fraction=0.25,
            momentum=0.0,
            num_steps=3,
            criterion=never,
            on_failure="last",
        )
        assert torch.equal(recorder.rows[0], x)
        torch.testing.assert_close(recorder.rows[1], start, rtol=0, atol=1e-7)
        wanted = start
        for rows in recorder.rows[2:]:
            wanted = (wanted + 0.25 * (x + 0.2 * direction.sign().view(1, 8, 8) - wanted)).clamp(
                0, 1
            )
            torch.testing.assert_close(rows, wanted, rtol=0, atol=1e-6)
        assert len(recorder.rows) == 5
        assert result.queries.tolist() == [5] * 5
        assert result.gradients.tolist() == [3] * 5

    def test_the_input_itself_gives_the_run_without_it(self, digits, digits_net):
        x, y = digits
        plain = frank_wolfe(digits_net, x, y, eps=0.05)
        same = frank_wolfe(digits_net, x, y, eps=0.05, x_init=x)
        assert torch.equal(plain.x_adv, same.x_adv)
        attacked = ~plain.already_adversarial
        assert torch.equal(same.queries, plain.queries + attacked)
        assert torch.equal(same.gradients, plain.gradients)

    def test_a_start_that_succeeds_ends_the_sample(self, digits, digits_net):
        x, y = digits
        found = frank_wolfe(digits_net, x, y, eps=0.3)
        again = frank_wolfe(digits_net, x, y, eps=0.3, x_init=found.x_adv)
        won = found.success & ~found.already_adversarial
        assert int(won.sum()) > 10
        assert (
            again.queries[won].unique().tolist()
            == again.queries_to_success[won].unique().tolist()
            == [2]
        )
        assert again.gradients[won].unique().tolist() == [0]

    @pytest.mark.parametrize(("budget", "queries"), [(1, 1), (2, 2), (3, 3)])
    def test_the_budget_binds(self, digits, budget, queries):
        x, y = digits[0][:3], torch.zeros(3, dtype=torch.int64)
        result = frank_wolfe(
            linear(torch.linspace(-1.0, 1.0, 64)),
            x,
            y,
            eps=0.2,
            x_init=x,
            max_queries=budget,
            criterion=never,
        )
        assert result.queries.tolist() == [queries] * 3

    def test_masked_coordinates_take_the_values_of_x(self, digits, digits_net):
        x, y = digits[0][:6], digits[1][:6]
        mask = torch.zeros(1, 8, 8)
        mask[:, :4] = 1
        result = frank_wolfe(
            digits_net, x, y, eps=0.2, x_init=(x + 0.1).clamp(0, 1), mask=mask, on_failure="last"
        )
        assert torch.equal(result.x_adv[:, :, 4:], x[:, :, 4:])
        assert not torch.equal(result.x_adv[:, :, :4], x[:, :, :4])

    def test_bad_starts_are_refused(self, digits, digits_net):
        x, y = digits[0][:4], digits[1][:4]
        far = x.clone()
        far[2] = 1 - far[2]
        for bad, message in (
            (x[:2], r"x_init must be a tensor of x's shape \(4, 1, 8, 8\), got"),
            (x + 2, "x_init must lie in"),
            (
                far,
                "x_init must lie within eps=0.1 of x in linf, got 1 in sample 2: project it first",
            ),
        ):
            with pytest.raises(ValueError, match=message):
                frank_wolfe(digits_net, x, y, eps=0.1, x_init=bad)
