"""Methods that run other methods one after the other, in trajectories of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.rivals import Rivals
from art_ext.core.losses import Loss


class Stages(Method[Any]):
    """A method that gets its points from a first part, and then one trajectory of a last part.

    Args:
        first: all trajectories but the last.
        last: the last one.
    """

    starts_at_input = False

    def __init__(self, first: Method[Any], last: Method[Any]) -> None:
        self.first = first
        self.last = last
        self._enter(first)

    def _enter(self, part: Method[Any]) -> None:
        self.part = part
        self.num_steps = part.num_steps
        self.needs_gradient = part.needs_gradient

    @property
    def least_queries(self) -> int:
        """Queries of the clean check, and of one step of the first part."""
        return self.first.least_queries

    def see_clean(self, problem: Problem, outputs: Tensor, owner: Tensor) -> None:
        """Show the outputs for the clean inputs to the first part."""
        self.first.see_clean(problem, outputs, owner)
        self.preparation = self.first.preparation

    def prepare(self, problem: Problem) -> None:
        """Prepare the first part."""
        self.first.prepare(problem)

    def num_trajectories(self, num_restarts: int) -> int:
        """Count the trajectories of the first part, and the last one."""
        return self.first.num_trajectories(1) + 1

    def planned_rows(self, num_restarts: int) -> PlannedRows:
        """Return the most answers and gradients of both, with one clean check."""
        both = self.first.planned_rows(1).plus(self.last.planned_rows(1))
        return PlannedRows(both.forward - 1, both.backward, both.further)

    def init(self, problem: Problem, trajectory: int) -> Any:
        """Begin a trajectory of its part."""
        last = trajectory + 1 == self.num_trajectories(1)
        self._enter(self.last if last else self.first)
        return self.part.init(problem, trajectory)

    def step(self, problem: Problem, state: Any, answers: Answers, t: int) -> Any:
        """Return the state with the next candidates of the part."""
        return self.part.step(problem, state, answers, t)

    def observe(self, problem: Problem, state: Any, answers: Answers, t: int) -> Any:
        """Show the answers to the part. At the end of the first one, keep its outcome."""
        state = self.part.observe(problem, state, answers, t)
        if self.part is self.first and t == self.num_steps:
            self.keep_end(problem, *self.end(state, answers))
        return state

    def counts(self, t: int) -> bool:
        """Count what the part counts."""
        return self.part.counts(t)

    def keep_end(self, problem: Problem, rows: Tensor, losses: Tensor) -> None:
        """Keep what the last part needs of rows (R, D) and losses (R,) at the end of another."""
        raise NotImplementedError

    def end(self, state: Any, answers: Answers) -> tuple[Tensor, Tensor]:
        """Return the points of highest loss."""
        return self.part.end(state, answers)

    def preferred(self, state: Any) -> tuple[Tensor, Tensor] | None:
        """Prefer what the part prefers."""
        return self.part.preferred(state)


class Searched(Stages):
    """An ascent from the best points of a random search of the same loss."""

    best: Tensor | None = None  # (N, D)

    def keep_end(self, problem: Problem, rows: Tensor, losses: Tensor) -> None:
        """Keep the best points."""
        if self.best is None:
            self.best = rows.new_zeros(problem.shape[0], rows.shape[1])
        self.best[problem.index] = rows

    def init(self, problem: Problem, trajectory: int) -> Any:
        """Begin the search, or the ascent from its best points."""
        state = super().init(problem, trajectory)
        if trajectory and self.best is not None:
            state.x = self.best[problem.index]
        return state


class Surveyed(Stages):
    """Short ascents for each rival, and a long one for that of the highest loss.

    Args:
        first, last: the short and the long ascents.
        rivals: the other classes to attack.
    """

    def __init__(self, first: Method[Any], last: Method[Any], rivals: Rivals) -> None:
        super().__init__(first, last)
        self.rivals = rivals
        self.trajectory = 0
        self.nearest: Tensor | None = None  # (N,) int64, the class of the rival
        self.losses: Tensor | None = None  # (N,) there

    def init(self, problem: Problem, trajectory: int) -> Any:
        """Begin a trajectory at a random point of its own."""
        self.trajectory = trajectory
        return super().init(problem, trajectory)

    def keep_end(self, problem: Problem, rows: Tensor, losses: Tensor) -> None:
        """Keep the rival, if none before it reached this loss."""
        if self.nearest is None or self.losses is None:
            self.losses = losses.new_full(problem.shape[:1], -torch.inf)
            self.nearest = self.rivals.ranked[:, 0].clone()
        index = problem.index
        better = losses > self.losses[index]
        self.losses[index] = torch.where(better, losses, self.losses[index])
        rival = self.rivals.ranked[index, self.trajectory]
        self.nearest[index] = torch.where(better, rival, self.nearest[index])

    def next_loss(self, problem: Problem, trajectory: int) -> Loss | None:
        """Return the loss of the next rival, and for the last part of the nearest one."""
        if not self.rivals.seen:
            return None
        if self.nearest is not None and trajectory + 1 == self.num_trajectories(1):
            return self.rivals.loss_of(problem, self.nearest)
        return self.rivals.loss_of(problem, self.rivals.ranked[:, trajectory])
