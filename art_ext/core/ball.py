"""What every attack within a given ball shares: its options, its looks at the iterates, what to
report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks.engine.successes import Outcomes
from art_ext.core.checks import check_choice, check_flag, check_positive
from art_ext.core.geometry import (
    DISTORTIONS,
    attainable_radius,
    distances,
    distortions,
    project,
    within_ball,
)
from art_ext.core.losses import Loss, make_gain
from art_ext.core.oracle import GradientOracle, Judge, Model, ScoreOracle
from art_ext.core.result import AttackResult, Progress
from art_ext.core.run import Run, RunKeywords, RunOptions
from art_ext.core.run import spelled_out as spell


@dataclass(frozen=True, kw_only=True, eq=False)
class Options(RunOptions):
    """Keywords of every attack within a given ball: those of ``RunOptions``, and these.

    Attributes:
        loss: what is ascended: ``"ce"``, ``"margin"``, or a callable from the model's outputs (r,
            K) and the positions (r,) of their samples in x to (r,) numbers, such as the inner
            product with a target's embedding. A callable is ascended as it is, targeted or not.
        criterion: from the same to (r,) bool, whether a row is a success, for models whose outputs
            are no class scores. None: the predicted class differs from y, or is the target.
        stop_on_success: a sample leaves at its first success; otherwise its last iterate that
            succeeded is reported.
        on_failure: what ``x_adv`` holds where nothing succeeded: ``"input"``, or ``"last"``, the
            last iterate.
    """

    loss: str | Loss = "ce"
    criterion: Judge | None = None
    stop_on_success: bool = False
    on_failure: str = "input"


spelled_out = spell(Options)


class SharedKeywords(RunKeywords, total=False):
    """The fields of ``Options``, for type checkers, less those that some attacks name
    themselves.
    """

    targets: Tensor | None
    loss: str | Loss
    criterion: Judge | None
    on_failure: str


class Keywords(SharedKeywords, total=False):
    """The fields of ``Options``, for type checkers."""

    stop_on_success: bool
    max_queries: int | None


@dataclass(frozen=True, eq=False)
class Look:
    """What the model said to the iterates of the R live samples.

    Attributes:
        losses: (R,) what the attack ascends.
        gradient: (R, D) of the losses, zero at masked coordinates and where it is not finite; None
            if not asked for.
        met: (R,) bool, whether the iterate is a success.
    """

    losses: Tensor
    gradient: Tensor | None
    met: Tensor

    def ascent(self) -> Tensor:
        """The gradient, for callers who asked for it."""
        if self.gradient is None:
            raise RuntimeError("the gradient was not asked for")
        return self.gradient


class BallRun(Run):
    """One attack within a given ball.

    A method calls ``open`` once, then, until no sample is live, ``look`` at the next iterates and
    ``drop`` those that are done. The forward that a gradient needs is at the same time the check of
    its iterate, so nothing is asked twice, the clean check included. A method that makes several
    trajectories runs each inside the loop of ``trajectories``.

    Attributes:
        norm, radius: the ball to stay in; the radius leaves room for rounding.
        gain: the loss to ascend.
        spent: queries charged to each live sample so far; the same for all of them.
        losses: (R,) at the last iterates, of which several trajectories report the one of highest
            loss; a method replaces it together with ``rows``.
    """

    eps: float  # never None here

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float,
        norm: str,
        options: Options,
        oracle: type[ScoreOracle] = GradientOracle,
    ) -> None:
        super().__init__(model, x, y, eps=eps, norm=norm, options=options, oracle=oracle)
        check_positive("eps", eps)  # None, which Run lets pass, is no ball to fill
        check_choice("on_failure", options.on_failure, ("input", "last"))
        self.options = options
        self.radius = attainable_radius(norm, eps, self.box, self.samples.shape[1])
        self.goals_are_classes = options.criterion is None
        self.gain = make_gain(
            options.loss, self.goal, targeted=self.targeted, outputs=options.outputs
        )
        self.fooled = torch.zeros_like(self.already)
        self.x_adv = self.samples.clone()
        self.held = self.rows = self.samples
        self.met = self.already
        self.spent = 0
        self._count, self._number = 1, 0
        self._outcomes: Outcomes | None = None  # from here, only with several trajectories
        self.hit = self.fooled
        self.losses = self.held_losses = self.samples.new_full(self.goal.shape, torch.nan)
        self._trace: dict[str, Tensor] = {}

    @property
    def remaining(self) -> int:
        """Queries that each live sample may still ask."""
        limit = self.options.max_queries
        return torch.iinfo(torch.int64).max if limit is None else limit - self.spent

    def trajectories(self, count: int, *, keep_ends: bool = False) -> Iterator[int]:
        """Numbers of trajectories from 0, each of which the caller runs until its
        ``drop(last=True)``.

        Samples that ``stop_on_success`` lets leave do not take part in later ones; of all others
        the best outcome counts. The loop ends early when no sample is left or the budget is spent.

        Args:
            count: of the trajectories.
            keep_ends: whether ``result`` reports the end of each.
        """
        check_flag("keep_samples", keep_ends)
        self._count = count
        if count > 1 or keep_ends:
            self._outcomes = Outcomes(self.samples, count, keep_ends)
        for number in range(count):
            self._number = number
            self._begin_trajectory()
            yield number
            if not len(self.index):
                return

    def _begin_trajectory(self) -> None:
        """Forget what the trajectory before succeeded with; its outcome is in ``x_adv``."""
        if self._outcomes is None:
            return
        self.hit = torch.zeros_like(self.index, dtype=torch.bool)
        self.held = self.x_adv[self.index]
        self.held_losses = self.samples.new_full((len(self.index),), torch.nan)
        self.losses = self.held_losses

    def ascend_another_loss(self, gain: Loss) -> None:
        """Ascend this loss from the next trajectory on, whose values say nothing about those of
        the last one.
        """
        self.gain = gain
        if self._outcomes is not None:
            self._outcomes.forget_losses()

    def feasible(self, rows: Tensor) -> Tensor:
        """Rows (R, D) brought to the box first and to the ball second, which moves no coordinate
        away from x.

        In L-inf the order does not matter. The clip at the end takes back what rounding adds.
        """
        rows = rows if self.norm == "linf" else self.clip(rows)
        return self.clip(self.x + project(rows - self.x, self.norm, self.radius))

    def open(self, differentiate: bool, *, last: bool = False) -> Look:
        """The clean check, one query a sample, and the gradient at the clean input; samples that
        are done leave.

        Args:
            differentiate: whether a step from the clean input follows.
            last: whether the method ends here.

        Raises:
            ValueError: if the model returns NaN or no scores for an input, or a label has no column
                in its output.
        """
        self.spent += 1
        losses, gradient = self.ask_clean(self.gain, differentiate)
        self.met = self.already
        if not len(self.index):
            return Look(losses, gradient, self.already)
        leave = self.already | last
        self._tell(leave, None)
        return self._keep(Look(losses, gradient, self.already), (~leave).nonzero().squeeze(1))

    def look(self, rows: Tensor, differentiate: bool) -> Look:
        """One query for the next iterate (R, D) of each live sample, in ball and box.

        Args:
            rows: the iterates.
            differentiate: whether a further step follows; samples that are done are not
                differentiated.
        """
        stop = self.options.stop_on_success
        met = torch.zeros(len(self.goal), dtype=torch.bool, device=self.oracle.device)

        def judge(outputs: Tensor, owner: Tensor) -> Tensor:
            hit = self.judge(outputs, owner)
            met[owner] = hit
            return ~hit if stop else torch.ones_like(hit)

        self.spent += 1
        _, losses, gradient = self.ask(rows, self.index, self.gain, differentiate, judge)
        self.met = met.index_select(0, self.index)
        self.rows = rows
        self.held = torch.where(self.met.unsqueeze(1), rows, self.held)
        if self._outcomes is not None:
            self.hit = self.hit | self.met
            self.losses = losses
            self.held_losses = torch.where(self.met, losses, self.held_losses)
        self.fooled.index_copy_(0, self.index, self.fooled.index_select(0, self.index) | self.met)
        since = self.first.index_select(0, self.index)
        self.first.index_copy_(
            0, self.index, torch.where((since < 0) & self.met, self.spent, since)
        )
        return Look(losses, gradient, self.met)

    def drop(
        self, look: Look, *, last: bool = False, chain: Tensor | None = None
    ) -> tuple[Look, Tensor | None]:
        """Tell the callback, and let the samples that are done leave: all if last, else the
        successes if they stop.

        Args:
            look: at the iterates of the live samples.
            last: whether the trajectory ends here. If another one follows, the samples stay for it.
            chain: (R, D) states of a chain to show to the callback.

        Returns:
            the look at the samples that stay, and their positions (R',) among the live ones, with
            which a method selects from its own state; None instead if all stay.
        """
        further = self._number + 1 < self._count and self.remaining > 0
        leave = torch.full_like(self.met, last and not further)
        if self.options.stop_on_success:
            leave = leave | self.met
        self._tell(leave, chain)
        if not last and not (self.options.stop_on_success and bool(leave.any())):
            return look, None
        self._settle(torch.ones_like(leave) if last else leave)
        stay = (~leave).nonzero().squeeze(1)
        return self._keep(look, stay), stay

    def _settle(self, ended: Tensor) -> None:
        """Enter the outcome of the live samples whose trajectory has ended, (R,) bool, into
        ``x_adv``.
        """
        done = ended.nonzero().squeeze(1)
        index = self.index[done]
        fallback = self.rows if self.options.on_failure == "last" else self.x
        if self._outcomes is None:
            kept = self.fooled.index_select(0, self.index).unsqueeze(1)
            self.x_adv[index] = torch.where(kept, self.held, fallback)[done]
            return
        hit = self.hit[done]
        succeeded = hit.unsqueeze(1)
        held = self.held[done]
        ends = torch.where(succeeded, held, self.rows[done])
        losses = torch.where(hit, self.held_losses[done], self.losses[done])
        better = self._outcomes.enter(
            self._number, index, ends, hit, self._verified(held, self.x[done]), losses
        )
        outcome = torch.where(succeeded, held, fallback[done])
        self.x_adv[index] = torch.where(better.unsqueeze(1), outcome, self.x_adv[index])

    def _verified(self, rows: Tensor, x: Tensor) -> Tensor:
        """(r,) bool, whether rows (r, D) are legal perturbations of x (r, D)."""
        shaped = rows.view(-1, *self.shape[1:])
        length = distances(shaped, x.view_as(shaped), self.norm)
        return self.box.contains(shaped) & within_ball(length, self.eps)

    def hold(self, rows: Tensor, mask: Tensor) -> None:
        """Report rows (R, D) where mask (R,) holds, rather than the last iterate that succeeded;
        before ``drop``.
        """
        self.held = torch.where(mask.unsqueeze(1), rows, self.held)

    def trace(self, steps: int, *names: str) -> None:
        """Open these rows of the trace, (steps, N) each."""
        self._trace = {
            name: self.samples.new_full((steps, len(self.goal)), torch.nan) for name in names
        }

    def record(self, name: str, step: int, values: Tensor) -> None:
        """Enter values (R,) of the live samples into the trace."""
        self._trace[name][step, self.index] = values.to(torch.float32)

    def result(self, chain: Tensor | None = None) -> AttackResult:
        """The outcome; chain (S, N, D) are the states of a method that draws several.

        None reports the ends of the trajectories, if they were kept.
        """
        if chain is None and self._outcomes is not None:
            chain = self._outcomes.ends
        lengths = distortions(self.x_adv, self.samples)
        inside = within_ball(lengths[:, DISTORTIONS.index(self.norm)], self.eps)
        hit = self.fooled & self.box.contains(self.x_adv.view(self.shape)) & inside
        # an iterate that succeeded outside the ball can only come from rounding; it is a failure
        # all the same
        lost = (self.fooled & ~hit).unsqueeze(1)
        return self.report(
            torch.where(lost, self.samples, self.x_adv),
            hit | self.already,
            lengths,
            x_nearest=None,
            nearest_distance=None,
            stop_on_success=self.options.stop_on_success,
            trace=self._trace,
            chain=chain,
        )

    def judge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) bool, whether outputs reach the goal of their samples, or meet the caller's
        criterion.
        """
        if self.options.criterion is None:
            return super().judge(outputs, owner)
        met = self.options.criterion(outputs, owner)
        if met.shape != (len(outputs),) or met.dtype != torch.bool:
            given = f"{tuple(met.shape)} of {met.dtype}"
            raise ValueError(f"criterion must return ({len(outputs)},) of torch.bool, got {given}")
        return met

    def _keep(self, look: Look, stay: Tensor) -> Look:
        if len(stay) == len(self.index):
            return look
        self.select(stay)
        self.held, self.rows, self.met = self.held[stay], self.rows[stay], self.met[stay]
        if self._outcomes is not None:
            self.hit, self.losses, self.held_losses = (
                kept[stay] for kept in (self.hit, self.losses, self.held_losses)
            )
        gradient = None if look.gradient is None else look.gradient[stay]
        return Look(look.losses[stay], gradient, look.met[stay])

    def _tell(self, finished: Tensor, chain: Tensor | None) -> None:
        if self.options.callback is not None:
            fooled = self.fooled[self.index] | self.already[self.index]
            length = distances(self.held, self.x, self.norm)
            self.options.callback(
                Progress(
                    step=self.rounds,
                    index=self.index,
                    distance=torch.where(fooled, length, torch.inf).to(torch.float32),
                    queries=self.oracle.queries[self.index],
                    finished=finished,
                    success=fooled,
                    samples=None if chain is None else chain.view(-1, *self.shape[1:]),
                )
            )
        self.rounds += 1
