"""The search over the constant c that weighs the attack's loss against the distortion, one per
sample.

References:
    Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from art_ext.core.checks import check_count, check_positive
from art_ext.core.nearest import NearestRun

UNBOUNDED = 1e10  # the upper end of c before any success
IMPROVEMENT = 0.9999  # a loss above this share of the one before counts as standing still


class Verdict(NamedTuple):
    """What a round means for the R live samples; (R,) bool each.

    Attributes:
        stuck: the loss stands still.
        ended: the optimisation for the present c is over.
    """

    stuck: Tensor
    ended: Tensor


class ConstantSearch:
    """``search_steps`` optimisations for each sample, one after another, each with a c chosen from
    those before.

    c starts at ``initial_const``. After a success it is halved, or set midway to the largest c that
    failed; after a failure it grows tenfold, or is set midway to the smallest c that succeeded.
    With ten steps or more the last takes that smallest c again. Samples do not wait for each other:
    each begins its next optimisation when its last one ends.

    An optimisation ends after ``num_steps`` iterations, or early, if the whole loss at every
    ``window``-th iteration has not fallen below .9999 of what it was at the one before. In the
    authors' programs the loss of the whole batch decides; here each sample's own. Theirs take 1e6
    for the first value, which ends every attempt with a loss beyond; we compare from the second on.
    Theirs end successful optimisations too (``abort_early="always"``).

    Args:
        run: the samples, opened.
        num_steps: most iterations of one optimisation.
        search_steps: how many.
        initial_const: the first c.
        abort_early: whether an optimisation may end early: True, unless it has met the goal;
            ``"always"``; or False.
        window: iterations between two comparisons; None takes a tenth of num_steps.

    Attributes:
        const: (R,) the present c, in the exact dtype.
        iteration: (R,) int64, of the present optimisation, from 0.
        step: (R,) int64, number of the optimisation.
    """

    def __init__(
        self,
        run: NearestRun,
        *,
        num_steps: int,
        search_steps: int,
        initial_const: float,
        abort_early: bool | str,
        window: int | None = None,
    ) -> None:
        self.run, self.num_steps, self.steps, self.abort_early = (
            run,
            num_steps,
            search_steps,
            abort_early,
        )
        self.window = max(1, num_steps // 10) if window is None else window
        self.lower = torch.zeros_like(run.best_value[run.index])
        self.const = torch.full_like(self.lower, initial_const)
        self.upper = torch.full_like(self.lower, UNBOUNDED)
        self.before = torch.full_like(self.lower, torch.inf)
        self.iteration, self.step = torch.zeros_like(run.index), torch.zeros_like(run.index)
        self.hit = torch.zeros_like(self.step, dtype=torch.bool)
        shape = (search_steps, len(run.samples))
        run.trace = {name: run.samples.new_full(shape, torch.nan) for name in ("const", "value")}
        self._begin(torch.ones_like(self.hit))

    @staticmethod
    def check(
        num_steps: object,
        search_steps: object,
        initial_const: object,
        abort_early: object,
        window: object = None,
    ) -> None:
        """Refuse settings that make no sense.

        Raises:
            ValueError: naming the argument, what was given and what was wanted.
        """
        check_count("num_steps", num_steps)
        check_count("search_steps", search_steps)
        check_positive("initial_const", initial_const)
        if not isinstance(abort_early, bool) and abort_early != "always":
            raise ValueError(f"abort_early must be True, False or 'always', got {abort_early!r}")
        if window is not None:
            check_count("abort_window", window)

    @property
    def weight(self) -> Tensor:
        """(R, 1) c in float32, to multiply gradients by."""
        return self.const.to(torch.float32).unsqueeze(1)

    def judge(self, loss: Tensor, met: Tensor, spared: Tensor | None = None) -> Verdict:
        """Enter the whole loss (R,) of an iteration, and whether its iterate is a success (R,).

        Args:
            loss: what the optimisation minimises.
            met: the successes.
            spared: (R,) bool, samples for which the method has another answer to a loss that stands
                still.
        """
        loss = loss.to(self.before.dtype)
        due = self.iteration % self.window == 0
        stuck = due & (loss > IMPROVEMENT * self.before)
        self.before = torch.where(due, loss, self.before)
        self.hit = self.hit | met
        self.iteration = self.iteration + 1
        ended = self.iteration == self.num_steps
        if self.abort_early:
            over = stuck if self.abort_early == "always" else stuck & ~self.hit
            ended = ended | (over if spared is None else over & ~spared)
        return Verdict(stuck, ended)

    def close(self, ended: Tensor) -> Tensor:
        """Choose the next c for the samples whose optimisation has ended (R,); (R,) bool, who
        has made all steps.
        """
        if not bool(ended.any()):
            return ended
        index = self.run.index[ended]
        self.run.trace["value"][self.step[ended], index] = self.run.best_value[index].to(
            torch.float32
        )
        upper = torch.where(self.hit, torch.minimum(self.upper, self.const), self.upper)
        lower = torch.where(self.hit, self.lower, torch.maximum(self.lower, self.const))
        bounded = upper < UNBOUNDED / 10
        const = torch.where(
            bounded, (lower + upper) / 2, torch.where(self.hit, self.const, self.const * 10)
        )
        self.upper, self.lower = (
            torch.where(ended, upper, self.upper),
            torch.where(ended, lower, self.lower),
        )
        self.step = self.step + ended.to(self.step.dtype)
        const = const.clamp(max=UNBOUNDED)  # more would overflow
        if self.steps >= 10:
            const = torch.where(self.step == self.steps - 1, upper, const)
        self.const = torch.where(ended, const, self.const)
        self.before = self.before.masked_fill(ended, torch.inf)
        self.iteration = self.iteration.masked_fill(ended, 0)
        self.hit = self.hit & ~ended
        finished = self.step == self.steps
        self._begin(ended & ~finished)
        return finished

    def select(self, stay: Tensor | None) -> None:
        """Keep the samples at these positions; None keeps all."""
        if stay is not None:
            for name in ("const", "lower", "upper", "before", "iteration", "step", "hit"):
                setattr(self, name, getattr(self, name)[stay])

    def _begin(self, begun: Tensor) -> None:
        """Note the c with which these samples (R,) begin."""
        self.run.trace["const"][self.step[begun], self.run.index[begun]] = self.const[begun].to(
            torch.float32
        )
