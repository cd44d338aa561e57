"""The driver of the minimum-norm attacks."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any, Generic

import torch
from torch import Tensor

from art_ext.core.attacks.engine.driver import Driver
from art_ext.core.attacks.engine.method import Answers, S, check_needs, check_state
from art_ext.core.attacks.engine.nearest import BestAdversarials
from art_ext.core.attacks.engine.options import MinimumNormOptions
from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.attacks.engine.problem import Problem, no_gain
from art_ext.core.attacks.engine.state import State, keep
from art_ext.core.checks import check_not_negative
from art_ext.core.geometry import distances, within_ball
from art_ext.core.inspection import class_scores
from art_ext.core.losses import Loss, logits_of, margin
from art_ext.core.oracle import GradientOracle, Model, ScoreOracle
from art_ext.core.result import AttackResult


class Search:
    """Base of the searches over a constant or a radius, which begin a method again for each."""

    def open(self, driver: MinimumNorm) -> None:
        """Begin the search of each active row."""
        raise NotImplementedError

    @property
    def begun(self) -> Tensor | None:
        """(R,) bool, rows whose method begins again. None if none does."""
        raise NotImplementedError

    @property
    def most_optimisations(self) -> int:
        """Most times that the method begins again."""
        raise NotImplementedError

    @property
    def most_steps(self) -> int:
        """Most steps of the method, over all optimisations."""
        raise NotImplementedError

    def enter(self, answers: Answers, distortion: Tensor) -> Tensor:
        """Enter the answers for the candidates, and their distortion (R,).

        Returns:
            (R,) bool, True for rows whose search is over.
        """
        raise NotImplementedError

    def keep(self, rows: Tensor) -> None:
        """Keep the active rows at these positions."""
        raise NotImplementedError

    def value(self) -> Tensor | None:
        """(N,) the values of the outcomes. None for those of the method's rule."""
        return None


class Optimiser(Generic[S]):
    """Base of the minimum-norm methods, which a search begins again from the inputs.

    Attributes:
        needs_clean_gradient: ``init`` gets the gradient at the clean inputs.
        needs_gradient: the step uses ``answers.gradient``.
    """

    needs_clean_gradient: bool = True
    needs_gradient: bool = True

    def init(self, problem: Problem, slope: Tensor) -> S:
        """Return the state at the inputs, from the gradient (R, D) there, or zeros."""
        raise NotImplementedError

    def step(self, problem: Problem, state: S, answers: Answers | None, search: Any) -> S:
        """Return the state with the next candidates.

        Args:
            problem: the active rows.
            state: of these rows.
            answers: for the candidates ``state.x``. None in the first round.
            search: says which rows begin again, and for which constant or radius.
        """
        raise NotImplementedError

    def planned_rows(self, search: Any) -> PlannedRows:
        """Return the most answers and gradients of a sample: the clean check and the steps."""
        steps = search.most_steps
        return PlannedRows(1 + steps, self.needs_clean_gradient + steps * self.needs_gradient)

    def visit(self, driver: MinimumNorm, state: S, search: Any) -> Answers:
        """Query the candidates ``state.x`` of all active rows.

        A method whose variable is not the input itself makes them here, one slice at a time.

        Args:
            driver: that queries the model.
            state: with the candidates.
            search: as for ``step``.
        """
        return driver.visit(state.x, driver.problem.gain, self.needs_gradient)

    def measure(self, problem: Problem, state: S) -> tuple[Tensor, Tensor]:
        """(R,) the distortion in the objective, and (R,) the value by which the rule chooses."""
        raise NotImplementedError

    def cost(self, begun: Tensor | None) -> Tensor | int:
        """Count the queries of the next step and its candidate, one number or (R,)."""
        return 1


class MinimumNorm(Driver):
    """Runs an ``Optimiser`` inside a ``Search``.

    A success is a candidate whose margin, ``max_{j != y} z_j - z_y`` or ``z_t - max_{j != t} z_j``,
    is at least the confidence, and whose predicted class has left y or is t.

    Args:
        model: ``nn.Module``, or a differentiable callable from (R, *S) to class scores (R, K).
            Normalisation lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``.
        y: true classes, (N,), or the classes to reach if ``targeted``. Default: None, the model's
            prediction.
        eps: radius in ``norm`` within which an adversarial counts as success, in the units of x.
            Default: None, any adversarial counts.
        norm: of ``distance`` and eps, ``"linf"``, ``"l2"`` or ``"l1"``.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have. Default: 0.
        oracle: its type is the threat model.
        **options: the fields of ``MinimumNormOptions``.

    Attributes:
        found: the adversarials so far.
        search: that has begun, whose values are those of the result. None: those of the rule.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float | None,
        norm: str,
        confidence: float,
        oracle: type[ScoreOracle] = GradientOracle,
        **options: Any,
    ) -> None:
        check_not_negative("confidence", confidence)
        self.options = MinimumNormOptions(**options)
        super().__init__(model, x, y, eps=eps, norm=norm, options=self.options, oracle=oracle)
        self.confidence = confidence
        self.found = BestAdversarials(self.whole)
        self.search: Search | None = None

    def margins(self, outputs: Tensor, owner: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(r,) margins of outputs (r, K) beyond the decision boundary, negative before it."""
        goal = self.whole.goal.labels.index_select(0, owner)
        scores = class_scores(outputs, self.whole.oracle.inspector)
        gain = margin(logits_of(scores, self.outputs, dtype), goal)
        return -gain if self.whole.goal.targeted else gain

    def hinge(self, outputs: Tensor, owner: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(r,) ``max(kappa - margin, 0)``: the loss f of (9) plus kappa, and a detector's term."""
        hinge = (self.confidence - self.margins(outputs, owner, dtype)).clamp(min=0)
        return self.awareness.descended(hinge, outputs)

    def judge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) bool, True where outputs reach the goal by a margin of at least the confidence."""
        success = super().judge(outputs, owner)
        if not self.confidence:
            return success
        return success & (self.margins(outputs, owner) >= self.confidence)

    def run(self, method: Optimiser[S], search: Search, gain: Loss | None = None) -> AttackResult:
        """Run a method for each constant or radius of a search.

        Args:
            method: the optimisation.
            search: begins it again.
            gain: a loss of class scores to ascend. None: the method descends the hinge.
        """
        chosen = self.hinge if gain is None else self.awareness.ascended(gain)
        self.problem = self.whole = replace(self.whole, gain=chosen)
        self.name = type(method).__name__
        check_needs(method, method.needs_gradient or method.needs_clean_gradient, self.whole)
        self.warn_if_short(2, self.options.max_queries)
        self.plan(lambda: method.planned_rows(search))
        with self.running():
            differentiate = method.needs_clean_gradient and self.options.max_answers != 1
            slope = self.open(self.whole.gain, differentiate=differentiate)
            self.optimise(method, search, slope)
        result = self.result()
        self.problem = self.whole = replace(self.whole, gain=no_gain)
        return result

    def optimise(self, method: Optimiser[S], search: Search, slope: Tensor | None) -> None:
        """Run the search of the active rows, from its beginning to its end.

        Args:
            method, search: as for ``run``.
            slope: (R, D) the gradient at the clean inputs. None if there is none.
        """
        self.problem = self.own_problem()
        search.open(weakref.proxy(self))  # a cycle of references would hold memory for long
        self.search = search
        zero = torch.zeros_like(self.problem.x)
        state = method.init(self.own_problem(), zero if slope is None else slope)
        check_state(method, "init", state, self.problem)
        answers: Answers | None = None
        while len(self.problem.index):
            state = method.step(self.problem, state, answers, search)
            check_state(method, "step", state, self.problem)
            answers = method.visit(self, state, search)
            distortion, value = method.measure(self.problem, state)
            self.record(state, answers, value)
            finished = search.enter(answers, distortion)
            leaving = finished | self.short_of(method.cost(search.begun))
            rows = self.drop(leaving, state.x)
            if rows is not None:
                search.keep(rows)
                state = keep(state, rows)
                answers = keep(answers, rows)

    def record(self, state: State, answers: Answers, value: Tensor) -> None:
        """Keep the successes among the candidates of a state, with their values (R,) by the rule of
        the method.
        """
        self.found.record(self.problem, state.x, answers.success, value)

    def open(self, loss: Loss, *, differentiate: bool, least: Tensor | int = 1) -> Tensor | None:
        """Make the clean check, one query a sample: the gradient (R, D) of a loss, if wanted.

        Samples that are adversarial, that may not change at all, or that have fewer queries left
        than ``least``, leave.

        Args:
            loss: of the hinge kind.
            differentiate: True computes the gradient.
            least: queries that the method needs to do anything, one number or (N,).

        Raises:
            ValueError: if the model returns NaN or no scores for an input, or a label has no column
                in its output.
        """
        whole = self.whole
        if not len(whole.x):
            return whole.x
        outputs, _, gradient = whole.query(
            whole.x, whole.index, loss, differentiate, self.judge_clean
        )
        self.check_clean(outputs)
        self.lower()
        self.found.enter_clean(self.already)
        leaving = self.already | self.short_of(least)
        if whole.mask is not None:
            leaving = leaving | ~(whole.mask != 0).any(dim=1)
        rows = self.drop(leaving)
        return gradient if gradient is None or rows is None else gradient[rows]

    def visit(self, rows: Tensor, loss: Loss, differentiate: bool) -> Answers:
        """One query for the candidates (R, D) of all active rows, and their losses."""
        problem = self.problem
        outputs, losses, slope = problem.query(rows, problem.index, loss, differentiate)
        return Answers(losses, self.judge(outputs, problem.index), slope)

    def short_of(self, cost: Tensor | int) -> Tensor:
        """(R,) bool, rows whose budget does not hold so many more queries."""
        return self.problem.oracle.ledger.remaining(self.problem.index) < cost

    def drop(self, leaving: Tensor, candidates: Tensor | None = None) -> Tensor | None:
        """Tell the callback, and let the rows (R,) go that are done.

        Args:
            leaving: (R,) bool.
            candidates: (R, D) the last ones.

        Returns:
            (R',) the positions that remain, with which a method reduces its own state. None if all
            remain.
        """
        if self.callback is not None:
            distance = self.found.distance[self.problem.index]
            self.tell(leaving, within_ball(distance, self.problem.eps), distance)
        self.rounds += 1
        if not bool(leaving.any()):
            return None
        if candidates is not None:
            self.found.note_last(self.problem.index, leaving, candidates)
        rows = (~leaving).nonzero().squeeze(1)
        self.problem = keep(self.problem, rows)
        return rows

    def interim(self) -> AttackResult:
        """Build the result so far."""
        self.found.enter_clean(self.already)
        return self.result()

    def result(self) -> AttackResult:
        """Build the result. ``x_adv`` is the rule's choice or, where that lies outside the ball,
        the nearest.
        """
        whole, found = self.whole, self.found
        suspect = found.verify()
        outside = self.outside_of(found.candidates, suspect, None)
        success = within_ball(found.distance, whole.eps)
        chosen = within_ball(distances(found.best, whole.x, whole.norm), whole.eps)
        x_adv = torch.where((success & chosen).unsqueeze(1), found.best, found.nearest)
        value = None if self.search is None else self.search.value()
        if value is None:
            value = torch.where(chosen, found.best_value, found.nearest_value)
        return self.report(
            torch.where(success.unsqueeze(1), x_adv, whole.x),
            success,
            found.first,
            x_nearest=found.nearest,
            nearest_distance=found.distance,
            outside=outside,
            value=value.masked_fill(~success, torch.inf).masked_fill(self.already, 0.0),
        )
