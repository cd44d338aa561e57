"""The search of RayS over many samples: which are active, and the nearest adversarial of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from art_ext.core.attacks._rays_blocks import Blocks
from art_ext.core.attacks._rays_rounds import Rays, RayState, Rounds
from art_ext.core.attacks._rays_trace import DistanceTrace
from art_ext.core.attacks.engine.nearest import NearestAdversarials
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import keep
from art_ext.core.geometry import distances, within_ball
from art_ext.core.result import AttackResult, Callback, Progress, build_result


class Search:
    """Algorithms 4 to 6 over N samples, ``batch_size`` of them active at a time.

    Everything runs side by side: each active row makes its own next query in each model call.

    Args:
        problem: the samples.
        start, free: as for ``Rays``.
        tol, stop_on_success, hierarchical, callback, trace_at: as in ``rays``.
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
        callback: Callback | None,
        trace_at: Sequence[int] | None = None,
    ) -> None:
        self.problem = problem
        self.oracle = problem.oracle
        self.stop_on_success = stop_on_success
        self.callback = callback
        x = problem.x
        flips = int(self.oracle.max_queries or 0) + 2
        self.blocks = Blocks(x.shape[1], free, hierarchical, flips, x.device)
        self.rays = Rays(problem, start, free, self.blocks)
        self.found = NearestAdversarials(problem)
        self.trace = None if trace_at is None else DistanceTrace(trace_at, self.found)
        self.query = Rounds(self.oracle, self.rays, problem.goal.targeted, tol, self.trace)
        self.already = torch.zeros_like(problem.index, dtype=torch.bool)
        self.idle = self.already
        self.active: RayState | None = None
        self.rounds = 0
        self.last_flip = 1
        self.affordable = 0  # queries that every active row can certainly make

    def run(self, speculate: bool) -> None:
        """Query until every sample is a success or has spent its budget. Freed places take the
        next samples.
        """
        self.already = self.problem.check_clean()
        # already adversarial, or no coordinate to change
        self.idle = self.already | (self.blocks.count == 0)
        self.found.enter_clean(self.already)
        self._mark(self.problem.index)
        if self.rays.start is not None:
            self._check_start(self.rays.start)
        self._report(self.problem.index)
        waiting = self._unfinished()
        capacity = self.oracle.batch_size
        state, waiting = self.rays.begin(waiting[:capacity]), waiting[capacity:]
        while active := len(state.sample):
            self.active = state
            width = max(1, capacity // active) if speculate else 1
            self.last_flip += width
            self.blocks.prepare(self.last_flip)
            ended = self.query.query(state) if width == 1 else self.query.query_ahead(state, width)
            self.rounds += 1
            spent = self._spent(state.sample, width)
            # here, and in the oracle's check of the budget, a round waits for the device
            rows = (ended if spent is None else ended | spent).nonzero().flatten()
            finished = self._end_directions(state, rows, spent) if len(rows) else None
            if self.trace is not None and self.trace.is_due(state.sample, width):
                self.trace.enter(state.sample, self._distances(state))
            self._report(state.sample)
            if finished is not None and len(finished):
                state, waiting = self._refill(state, finished, waiting)

    def _check_start(self, start: Tensor) -> None:
        """One query for each starting point. Successes are the first verified adversarials."""
        index = self._unfinished()
        rows = start[index]
        labels = self.oracle.labels(self.problem.shaped(rows), index)
        self.found.enter(
            index, self.problem.x[index], rows, self.problem.goal.reached(labels, index)
        )
        self._mark(index)

    def _mark(self, index: Tensor) -> None:
        """Enter samples (M,) in the trace, if there is one."""
        if self.trace is not None:
            self.trace.enter(index, self.found.distance[index])

    def _distances(self, state: RayState) -> Tensor:
        """(B,) distances of the nearest adversarials, with the ends of bisections that go on."""
        every = torch.arange(len(state.sample), device=state.sample.device)
        x, better, _, _, points = self._ends(state, every)
        ends = distances(points, x, self.problem.norm).masked_fill_(~better, torch.inf)
        return torch.minimum(ends, self.found.distance.index_select(0, state.sample))

    def _finished(self, index: Tensor) -> Tensor:
        """(M,) bool: nothing to search, no budget left or, with stop_on_success, a success."""
        over = (self.oracle.ledger.remaining(index) <= 0) | self.idle[index]
        return over | (self.found.first[index] >= 0) if self.stop_on_success else over

    def _unfinished(self) -> Tensor:
        """(M,) samples that need a search."""
        return (~self._finished(self.problem.index)).nonzero().flatten()

    def _spent(self, sample: Tensor, width: int) -> Tensor | None:
        """(B,) bool, True where the budget is spent. None if it surely is nowhere."""
        self.affordable -= width
        if self.affordable > 0:
            return None
        remaining = self.oracle.ledger.remaining(sample)
        self.affordable = int(remaining.min())
        return remaining <= 0

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

    def _refill(
        self, state: RayState, finished: Tensor, waiting: Tensor
    ) -> tuple[RayState, Tensor]:
        """Put waiting samples into the places of finished ones. Without any left the batch
        shrinks.
        """
        taken, waiting = waiting[: len(finished)], waiting[len(finished) :]
        if len(taken):
            state.overwrite(finished[: len(taken)], self.rays.begin(taken))
            if self.trace is not None:
                self.trace.begin()
        if len(finished) > len(taken):
            active = torch.ones_like(state.bisecting)
            active[finished[len(taken) :]] = False
            state = keep(state, active.nonzero().flatten())
        return state, waiting

    def _report(self, index: Tensor) -> None:
        if self.callback is not None:
            self.callback(
                Progress(
                    step=self.rounds,
                    index=index,
                    distance=self.found.distance[index].to(torch.float32),
                    queries=self.oracle.queries[index],
                    finished=self._finished(index),
                    success=self.found.first[index] >= 0,
                )
            )

    def interim(self, device: torch.device) -> tuple[AttackResult, Tensor]:
        """Return the outcome so far, with the adversarial ends of bisections that go on.

        Returns:
            The result, and (N,) bool, the samples that are done.
        """
        finished = self._finished(self.problem.index)
        if self.active is not None:
            every = torch.arange(len(self.active.sample), device=self.active.sample.device)
            self._end_directions(self.active, every, None)
        return self._result(device, finished), finished.to(device)

    def result(self, device: torch.device) -> AttackResult:
        """Return the outcome in the caller's terms, on the caller's device."""
        return self._result(device, torch.ones_like(self.already))

    def _result(self, device: torch.device, finished: Tensor) -> AttackResult:
        found = self.found
        problem = self.problem
        success = within_ball(found.distance, problem.eps)
        x_adv = torch.where(success.unsqueeze(1), found.nearest, problem.x)
        return build_result(
            self.oracle,
            problem.shaped(problem.x),
            x_adv,
            success,
            already=self.already,
            first=found.first,
            norm=problem.norm,
            eps=problem.eps,
            seed=problem.seed,
            home=device,
            stop_on_success=self.stop_on_success,
            x_nearest=found.nearest,
            nearest_distance=found.distance,
            trace=None if self.trace is None else {"distance": self.trace.whole(finished)},
        )
