"""The search over the constant c that weighs the attack's loss against the distortion, one per
sample.

References:
    Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from art_ext.core.attacks.engine.method import Answers
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm, Search
from art_ext.core.attacks.engine.state import keep
from art_ext.core.checks import check_count, check_positive

UNBOUNDED = 1e10  # the upper end of c before any success
IMPROVEMENT = 0.9999  # a loss above this share of the one before counts as standing still


class Verdict(NamedTuple):
    """The result of a round for the R active rows, (R,) bool each.

    Attributes:
        stuck: the loss stands still.
        ended: the optimisation for the present c is over.
    """

    stuck: Tensor
    ended: Tensor


@dataclass(eq=False)
class Constants:
    """The state of the search for the R active rows.

    Attributes:
        const: (R,) the present c, in the exact dtype.
        lower, upper: (R,) the largest c that failed, and the smallest that succeeded.
        before: (R,) the loss at the last comparison.
        iteration: (R,) int64, of the present optimisation, from 0.
        step: (R,) int64, number of the optimisation.
        success: (R,) bool, True after a success in the present optimisation.
        begun: (R,) bool, rows that begin an optimisation. None if none does.
    """

    const: Tensor
    lower: Tensor
    upper: Tensor
    before: Tensor
    iteration: Tensor
    step: Tensor
    success: Tensor
    begun: Tensor | None


class ConstantSearch(Search):
    """``search_steps`` optimisations for each sample, one after another, each with a c chosen from
    those before.

    c starts at ``initial_const``. After a success it is halved, or set midway to the largest c that
    failed. After a failure it grows tenfold, or is set midway to the smallest c that succeeded.
    With ten steps or more the last takes that smallest c again. Samples do not wait for each other:
    each begins its next optimisation when its last one ends.

    An optimisation ends after ``num_steps`` iterations, or early, if the whole loss at every
    ``window``-th iteration is not below .9999 of what it was at the one before. In the
    reference implementations the loss of the whole batch decides, and here each sample's own.
    Theirs take 1e6 for the first value, which ends every attempt with a loss beyond. This one
    compares from the second on. Theirs end successful optimisations too (``abort_early="always"``).

    Attributes:
        num_steps: iterations of each optimisation, >= 1.
        search_steps: optimisations per sample, each with its own c, >= 1. Default: 9.
        initial_const: the first c, > 0.
        abort_early: True ends a sample's optimisation where its loss, compared every ``num_steps /
            10`` iterations, stands still, unless it has succeeded by then. ``"always"`` ends it
            then too, as the reference implementation. False never does. Default: True.
        abort_window: iterations between two comparisons of the loss. Default: None, a tenth of
            num_steps.
        at: the state for the active rows.
    """

    at: Constants

    def __init__(
        self,
        *,
        num_steps: int,
        search_steps: int,
        initial_const: float,
        abort_early: bool | str,
        window: int | None = None,
    ) -> None:
        check_count("num_steps", num_steps)
        check_count("search_steps", search_steps)
        check_positive("initial_const", initial_const)
        if not isinstance(abort_early, bool) and abort_early != "always":
            raise ValueError(f"abort_early must be True, False or 'always', got {abort_early!r}")
        if window is not None:
            check_count("abort_window", window)
        self.num_steps = num_steps
        self.steps = search_steps
        self.initial_const = initial_const
        self.abort_early = abort_early
        self.window = max(1, num_steps // 10) if window is None else window

    def open(self, driver: MinimumNorm) -> None:
        """Begin the first optimisation of each active row."""
        self.driver = driver
        index = driver.problem.index
        zero = torch.zeros_like(driver.found.best_value[index])
        self.at = Constants(
            const=torch.full_like(zero, self.initial_const),
            lower=zero,
            upper=torch.full_like(zero, UNBOUNDED),
            before=torch.full_like(zero, torch.inf),
            iteration=torch.zeros_like(index),
            step=torch.zeros_like(index),
            success=torch.zeros_like(index, dtype=torch.bool),
            begun=torch.ones_like(index, dtype=torch.bool),
        )
        driver.open_trace(self.steps, "const", "value")
        self._note(torch.ones_like(self.at.success))

    @property
    def begun(self) -> Tensor | None:
        """(R,) bool, rows that begin an optimisation. None if none does."""
        return self.at.begun

    @property
    def most_optimisations(self) -> int:
        """One for each c."""
        return self.steps

    @property
    def most_steps(self) -> int:
        """Iterations of all optimisations."""
        return self.steps * self.num_steps

    @property
    def weight(self) -> Tensor:
        """(R, 1) c in float32, to multiply gradients by."""
        return self.at.const.to(torch.float32).unsqueeze(1)

    def enter(self, answers: Answers, distortion: Tensor) -> Tensor:
        """Enter the answers for the candidates: (R,) bool, True for rows that made all steps."""
        loss = self.at.const * answers.losses + distortion
        return self.close(self.judge(loss, answers.success).ended)

    def judge(self, loss: Tensor, success: Tensor, spared: Tensor | None = None) -> Verdict:
        """Enter the whole loss (R,) of an iteration, and its successes (R,).

        Args:
            loss: that the optimisation minimises.
            success: the candidates that succeed.
            spared: (R,) bool, rows for which the method has another answer to a loss that stands
                still.
        """
        at = self.at
        loss = loss.to(at.before.dtype)
        due = at.iteration % self.window == 0
        stuck = due & (loss > IMPROVEMENT * at.before)
        at.before = torch.where(due, loss, at.before)
        at.success = at.success | success
        at.iteration = at.iteration + 1
        ended = at.iteration == self.num_steps
        if self.abort_early:
            over = stuck if self.abort_early == "always" else stuck & ~at.success
            ended = ended | (over if spared is None else over & ~spared)
        return Verdict(stuck, ended)

    def close(self, ended: Tensor) -> Tensor:
        """Choose the next c for the rows whose optimisation has ended (R,).

        Returns:
            (R,) bool: rows that made all steps.
        """
        at = self.at
        at.begun = None
        if not bool(ended.any()):
            return ended
        at.begun = ended
        index = self.driver.problem.index[ended]
        values = self.driver.found.best_value[index].to(torch.float32)
        self.driver.problem.trace["value"][at.step[ended], index] = values
        upper = torch.where(at.success, torch.minimum(at.upper, at.const), at.upper)
        lower = torch.where(at.success, at.lower, torch.maximum(at.lower, at.const))
        larger = torch.where(at.success, at.const, at.const * 10)
        const = torch.where(upper < UNBOUNDED / 10, (lower + upper) / 2, larger)
        at.upper = torch.where(ended, upper, at.upper)
        at.lower = torch.where(ended, lower, at.lower)
        at.step = at.step + ended.to(at.step.dtype)
        const = const.clamp(max=UNBOUNDED)  # more would overflow
        if self.steps >= 10:
            const = torch.where(at.step == self.steps - 1, upper, const)
        at.const = torch.where(ended, const, at.const)
        at.before = at.before.masked_fill(ended, torch.inf)
        at.iteration = at.iteration.masked_fill(ended, 0)
        at.success = at.success & ~ended
        finished = at.step == self.steps
        self._note(ended & ~finished)
        return finished

    def keep(self, rows: Tensor) -> None:
        """Keep the active rows at these positions."""
        self.at = keep(self.at, rows)

    def _note(self, begun: Tensor) -> None:
        """Enter the c with which these rows (R,) begin into the trace."""
        problem = self.driver.problem
        values = self.at.const[begun].to(torch.float32)
        problem.trace["const"][self.at.step[begun], problem.index[begun]] = values
