"""Balls of three norms: projection, linear minimisation and sampling against independent
solutions.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from art_ext.core.geometry import (
    NORMS,
    Box,
    attainable_radius,
    distances,
    linear_minimiser,
    project,
    row_norms,
    uniform_in_ball,
    unit,
)

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
IDS = torch.arange(400) * 7919 + 13


def size(delta, norm):
    """(N,) norms in float64."""
    return row_norms(delta.double(), norm)


def rows_of(generator, count, features):
    """Random rows, a third of whose entries are zero and some of whose magnitudes are equal."""
    rows = torch.randn(count, features, generator=generator)
    rows = torch.where(torch.rand(count, features, generator=generator) < 1 / 3, 0.0, rows)
    return torch.where(torch.rand(count, features, generator=generator) < 0.2, rows.sign(), rows)


vectors = st.lists(
    st.floats(-2, 2, width=32).map(lambda value: round(value, 4)), min_size=1, max_size=7
)


class TestProject:
    @given(
        values=vectors, norm=st.sampled_from(NORMS), radius=st.sampled_from([0.01, 0.3, 1.0, 2.5])
    )
    @settings(max_examples=300, deadline=None)
    def test_is_the_nearest_point(self, values, norm, radius):
        """p is nearest if <delta - p, q - p> <= 0 for all q of the ball; the dual norm gives the
        best q.
        """
        delta = torch.tensor([values])
        point = project(delta, norm, radius)
        assert float(size(point, norm)) <= radius + 1e-6
        residual = (delta - point).double()
        best = radius * float(size(residual, DUAL[norm]))
        assert best <= float((residual * point).sum()) + 1e-5

    @given(
        values=vectors, norm=st.sampled_from(NORMS), radius=st.sampled_from([0.01, 0.3, 1.0, 2.5])
    )
    @settings(max_examples=200, deadline=None)
    def test_leaves_the_ball_alone_and_is_idempotent(self, values, norm, radius):
        delta = torch.tensor([values])
        point = project(delta, norm, radius)
        torch.testing.assert_close(project(point, norm, radius), point, rtol=0, atol=1e-6)
        if float(size(delta, norm)) <= radius * (1 - 1e-6):
            assert torch.equal(point, delta), "points inside do not move by a bit"

    @pytest.mark.parametrize("norm", NORMS)
    def test_no_point_of_a_grid_is_nearer(self, norm):
        axis = torch.linspace(-1, 1, 201)
        grid = torch.cartesian_prod(axis, axis)
        grid = grid[size(grid, norm) <= 0.7]
        delta = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        point = project(delta, norm, 0.7)
        nearest = torch.cdist(delta, grid).amin(dim=1)
        assert bool(((delta - point).norm(dim=1) <= nearest + 1e-6).all())
        assert bool(((delta - point).norm(dim=1) >= nearest - 0.01).all()), (
            "the grid is fine enough to tell"
        )

    @pytest.mark.parametrize("norm", NORMS)
    def test_rows_are_projected_apart(self, norm):
        delta = rows_of(torch.Generator().manual_seed(1), 30, 9)
        apart = torch.cat([project(row, norm, 0.8) for row in delta.split(1)])
        assert torch.equal(project(delta, norm, 0.8), apart)

    def test_keeps_signs_and_order_in_l1(self):
        delta = torch.tensor([[3.0, -2.0, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0]])
        wanted = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
        assert torch.equal(project(delta, "l1", 1.0), wanted)


class TestUnit:
    @pytest.mark.parametrize("norm", NORMS)
    def test_rows_have_length_one_and_zeros_stay(self, norm):
        rows = rows_of(torch.Generator().manual_seed(2), 20, 5)
        rows[3] = 0
        scaled = unit(rows, norm)
        kept = rows.abs().amax(dim=1) > 0
        assert bool(((size(scaled, norm)[kept] - 1).abs() < 1e-6).all())
        assert torch.equal(scaled[~kept], rows[~kept])
        assert bool((scaled * rows >= 0).all())


class TestLinearMinimiser:
    @given(values=vectors, norm=st.sampled_from(NORMS), radius=st.sampled_from([0.03, 1.0, 4.0]))
    @settings(max_examples=200, deadline=None)
    def test_value_is_minus_radius_times_the_dual_norm(self, values, norm, radius):
        m = torch.tensor([values])
        delta = linear_minimiser(m, norm, radius)
        assert float(size(delta, norm)) <= radius * (1 + 1e-6)
        value = float((delta.double() * m).sum())
        assert value == pytest.approx(-radius * float(size(m, DUAL[norm])), rel=1e-5, abs=1e-9)

    def test_coordinates_without_slope_stay(self):
        m = torch.tensor([[0.0, 2.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
        for norm in NORMS:
            for room in (None, torch.ones_like(m)):
                delta = linear_minimiser(m, norm, 0.5, room)
                assert bool((delta[m == 0] == 0).all())
        assert torch.equal(linear_minimiser(m, "linf", 0.5)[0], torch.tensor([0.0, -0.5, 0.0, 0.5]))

    def test_first_of_several_equal_slopes_moves_in_l1(self):
        m = torch.tensor([[1.0, -3.0, 3.0, -3.0]])
        assert torch.equal(linear_minimiser(m, "l1", 0.5), torch.tensor([[0.0, 0.5, 0.0, 0.0]]))
        room = torch.tensor([[1.0, 0.2, 0.1, 1.0]])
        wanted = torch.tensor([[0.0, 0.2, -0.1, 0.2]])
        torch.testing.assert_close(linear_minimiser(m, "l1", 0.5, room), wanted)

    @pytest.mark.parametrize("norm", NORMS)
    def test_the_scale_of_the_slope_says_nothing(self, norm):
        generator = torch.Generator().manual_seed(3)
        m, room = rows_of(generator, 20, 8), torch.rand(20, 8, generator=generator)
        for room_or_none in (None, room):
            wanted = linear_minimiser(m, norm, 0.6, room_or_none)
            for scale in (2.0**-40, 2.0**40):
                torch.testing.assert_close(
                    linear_minimiser(scale * m, norm, 0.6, room_or_none), wanted
                )

    @pytest.mark.parametrize("norm", NORMS)
    def test_ample_room_is_no_room_at_all(self, norm):
        m = rows_of(torch.Generator().manual_seed(4), 20, 8)
        free = linear_minimiser(m, norm, 0.6)
        torch.testing.assert_close(linear_minimiser(m, norm, 0.6, torch.full_like(m, 9.0)), free)

    @pytest.mark.parametrize("norm", NORMS)
    def test_all_room_is_taken_where_the_ball_is_wide(self, norm):
        generator = torch.Generator().manual_seed(5)
        m, room = rows_of(generator, 20, 8), torch.rand(20, 8, generator=generator)
        taken = linear_minimiser(m, norm, 100.0, room)
        torch.testing.assert_close(taken, -m.sign() * room)
        none = linear_minimiser(m, norm, 1.0, torch.zeros_like(m))
        assert torch.equal(none, torch.zeros_like(m))

    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("norm", NORMS)
    def test_is_the_optimum_of_ball_and_box(self, norm, seed):
        """In L-inf and L1 by linear programming; in L2 by bisection of the multiplier of the
        ball.
        """
        generator = torch.Generator().manual_seed(seed)
        features, radius = 7, (0.05, 0.3, 0.9, 2.0)[seed % 4]
        x, m = torch.rand(6, features, generator=generator), rows_of(generator, 6, features)
        # some lie at the box's wall
        x = torch.where(torch.rand(6, features, generator=generator) < 0.2, x.round(), x)
        delta = linear_minimiser(m, norm, radius, torch.where(m > 0, x, 1 - x))
        assert bool((size(delta, norm) <= radius * (1 + 1e-6)).all())
        assert bool(((x + delta >= -1e-6) & (x + delta <= 1 + 1e-6)).all())
        values = (delta.double() * m.double()).sum(dim=1).numpy()
        for value, slope, point in zip(values, m.double().numpy(), x.double().numpy(), strict=True):
            wanted = best_value(slope, norm, radius, -point, 1 - point)
            assert value == pytest.approx(wanted, rel=1e-5, abs=1e-6)

    @pytest.mark.parametrize("seed", range(5))
    def test_l2_agrees_with_a_solver_that_knows_no_closed_form(self, seed):
        generator = np.random.default_rng(seed)
        m, x, radius = generator.normal(size=3), generator.uniform(size=3), 0.5
        found = optimize.minimize(
            lambda delta: delta @ m,
            np.zeros(3),
            jac=lambda delta: m,
            method="SLSQP",
            bounds=list(zip(-x, 1 - x, strict=True)),
            options={"ftol": 1e-9, "maxiter": 500},
            constraints={
                "type": "ineq",
                "fun": lambda delta: radius**2 - delta @ delta,
                "jac": lambda d: -2 * d,
            },
        )
        assert found.success
        room = torch.tensor(np.where(m > 0, x, 1 - x)[None])
        delta = linear_minimiser(torch.tensor(m[None]), "l2", radius, room).double().numpy()[0]
        assert delta @ m == pytest.approx(found.fun, abs=1e-6)
        assert delta == pytest.approx(found.x, abs=1e-3)

    @pytest.mark.parametrize("features", [784, 3072])
    def test_l2_with_room_at_the_size_of_images(self, features):
        generator = torch.Generator().manual_seed(features)
        m, room = (
            torch.randn(4, features, generator=generator),
            torch.rand(4, features, generator=generator) / 20,
        )
        delta = linear_minimiser(m, "l2", 0.7, room)
        assert bool(((size(delta, "l2") - 0.7).abs() < 1e-6).all()), (
            "there is room enough to use the whole radius"
        )
        saturated = delta.abs() == room
        assert bool(saturated.any(dim=1).all() & (~saturated).any(dim=1).all())
        # coordinates with room left move in proportion to m
        share = torch.where(saturated, torch.nan, delta / m)
        spread = share.nan_to_num(nan=-torch.inf).amax(dim=1) - share.nan_to_num(
            nan=torch.inf
        ).amin(dim=1)
        assert bool((spread < 1e-5).all())


def best_value(m, norm, radius, low, high):
    """The least <delta, m> over ball and box, for one row, by a solver of another kind."""
    if norm == "linf":
        bounds = list(zip(np.maximum(low, -radius), np.minimum(high, radius), strict=True))
        return optimize.linprog(m, bounds=bounds).fun
    if norm == "l1":  # delta = up - down, both nonnegative
        bounds = [(0, bound) for bound in (*high, *-low)]
        return optimize.linprog(
            np.r_[m, -m], A_ub=np.ones((1, 2 * len(m))), b_ub=[radius], bounds=bounds
        ).fun
    # the Lagrangian's minimiser is clip(-t m) with t = 1 / (2 multiplier): the longest one inside
    # the ball
    short, long = 0.0, 1e9
    for _ in range(200):
        t = (short + long) / 2
        if np.linalg.norm(np.clip(-t * m, low, high)) <= radius:
            short = t
        else:
            long = t
    return np.clip(-short * m, low, high) @ m


class TestAttainableRadius:
    BOXES = ((0, 1), (0, 255), (-1, 1), (-2.2, 2.7))

    @pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 3.0), ("l1", 12.0)])
    @pytest.mark.parametrize("clip_values", BOXES)
    def test_rounded_sums_lie_in_the_ball(self, norm, eps, clip_values):
        """Directions are those of other images, half of them white."""
        features, (low, high) = 3072, clip_values
        eps = eps * (high - low)
        box = Box.of(clip_values, torch.Size([features]), torch.device("cpu"))
        radius = attainable_radius(norm, eps, box, features)
        generator = torch.Generator().manual_seed(0)
        x, other = low + (high - low) * torch.rand(2, 64, features, generator=generator)
        other[::2] = high  # upwards everywhere
        worst = float(distances(x + project(other - x, norm, radius), x, norm).max())
        assert worst <= eps + 1e-6
        assert worst >= 0.99 * eps

    def test_eps_itself_would_be_too_far(self):
        """x and delta are chosen so that every sum is rounded up by almost half a unit in the
        last place.
        """
        features, eps = 3072, 12.0
        box = Box.of((0, 255), torch.Size([features]), torch.device("cpu"))
        ulp = 2.0**-16  # of numbers between 128 and 256
        each = (math.floor(eps / features / ulp) - 0.49) * ulp
        x = torch.full((1, features), 200.0)
        radius = attainable_radius("l1", eps, box, features)
        careless = x + torch.full_like(x, each)  # of norm <= eps, before it is rounded
        assert each * features <= eps
        assert float(distances(careless, x, "l1")) > each * features + 0.02
        scaled = x + torch.full_like(x, each * radius / eps)
        assert float(distances(scaled, x, "l1")) <= eps + 1e-6

    @pytest.mark.parametrize("norm", NORMS)
    def test_it_is_eps_less_a_little(self, norm):
        for clip_values in self.BOXES:
            box = Box.of(clip_values, torch.Size([784]), torch.device("cpu"))
            for eps in (1e-4, 0.03, 0.3, 1.0):
                radius = attainable_radius(norm, eps, box, 784)
                assert eps / 2 <= radius <= eps
        unit_box = Box.of((0, 1), torch.Size([784]), torch.device("cpu"))
        assert attainable_radius("linf", 8 / 255, unit_box, 784) == 8 / 255
        assert attainable_radius("l1", 10.0, unit_box, 784) > 10 - 784 * 1.2e-7


class TestUniformInBall:
    FEATURES = 6

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_radii_follow_the_law_of_a_uniform_ball(self, norm):
        """The norm to the power D is uniform, since a ball's volume grows with the radius to the
        power D.
        """
        points = uniform_in_ball(
            norm, 0.5, 11, IDS.repeat(5) + torch.arange(2000), 3, self.FEATURES
        ).double()
        length = torch.linalg.vector_norm(
            points, ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1
        )
        assert float(length.max()) <= 0.5 * (1 + 1e-6)
        assert stats.kstest((length / 0.5) ** self.FEATURES, "uniform").pvalue > 0.01

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_no_direction_is_preferred(self, norm):
        points = uniform_in_ball(norm, 0.5, 11, torch.arange(4000), 3, self.FEATURES).double()
        spread = points.std(dim=0)
        assert points.mean(dim=0).abs().max() < 4 * spread.max() / math.sqrt(4000)
        correlation = torch.corrcoef(points.T) - torch.eye(self.FEATURES)
        assert correlation.abs().max() < 4.5 / math.sqrt(4000)
        assert spread.max() / spread.min() < 1.1

    @pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
    def test_points_depend_on_sample_step_and_seed_only(self, norm):
        points = uniform_in_ball(norm, 1.0, 11, IDS, 3, self.FEATURES)
        reordered = uniform_in_ball(norm, 1.0, 11, IDS.flip(0), 3, self.FEATURES)
        assert torch.equal(reordered, points.flip(0))
        assert not torch.equal(uniform_in_ball(norm, 1.0, 11, IDS, 5, self.FEATURES), points)
        assert not torch.equal(uniform_in_ball(norm, 1.0, 12, IDS, 3, self.FEATURES), points)
