"""The part of the drivers that both families of attacks share: queries, compaction, the result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.awareness import Awareness
from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.attacks.engine.planning import PlannedRows, current, state_plan
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.expectation import Confirmation
from art_ext.core.inspection import accepted, class_scores
from art_ext.core.interruption import interruptible
from art_ext.core.oracle import GradientOracle, Model, ScoreOracle
from art_ext.core.outputs import predicted_classes
from art_ext.core.outside import Outside, describe_outside
from art_ext.core.result import AttackResult, Progress, build_result
from art_ext.core.samples import warn_if_reached

logger = logging.getLogger("art_ext")


class Driver:
    """One attack on N samples. Rows that are done leave.

    Args:
        model, x, y: as the public functions take them.
        eps, norm: the ball, or how distances are measured.
        options: the keywords that all attacks share.
        oracle: its type is the threat model.

    Attributes:
        problem: the active rows.
        whole: the problem with all N samples.
        already: (N,) bool, samples whose clean input is adversarial.
        awareness: what the loss knows of a detector.
        rounds: rounds of model calls so far.
        verifies: True if gradients are computed in bfloat16, and successes verified in float32.
        name: of the method, for messages.
    """

    goals_are_classes = True
    name = "the attack"

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float | None,
        norm: str,
        options: AttackOptions,
        oracle: type[ScoreOracle] = GradientOracle,
    ) -> None:
        self.callback = options.callback
        self.outputs = options.outputs
        self.verifies = options.amp
        self.problem = self.whole = Problem.of(
            model, x, y, eps=eps, norm=norm, options=options, oracle=oracle
        )
        self.home = x.device
        self.awareness = Awareness(options, self.whole.scores, self.whole.goal, self.reached)
        if isinstance(self.whole.oracle.inspector, Confirmation):
            self.whole.oracle.inspector.reached = self.reached
        self.already = torch.zeros_like(self.whole.index, dtype=torch.bool)
        self.rounds = 0

    def running(self) -> AbstractContextManager[None]:
        """Enter the oracle. A model that stops raises ``AttackInterrupted`` with the outcome."""

        def outcome() -> tuple[AttackResult, Tensor]:
            return self.interim(), (self.already | ~self.unfinished()).to(self.home)

        return interruptible(self.whole.oracle, outcome)

    def plan(self, answers: Callable[[], PlannedRows]) -> None:
        """State the most rows of a sample, where a plan is made.

        Args:
            answers: function of the most answers and gradients of a sample. A part of the method
                that does not know its most steps raises NotImplementedError, and states no plan.
        """
        if current() is None:
            return
        try:
            most = self.most(answers())
        except NotImplementedError:
            return
        verified = (most.backward - most.further) * self.verifies
        answers_of_all = most.forward + verified
        rows = replace(most, forward=answers_of_all * self.whole.oracle.cost)
        state_plan(rows.within(self.whole.oracle.max_queries))

    def most(self, answers: PlannedRows) -> PlannedRows:
        """Return the most answers and gradients over all runs of the method."""
        return answers

    def unfinished(self) -> Tensor:
        """(N,) bool, samples that the attack goes on with."""
        return torch.zeros_like(self.already).index_fill(0, self.problem.index, True)

    def interim(self) -> AttackResult:
        """Build the result so far, of an attack that is interrupted."""
        raise NotImplementedError

    def reached(self, scores: Tensor, owner: Tensor) -> Tensor:
        """(r,) bool, True where class scores (r, K) reach the goal of their samples. A row of NaN
        never does.
        """
        classes = predicted_classes(scores, self.outputs)
        return self.whole.goal.reached(classes, owner)

    def judge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) bool, True where outputs reach the goal of their samples, and the detector of the
        problem, or the fresh draws of an ``Expectation``, accept their rows.
        """
        inspector = self.whole.oracle.inspector
        if inspector is None:
            return self.reached(outputs, owner)
        return self.reached(class_scores(outputs, inspector), owner) & accepted(outputs)

    def judge_clean(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) bool, True where clean inputs are not adversarial.

        Fills ``already``, and the goals of unlabelled samples with the model's predictions.

        Raises:
            ValueError: if the outputs (r, K) hold NaN, or a label has no column in them.
        """
        whole = self.whole
        whole.oracle.check_known(outputs, owner)
        if whole.goal.unlabelled:
            whole.goal.fill(whole.oracle.classes(outputs), owner)
        if self.goals_are_classes:
            whole.goal.check(whole.oracle, owner)
        success = self.judge(outputs, owner)
        self.already[owner] = success
        return ~success

    def check_clean(self, outputs: Tensor) -> None:
        """Check the outputs (N, K) of all clean inputs, after ``judge_clean``.

        Raises:
            ValueError: if they are no scores.
        """
        self.whole.oracle.check_clean(outputs)
        if self.whole.goal.targeted and self.goals_are_classes:
            warn_if_reached(self.already)

    def lower(self) -> None:
        """Compute gradients in bfloat16 from now on, after the clean check, if that is wanted."""
        if self.verifies and isinstance(self.whole.oracle, GradientOracle):
            self.whole.oracle.lower(self.judge)

    def own_problem(self) -> Problem:
        """Return the problem with a copy of the inputs, which a method may overwrite."""
        return replace(self.problem, x=self.problem.x.clone())

    def warn_if_short(self, needed: int, max_queries: int | None) -> None:
        """Warn if the budget does not pay for one iteration: at most a start is tried then.

        Args:
            needed: answers per sample of the clean check and one iteration.
            max_queries: the budget. None for no limit.
        """
        needed = (2 * needed - 1 if self.verifies else needed) * self.whole.oracle.cost
        if max_queries is not None and max_queries < needed and len(self.whole.x):
            logger.warning(
                "%s makes no iteration: one iteration needs %d queries per sample, the clean check"
                " included, got max_queries=%d",
                self.name,
                needed,
                max_queries,
            )

    def outside_of(self, rows: Tensor, suspect: Tensor, eps: float | None) -> Outside | None:
        """Measure outputs (N, D) where suspect (N,) holds, and warn of them. None if there are
        none.

        Args:
            rows: the outputs.
            suspect: (N,) bool, those that lie outside the ball or the box.
            eps: radius of the ball. None for no ball.
        """
        if not bool(suspect.any()):
            return None
        whole = self.whole
        index = suspect.nonzero().squeeze(1)
        found = Outside.none(len(suspect), rows.device)
        x = whole.shaped(whole.x[index])
        found.enter(whole.shaped(rows[index]), x, index, box=whole.box, norm=whole.norm, eps=eps)
        found.attacked.copy_(~self.already)
        message = describe_outside(len(index), **found.numbers)
        logger.warning("%s: %s", self.name, message)
        return found

    def open_trace(self, steps: int, *names: str) -> None:
        """Open these rows of the trace, (steps, N) each."""
        shape = (steps, len(self.whole.x))
        self.problem.trace.update({name: self.whole.x.new_full(shape, torch.nan) for name in names})

    def tell(
        self,
        finished: Tensor,
        success: Tensor,
        distance: Tensor,
        chain: Tensor | None = None,
        iterates: Tensor | None = None,
        iteration: int = 0,
    ) -> None:
        """Call the callback after a round of model calls.

        Args:
            finished, success, distance: (R,) of the active rows, as ``Progress`` has them.
            chain: (R, D) states of a chain.
            iterates: (R, D) candidates of the round.
            iteration: that led to them.
        """
        if self.callback is not None:
            problem = self.problem
            self.callback(
                Progress(
                    step=self.rounds,
                    index=problem.index,
                    distance=distance.to(torch.float32),
                    queries=problem.oracle.queries[problem.index],
                    finished=finished,
                    success=success,
                    samples=None if chain is None else problem.shaped(chain),
                    iterates=None if iterates is None else problem.shaped(iterates),
                    iteration=iteration,
                )
            )

    def report(self, x_adv: Tensor, success: Tensor, first: Tensor, **outcome: Any) -> AttackResult:
        """Build the result. The keywords in ``outcome`` are those of ``build_result``.

        Args:
            x_adv: (N, D).
            success: (N,) bool.
            first: (N,) queries at the first success.
        """
        whole = self.whole
        return build_result(
            whole.oracle,
            whole.x.view(whole.shape),
            x_adv,
            success,
            already=self.already,
            first=first,
            norm=whole.norm,
            eps=whole.eps,
            seed=whole.seed,
            home=self.home,
            trace=whole.trace,
            **outcome,
        )
