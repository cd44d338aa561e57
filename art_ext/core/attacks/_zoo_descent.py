"""The iterations of ZOO: which coordinates are probed, and the step along them."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.attacks._zoo_spaces import DescentState, Schedule, Spaces
from art_ext.core.attacks.engine.adam import BETA1, BETA2, adam_step
from art_ext.core.attacks.engine.attack_space import Coordinates
from art_ext.core.attacks.engine.constant_search import ConstantSearch
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm
from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import keep
from art_ext.core.attacks.engine.tanh_space import TanhSpace
from art_ext.core.streams import uniform

SOLVERS = ("adam", "newton", "adam-newton")
LEAST_CURVATURE = 0.1  # Newton divides by no less
UNIFORM_SHARE = 0.01  # of the draws under importance sampling: no coordinate is out of reach


class Distortion:
    """``||D(y)||_2^2``, or the squared distance of the images under the change of variable.

    No query is needed for its derivatives.
    """

    def __init__(self, tanh: TanhSpace | None) -> None:
        self.tanh = tanh

    def value(self, problem: Problem, state: DescentState) -> Tensor:
        """(R,) of the active rows."""
        if self.tanh is not None:
            moved = state.images - problem.x
        else:
            moved = problem.masked(state.place - state.anchor)
        return torch.linalg.vector_norm(moved, dim=1).square()

    def slope(
        self, problem: Problem, state: DescentState, rows: Tensor, space: Coordinates
    ) -> Tensor:
        """(r, size) the first derivative for the rows at these positions."""
        place, x = state.place[rows], problem.x[rows]
        if self.tanh is None:
            slope = 2 * (place - x)
        else:
            slope = 2 * (state.images[rows] - x) * self.tanh.slope(place)
        return space.transposed(problem.masked(slope, rows))

    def curvature(
        self, problem: Problem, state: DescentState, rows: Tensor, space: Coordinates
    ) -> Tensor:
        """(r, size) the second derivative."""
        place = state.place[rows]
        if self.tanh is None:
            bend = torch.full_like(place, 2.0)
        else:
            offset = state.images[rows] - problem.x[rows]
            rate = self.tanh.slope(place)
            bend = 2 * rate.square() + 2 * offset * self.tanh.curvature(place)
        return space.transposed_squared(problem.masked(bend, rows))


class Probes:
    """Pairs of queries around the iterates.

    Args:
        run: the samples.
        spaces: of the points.
        h: distance of the probes.
        coordinates: most pairs of one iteration.
    """

    def __init__(self, run: MinimumNorm, spaces: Spaces, h: float, coordinates: int) -> None:
        self.run = run
        self.spaces = spaces
        self.h = h
        self.draws = [min(coordinates, space.size) for space in spaces.spaces]
        self.exact = geometry.exact_dtype(run.problem.oracle.device)

    def hinge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) ``max(kappa - margin, 0)`` in float64: (10) and (11) plus kappa."""
        return self.run.hinge(outputs, owner, self.exact)

    def draw(
        self, state: DescentState, rows: Tensor, level: int, size: int
    ) -> tuple[Tensor, Tensor]:
        """(r, B) distinct coordinates for each row, from its own stream, and (r, B) bool, those
        that may change.

        Of keys ``-log(1 - u) / p`` the smallest B are draws without replacement in proportion to p.
        """
        problem = self.run.problem
        key = uniform(problem.seed, problem.ids[rows], state.round[rows], (size,))
        if state.share is not None:
            share = state.share[rows, :size]
            share = share / share.sum(dim=1, keepdim=True)
            share = (1 - UNIFORM_SHARE) * share + UNIFORM_SHARE / size
            key = -torch.log1p(-key.to(self.exact)) / share
        free = state.allowed[level]
        if free is not None:
            key = key.masked_fill(~free[rows], torch.inf)
        smallest = key.topk(self.draws[level], dim=1, largest=False, sorted=False)
        return smallest.indices, smallest.values.isfinite()

    def query(
        self, state: DescentState, rows: Tensor, space: Coordinates, drawn: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(r, B) the hinge above and below each coordinate, 0 where it may not change.

        The probes are built one model call at a time.
        """
        problem = self.run.problem
        row, column = allowed.nonzero().unbind(1)
        pairs = len(row)
        every = torch.arange(2 * pairs, device=drawn.device)
        hinges = []
        for part in every.split(problem.oracle.batch_size):
            pair = part % max(pairs, 1)
            amount = torch.where(part < pairs, self.h, -self.h).to(torch.float32)
            owner = rows[row[pair]]
            points = space.add_(state.place[owner], drawn[row[pair], column[pair]], amount)
            points = self.spaces.image(problem, points, owner, probe=True)
            index = problem.index[owner]
            outputs = problem.scores.scores(problem.shaped(points), index)
            hinges.append(self.hinge(outputs, index))
        found = torch.zeros(2, *drawn.shape, dtype=self.exact, device=drawn.device)
        found[:, row, column] = torch.cat(hinges).view(2, pairs)
        return found[0], found[1]


class Descent:
    """Coordinate descent of the active rows.

    Args:
        run: the samples. Its oracle answers with scores only.
        schedule: of the spaces.
        solver, step_size, coordinates, h, use_tanh, importance, reset_adam: as in ``zoo``.

    Attributes:
        state: of the active rows.
    """

    def __init__(
        self,
        run: MinimumNorm,
        schedule: Schedule,
        *,
        solver: str,
        step_size: float,
        coordinates: int,
        h: float,
        use_tanh: bool,
        importance: bool | int,
        reset_adam: bool,
    ) -> None:
        self.run = run
        self.solver = solver
        self.step_size = step_size
        self.reset_adam = reset_adam
        self.spaces = Spaces(run.problem, schedule, use_tanh, importance)
        self.probes = Probes(run, self.spaces, h, coordinates)
        self.measure = Distortion(self.spaces.tanh)
        self.state = self.spaces.begin(run.problem, self.probes.draws)

    def planned_rows(self, search: ConstantSearch) -> PlannedRows:
        """Return the most answers of a sample: the clean check, and each iterate with its probes.

        The iterate that ends an optimisation is not probed.
        """
        probed = search.most_steps - search.most_optimisations
        return PlannedRows(1 + search.most_steps + probed * 2 * max(self.probes.draws))

    def keep(self, rows: Tensor) -> None:
        """Keep the active rows at these positions."""
        self.state = keep(self.state, rows)

    def distortion(self) -> Tensor:
        """(R,) of the iterates."""
        return self.measure.value(self.run.problem, self.state)

    def advance(self, search: ConstantSearch, going: Tensor, hinge: Tensor, stuck: Tensor) -> None:
        """One iteration for the rows marked in going (R,), whose iterates have this hinge (R,)."""
        state = self.state
        self._forget(going & (hinge == 0))
        for level, space, rows in self.spaces.members(state, going):
            self._move(rows, level, space, search.at.const[rows], hinge[rows])
        state.round = state.round + going.to(state.round.dtype)
        self.spaces.grow(state, search.at.iteration, going, stuck)
        self.spaces.locate(self.run.problem, state)

    def _forget(self, reached: Tensor) -> None:
        """Reset Adam at the first success of an optimisation."""
        if not self.reset_adam:
            return
        new = reached & ~self.state.settled
        self.state.settled = self.state.settled | reached
        if bool(new.any()):
            self.state.forget_moments(new)

    def _move(
        self, rows: Tensor, level: int, space: Coordinates, const: Tensor, hinge: Tensor
    ) -> None:
        """Probe and move coordinates of the rows at these positions (r,)."""
        problem, state, h = self.run.problem, self.state, self.probes.h
        drawn, allowed = self.probes.draw(state, rows, level, space.size)
        above, below = self.probes.query(state, rows, space, drawn, allowed)
        weight = const.unsqueeze(1)
        slope = _finite(weight * (above - below) / (2 * h))
        slope = slope + self.measure.slope(problem, state, rows, space).gather(1, drawn)
        at = (rows.unsqueeze(1), drawn)
        if self.solver == "adam":
            step = self._adam(at, slope)
        else:
            curvature = _finite(weight * (above - 2 * hinge.unsqueeze(1) + below) / h**2)
            bend = self.measure.curvature(problem, state, rows, space)
            curvature = curvature + bend.gather(1, drawn)
            positive = torch.where(curvature > 0, curvature.clamp(min=LEAST_CURVATURE), 1.0)
            step = -slope / positive * self.step_size
            if self.solver == "adam-newton":
                step = torch.where(curvature > 0, step, self._adam(at, slope))
        state.noise[at] += step.to(torch.float32)

    def _adam(self, at: tuple[Tensor, Tensor], slope: Tensor) -> Tensor:
        """(r, B) the step of Adam, whose moments and step count each coordinate has of its own."""
        state = self.state
        first = BETA1 * state.first[at].to(slope.dtype) + (1 - BETA1) * slope
        second = BETA2 * state.second[at].to(slope.dtype) + (1 - BETA2) * slope.square()
        t = state.count[at].to(slope.dtype) + 1
        state.first[at] = first.to(torch.float32)
        state.second[at] = second.to(torch.float32)
        state.count[at] = t.to(torch.float32)
        return adam_step(first, second, t, self.step_size)


def _finite(values: Tensor) -> Tensor:
    """Zero where probes are not finite: they must not spoil the moments for good."""
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
