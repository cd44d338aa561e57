"""The driver of the fixed-radius attacks."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.driver import Driver
from art_ext.core.attacks.engine.members import MEAN_LOGITS, MeanLogits
from art_ext.core.attacks.engine.method import Answers, Method, S, check_needs, check_state
from art_ext.core.attacks.engine.options import FixedRadiusOptions
from art_ext.core.attacks.engine.queries import Queries
from art_ext.core.attacks.engine.state import keep
from art_ext.core.attacks.engine.successes import Outcomes, Successes, check_restarts
from art_ext.core.checks import check_choice, check_flag, check_positive
from art_ext.core.inspection import class_scores
from art_ext.core.losses import Loss, make_gain
from art_ext.core.oracle import GradientOracle, Model, ScoreOracle
from art_ext.core.result import AttackResult


class FixedRadius(Driver):
    """Runs a ``Method`` inside a ball. The forward of a gradient is the check of its candidate.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to class scores (R, K). It normalises inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius of the ball, in the units of x (8/255, not 8).
        norm: of the ball, ``"linf"``, ``"l2"`` or ``"l1"``. Default: linf.
        oracle: its type is the threat model.
        **options: the fields of ``FixedRadiusOptions``.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    Attributes:
        moved: (N,) bool, samples for which a step was made.
        spent: answers charged to each active row so far, the same for all of them.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float,
        norm: str,
        oracle: type[ScoreOracle] = GradientOracle,
        **options: Any,
    ) -> None:
        self.options = FixedRadiusOptions(**options)
        super().__init__(model, x, y, eps=eps, norm=norm, options=self.options, oracle=oracle)
        check_positive("eps", eps)
        check_choice("on_failure", self.options.on_failure, ("input", "last"))
        self.goals_are_classes = self.options.criterion is None
        goal = self.whole.goal
        self.mean_logits: MeanLogits | None = None
        if self.options.loss == MEAN_LOGITS:
            self.mean_logits = MeanLogits(model, goal, self.whole.oracle.cost)
        gain: Loss = self.mean_logits or make_gain(
            self.options.loss, goal.labels, targeted=goal.targeted, outputs=self.outputs
        )
        self.problem = self.whole = replace(self.whole, gain=self.awareness.ascended(gain))
        self.successes = Successes(self.whole, self.options.on_failure)
        self.queries = Queries(self.options, self.whole)
        self.moved = torch.zeros_like(self.already)
        self.trajectories = 1
        self.spent = 0
        self.visited: tuple[Tensor | None, int] = (None, 0)  # candidates, for the callback

    def run(
        self, method: Method[S], *, num_restarts: int = 1, keep_ends: bool = False
    ) -> AttackResult:
        """Run the method, and report the best outcome of each sample over its trajectories.

        Samples that ``stop_on_success`` stops take no part in later trajectories.

        Args:
            method: the attack.
            num_restarts: trajectories from random points.
            keep_ends: report the end of each trajectory in ``samples``.
        """
        check_restarts(num_restarts, "input" if method.starts_at_input else "uniform")
        check_flag("keep_samples", keep_ends)
        check_needs(method, method.needs_gradient, self.whole)
        self.method: Method[Any] = method
        self.name = type(method).__name__
        self.plan(lambda: self.queries.planned(method, num_restarts))
        with self.running(), self.mean_logits or nullcontext():
            answers = self._open()
            self._prepare()
            self.problem = self.own_problem()
            self.trajectories = method.num_trajectories(num_restarts)
            if self.trajectories > 1 or keep_ends:
                self.successes.outcomes = Outcomes(self.whole.x, self.trajectories, keep_ends)
            for number in range(self.trajectories):
                gain = method.next_loss(self.problem, number)
                if gain is not None:
                    self.problem = replace(self.problem, gain=self.awareness.ascended(gain))
                self.successes.begin(number, self.problem, another_loss=gain is not None)
                state = method.init(self.own_problem(), number)
                check_state(method, "init", state, self.problem)
                if not method.starts_at_input and len(self.problem.index):
                    state, answers = self._visit(state, 0)
                self.moved[self.problem.index] = method.num_steps > 0
                for t in range(method.num_steps):
                    if not len(self.problem.index):
                        break
                    state = method.step(self.problem, state, answers, t)
                    del answers  # frees the gradient before the model is called
                    check_state(method, "step", state, self.problem)
                    self.spent += method.queries_per_step
                    state, answers = self._visit(state, t + 1)  # noqa: RUF059  # used in the next turn
                if not len(self.problem.index):
                    break
        return self._result(method.chain(self.successes.x_adv, self.moved))

    def reached(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) bool, True where class scores reach the goal, or satisfy the caller's criterion."""
        if self.options.criterion is None:
            return super().reached(outputs, owner)
        return _flags(self.options.criterion(outputs, owner), len(outputs))

    def judge_clean(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """As the base does, and show the outputs to the method."""
        wanted = super().judge_clean(outputs, owner)
        self.method.see_clean(self.whole, class_scores(outputs, self.whole.oracle.inspector), owner)
        return wanted

    def _open(self) -> Answers:
        """Make the clean check. Samples that are done leave."""
        whole, method = self.whole, self.method
        self.spent += 1
        left = self.options.remaining(self.spent)
        further = left > method.queries_per_step
        differentiate = further and method.starts_at_input and method.needs_gradient
        if not len(whole.x):
            return Answers(whole.x.new_zeros(0), self.already, whole.x)
        outputs, losses, gradient = self.queries.of(whole)(
            whole.x, whole.index, whole.gain, differentiate, self.judge_clean
        )
        self.check_clean(outputs)
        least = (method.least_queries + method.preparation) * self.queries.each
        self.warn_if_short(least, self.options.max_queries)
        self.lower()
        answers = Answers(losses, self.already, gradient)
        self.successes.first.masked_fill_(self.already, whole.oracle.cost)
        further = left > method.queries_per_step + method.preparation
        leaving = self.already | (not further)
        self._tell(leaving, self.already, None)
        return self._keep((~leaving).nonzero().squeeze(1), answers)[1]

    def _prepare(self) -> None:
        """Let the method make queries of its own, of the samples that it attacks."""
        if self.method.preparation and len(self.problem.index):
            self.method.prepare(self.problem)
            self.spent += self.method.preparation

    def _visit(self, state: Any, t: int) -> tuple[Any, Answers]:
        """One query for the candidates of all active rows. Rows that are done are dropped.

        Args:
            state: of the method, after ``t`` steps.
        """
        method, problem, stop = self.method, self.problem, self.options.stop_on_success
        counts = method.counts(t)
        successes: list[Tensor] = []

        def judge(outputs: Tensor, owner: Tensor) -> Tensor:
            successes.append(self.judge(outputs, owner) & counts)
            return ~successes[-1] if stop else torch.ones_like(successes[-1])

        self.spent += 1
        left = self.options.remaining(self.spent)
        last = t == method.num_steps or left <= method.queries_per_step
        compared = method.compares_losses or self.trajectories > 1
        _, losses, gradient = self.queries.of(problem, compared)(
            state.x,
            problem.index,
            problem.gain,
            method.needs_gradient and not last,
            judge,
            verify=counts,
        )
        success = successes[0] if len(successes) == 1 else torch.cat(successes)
        answers = Answers(losses, success, gradient)
        stops = stop and bool(success.any())  # the one look at the device in a round
        if stops or not stop:
            # a verification makes the queries of the rows differ
            spent = self.queries.spent(self.spent, problem)
            self.successes.hold(state.x, success, losses, spent)
        if self.callback is not None:
            self.visited = state.x, self.successes.number * method.num_steps + t
        state = method.observe(problem, state, answers, t)
        check_state(method, "observe", state, problem)
        return self._drop(state, answers, last, stops, counts)

    def _drop(
        self, state: Any, answers: Answers, last: bool, stops: bool, counts: bool
    ) -> tuple[Any, Answers]:
        """Let the rows go that are done: all of them at the end of the last trajectory, else the
        successes if they stop.

        Args:
            state, answers: of the active rows.
            last: True at the end of a trajectory.
            stops: True if there are successes that stop.
            counts: False if the candidates lie in a larger ball. They end in the ball then.
        """
        preferred = self.method.preferred(state) if last else None
        if preferred is not None:
            self.successes.prefer(*preferred)
        further = self.options.remaining(self.spent) > 0
        goes_on = further and self.successes.number + 1 < self.trajectories
        leaving = torch.full_like(answers.success, last and not goes_on)
        if self.options.stop_on_success:
            leaving = leaving | answers.success
        self._tell(leaving, self.successes.held.first >= 0, self.method.shown(state))
        if not last and not stops:
            return state, answers
        candidates, (end, losses) = state.x, self.method.end(state, answers)
        if not counts:
            candidates = end = self.problem.feasible(end)
            losses = torch.full_like(losses, -torch.inf)  # that of another point
        done = (leaving | last).nonzero().squeeze(1)
        self.successes.settle(self.problem, done, candidates, end, losses)
        return self._keep((~leaving).nonzero().squeeze(1), answers, state)

    def _keep(self, rows: Tensor, answers: Answers, state: Any = None) -> tuple[Any, Answers]:
        if len(rows) == len(self.problem.index):
            return state, answers
        self.problem = keep(self.problem, rows)
        self.successes.keep(rows)
        return None if state is None else keep(state, rows), keep(answers, rows)

    def _tell(self, finished: Tensor, success: Tensor, chain: Tensor | None) -> None:
        if self.callback is not None:
            length = self.successes.lengths(self.problem)
            distance = torch.where(success, length, torch.inf)
            self.tell(finished, success, distance, chain, *self.visited)
        self.rounds += 1

    def interim(self) -> AttackResult:
        """Build the result so far. An active row has its last success, or its input."""
        self.successes.interrupt(self.problem, self.already)
        return self._result(None)

    def _result(self, drawn: Tensor | None) -> AttackResult:
        x_adv, success, lengths, suspect = self.successes.verify(self.already)
        outcomes = self.successes.outcomes
        return self.report(
            x_adv,
            success,
            self.successes.first,
            lengths=lengths,
            outside=self.outside_of(self.successes.candidates, suspect, self.whole.eps),
            stop_on_success=self.options.stop_on_success,
            samples=drawn if outcomes is None else outcomes.ends,
        )


def _flags(success: Tensor, count: int) -> Tensor:
    """Return what a criterion returned, if it is one flag for each row."""
    if success.shape != (count,) or success.dtype != torch.bool:
        given = f"{tuple(success.shape)} of {success.dtype}"
        raise ValueError(f"criterion must return ({count},) of torch.bool, got {given}")
    return success
