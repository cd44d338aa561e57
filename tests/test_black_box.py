"""The black-box Frank-Wolfe attack and NES: the estimate, the steps taken with it, and the bill."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks import frank_wolfe, frank_wolfe_black_box, nes
from art_ext.core.attacks.engine.estimation import SENSING, GradientEstimator
from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Method
from art_ext.core.attacks.engine.state import State
from art_ext.core.geometry import NORMS, project, row_norms
from art_ext.core.oracle import ScoreOracle
from tests.toys import Recorder, identity, never, samples, waves

ATTACKS = (frank_wolfe_black_box, nes)
WIDE = (-4.0, 4.0)  # a box that no ball of these tests reaches


class Watch(Method):
    """One step that estimates the gradient at the inputs, and stays there."""

    num_steps = 1
    needs_gradient = False

    def __init__(self, rounds, settings):
        self.rounds, self.estimator = rounds, GradientEstimator(**settings)
        self.queries_per_step = rounds * self.estimator.cost

    def init(self, problem, trajectory):
        return State(problem.x)

    def step(self, problem, state, answers, t):
        self.found = [self.estimator(problem, state.x, number) for number in range(self.rounds)]
        return state


def estimates_at(model, x, *, rounds=1, settings, **options):
    """The gradient estimates at x, and the result of the one step."""
    watch = Watch(rounds, settings)
    driver = FixedRadius(
        model, x, None, eps=0.1, norm="linf", oracle=ScoreOracle, seed=0, **options
    )
    result = driver.run(watch)
    return watch.found, result


def estimates(model, x, *, loss, rounds=1, mask=None, **settings):
    """The gradient estimates at x, and the sensing vectors (rounds, N, b, D) as the model's rows
    betray them.
    """
    recorder = Recorder(model)
    options = {"loss": loss, "criterion": never, "mask": mask, "clip_values": WIDE}
    found, result = estimates_at(
        recorder, x, rounds=rounds, settings=settings, batch_size=1 << 20, **options
    )
    shape = (2, len(x), settings["num_directions"], -1)
    probes = [(rows.view(shape) - x[:, None]) / settings["delta"] for rows in recorder.rows[1:-1]]
    assert all(torch.allclose(ahead, -back, atol=1e-3) for ahead, back in probes), (
        "the probes come in opposite pairs"
    )
    asked = (
        1 + 2 * rounds * settings["num_directions"] + 1
    )  # the clean check, the probes, the check
    assert result.queries.tolist() == [asked] * len(x)
    return found, torch.stack([ahead for ahead, _ in probes])


class TestEstimate:
    A = torch.tensor([0.5, -2.0, 0.0, 1.0, 0.25, -1.0, 3.0, 0.1])

    def slope(self, outputs, index):
        return (outputs * self.A).sum(dim=1)

    @pytest.mark.parametrize("sensing", SENSING)
    def test_a_linear_loss_is_estimated_without_bias(self, sensing):
        """A coordinate's variance is (||a||^2 + a_i^2) / b with Gaussian directions, and less on
        the sphere.
        """
        x = samples(6, 8)
        errors = {}
        for count in (25, 10_000):
            found, _ = estimates(
                identity, x, loss=self.slope, num_directions=count, delta=0.1, sensing=sensing
            )
            error = found[0][0] - self.A
            deviation = ((self.A.square().sum() + self.A.square()) / count).sqrt()
            assert bool((error.abs() <= 4.5 * deviation).all())
            errors[count] = float(error.square().mean().sqrt())
        assert 10 < errors[25] / errors[10_000] < 40, (
            "the error falls with the root of b, here by 20"
        )

    @pytest.mark.parametrize("sensing", SENSING)
    def test_is_algorithm_3_for_the_directions_drawn(self, sensing):
        """With even parts of the loss cancelled by the pairs: q = 1/b sum_i u_i u_i^T grad f,
        here grad f = a + 2 x.
        """
        x = samples(5, 8)
        loss = lambda outputs, index: self.slope(outputs, index) + outputs.square().sum(dim=1)  # noqa: E731
        (found,), u = estimates(
            identity, x, loss=loss, num_directions=7, delta=0.1, sensing=sensing
        )
        slope = self.A + 2 * x
        wanted = torch.einsum("nbd,nbe,ne->nd", u[0], u[0], slope) / 7
        torch.testing.assert_close(found[0], wanted, rtol=1e-3, atol=1e-3)
        mean = loss(x, None) + 0.01 * u[0].square().sum(dim=2).mean(dim=1)
        torch.testing.assert_close(found[1], mean, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("sensing", SENSING)
    def test_second_moment_of_the_directions_is_the_identity(self, sensing):
        _, u = estimates(
            identity,
            samples(4, 8),
            loss=self.slope,
            num_directions=5000,
            delta=0.5,
            sensing=sensing,
        )
        rows = u.reshape(-1, 8).double()
        moment = rows.T @ rows / len(rows)
        # entries of u u^T have a variance of 2 on the diagonal and 1 off it, or less on the sphere
        assert float((moment - torch.eye(8)).abs().max()) < 4.5 * math.sqrt(2 / len(rows))
        assert float(rows.mean(dim=0).abs().max()) < 4.5 / math.sqrt(len(rows))

    def test_directions_on_the_sphere_are_as_long_as_the_root_of_their_number(self):
        settings = {"loss": self.slope, "num_directions": 50, "delta": 0.5}
        _, u = estimates(identity, samples(4, 8), sensing="sphere", **settings)
        torch.testing.assert_close(
            u.norm(dim=3), torch.full((1, 4, 50), math.sqrt(8)), rtol=1e-5, atol=0
        )
        # coordinates that each sample may probe
        mask = torch.arange(8) < torch.tensor([[1], [3], [8], [0]])
        _, u = estimates(identity, samples(4, 8), sensing="sphere", mask=mask, **settings)
        wanted = mask.sum(dim=1).sqrt()[None, :, None].expand(1, 4, 50)
        torch.testing.assert_close(u.norm(dim=3), wanted, rtol=1e-5, atol=0)
        assert bool((u.abs().amax(dim=(0, 2))[~mask] == 0).all())
        _, u = estimates(identity, samples(4, 8), sensing="gaussian", **settings)
        assert float(u.norm(dim=3).std()) > 0.3, "Gaussian directions have no fixed length"

    def test_rounds_and_samples_have_directions_of_their_own(self):
        _, u = estimates(
            identity,
            samples(4, 8),
            loss=self.slope,
            rounds=3,
            num_directions=6,
            delta=0.5,
            sensing="gaussian",
        )
        vectors = u.reshape(-1, 8)
        distances = torch.cdist(vectors, vectors) + 9 * torch.eye(len(vectors))
        assert float(distances.min()) > 0.2

    @pytest.mark.parametrize("sensing", SENSING)
    def test_neighbours_and_batches_say_nothing(self, sensing):
        model, x, found = waves(12), samples(), []
        for part, batch_size in ((slice(0, 8), 256), (slice(0, 8), 3), (slice(3, 4), 256)):
            settings = {"num_directions": 5, "delta": 0.01, "sensing": sensing}
            found += estimates_at(model, x[part], settings=settings, batch_size=batch_size)[0]
        (whole, means), *others = found
        for (slopes, averages), part in zip(others, (slice(0, 8), slice(3, 4)), strict=True):
            assert torch.equal(slopes, whole[part])
            assert torch.equal(averages, means[part])


class Exact:
    """The gradient itself in the place of its estimate, at no cost."""

    cost = 0

    def __init__(self, **settings):
        pass

    def __call__(self, problem, rows, t):
        model = problem.oracle.model.model  # past the recorder
        with torch.enable_grad():
            leaf = rows.clone().requires_grad_()
            gains = problem.gain(model(leaf), problem.index)
            (slope,) = torch.autograd.grad(gains.sum(), leaf)
        return problem.masked(slope), gains.detach()


def replace_estimator(monkeypatch, attack, estimator):
    module = importlib.import_module(f"art_ext.core.attacks.{attack.__name__}")
    monkeypatch.setattr(module, "GradientEstimator", estimator)


class TestStepsOfFrankWolfe:
    @pytest.mark.parametrize("norm", NORMS)
    @pytest.mark.parametrize(
        "options",
        [
            {"schedule": "plateau"},
            {"schedule": "constant", "momentum_init": "gradient", "box": "vertex"},
            {"schedule": "inverse_sqrt", "targeted": True, "loss": "margin"},
            {"schedule": "plateau", "mask": torch.arange(12) % 4 != 0},
        ],
    )
    def test_with_the_exact_gradient_it_is_the_white_box_attack(self, monkeypatch, norm, options):
        replace_estimator(monkeypatch, frank_wolfe_black_box, Exact)
        x, y, rows = samples(), torch.zeros(8, dtype=torch.int64), []
        options = {"eps": 0.4, "norm": norm, "step_fraction": 0.6, "momentum": 0.8, **options}
        for attack, steps in (
            (frank_wolfe, {"num_steps": 20}),
            (frank_wolfe_black_box, {"max_queries": 21}),
        ):
            recorder = Recorder(waves(12))
            result = attack(recorder, x, y, criterion=never, on_failure="last", **options, **steps)
            assert bool((result.queries == 21).all())
            rows.append(recorder.rows)
        assert len(rows[0]) == len(rows[1]) == 21
        assert all(torch.equal(white, black) for white, black in zip(*rows, strict=True))

    def test_the_plateau_begins_where_the_loss_of_the_iterates_is_flat(self, monkeypatch):
        """gamma until f falls by less than 0.1 % over five iterates from x_1 on, then gamma /
        sqrt(3), / sqrt(4).
        """
        t = torch.arange(20.0)
        losses = torch.stack(
            [
                2 - t / 100,  # falls for ever
                torch.full_like(t, 2),  # flat at once: the fifth iterate tells
                torch.where(t < 10, 2 - t / 100, 1.91),  # flat from t = 9 on, which t = 13 tells
                torch.where(t < 6, 2.0, 2 - t / 100),  # flat at first only: there is no way back
                -2 + t / 100,  # rises; a negative loss, as those of untargeted attacks are
                -2 - t / 10_000,  # falls, but by less than a thousandth
            ],
            dim=1,
        )
        starts = [math.inf, 5, 13, 5, 5, 5]

        class Upwards(Exact):
            def __call__(self, problem, rows, t):
                return torch.ones_like(rows), rows[:, 0]

        replace_estimator(monkeypatch, frank_wolfe_black_box, Upwards)
        recorder, x, scripted = Recorder(identity), samples(6, 4), iter(-losses)
        frank_wolfe_black_box(
            recorder,
            x,
            eps=1.0,
            step_fraction=0.1,
            schedule="plateau",
            max_queries=20,
            criterion=never,
            clip_values=WIDE,
            loss=lambda outputs, index: next(scripted),
        )
        # of the way to the vertex
        rest = torch.stack([(x + 1 - rows).mean(dim=1) for rows in recorder.rows])
        rates = 1 - rest[1:] / rest[:-1]
        for column, start in enumerate(starts):
            wanted = [
                0.1 if step < start else 0.1 / math.sqrt(3 + step - start) for step in range(19)
            ]
            assert rates[:, column].tolist() == pytest.approx(wanted, abs=1e-4)

    @pytest.mark.parametrize("sensing", SENSING)
    @pytest.mark.parametrize("norm", NORMS)
    def test_iterates_obey_the_bound_of_convex_steps(self, norm, sensing):
        x, y, gamma = samples(), torch.zeros(8, dtype=torch.int64), 0.3
        eps = {"linf": 0.2, "l2": 0.6, "l1": 0.9}[norm]
        for steps in (1, 4, 9):
            result = frank_wolfe_black_box(
                waves(12),
                x,
                y,
                eps=eps,
                norm=norm,
                step_fraction=gamma,
                num_directions=5,
                sensing=sensing,
                schedule="constant",
                max_queries=1 + 11 * steps,
                criterion=never,
                on_failure="last",
                seed=0,
            )
            assert (
                float(row_norms((result.x_adv - x).double(), norm).max())
                <= eps * (1 - (1 - gamma) ** steps) + 1e-6
            )
            assert bool(((result.x_adv >= 0) & (result.x_adv <= 1)).all())

    def test_many_directions_take_the_white_box_step(self):
        """In L2, where the step follows the direction of the estimate continuously."""
        x, y, steps = samples(), torch.zeros(8, dtype=torch.int64), 3
        options = {
            "eps": 0.5,
            "norm": "l2",
            "criterion": never,
            "on_failure": "last",
            "schedule": "constant",
        }
        white = frank_wolfe(waves(12), x, y, num_steps=steps, momentum=0.5, **options)
        away = []
        for count in (20, 2000):
            budget = 1 + steps * (2 * count + 1)
            black = frank_wolfe_black_box(
                waves(12),
                x,
                y,
                num_directions=count,
                delta=1e-3,
                max_queries=budget,
                momentum=0.5,
                seed=0,
                **options,
            )
            away.append(float((black.x_adv - white.x_adv).norm(dim=1).mean()))
        assert away[1] < 0.05
        assert away[0] > 4 * away[1]


class TestStepsOfNES:
    @pytest.mark.parametrize("norm", NORMS)
    def test_step_by_step(self, monkeypatch, norm):
        """m_t = mu m + (1 - mu) q; x_{t+1} = P(x_t + alpha_t m_t / ||m_t||), sgn(m_t) in L-inf;
        alpha halved.
        """
        replace_estimator(monkeypatch, nes, Exact)
        model, x, y = waves(12), samples(), torch.zeros(8, dtype=torch.int64)
        eps, alpha, steps = {"linf": 0.2, "l2": 0.5, "l1": 1.0}[norm], 0.15, 25
        recorder = Recorder(model)
        nes(
            recorder,
            x,
            y,
            eps=eps,
            norm=norm,
            step_size=alpha,
            momentum=0.7,
            max_queries=steps + 1,
            criterion=never,
        )
        assert len(recorder.rows) == steps + 1
        point, m = x, torch.zeros_like(x)
        sizes, windows = torch.full((8, 1), alpha), [[] for _ in range(8)]
        for asked in recorder.rows[1:]:
            leaf = point.clone().requires_grad_()
            gains = functional.cross_entropy(model(leaf), y, reduction="none")
            m = 0.7 * m + 0.3 * torch.autograd.grad(gains.sum(), leaf)[0]
            for row, gain in enumerate(gains.tolist()):
                windows[row] = [*windows[row], gain][-5:]
                if len(windows[row]) == 5 and gain < windows[row][0]:
                    windows[row], sizes[row] = [], max(sizes[row] / 2, alpha / 200)
            length = row_norms(m, norm)[:, None]
            moved = (point + sizes * (m.sign() if norm == "linf" else m / length)).clamp(0, 1)
            point = (x + project(moved - x, norm, eps)).clamp(0, 1)
            torch.testing.assert_close(asked, point, rtol=0, atol=1e-5)
        assert len(sizes.unique()) > 1, "some have halved their step, and not all alike"

    def test_the_step_is_halved_after_five_flat_iterations_down_to_a_200th(self, monkeypatch):
        class Falling(Exact):
            calls = 0

            def __call__(self, problem, rows, t):
                self.calls += 1
                # the second sample loses ground all the time
                gains = torch.tensor([1.0, -1.0]) * self.calls
                return torch.ones_like(rows), gains

        replace_estimator(monkeypatch, nes, Falling)
        recorder, x = Recorder(identity), torch.zeros(2, 4)
        x[:, 0] = 0.5
        nes(recorder, x, eps=7.0, step_size=0.04, max_queries=51, criterion=never, clip_values=WIDE)
        steps = [
            (after - before).mean(dim=1)
            for before, after in zip(recorder.rows, recorder.rows[1:], strict=False)
        ]
        steady, halved = torch.stack(steps).T.tolist()
        assert steady == pytest.approx([0.04] * 50, abs=1e-6)
        wanted = [0.04 * max(0.5 ** ((step + 1) // 5), 1 / 200) for step in range(50)]
        assert halved == pytest.approx(wanted, abs=1e-6)
        assert wanted[-1] == 0.04 / 200 < wanted[34]

    @pytest.mark.parametrize("norm", NORMS)
    def test_every_iterate_lies_in_ball_and_box(self, norm):
        x, y, eps = (
            samples(),
            torch.zeros(8, dtype=torch.int64),
            {"linf": 0.1, "l2": 0.3, "l1": 0.5}[norm],
        )
        x[:4] = x[:4].round()
        recorder = Recorder(waves(12))
        nes(
            recorder,
            x,
            y,
            eps=eps,
            norm=norm,
            step_size=0.2,
            num_directions=4,
            max_queries=82,
            batch_size=64,
            criterion=never,
            seed=0,
        )
        # the clean check, then the 64 probes and the 8 iterates in turn
        checks = recorder.rows[::2]
        assert len(checks) == 10
        for asked in checks:
            assert float(row_norms((asked - x).double(), norm).max()) <= eps + 1e-6
            assert bool(((asked >= 0) & (asked <= 1)).all())
        assert float(row_norms((checks[-1] - x).double(), norm).max()) > 0.9 * eps


@pytest.mark.parametrize("attack", ATTACKS)
class TestLedger:
    @pytest.mark.parametrize("limit", [1, 2, 21, 22, 23, 43, 99, 400])
    def test_queries_are_1_plus_k_times_2b_plus_1(self, attack, limit):
        model, x = waves(12), samples(30)
        y = model(x).argmax(dim=1)
        y[:4] = (y[:4] + 1) % 3  # wrong from the start
        recorder = Recorder(model)
        result = attack(
            recorder, x, y, eps=0.05, num_directions=10, max_queries=limit, batch_size=50, seed=0
        )
        assert sum(map(len, recorder.rows)) == int(result.queries.sum())
        assert bool((result.queries <= limit).all())
        assert bool(((result.queries - 1) % 21 == 0).all())
        assert torch.equal(result.already_adversarial, torch.arange(30) < 4)
        assert bool((result.queries[:4] == 1).all())
        assert bool((result.queries[~result.success] == 1 + 21 * ((limit - 1) // 21)).all())
        hit = result.success
        assert torch.equal(result.queries_to_success[hit], result.queries[hit])
        assert bool((result.gradients == 0).all() & (result.wasted_rows == 0).all())
        assert bool((model(result.x_adv[hit]).argmax(dim=1) != y[hit]).all())
        assert bool((result.x_adv[~hit] == x[~hit]).all())
        if limit == 400:
            assert bool(hit[4:].any() & ~hit.all()), "the test shows both outcomes"

    def test_without_stopping_the_whole_budget_is_spent(self, attack):
        model, x = waves(12), samples(30)
        y = model(x).argmax(dim=1)
        options = {"eps": 0.08, "num_directions": 5, "max_queries": 100, "seed": 0}
        result = attack(model, x, y, stop_on_success=False, **options)
        assert bool((result.queries == 1 + 9 * 11).all())
        stopped = attack(model, x, y, **options)
        assert torch.equal(result.success, stopped.success)
        assert torch.equal(result.queries_to_success, stopped.queries_to_success)
        assert 0 < int(stopped.success.sum()) < 30

    @pytest.mark.parametrize("norm", NORMS)
    def test_side_by_side_is_one_by_one(self, attack, norm):
        model, x = waves(12), samples(20)
        y = model(x).argmax(dim=1)
        eps = {"linf": 0.15, "l2": 0.4, "l1": 0.8}[norm]
        options = {
            "eps": eps,
            "norm": norm,
            "num_directions": 6,
            "max_queries": 150,
            "seed": 0,
            "on_failure": "last",
            **(
                {"step_fraction": 0.3}
                if attack is frank_wolfe_black_box
                else {"step_size": eps / 6}
            ),
        }
        together = [
            attack(model, x, y, batch_size=batch_size, **options) for batch_size in (256, 40, 5)
        ]
        order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
        shuffled = attack(model, x[order], y[order], **options)
        for other in together[1:]:
            assert torch.equal(other.x_adv, together[0].x_adv)
            assert torch.equal(other.queries, together[0].queries)
        assert torch.equal(shuffled.x_adv, together[0].x_adv[order])
        assert torch.equal(shuffled.queries, together[0].queries[order])
        for row in range(0, 20, 4):
            alone = attack(model, x[row : row + 1], y[row : row + 1], batch_size=7, **options)
            assert torch.equal(alone.x_adv[0], together[0].x_adv[row])
            assert torch.equal(alone.queries[0], together[0].queries[row])
        assert len(together[0].queries.unique()) > 2, "they leave at different times"

    @pytest.mark.parametrize("sensing", SENSING)
    def test_masked_coordinates_are_never_probed(self, attack, sensing):
        mask, x = torch.arange(12) % 3 != 0, samples()
        x[:, ~mask] = 0.375
        recorder = Recorder(waves(12))
        result = attack(
            recorder,
            x,
            eps=0.3,
            mask=mask,
            sensing=sensing,
            num_directions=5,
            max_queries=60,
            criterion=never,
            on_failure="last",
            seed=0,
        )
        for rows in recorder.rows:
            assert bool((rows[:, ~mask] == 0.375).all())
        assert bool((result.x_adv != x)[:, mask].any(dim=1).all())

    def test_every_sample_has_a_mask_of_its_own(self, attack):
        x = samples(4)
        mask = torch.rand(4, 12, generator=torch.Generator().manual_seed(2)) < 0.5
        mask[3] = False
        options = {
            "eps": 0.3,
            "num_directions": 5,
            "max_queries": 60,
            "criterion": never,
            "on_failure": "last",
        }
        together = attack(waves(12), x, mask=mask, seed=0, **options)
        for row in range(4):
            one = slice(row, row + 1)
            alone = attack(waves(12), x[one], mask=mask[one], seed=0, **options)
            assert torch.equal(alone.x_adv[0], together.x_adv[row])
        assert torch.equal(together.x_adv[~mask], x[~mask])
        assert torch.equal(together.x_adv[3], x[3])

    def test_no_gradient_is_ever_asked(self, attack):
        """A model in numpy, which autograd cannot see into."""
        weight = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
        asked = []

        def model(rows):
            asked.append(rows.requires_grad or torch.is_grad_enabled())
            return torch.from_numpy(np.sin(3 * rows.numpy()) @ weight)

        x = samples(30)
        result = attack(model, x, eps=0.2, num_directions=10, max_queries=400, seed=0)
        assert int(result.success.sum()) > 0
        assert torch.equal(
            result.success, model(result.x_adv).argmax(dim=1) != model(x).argmax(dim=1)
        )
        assert bool((result.gradients == 0).all())
        assert not any(asked[:-2])

    @pytest.mark.parametrize("loss", ["ce", "margin"])
    @pytest.mark.parametrize("targeted", [False, True])
    def test_real_digits_are_fooled(self, attack, digits, digits_net, loss, targeted):
        x, y = digits[0][:12], digits[1][:12]
        label = (y + 1) % 10 if targeted else y
        result = attack(
            digits_net,
            x,
            label,
            eps=0.4,
            targeted=targeted,
            loss=loss,
            **({"step_fraction": 0.3} if attack is not nes else {"step_size": 0.05}),
            max_queries=2000,
            seed=0,
        )
        assert float(result.success.double().mean()) >= 0.9
        answer = digits_net(result.x_adv).argmax(dim=1)
        assert torch.equal(result.success, (answer == label) if targeted else (answer != label))
        assert bool((result.distance[result.success] <= 0.4 + 1e-6).all())

    def test_the_seed_repeats_a_run(self, attack):
        options = {
            "eps": 0.2,
            "num_directions": 5,
            "max_queries": 60,
            "criterion": never,
            "on_failure": "last",
        }
        first = attack(waves(12), samples(), **options)
        again = attack(waves(12), samples(), seed=first.seed, **options)
        other = attack(waves(12), samples(), seed=first.seed + 1, **options)
        assert torch.equal(first.x_adv, again.x_adv)
        assert not torch.equal(first.x_adv, other.x_adv)

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"eps": 0}, "eps must be > 0, got 0"),
            ({"eps": None}, "eps must be a number, got"),
            ({"norm": "l0"}, "norm must be one of 'linf', 'l2', 'l1', got 'l0'"),
            ({"num_directions": 0}, "num_directions must be an integer >= 1, got 0"),
            ({"num_directions": 2.5}, "num_directions must be an integer >= 1, got 2.5"),
            ({"delta": 0}, "delta must be > 0, got 0"),
            ({"delta": None}, "delta must be a number, got None"),
            ({"sensing": "basis"}, "sensing must be one of 'gaussian', 'sphere', got 'basis'"),
            ({"max_queries": None}, "max_queries must be an integer >= 1, got None"),
            ({"max_queries": 0}, "max_queries must be an integer >= 1, got 0"),
            ({"momentum": 1}, r"momentum must lie in \[0, 1\), got 1"),
            ({"momentum": math.nan}, r"momentum must lie in \[0, 1\), got nan"),
            ({"length": -1}, "(step_size|step_fraction) must .* got -1"),
            ({"length": None}, "(step_size|step_fraction) must be a number, got None"),
            ({"outputs": "labels"}, "this attack needs scores"),
            ({"targeted": True}, "a targeted attack needs the classes to reach"),
            ({"seed": 0.5}, "seed must be an integer"),
        ],
    )
    def test_bad_arguments_are_refused_by_name(self, attack, keywords, message):
        length = "step_fraction" if attack is frank_wolfe_black_box else "step_size"
        keywords = {length if key == "length" else key: value for key, value in keywords.items()}
        with pytest.raises(ValueError, match=message):
            attack(waves(12), samples(), **{"eps": 0.1, **keywords})

    def test_models_without_scores_are_refused(self, attack):
        def one_hot(rows):
            return functional.one_hot(waves(12)(rows).argmax(dim=1), 3).float()

        with pytest.raises(
            ValueError,
            match="one-hot rows, which carry no score: use a hard-label attack such as opt, rays",
        ):
            attack(one_hot, samples(), eps=0.1)


def test_settings_of_the_step_are_refused_by_name():
    for keywords, message in (
        ({"schedule": "cosine"}, "schedule must be one of"),
        ({"momentum_init": 0}, "momentum_init must be one of 'zero', 'gradient', got 0"),
        ({"box": "ball"}, "box must be one of 'clip', 'vertex', got 'ball'"),
        ({"step_fraction": 2}, r"step_fraction must lie in \(0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            frank_wolfe_black_box(waves(12), samples(), eps=0.1, **keywords)


class TestTrace:
    def test_gap_and_loss_of_the_estimated_gradient(self):
        """On a linear loss the estimate along many directions comes near the slope, and the gap
        near its dual norm.
        """
        direction = torch.linspace(-1.0, 1.0, 16)

        def model(rows):
            return torch.stack([-(rows * direction).sum(1), (rows * direction).sum(1)], dim=1)

        x, y = torch.full((6, 16), 0.5), torch.zeros(6, dtype=torch.int64)
        result = frank_wolfe_black_box(
            model,
            x,
            y,
            eps=0.1,
            loss="margin",
            step_fraction=0.5,
            momentum=0.0,
            num_directions=400,
            schedule="constant",
            max_queries=1 + 3 * 801,
            criterion=never,
            on_failure="last",
            seed=0,
        )
        gap, loss = result.trace["gap"], result.trace["loss"]
        assert gap.shape == loss.shape == (3, 6)
        slope = 2 * direction.abs().sum()
        wanted = torch.tensor([0.1, 0.05, 0.025])[:, None] * slope
        torch.testing.assert_close(gap, wanted.expand(3, 6), rtol=0.15, atol=0)
        torch.testing.assert_close(loss[0], -2 * (x * direction).sum(1), rtol=0, atol=1e-5)
        assert bool((loss[1:] < loss[:-1]).all()), "f falls"

    def test_samples_that_leave_are_nan_from_then_on(self, digits, digits_net):
        x, y = digits
        result = frank_wolfe_black_box(
            digits_net, x, y, eps=0.2, num_directions=5, max_queries=200, seed=0
        )
        steps = ((result.queries - 1) // 11).clamp(min=0)
        assert result.trace["gap"].shape == result.trace["loss"].shape == (18, 40)
        for name in ("gap", "loss"):
            assert torch.equal((~result.trace[name].isnan()).sum(0), steps)
        assert bool((result.trace["gap"][~result.trace["gap"].isnan()] >= -1e-6).all())
