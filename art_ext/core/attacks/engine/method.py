"""A fixed-radius method: hyper-parameters, ``init`` and ``step`` over a state of row tensors."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State
from art_ext.core.losses import Loss
from art_ext.core.oracle import GradientOracle

S = TypeVar("S", bound=State)


@dataclass(frozen=True, eq=False)
class Answers:
    """The model's answers for the candidates of the R active rows.

    Attributes:
        losses: (R,) of the loss that the attack ascends or, for minimum-norm attacks, descends.
        success: (R,) bool, the candidates that are successes.
        slope: (R, D) gradient of the losses, zero at masked coordinates and where it is not finite.
            None if it was not computed.
    """

    losses: Tensor
    success: Tensor
    slope: Tensor | None

    @property
    def gradient(self) -> Tensor:
        """(R, D) the gradient of the losses."""
        if self.slope is None:
            raise ValueError(
                "answers.gradient was not computed: a method that reads it must set"
                " needs_gradient = True, and its driver must be given oracle=GradientOracle"
            )
        return self.slope


class Method(Generic[S]):
    """Base of the fixed-radius methods.

    The driver calls ``init`` once for each trajectory, then ``step`` until no row is active. It
    queries the candidates ``state.x`` after each of them, and calls ``observe`` with the answers
    before rows that are done are dropped.

    Attributes:
        num_steps: most steps of a trajectory.
        starts_at_input: the first candidates are the clean inputs, whose answers the clean check
            has brought already. Such a method has one trajectory.
        needs_gradient: the step uses ``answers.gradient``.
        compares_losses: it compares the losses of candidates, the last ones included.
        queries_per_step: queries that a step makes by itself, besides that of its candidate.
        preparation: queries of ``prepare``, known after the clean check.
    """

    num_steps: int
    starts_at_input: bool = True
    needs_gradient: bool = True
    compares_losses: bool = False
    queries_per_step: int = 0
    preparation: int = 0

    @property
    def least_queries(self) -> int:
        """Queries of the clean check, the start unless it is the input, and one step."""
        return 2 + self.queries_per_step + (not self.starts_at_input)

    def init(self, problem: Problem, trajectory: int) -> S:
        """Return the state before the first step of a trajectory, with its starting points."""
        raise NotImplementedError

    def step(self, problem: Problem, state: S, answers: Answers, t: int) -> S:
        """Return the state with the next candidates.

        Args:
            problem: the active rows.
            state: of these rows.
            answers: for the candidates ``state.x``.
            t: number of the step, from 0.
        """
        raise NotImplementedError

    def observe(self, problem: Problem, state: S, answers: Answers, t: int) -> S:
        """Return the state after the answers for its candidates. ``t`` counts the steps made."""
        return state

    def see_clean(self, problem: Problem, outputs: Tensor, owner: Tensor) -> None:
        """See the outputs (r, K) for the clean inputs of the samples in owner (r,)."""

    def prepare(self, problem: Problem) -> None:
        """Make queries of the active rows once, before the first trajectory."""

    def num_trajectories(self, num_restarts: int) -> int:
        """Return the number of trajectories, known after the clean check."""
        return num_restarts

    def most_trajectories(self, num_restarts: int) -> int:
        """Return the most trajectories, as far as they are known before the clean check."""
        return num_restarts

    def planned_rows(self, num_restarts: int) -> PlannedRows:
        """Return the most answers and gradients of a sample: the clean check, starts and steps."""
        trajectories = self.most_trajectories(num_restarts)
        steps = trajectories * self.num_steps
        starts = 0 if self.starts_at_input else trajectories
        return PlannedRows(
            1 + starts + steps * (1 + self.queries_per_step), steps * self.needs_gradient
        )

    def counts(self, t: int) -> bool:
        """Return True if candidates after ``t`` steps lie in the ball. Others are no successes."""
        return True

    def next_loss(self, problem: Problem, trajectory: int) -> Loss | None:
        """Return another loss to ascend from this trajectory on, or None for the present one."""
        return None

    def end(self, state: S, answers: Answers) -> tuple[Tensor, Tensor]:
        """Return the rows (R, D) that stand for a trajectory without success, and their losses."""
        return state.x, answers.losses

    def preferred(self, state: S) -> tuple[Tensor, Tensor] | None:
        """Successes (R, D) to report at the end instead of the last one, and a (R,) bool mask."""
        return None

    def shown(self, state: Any) -> Tensor | None:
        """(R, D) states of a chain for the callback. None if there are none in this round."""
        return None

    def chain(self, x_adv: Tensor, moved: Tensor) -> Tensor | None:
        """States (S, N, D) of a chain to report. None if the method draws none.

        Args:
            x_adv: (N, D) the outcomes.
            moved: (N,) bool, samples for which a step was made.
        """
        return None


def check_needs(method: object, needs_gradient: bool, problem: Problem) -> None:
    """Raise ValueError if a method needs gradients, and its oracle gives none."""
    if needs_gradient and not isinstance(problem.oracle, GradientOracle):
        given = type(problem.oracle).__name__
        raise ValueError(
            f"{type(method).__name__} needs gradients, and its driver was given oracle={given}: set"
            " needs_gradient = False, or give oracle=GradientOracle"
        )


def check_state(method: object, called: str, state: object, problem: Problem) -> None:
    """Raise ValueError unless a method returned a State with one candidate for each active row.

    Args:
        method: whose method was called.
        called: name of that method.
        state: what it returned.
        problem: the active rows.
    """
    x = getattr(state, "x", None)
    wanted = problem.x
    if (
        isinstance(state, State)
        and isinstance(x, Tensor)
        and (x.shape, x.dtype, x.device) == (wanted.shape, torch.float32, wanted.device)
    ):
        return
    if inspect.iscoroutine(state):
        state.close()  # else Python warns that nothing awaits it
    given = _described(state)
    if isinstance(state, State):
        given = f"x = {_described(x, wanted.device)}"
    raise ValueError(
        f"{type(method).__name__}.{called} must return a State whose x is {tuple(wanted.shape)}"
        f" float32, one row for each active sample, got {given}"
    )


def _described(value: object, wanted: torch.device | None = None) -> str:
    """Describe a value by its type, a tensor by shape, dtype and, if it is another, its device."""
    if not isinstance(value, Tensor):
        return "None" if value is None else f"a {type(value).__name__}"
    place = "" if wanted in (None, value.device) else f" on {value.device}"
    return f"a tensor {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}{place}"
