"""An ascent from the best point of a random search."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.attacks.engine.problem import Problem


class Searched(Method[Any]):
    """Two trajectories of the same loss: a search, and an ascent from its best points.

    Args:
        search: gives the best points at its end, and needs no gradient.
        ascent: begins there instead of at random points.
    """

    starts_at_input = False

    def __init__(self, search: Method[Any], ascent: Method[Any]) -> None:
        self.search = search
        self.ascent = ascent
        self.best: Tensor | None = None  # (N, D)
        self._enter(search)

    def _enter(self, part: Method[Any]) -> None:
        self.part = part
        self.num_steps = part.num_steps
        self.needs_gradient = part.needs_gradient

    @property
    def least_queries(self) -> int:
        """Queries of the clean check, and of one step of the search."""
        return self.search.least_queries

    def num_trajectories(self, num_restarts: int) -> int:
        """Count the search and the ascent."""
        return 2

    def planned_rows(self, num_restarts: int) -> PlannedRows:
        """Return the most answers and gradients of both, with one clean check."""
        both = self.search.planned_rows(1).plus(self.ascent.planned_rows(1))
        return PlannedRows(both.forward - 1, both.backward)

    def init(self, problem: Problem, trajectory: int) -> Any:
        """Begin the search, or the ascent from its best points."""
        self._enter(self.ascent if trajectory else self.search)
        state = self.part.init(problem, 0)
        if trajectory and self.best is not None:
            state.x = self.best[problem.index]
        return state

    def step(self, problem: Problem, state: Any, answers: Answers, t: int) -> Any:
        """Return the state with the next candidates of the part."""
        return self.part.step(problem, state, answers, t)

    def observe(self, problem: Problem, state: Any, answers: Answers, t: int) -> Any:
        """Show the answers to the part, and keep the best points at the end of the search."""
        state = self.part.observe(problem, state, answers, t)
        if self.part is self.search and t == self.num_steps:
            points, _ = self.end(state, answers)
            if self.best is None:
                self.best = points.new_zeros(problem.shape[0], points.shape[1])
            self.best[problem.index] = points
        return state

    def end(self, state: Any, answers: Answers) -> tuple[Tensor, Tensor]:
        """Return the points of highest loss."""
        return self.part.end(state, answers)

    def preferred(self, state: Any) -> tuple[Tensor, Tensor] | None:
        """Prefer what the part prefers."""
        return self.part.preferred(state)
