"""The successes of a fixed-radius attack, and the best outcome over several trajectories."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import keep
from art_ext.core.checks import check_count
from art_ext.core.geometry import DISTORTIONS, distances, distortions, within_ball


def check_restarts(num_restarts: int, start: str = "uniform") -> None:
    """Raise ValueError unless num_restarts is an integer >= 1, and 1 where all trajectories
    would be the same.
    """
    check_count("num_restarts", num_restarts)
    if num_restarts > 1 and start != "uniform":
        raise ValueError(
            f"num_restarts must be 1 with start={start!r}, from where all trajectories are the"
            f" same, got {num_restarts}; start='uniform' draws a point for each restart"
        )


class Outcomes:
    """The best outcome of each of N samples: a success before a failure, then the higher loss.

    Attributes:
        ends: (T, N, D) the end of each of T trajectories. None if they are not kept. A trajectory
            that was not made, because the sample was done, shows the end of the one before, and the
            input if there was none.
    """

    def __init__(self, samples: Tensor, count: int, keep: bool) -> None:
        self._rank = torch.full((len(samples),), -1, dtype=torch.int8, device=samples.device)
        self._losses = samples.new_full((len(samples),), torch.nan)  # NaN is below every loss
        self.ends = samples.expand(count, *samples.shape).clone() if keep else None

    def forget_losses(self) -> None:
        """Let the next trajectory win over earlier ones of its rank, because it ascends another
        loss.
        """
        self._losses = torch.full_like(self._losses, torch.nan)

    def enter(
        self,
        number: int,
        index: Tensor,
        rows: Tensor,
        success: Tensor,
        verified: Tensor,
        losses: Tensor,
    ) -> Tensor:
        """Compare the outcomes of a trajectory with the best so far.

        Args:
            number: of the trajectory, from 0.
            index: (r,) the samples whose trajectory has ended.
            rows: (r, D) where it ended: the last iterate that succeeded, or the last one.
            success: (r,) bool.
            verified: (r,) bool, True for rows that lie in ball and box to the last bit. Rounding
                may lead out of them.
            losses: (r,) at rows.

        Returns:
            (r,) bool, True where the outcome is now the best.
        """
        if self.ends is not None:
            self.ends[number:, index] = rows
        rank = success.to(torch.int8) + (success & verified).to(torch.int8)
        losses = losses.to(self._losses.dtype).nan_to_num(nan=-torch.inf)
        best = self._rank[index]
        better = (rank > best) | ((rank == best) & ~(losses <= self._losses[index]))
        self._rank[index] = torch.where(better, rank, best)
        self._losses[index] = torch.where(better, losses, self._losses[index])
        return better


@dataclass(eq=False)
class Held:
    """The successes of the R active rows.

    Attributes:
        x: (R, D) the last candidate of this trajectory that was a success. Until there is one, the
            outcome of the trajectories before.
        success: (R,) bool, True after a success in this trajectory.
        losses: (R,) at ``x``, NaN without success.
        first: (R,) int64, queries at the first success of all trajectories, -1 without one.
    """

    x: Tensor
    success: Tensor
    losses: Tensor
    first: Tensor


class Successes:
    """The last success of each active row, and the outcome of each sample.

    Attributes:
        x_adv: (N, D) the outcomes of the trajectories that have ended.
        first: (N,) int64, queries at the first success, -1 without one.
        candidates: (N, D) the last candidate of each sample, or a success that lies outside the
            ball or the box.
        held: of the active rows.
        outcomes: the comparison of several trajectories. None for a single one.
    """

    outcomes: Outcomes | None = None
    number = 0

    def __init__(self, whole: Problem, fallback: str) -> None:
        self.whole = whole
        self.fallback = fallback
        self.x_adv = self.candidates = whole.x  # until ``_entered`` makes a tensor of their own
        self.first = torch.full_like(whole.index, -1)
        self.held = Held(
            x=whole.x,
            success=self.first >= 0,
            losses=whole.x.new_full((len(whole.x),), torch.nan),
            first=self.first,
        )

    def begin(self, number: int, problem: Problem, *, another_loss: bool) -> None:
        """Begin a trajectory. The outcome of the one before is in ``x_adv``."""
        self.number = number
        if self.outcomes is None:
            return
        if another_loss:
            self.outcomes.forget_losses()
        self.held = Held(
            x=self.x_adv[problem.index],
            success=torch.zeros_like(problem.index, dtype=torch.bool),
            losses=problem.x.new_full((len(problem.index),), torch.nan),
            first=self.held.first,
        )

    def hold(self, rows: Tensor, success: Tensor, losses: Tensor, spent: Tensor | int) -> None:
        """Note the candidates (R, D) that are successes after so many queries, one number or
        (R,).
        """
        held = self.held
        # in place, once the tensor is not that of the inputs
        out = None if held.x is self.whole.x else held.x
        self.held = Held(
            x=torch.where(success.unsqueeze(1), rows, held.x, out=out),
            success=held.success | success,
            losses=held.losses
            if self.outcomes is None
            else torch.where(success, losses, held.losses),
            first=torch.where((held.first < 0) & success, spent, held.first),
        )

    def prefer(self, rows: Tensor, chosen: Tensor) -> None:
        """Report rows (R, D) where chosen (R,) holds, instead of the last success."""
        self.held = replace(self.held, x=torch.where(chosen.unsqueeze(1), rows, self.held.x))

    def settle(
        self, problem: Problem, done: Tensor, candidates: Tensor, end: Tensor, end_losses: Tensor
    ) -> None:
        """Enter the outcomes of the rows at positions done (r,), whose trajectory has ended.

        Args:
            problem: the active rows.
            done: positions among them.
            candidates: (R, D) the last ones.
            end: (R, D) where a trajectory without success has ended.
            end_losses: (R,) there.
        """
        held, index = self.held, problem.index[done]
        self.first[index] = held.first[done]
        self.candidates = self._entered(self.candidates, index, candidates[done])
        success = held.success.unsqueeze(1)[done]
        fallback = _chosen(end, done) if self.fallback == "last" else _chosen(self.whole.x, index)
        outcome = torch.where(success, _chosen(held.x, done), fallback)
        if self.outcomes is not None:
            better = self.outcomes.enter(
                self.number,
                index,
                torch.where(success, held.x[done], end[done]),
                held.success[done],
                keep(self.whole, index).contains(held.x[done]),
                torch.where(held.success, held.losses, end_losses)[done],
            )
            outcome = torch.where(better.unsqueeze(1), outcome, self.x_adv[index])
        self.x_adv = self._entered(self.x_adv, index, outcome)

    def _entered(self, kept: Tensor, index: Tensor, rows: Tensor) -> Tensor:
        """Return kept (N, D) with new rows at an index, in a tensor that is not the inputs."""
        if len(index) == len(kept):
            return rows
        kept = kept.clone() if kept is self.whole.x else kept
        kept[index] = rows
        return kept

    def keep(self, rows: Tensor) -> None:
        """Keep the active rows at these positions."""
        self.held = keep(self.held, rows)

    def lengths(self, problem: Problem) -> Tensor:
        """Return (R,) distances of the successes from the inputs of the active rows."""
        index, inputs = problem.index, self.whole.x
        x = inputs if len(index) == len(inputs) else inputs[index]
        return distances(self.held.x, x, problem.norm)

    def interrupt(self, problem: Problem, already: Tensor) -> None:
        """Take all rows off. Each gives its last success, or its input.

        Args:
            problem: the active rows.
            already: (N,) bool, samples that were adversarial from the start.
        """
        self.first.masked_fill_(already, self.whole.oracle.cost)
        self.fallback = "input"
        inputs = self.whole.x[problem.index]
        every = torch.arange(len(inputs), device=inputs.device)
        unknown = torch.full_like(self.held.losses, torch.nan)
        self.settle(problem, every, inputs, inputs, unknown)
        self.outcomes = None  # its ends are not whole

    def verify(self, already: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Check that the outcomes of all N samples lie in ball and box.

        Args:
            already: (N,) bool, adversarial from the start.

        Returns:
            (N, D) outcomes, with the input in the place of one outside, (N,) bool successes, (N, 4)
            distances of the outcomes, and (N,) bool, True where ``candidates`` lie outside.
        """
        whole = self.whole
        lengths = distortions(self.x_adv, whole.x)
        inside = within_ball(lengths[:, DISTORTIONS.index(whole.norm)], whole.eps)
        found = (self.first >= 0) & ~already
        success = found & whole.box.contains(whole.shaped(self.x_adv)) & inside
        # of a sound method only rounding can make a success outside
        lost = found & ~success
        # in place, once the tensor is not that of the inputs
        out = None if self.candidates is whole.x else self.candidates
        self.candidates = torch.where(lost.unsqueeze(1), self.x_adv, self.candidates, out=out)
        suspect = ~whole.contains(self.candidates)
        x_adv = torch.where((lost | suspect & ~found).unsqueeze(1), whole.x, self.x_adv)
        return x_adv, success | already, lengths, suspect


def _chosen(rows: Tensor, places: Tensor) -> Tensor:
    """Return the rows at these ascending places: the rows themselves if these are all."""
    return rows if len(places) == len(rows) else rows[places]
