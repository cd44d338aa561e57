"""ZOO: exact on quadratics, Adam of C&W with all coordinates, a slow reading step by step, and
the bill.
"""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from torch.nn import functional

from art_ext.core.attacks import zoo
from art_ext.core.attacks._zoo_descent import SOLVERS
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm
from art_ext.core.streams import fingerprint, uniform
from tests.toys import Recorder

WIDE = (-4.0, 4.0)  # a box that no attack of these tests reaches
QUIET = {"abort_early": False, "seed": 0}


def waves(features, seed=0, classes=3, dtype=torch.float64):
    """A smooth model that computes row by row, and in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, features, generator=generator).to(dtype)
    bias = torch.randn(classes, generator=generator).to(dtype)
    return lambda rows: (torch.sin(3 * rows.flatten(1).to(dtype))[:, None] * weight).sum(-1) + bias


def bowl(slope, matrix, offset):
    """Two classes; class 0 is ahead by ``offset + <slope, x> + <x, matrix x> / 2``, exactly in
    float64.
    """

    def model(rows):
        rows = rows.flatten(1).double()
        ahead = offset + rows @ slope + ((rows @ matrix) * rows).sum(1) / 2
        return torch.stack([ahead, torch.zeros_like(ahead)], dim=1)

    return model


def flat(rows):
    """A model that is sure of class 0, whatever it sees."""
    return torch.tensor([5.0, 0.0, 0.0]).expand(len(rows), 3)


def samples(count=6, features=12, seed=1):
    return torch.rand(count, features, generator=torch.Generator().manual_seed(seed))


def images(count=4, shape=(1, 8, 8), seed=1):
    return samples(count, math.prod(shape), seed).view(count, *shape)


@pytest.fixture
def iterates(monkeypatch):
    """The iterates of the next run, a list for each sample."""
    seen, visit = defaultdict(list), MinimumNorm.visit

    def spy(run, rows, *others, **options):
        for index, row in zip(run.problem.index.tolist(), rows, strict=True):
            seen[index].append(row.clone())
        return visit(run, rows, *others, **options)

    monkeypatch.setattr(MinimumNorm, "visit", spy)
    return seen


class TestQuadratic:
    """Symmetric differences of a quadratic are its derivatives, whatever h; all numbers here are
    exact in float32.
    """

    X0 = torch.tensor([[0.5, -0.25, 1.0, 0.0]])
    C, H = 0.5, 0.25

    def one_step(self, iterates, slope, matrix, step_size=1.0, solver="newton"):
        """x_1 - x_0 with all coordinates probed, and the gradient and the second derivatives of
        the objective.
        """
        zoo(
            bowl(slope, matrix, 50.0),
            self.X0,
            torch.tensor([0]),
            solver=solver,
            num_steps=2,
            search_steps=1,
            initial_const=self.C,
            step_size=step_size,
            h=self.H,
            clip_values=WIDE,
            **QUIET,
        )
        first, second = iterates[0]
        assert torch.equal(first, self.X0[0])
        gradient = self.C * (slope + matrix @ first.double())
        return (second - first).double(), gradient, self.C * matrix.diagonal() + 2

    def test_newton_lands_on_the_optimum_of_every_coordinate_in_one_iteration(self, iterates):
        """Coordinates are independent here: min c (s_i x + m_i x^2 / 2) + (x - x0_i)^2."""
        slope = torch.tensor([2.0, -1.0, 0.5, 3.0]).double()
        curve = torch.tensor([4.0, 12.0, 0.0, 1.0]).double()
        moved, _, _ = self.one_step(iterates, slope, torch.diag(curve))
        optimum = (2 * self.X0[0].double() - self.C * slope) / (self.C * curve + 2)
        torch.testing.assert_close(self.X0[0] + moved, optimum, rtol=0, atol=1e-6)

    def test_newton_divides_the_exact_gradient_by_the_exact_curvature(self, iterates):
        """Mixed terms enter the gradient alone; eta scales the step."""
        slope = torch.tensor([2.0, -1.0, 0.5, 3.0]).double()
        matrix = torch.tensor(
            [[4.0, 1, 0, 2], [1, 2, 0.5, 0], [0, 0.5, 1, 1], [2, 0, 1, 8]]
        ).double()
        moved, gradient, curvature = self.one_step(iterates, slope, matrix, step_size=0.25)
        torch.testing.assert_close(moved, -0.25 * gradient / curvature, rtol=0, atol=1e-6)

    def test_newton_divides_by_no_less_than_a_tenth(self, iterates):
        """Curvatures .02, 0, -1 and .5; where it is not positive the step is eta g."""
        slope = torch.tensor([0.02, 0.25, 0.5, 0.1]).double()
        curve = (torch.tensor([0.02, 0.0, -1.0, 0.5]).double() - 2) / self.C
        moved, gradient, _ = self.one_step(iterates, slope, torch.diag(curve), step_size=0.125)
        divisor = torch.tensor([0.1, 1.0, 1.0, 0.5]).double()
        torch.testing.assert_close(moved, -0.125 * gradient / divisor, rtol=0, atol=1e-6)

    def test_adam_newton_takes_adam_where_the_curvature_is_not_positive(self, iterates):
        """The first step of Adam is eta against the sign of the gradient."""
        slope = torch.tensor([2.0, -1.0, 0.5, 3.0]).double()
        curve = torch.tensor([4.0, -8.0, -4.0, -6.0]).double()
        moved, gradient, curvature = self.one_step(
            iterates, slope, torch.diag(curve), 0.125, "adam-newton"
        )
        assert curvature.sign().tolist() == [1, -1, 0, -1]
        wanted = torch.where(curvature > 0, -0.125 * gradient / curvature, -0.125 * gradient.sign())
        torch.testing.assert_close(moved, wanted, rtol=0, atol=1e-6)

    def test_newton_in_a_smaller_space(self, iterates):
        """Gradient D^T g, curvatures diag(D^T (c M + 2) D), for a side of 2 and images of 4 x 4."""
        bumps = functional.interpolate(
            torch.eye(4).view(4, 1, 2, 2), size=4, mode="bilinear", align_corners=False
        )
        up = bumps.view(4, 16).T.double()
        slope = torch.linspace(-1, 2, 16).double()
        matrix = torch.diag(torch.linspace(0, 3, 16).double()) + 0.25
        x = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
        zoo(
            bowl(slope, matrix, 50.0),
            x,
            torch.tensor([0]),
            solver="newton",
            resize=2,
            num_steps=2,
            search_steps=1,
            initial_const=self.C,
            step_size=1.0,
            h=self.H,
            clip_values=WIDE,
            **QUIET,
        )
        first, second = (row.double() for row in iterates[0])
        gradient = up.T @ (self.C * (slope + matrix @ first))
        curvature = (up.T @ (self.C * matrix + 2 * torch.eye(16)) @ up).diagonal()
        torch.testing.assert_close(second - first, up @ (-gradient / curvature), rtol=0, atol=1e-5)

    def test_masked_pixels_under_a_bump_do_not_count_as_distorted(self, iterates):
        """One number y for four pixels, of which three may change: min c <s, y> + 3 y^2, and
        there Newton stays.
        """
        slope, mask = torch.tensor([2.0, -1.0, 0.5, 3.0]).double(), torch.tensor([[1, 1], [1, 0]])
        zoo(
            bowl(slope, torch.zeros(4, 4).double(), 50.0),
            self.X0.view(1, 1, 2, 2),
            torch.tensor([0]),
            mask=mask,
            solver="newton",
            resize=1,
            num_steps=3,
            search_steps=1,
            initial_const=self.C,
            step_size=1.0,
            h=self.H,
            clip_values=WIDE,
            **QUIET,
        )
        first, second, third = iterates[0]
        wanted = -self.C * 1.5 / 6 * torch.tensor([1.0, 1.0, 1.0, 0.0])
        torch.testing.assert_close(second - first, wanted, rtol=0, atol=1e-6)
        torch.testing.assert_close(third, second, rtol=0, atol=1e-6)


class TestFullAdam:
    """With all coordinates probed, every iteration is a step of Adam on the objective of C&W."""

    STEPS, RATE, CONST = 6, 0.02, 3.0

    def reference(self, model, x, y, place):
        """The iterates of torch's Adam on ``||place(w) - x||^2 + c f``, from w = 0."""
        w = torch.zeros_like(place(None), requires_grad=True)
        optimiser = torch.optim.Adam([w], lr=self.RATE)
        path = []
        for _ in range(self.STEPS):
            point = place(w)
            path.append(point.detach())
            scores = model(point)
            others = scores.scatter(1, y[:, None], -math.inf).amax(1)
            hinge = (scores.gather(1, y[:, None])[:, 0] - others).clamp(min=0)
            optimiser.zero_grad()
            ((point - x).square().sum() + self.CONST * hinge.sum()).backward()
            optimiser.step()
        return torch.stack(path)

    def check_same_path(self, iterates, x, place, **options):
        model = waves(x[0].numel())
        y = model(x).argmax(1)
        wanted = self.reference(model, x.double().flatten(1), y, place)
        zoo(
            model,
            x,
            y,
            num_steps=self.STEPS,
            search_steps=1,
            initial_const=self.CONST,
            step_size=self.RATE,
            h=1e-3,
            coordinates=999,
            reset_adam=False,
            **QUIET,
            **options,
        )
        found = torch.stack([torch.stack(iterates[row]) for row in range(len(x))], dim=1)
        torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-3)
        assert float((wanted[-1] - wanted[0]).abs().amax(1).min()) > 0.03, "the path goes somewhere"

    def test_in_the_pixels(self, iterates):
        x = samples()
        self.check_same_path(
            iterates,
            x,
            lambda w: x.double() if w is None else x.double() + w,
            clip_values=(-1.0, 2.0),
        )

    def test_under_the_change_of_variable(self, iterates):
        x = 0.1 + 0.8 * samples()
        start = torch.atanh(2 * x.double() - 1)
        self.check_same_path(
            iterates,
            x,
            lambda w: start if w is None else (1 + torch.tanh(start + w)) / 2,
            use_tanh=True,
        )

    @pytest.mark.parametrize("use_tanh", [False, True])
    def test_in_a_smaller_space(self, iterates, use_tanh):
        x = 0.1 + 0.8 * images(3, (2, 6, 9))
        start = x.double().flatten(1)
        anchor = torch.atanh(2 * start - 1) if use_tanh else start

        def place(w):
            if w is None:
                return torch.zeros(3, 2 * 4 * 4, dtype=torch.float64)
            up = functional.interpolate(
                w.view(3, 2, 4, 4), size=(6, 9), mode="bilinear", align_corners=False
            )
            point = anchor + up.flatten(1)
            return (1 + torch.tanh(point)) / 2 if use_tanh else point

        box = {} if use_tanh else {"clip_values": (-1.0, 2.0)}
        self.check_same_path(iterates, x, place, resize=4, use_tanh=use_tanh, **box)


def slow_zoo(
    scores,
    x,
    y,
    *,
    solver,
    num_steps,
    search_steps,
    const,
    rate,
    draws,
    h,
    tanh,
    kappa,
    window,
    abort,
):
    """One sample (D,), as methods and paper tell it: loops over searches, iterations and
    coordinates, in float64.
    """
    size, identity, box = len(x), fingerprint(x[None]), (0.0, 1.0)
    start = [float(value) for value in x]
    anchor = [math.atanh((2 * value - 1) * 0.9999995) for value in start] if tanh else start

    def picture(z):
        moved = [a + one for a, one in zip(anchor, z, strict=True)]
        return [(1 + math.tanh(one)) / 2 for one in moved] if tanh else moved

    def hinge_of(point):
        z = scores(torch.tensor([point], dtype=torch.float64))[0]
        gap = float(z[y]) - max(float(z[k]) for k in range(len(z)) if k != y)
        return max(gap + kappa, 0.0), gap <= -kappa and int(z.argmax()) != y

    queries, block, lower, upper = 1, 0, 0.0, 1e10
    told = {"iterates": [], "const": [], "value": [], "nearest_distance": math.inf, "first": -1}
    for _ in range(search_steps):
        told["const"].append(const)
        z, m, v, t = ([0.0] * size for _ in range(4))
        won, forgotten, previous = False, False, None
        for iteration in range(num_steps):
            point = picture(z)
            hinge, met = hinge_of(point)
            queries += 1
            told["iterates"].append(point)
            distortion = sum((a - b) ** 2 for a, b in zip(point, start, strict=True))
            loss = const * hinge + distortion
            if met:
                won = True
                told["nearest_distance"] = min(told["nearest_distance"], math.sqrt(distortion))
                told["first"] = queries if told["first"] < 0 else told["first"]
            if iteration == num_steps - 1:
                break
            if iteration % window == 0:
                still = previous is not None and loss > 0.9999 * previous
                if still and (abort == "always" or (abort and not won)):
                    break
                previous = loss
            if hinge == 0 and not forgotten:
                m, v, t = ([0.0] * size for _ in range(3))
                forgotten = True
            keys = uniform(0, identity, block, (size,))[0].tolist()
            block += 1
            moves = {}
            for i in sorted(range(size), key=keys.__getitem__)[:draws]:
                ahead, back = ([*z[:i], z[i] + shift, *z[i + 1 :]] for shift in (h, -h))
                above, below = hinge_of(picture(ahead))[0], hinge_of(picture(back))[0]
                queries += 2
                inner = 1.0 if not tanh else (1 - math.tanh(anchor[i] + z[i]) ** 2) / 2
                bent = 0.0 if not tanh else -2 * math.tanh(anchor[i] + z[i]) * inner
                offset = point[i] - start[i]
                g = const * (above - below) / (2 * h) + 2 * offset * inner
                curvature = (
                    const * (above - 2 * hinge + below) / h**2 + 2 * inner**2 + 2 * offset * bent
                )
                m[i], v[i], t[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g**2, t[i] + 1
                adam = (
                    rate
                    * math.sqrt(1 - 0.999 ** t[i])
                    / (1 - 0.9 ** t[i])
                    * m[i]
                    / (math.sqrt(v[i]) + 1e-8)
                )
                newton = rate * g / (max(curvature, 0.1) if curvature > 0 else 1.0)
                moves[i] = -(
                    newton if solver == "newton" or (solver != "adam" and curvature > 0) else adam
                )
            for i, move in moves.items():
                z[i] += move
                if not tanh:
                    z[i] = min(max(start[i] + z[i], box[0]), box[1]) - start[i]
        told["value"].append(told["nearest_distance"] ** 2)
        upper, lower = (min(upper, const), lower) if won else (upper, max(lower, const))
        const = (lower + upper) / 2 if upper < 1e9 else const * 10
    return {**told, "queries": queries}


@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize(
    ("solver", "abort"), [("adam", True), *((solver, "always") for solver in SOLVERS)]
)
def test_a_slow_reading_goes_the_same_way(iterates, solver, abort, tanh):
    """Trajectories, constants, values, queries, distances; some samples abort early, some fall
    at once.
    """
    x, model = samples(6, 8), waves(8)
    y = model(x).argmax(1)
    numbers = {"num_steps": 24, "search_steps": 4, "h": 0.05}
    found = zoo(
        model,
        x,
        y,
        solver=solver,
        use_tanh=tanh,
        initial_const=0.1,
        step_size=0.05,
        coordinates=3,
        confidence=0.3,
        abort_window=2,
        abort_early=abort,
        seed=0,
        **numbers,
    )
    for row in range(len(x)):
        wanted = slow_zoo(
            model,
            x[row],
            int(y[row]),
            solver=solver,
            const=0.1,
            rate=0.05,
            draws=3,
            tanh=tanh,
            kappa=0.3,
            window=2,
            abort=abort,
            **numbers,
        )
        assert int(found.queries[row]) == wanted["queries"]
        assert int(found.queries_to_success[row]) == wanted["first"]
        torch.testing.assert_close(
            torch.stack(iterates[row]), torch.tensor(wanted["iterates"]), rtol=0, atol=2e-3
        )
        torch.testing.assert_close(found.trace["const"][:, row], torch.tensor(wanted["const"]))
        torch.testing.assert_close(
            found.trace["value"][:, row], torch.tensor(wanted["value"]), rtol=1e-2, atol=1e-3
        )
        torch.testing.assert_close(
            float(found.nearest_distance[row]), wanted["nearest_distance"], rtol=1e-2, atol=1e-3
        )
    assert bool(found.success.any())
    assert len({len(path) for path in iterates.values()}) > 1, "some have aborted"


class TestBill:
    def test_every_iteration_costs_a_look_and_its_probes(self):
        """In calls of at most batch_size rows, all samples side by side; the last iterate is not
        probed.
        """
        x, recorder = samples(6), Recorder(flat)
        found = zoo(recorder, x, num_steps=3, search_steps=2, coordinates=5, batch_size=7, **QUIET)
        probes = [7] * 8 + [4]  # 2 * 5 * 6 rows
        assert recorder.sizes == [6, *[6, *probes, 6, *probes, 6] * 2]
        assert found.queries.tolist() == [1 + 2 * (3 + 2 * 2 * 5)] * 6
        assert found.wasted_rows.tolist() == found.gradients.tolist() == [0] * 6

    def test_samples_in_different_spaces_pay_their_own_probes(self):
        """A flat sample's space grows whenever its loss stands still; the others' at times of
        their own.
        """
        x = images(3)
        x[1:, 0, 0, 0] = 0.0
        slow = waves(64)

        def model(rows):
            keep = rows[:, 0, 0, :1].double() < 0.5
            return torch.where(keep, slow(rows), flat(rows).double())

        mask = torch.ones(8, 8)
        mask[0, 0] = 0
        x[0, 0, 0, 0] = 1.0
        recorder = Recorder(model)
        found = zoo(
            recorder,
            x,
            num_steps=12,
            search_steps=1,
            resize=(2, 4),
            abort_window=3,
            mask=mask,
            seed=0,
        )
        assert found.queries[0] == 1 + 7 + 2 * (4 * 4 + 2 * 16), (
            "iterations 0 to 3, 4 and 5; aborted at the 6th"
        )
        assert sum(recorder.sizes) == int(found.queries.sum())
        assert len(found.queries.unique()) == 3

    @pytest.mark.parametrize(
        ("budget", "spent"), [(1, 1), (12, 1), (13, 13), (23, 13), (24, 24), (35, 24), (36, 36)]
    )
    def test_an_iteration_that_does_not_fit_is_not_begun(self, budget, spent):
        """Probes and the look after them cost 11, the look from which a search starts one more:
        1 + 12 + 11 + 12.
        """
        found = zoo(
            flat,
            samples(2),
            num_steps=3,
            search_steps=9,
            coordinates=5,
            max_queries=budget,
            **QUIET,
        )
        assert found.queries.tolist() == [spent] * 2

    def test_no_more_coordinates_are_probed_than_there_are(self):
        found = zoo(flat, samples(2, 7), num_steps=2, search_steps=1, **QUIET)
        assert found.queries.tolist() == [1 + 2 + 14] * 2


class TestSearch:
    def test_the_constant_grows_tenfold_while_all_fails(self):
        found = zoo(
            flat,
            samples(2),
            num_steps=2,
            search_steps=10,
            initial_const=0.01,
            coordinates=1,
            **QUIET,
        )
        wanted = torch.tensor([*(10.0**power for power in range(-2, 7)), 1e10])
        torch.testing.assert_close(found.trace["const"], wanted[:, None].expand(10, 2))
        assert bool(found.trace["value"].isinf().all())
        assert not found.success.any()

    def test_the_constant_is_halved_while_all_succeeds(self):
        """Ten searches, of which the last takes the smallest that has succeeded once more."""
        x = samples(3)
        found = zoo(
            waves(12), x, num_steps=40, search_steps=10, initial_const=1e4, step_size=0.05, seed=0
        )
        assert bool(found.success.all())
        wanted = torch.tensor([1e4 / 2**power for power in [*range(9), 8]])
        torch.testing.assert_close(found.trace["const"], wanted[:, None].expand(10, 3))

    def test_values_never_rise_over_the_searches(self):
        found = zoo(
            waves(12),
            samples(8),
            num_steps=60,
            search_steps=6,
            initial_const=0.3,
            coordinates=4,
            seed=0,
        )
        value = found.trace["value"]
        assert bool((value[1:] <= value[:-1]).all())
        assert bool(found.success.all())
        assert bool((value[-1] < value[0]).any()), "searching on pays"
        torch.testing.assert_close(value[-1], (found.x_adv - samples(8)).square().sum(1))

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_linear_model_is_fooled_near_its_boundary(self, solver):
        """The optimum is the distance of the plane; black-box descent comes within a tenth."""
        generator = torch.Generator().manual_seed(3)
        normal, x = torch.randn(10, generator=generator), samples(6, 10)
        ahead = bowl(normal.double(), torch.zeros(10, 10).double(), 0.0)
        y = ahead(x).argmax(1)
        found = zoo(
            ahead,
            x,
            y,
            solver=solver,
            num_steps=150,
            search_steps=7,
            step_size=0.03,
            coordinates=5,
            h=0.01,
            initial_const=0.1,
            clip_values=WIDE,
            seed=0,
        )
        optimum = (x @ normal).abs() / normal.norm()
        assert bool(found.success.all())
        assert bool((found.nearest_distance >= optimum - 1e-6).all())
        assert bool((found.nearest_distance <= 1.1 * optimum + 1e-3).all())

    def test_targets_are_reached(self):
        x, model = samples(5), waves(12)
        targets = (model(x).argmax(1) + 1) % 3
        settings = {
            "num_steps": 80,
            "search_steps": 4,
            "initial_const": 1.0,
            "step_size": 0.05,
            "seed": 0,
        }
        found = zoo(model, x, targets=targets, confidence=0.5, **settings)
        assert bool(found.success.all())
        gap = model(found.x_adv)
        others = gap.scatter(1, targets[:, None], -math.inf).amax(1)
        assert bool((gap.gather(1, targets[:, None])[:, 0] - others >= 0.5).all())

    def test_each_sample_is_given_up_by_itself(self, iterates):
        """One stands on a plateau; the others go on, as they do without it."""
        x = samples(4)
        x[:, 0] = torch.tensor([0.0, 1.0, 0.0, 0.0])
        slope = waves(12)

        def model(rows):
            return torch.where(rows[:, :1].double() < 0.5, slope(rows), flat(rows).double())

        mask = torch.ones(12)
        mask[0] = 0
        settings = {
            "num_steps": 20,
            "search_steps": 2,
            "initial_const": 1.0,
            "mask": mask,
            "seed": 0,
        }
        found = zoo(model, x, abort_window=2, **settings)
        assert len(iterates[1]) == 2 * 3, "two searches, each ended by the second comparison"
        others = [0, 2, 3]
        assert min(len(iterates[row]) for row in others) > 6
        alone = zoo(model, x[others], abort_window=2, **settings)
        assert torch.equal(found.x_adv[others], alone.x_adv)
        assert torch.equal(found.queries[others], alone.queries)

    def test_seeds_and_identities_decide_the_draws(self):
        x, model = samples(4), waves(12)
        settings = {
            "num_steps": 30,
            "search_steps": 2,
            "coordinates": 3,
            "initial_const": 10.0,
            "step_size": 0.1,
        }
        first, same, other = (zoo(model, x, seed=seed, **settings) for seed in (7, 7, 8))
        assert torch.equal(first.x_nearest, same.x_nearest)
        assert not torch.equal(first.x_nearest, other.x_nearest)
        assert zoo(model, x, **settings).seed != zoo(model, x, **settings).seed

        def moved(ids):
            return zoo(
                model, x[:1].repeat(2, 1), sample_ids=torch.tensor(ids), seed=7, **settings
            ).x_nearest

        assert torch.equal(*moved([5, 5]))
        assert not torch.equal(*moved([5, 6]))

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_tanh": True},
            {"resize": 4},
            {"resize": (2, 4, 7), "importance": 3, "abort_window": 3},
            {"resize": {0: 3, 4: 7}, "use_tanh": True, "importance": True},
            {"solver": "newton", "h": 0.01},
        ],
        ids=str,
    )
    def test_neighbours_order_and_batches_change_no_bit(self, options):
        x, model = images(7, (2, 7, 9)), waves(126, dtype=torch.float32)
        settings = {
            "num_steps": 25,
            "search_steps": 2,
            "initial_const": 1.0,
            "coordinates": 6,
            "seed": 0,
            **options,
        }
        whole = zoo(model, x, **settings)
        order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
        turned, alone = (
            zoo(model, x[order], batch_size=5, **settings),
            zoo(model, x[3:4], **settings),
        )
        for name in ("x_adv", "x_nearest", "nearest_distance", "queries", "queries_to_success"):
            assert torch.equal(getattr(whole, name)[order], getattr(turned, name)), name
            assert torch.equal(getattr(whole, name)[3:4], getattr(alone, name)), name
        assert bool(whole.success.any())


class TestBox:
    @pytest.mark.parametrize(
        ("options", "beyond"),
        [
            ({}, 0.05),
            ({"use_tanh": True}, 0),
            ({"resize": 3}, 0),
            ({"resize": 3, "use_tanh": True}, 0),
        ],
        ids=str,
    )
    def test_no_row_leaves_it_but_probes_of_single_pixels(self, options, beyond):
        """By h at most; iterates and what is reported never do."""
        low, high = torch.linspace(-1, 0, 60).view(2, 5, 6), torch.linspace(1, 2, 60).view(2, 5, 6)
        edge = images(3, (2, 5, 6)).round()
        if "use_tanh" in options:  # which moves nothing on the edge itself
            edge = 0.05 + 0.9 * edge
        x = torch.clamp(low + (high - low) * edge, low, high)
        recorder = Recorder(waves(60))
        found = zoo(
            recorder,
            x,
            clip_values=(low, high),
            num_steps=30,
            search_steps=2,
            h=0.05,
            step_size=0.1,
            coordinates=8,
            initial_const=5.0,
            seed=0,
            **options,
        )
        outside = torch.cat(
            [torch.maximum(low - rows, rows - high).flatten() for rows in recorder.rows]
        )
        assert float(outside.max()) <= beyond + 1e-6 * bool(beyond)
        assert (float(outside.max()) > 0) == bool(beyond)
        for images_ in (found.x_adv, found.x_nearest):
            assert bool(((images_ >= low) & (images_ <= high)).all())
        assert bool(found.success.any())

    def test_tables_are_samples_too(self):
        """A box for every column, in its own units."""
        low, high = torch.tensor([0.0, -5.0, 100.0, 0.0]), torch.tensor([1.0, 5.0, 101.0, 0.5])
        x = low + (high - low) * samples(5, 4)
        found = zoo(
            waves(4),
            x,
            clip_values=(low, high),
            use_tanh=True,
            num_steps=60,
            search_steps=3,
            step_size=0.1,
            initial_const=100.0,
            seed=0,
        )
        assert bool(found.success.any())
        assert bool(((found.x_adv >= low) & (found.x_adv <= high)).all())


class TestUntouched:
    def test_pixels_that_were_not_drawn_keep_their_bits(self):
        """Two moves of one coordinate each; the first crosses the plane."""
        x = samples(1).expand(6, -1)
        model = bowl(
            torch.full((12,), 10.0).double(),
            torch.zeros(12, 12).double(),
            1 - 10 * float(x[0].sum()),
        )
        found = zoo(
            model,
            x,
            num_steps=3,
            search_steps=1,
            coordinates=1,
            step_size=0.3,
            initial_const=1e3,
            sample_ids=torch.arange(6),
            clip_values=WIDE,
            **QUIET,
        )
        assert bool(found.success.all())
        assert (found.x_nearest != x).sum(1).tolist() == [1] * 6
        assert len((found.x_nearest != x).nonzero()[:, 1].unique()) > 1

    def test_masks_of_their_own(self):
        """Nothing, one and nine coordinates free: nobody probes a masked one, nor pays for it."""
        x, mask = samples(3), torch.zeros(3, 12)
        mask[1, 4], mask[2, 3:] = 1, 1
        recorder = Recorder(waves(12))
        found = zoo(recorder, x, mask=mask, num_steps=6, search_steps=2, coordinates=5, **QUIET)
        assert found.queries.tolist() == [1, 1 + 2 * (6 + 5 * 2), 1 + 2 * (6 + 5 * 10)]
        assert [sum(recorder.sizes), found.success[0].item()] == [int(found.queries.sum()), False]
        tight = zoo(
            waves(12),
            x,
            mask=mask,
            num_steps=6,
            search_steps=2,
            coordinates=5,
            max_queries=5,
            **QUIET,
        )
        assert tight.queries.tolist() == [1, 5, 1], "a look, two probes and a look fit in"
        rows = torch.cat(recorder.rows)
        # the first three columns never change
        of = (rows[:, None, :3] - x[:, :3]).abs().sum(2).argmin(1)
        assert torch.equal(rows[mask[of] == 0], x[of][mask[of] == 0])

    @pytest.mark.parametrize("use_tanh", [False, True])
    def test_masked_pixels_stay_under_a_scaled_bump(self, use_tanh):
        """Only bumps that reach a free pixel are drawn, and the distortion is that of the image."""
        x, mask = 0.1 + 0.8 * images(4), torch.zeros(8, 8)
        mask[:, :3] = 1
        recorder = Recorder(waves(64))
        found = zoo(
            recorder,
            x,
            mask=mask,
            resize=4,
            use_tanh=use_tanh,
            num_steps=40,
            search_steps=3,
            step_size=0.05,
            initial_const=1.0,
            **QUIET,
        )
        assert found.queries.tolist() == [1 + 3 * (40 + 39 * 2 * 4 * 2)] * 4, "two of four columns"
        rows = torch.cat(recorder.rows)
        assert bool((rows[..., 3:].unsqueeze(1) == x[..., 3:]).flatten(2).all(2).any(1).all())
        hit = found.success
        assert bool(hit.any())
        moved = (found.x_adv - x).flatten(1).square().sum(1)
        torch.testing.assert_close(found.trace["value"][-1][hit], moved[hit], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_probes_without_a_number_spoil_no_sample(self, solver):
        """The model says NaN wherever the first pixel has grown, so its slope is unknown; the
        others do.
        """
        x, slope = 0.2 + 0.6 * samples(4), waves(12)
        start = x[:, 0].max()
        x[:, 0] = start

        def model(rows):
            return slope(rows).masked_fill((rows[:, :1] > start), math.nan)

        found = zoo(
            model,
            x,
            solver=solver,
            h=0.01,
            num_steps=40,
            search_steps=3,
            initial_const=3.0,
            step_size=0.1,
            coordinates=12,
            seed=0,
        )
        assert bool(found.success.all())
        assert bool(found.x_adv.isfinite().all())
        assert bool((found.x_adv[:, 0] <= start).all())
