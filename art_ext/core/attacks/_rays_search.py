"""The search of RayS over many samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from art_ext.core.attacks._rays_blocks import Blocks
from art_ext.core.attacks._rays_rounds import Rays, RayState, Rounds
from art_ext.core.attacks._rays_trace import DistanceTrace
from art_ext.core.attacks.engine.label_search import LabelSearch
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.geometry import distances
from art_ext.core.result import Callback


class Search(LabelSearch[RayState]):
    """Algorithms 4 to 6 over N samples.

    Args:
        problem: the samples.
        start, free: as for ``Rays``.
        tol, stop_on_success, hierarchical, speculate, callback, trace_at: as in ``rays``.
    """

    def __init__(
        self,
        problem: Problem,
        start: Tensor | None,
        free: Tensor | None,
        *,
        tol: float,
        stop_on_success: bool,
        hierarchical: bool,
        speculate: bool,
        callback: Callback | None,
        trace_at: Sequence[int] | None = None,
    ) -> None:
        super().__init__(problem, stop_on_success=stop_on_success, callback=callback)
        self.speculate = speculate
        x = problem.x
        flips = int(self.oracle.max_queries or 0) + 2
        self.blocks = Blocks(x.shape[1], free, hierarchical, flips, x.device)
        self.rays = Rays(problem, start, free, self.blocks)
        self.marks = None if trace_at is None else DistanceTrace(trace_at, self.found)
        self.query = Rounds(self.oracle, self.rays, problem.goal.targeted, tol, self.marks)
        self.last_flip = 1

    def begin(self, index: Tensor) -> RayState:
        """Return the state of the samples (B,) at the beginning of their search."""
        return self.rays.begin(index)

    def fixed(self) -> Tensor:
        """(N or 1,) bool, samples without a coordinate that may change."""
        return self.blocks.count == 0

    def open(self) -> None:
        """Check the starting points, if there are any."""
        self._mark(self.problem.index)
        if self.rays.start is not None:
            self._check_start(self.rays.start)

    def advance(self, state: RayState) -> Tensor | None:
        """Make the next query of each row, or with speculation its next ones."""
        capacity = self.oracle.batch_size
        width = max(1, capacity // len(state.sample)) if self.speculate else 1
        self.last_flip += width
        self.blocks.prepare(self.last_flip)
        ended = self.query.query(state) if width == 1 else self.query.query_ahead(state, width)
        spent = self.spent(state.sample, width)
        # here, and in the oracle's check of the budget, a round waits for the device
        rows = (ended if spent is None else ended | spent).nonzero().flatten()
        finished = self._end_directions(state, rows, spent) if len(rows) else None
        if self.marks is not None and self.marks.is_due(state.sample, width):
            self.marks.enter(state.sample, self._distances(state))
        return finished

    def settle(self, state: RayState) -> None:
        """Accept the adversarial ends of bisections that go on."""
        every = torch.arange(len(state.sample), device=state.sample.device)
        self._end_directions(state, every, None)

    def refill(self, state: RayState, finished: Tensor, waiting: Tensor) -> tuple[RayState, Tensor]:
        """Put waiting samples into the places of finished ones, and tell the trace."""
        if self.marks is not None:
            self.marks.begin()
        return super().refill(state, finished, waiting)

    def trace(self, finished: Tensor) -> dict[str, Tensor] | None:
        """Return the distances at the marks."""
        return None if self.marks is None else {"distance": self.marks.whole(finished)}

    def _check_start(self, start: Tensor) -> None:
        """One query for each starting point. Successes are the first verified adversarials."""
        index = self.unfinished()
        rows = start[index]
        labels = self.oracle.labels(self.problem.shaped(rows), index)
        self.found.enter(
            index, self.problem.x[index], rows, self.problem.goal.reached(labels, index)
        )
        self._mark(index)

    def _mark(self, index: Tensor) -> None:
        """Enter samples (M,) in the trace, if there is one."""
        if self.marks is not None:
            self.marks.enter(index, self.found.distance[index])

    def _distances(self, state: RayState) -> Tensor:
        """(B,) distances of the nearest adversarials, with the ends of bisections that go on."""
        every = torch.arange(len(state.sample), device=state.sample.device)
        x, better, _, _, points = self._ends(state, every)
        ends = distances(points, x, self.problem.norm).masked_fill_(~better, torch.inf)
        return torch.minimum(ends, self.found.distance.index_select(0, state.sample))

    def _end_directions(self, state: RayState, rows: Tensor, spent: Tensor | None) -> Tensor | None:
        """Accept the directions whose bisection ended, or was cut by the budget, at a smaller
        radius than the best.

        Returns:
            Positions of the finished rows: budget spent or, with stop_on_success, a success. None
            if there are none.
        """
        sample = state.sample.index_select(0, rows)
        x, better, direction, radius, points = self._ends(state, rows)
        self.found.enter(sample, x, points, better)
        # rows in a fast check have no budget left, so that their next place does not matter
        state.signs.index_copy_(0, rows, direction)
        state.radius.index_copy_(0, rows, radius)
        state.low.index_copy_(0, rows, radius)
        state.high.index_copy_(0, rows, radius)
        state.flip.index_copy_(0, rows, state.flip.index_select(0, rows) + 1)
        state.bisecting.index_fill_(0, rows, False)
        over = None if spent is None else spent.index_select(0, rows)
        if self.stop_on_success:
            success = self.found.first.index_select(0, sample) >= 0
            over = success if over is None else over | success
        return None if over is None else rows[over]

    def _ends(self, state: RayState, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return, of some rows (b,): x (b, D), bool (b,) where the end of a bisection is nearer
        than the best radius, the better direction and radius of both, and its points (b, D).
        """
        sample = state.sample.index_select(0, rows)
        x = state.x.index_select(0, rows)
        high = state.high.index_select(0, rows)
        radius = state.radius.index_select(0, rows)
        better = state.bisecting.index_select(0, rows) & (high < radius)
        signs = state.signs.index_select(0, rows)
        # flip 0 turns nothing
        flip = state.flip.index_select(0, rows) * better
        direction = self.rays.directions(sample, signs, flip)
        radius = torch.where(better, high, radius)
        return x, better, direction, radius, self.rays.points(x, sample, direction, radius)
