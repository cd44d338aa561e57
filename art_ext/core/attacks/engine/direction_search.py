"""The search of OPT and Sign-OPT for the direction along which the decision boundary is nearest."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from art_ext.core.attacks.engine.boundary import (
    GROW,
    SAMPLE,
    SHRINK,
    START,
    Boundary,
    DirectionState,
    lengths,
    random_directions,
)
from art_ext.core.attacks.engine.label_search import LabelSearch
from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.attacks.engine.planning import PlannedRows, state_plan
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import keep
from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.interruption import interruptible
from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.result import AttackResult, Callback

# of the shared keywords, those without a use here
UNUSED = ("targeted", "amp", "detector_weight", "detector_loss")
STEPS = 15  # most steps of a line search in each direction
NO_TARGETS = (
    "random directions hardly ever reach a given class, so that the search has no start (rays of"
    " the Python interface takes one, x_init)"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class DirectionOptions(AttackOptions):
    """Keywords of both searches: those of ``AttackOptions``, and these.

    Attributes:
        eps: radius of the ball in the units of x (8/255, never 8). None counts any adversarial as
            success. Default: 8/255.
        norm: of the ball, ``"linf"``. Default: linf.
        max_queries: most forward rows charged to a sample, the clean check included. A bisection
            that the budget cuts keeps its last verified end. Default: 10,000.
        stop_on_success: a sample ends at its first verified radius inside the ball. False goes on
            to the smallest radius, as the average decision boundary distance (ADBD) asks.
            Default: True.
        targets: not supported. A value raises ValueError. Default: None.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``. Only
            labels are used. Default: logits.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, whose squeezed copies of a row are queries too. Default: None.
    """

    eps: float | None = 8 / 255
    norm: str = "linf"
    max_queries: int = 10_000  # None would be a search without an end
    stop_on_success: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("max_queries", self.max_queries)
        check_choice("norm", self.norm, ("linf",))
        if self.targets is not None:
            raise ValueError(f"opt and sign_opt cannot be targeted: {NO_TARGETS}")


class DirectionSearch(LabelSearch[DirectionState]):
    """Descent on g over the directions of L-inf length 1.

    Args:
        problem: the samples.
        num_starts, num_directions, step_size, beta, stop_on_success, callback: as in ``sign_opt``.
    """

    probes: ClassVar[bool]  # True: a sample is one query, at the present radius
    least_alpha: ClassVar[float]  # below it alpha begins again, with a smaller beta
    least_beta: ClassVar[float]  # below it the search ends

    def __init__(
        self,
        problem: Problem,
        *,
        num_starts: int,
        num_directions: int,
        step_size: float,
        beta: float,
        stop_on_success: bool,
        callback: Callback | None,
    ) -> None:
        super().__init__(problem, stop_on_success=stop_on_success, callback=callback)
        self.num_starts = num_starts
        self.num_directions = num_directions
        self.step_size = step_size
        self.beta = beta
        self.width = problem.box.width
        self.boundary = Boundary(problem, self.found, self.probes, stop_on_success)

    @abstractmethod
    def weigh(self, state: DirectionState, adversarial: Tensor, value: Tensor) -> Tensor:
        """(B,) the weights of the noise of samples that have ended, for the slope.

        Args:
            state: the rows whose sample has ended.
            adversarial: (B,) bool, the last answers.
            value: (B,) the distances to the boundary, inf where there is none.
        """

    def sampled(self, state: DirectionState, rows: Tensor, value: Tensor) -> None:
        """Note the distances (B,) of those rows (B,) bool whose sample has ended."""

    def choose(self, state: DirectionState, rows: Tensor) -> None:
        """Choose the next theta of those rows (B,) bool whose iteration has ended, among others
        than the line search, and stop rows.
        """

    def fixed(self) -> Tensor:
        """(N or 1,) bool, samples without a coordinate that may change."""
        mask = self.problem.mask
        return super().fixed() if mask is None else (mask == 0).all(dim=1)

    def begin(self, index: Tensor) -> DirectionState:
        """Return the state of the samples (B,) at their first random direction."""
        x = self.problem.x[index]
        zero = x.new_zeros(len(x))
        none = torch.zeros_like(index)
        empty = torch.zeros_like(x)
        state = DirectionState(
            sample=index,
            x=x,
            stage=none,
            number=none.clone(),
            draws=none.clone(),
            stopped=torch.zeros_like(index, dtype=torch.bool),
            direction=empty,
            radius=zero,
            low=zero.clone(),
            high=zero.clone(),
            noise=empty.clone(),
            theta=empty.clone(),
            g=zero + torch.inf,
            slope=empty.clone(),
            best=empty.clone(),
            best_g=zero + torch.inf,
            alpha=zero + self.step_size,
            beta=zero + self.beta,
        )
        self._point(state, *random_directions(self.problem, index, state.draws))
        return state

    def advance(self, state: DirectionState) -> Tensor | None:
        """Make the next query of each row, and the step that follows its answer."""
        rows = self.problem.shaped(self.boundary.points(state, state.radius))
        labels = self.oracle.labels(rows, state.sample, fresh=True)
        adversarial = self.problem.goal.reached(labels, state.sample)
        ended = self.boundary.narrow(state, adversarial)
        spent = self.spent(state.sample)
        ended = ended if spent is None else ended | spent
        going = torch.zeros_like(ended)
        if self.probes:
            going = (state.stage == SAMPLE) & (state.number + 1 < self.num_directions)
            going = going if spent is None else going & ~spent
        # here, and in the oracle's check of the budget, a round waits for the device
        order, (ended_count, going_count) = _grouped(ended & ~going, going)
        moving = order[: ended_count + going_count]
        if not len(moving):
            return None
        # one call for both, because its first operations cost as much as a hundred rows
        drawn = random_directions(
            self.problem, state.sample.index_select(0, moving), state.draws.index_select(0, moving)
        )
        if going_count:
            self._probe(state, moving[ended_count:], adversarial, drawn[0][ended_count:])
        if not ended_count:
            return None
        chosen = moving[:ended_count]
        ends = drawn[0][:ended_count], drawn[1][:ended_count]
        return self._turn(state, chosen, adversarial[chosen], spent, ends)

    def settle(self, state: DirectionState) -> None:
        """Enter the verified ends of the bisections."""
        self.boundary.enter(state)

    def _probe(
        self, state: DirectionState, rows: Tensor, adversarial: Tensor, drawn: Tensor
    ) -> None:
        """Add the answers of some rows (b,) to their slopes, and take the directions (b, D) that
        were drawn for their next samples.
        """
        weight = torch.where(adversarial.index_select(0, rows), -1.0, 1.0)
        noise = state.noise.index_select(0, rows)
        state.slope.index_add_(0, rows, noise.mul_(weight.unsqueeze(1)))
        beta = state.beta.index_select(0, rows)
        direction = torch.addcmul(state.theta.index_select(0, rows), drawn, beta.unsqueeze(1))
        direction.div_(lengths(direction).unsqueeze(1))
        state.noise.index_copy_(0, rows, drawn)
        state.direction.index_copy_(0, rows, direction)
        one = torch.ones_like(rows)
        state.draws.index_add_(0, rows, one)
        state.number.index_add_(0, rows, one)
        g = state.g.index_select(0, rows)
        state.radius.index_copy_(0, rows, g)
        state.low.index_fill_(0, rows, -1.0)
        state.high.index_fill_(0, rows, torch.inf)

    def _turn(
        self,
        state: DirectionState,
        rows: Tensor,
        adversarial: Tensor,
        spent: Tensor | None,
        drawn: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Take the distances along the directions of some rows (b,), and choose their next ones.

        Args:
            state: of the active rows.
            rows: positions of those whose distance is known, or whose budget is spent.
            adversarial: (b,) bool, their last answers.
            spent: (B,) bool, rows without budget. None: there are none.
            drawn: random directions for them, and their lengths before.

        Returns:
            Positions of the finished rows.
        """
        part = keep(state, rows)
        self.boundary.enter(part)
        value = part.high
        is_line = part.stage >= GROW
        sampled = part.stage == SAMPLE
        better = (value < part.best_g) & ~sampled
        part.best = torch.where(better.unsqueeze(1), part.direction, part.best)
        part.best_g = torch.where(better, value, part.best_g)
        weight = self.weigh(part, adversarial, value).masked_fill(~sampled, 0.0)
        part.slope = torch.addcmul(part.slope, part.noise, weight.unsqueeze(1))
        self.sampled(part, sampled, value)
        self._schedule(part, better, is_line, sampled)
        self._point(part, *drawn)
        state.overwrite(rows, part, constant=("sample", "x"))
        self.idle.index_copy_(0, part.sample, self.idle[part.sample] | part.stopped)
        over = part.stopped if spent is None else part.stopped | spent.index_select(0, rows)
        if self.stop_on_success:
            over = over | (self.found.first.index_select(0, part.sample) >= 0)
        return rows[over]

    def _schedule(
        self, part: DirectionState, better: Tensor, is_line: Tensor, sampled: Tensor
    ) -> None:
        """Set the stage and number of the next direction of each row (b,)."""
        number = part.number + 1
        starts = part.stage == START
        grown = part.stage == GROW
        shrunk = part.stage == SHRINK
        part.alpha = torch.where(grown, 2 * part.alpha, part.alpha)
        last = number >= torch.where(
            starts, self.num_starts, torch.where(sampled, self.num_directions, STEPS)
        )
        part.stopped = part.stopped | (starts & last & (part.best_g == torch.inf))
        goes_on = torch.where(grown, better, ~(shrunk & better)) & ~last
        left = is_line & ~goes_on
        shrinks = left & grown & (part.best_g >= part.g)
        closed = left & ~shrinks
        self._close(part, closed)
        begun = closed | (starts & last)
        part.theta = torch.where(begun.unsqueeze(1), part.best, part.theta)
        part.g = torch.where(begun, part.best_g, part.g)
        mean = sampled & last
        factor = torch.where(mean, 1 / self.num_directions, 1.0).masked_fill(begun, 0.0)
        part.slope = part.slope * factor.unsqueeze(1)
        part.stage = part.stage.masked_fill(begun, SAMPLE)
        part.stage = part.stage.masked_fill(mean, GROW).masked_fill(shrinks, SHRINK)
        part.alpha = torch.where(part.stage == SHRINK, part.alpha / 4, part.alpha)
        part.number = number.masked_fill(begun | mean | shrinks, 0)

    def _close(self, part: DirectionState, closed: Tensor) -> None:
        """End the iteration of some rows (b,) bool."""
        self.choose(part, closed)
        still = closed & (part.alpha < self.least_alpha)
        part.alpha = part.alpha.masked_fill(still, 1.0)
        part.beta = torch.where(still, part.beta / 10, part.beta)
        part.stopped = part.stopped | (still & (part.beta < self.least_beta))

    def _point(self, part: DirectionState, noise: Tensor, length: Tensor) -> None:
        """Choose the direction and the first radius of each row (b,), by its stage and number.

        Args:
            part: the rows.
            noise: (b, D) random directions of length 1. Line searches leave them alone.
            length: (b,) their lengths before.
        """
        starts = part.stage == START
        line = part.stage >= GROW
        part.draws = part.draws + (~line).to(part.draws.dtype)
        part.noise = torch.where(line.unsqueeze(1), part.noise, noise)
        factor = torch.where(line, -part.alpha, part.beta).masked_fill(starts, 1.0)
        way = torch.where(line.unsqueeze(1), part.slope, part.noise)
        direction = part.theta.masked_fill(starts.unsqueeze(1), 0.0)
        direction = torch.addcmul(direction, way, factor.unsqueeze(1))
        part.direction = direction.div_(lengths(direction).unsqueeze(1))
        present = torch.where(line, part.best_g, part.g)
        part.radius = torch.where(starts, self.width * length, present)
        # the clean input is the lower end of a random direction
        part.low = torch.where(starts, 0.0, -1.0)
        part.high = torch.full_like(part.low, torch.inf)


def run_directions(
    kind: type[DirectionSearch],
    model: Model,
    x: Tensor,
    y: Tensor | None,
    options: DirectionOptions,
    *,
    num_starts: int,
    num_directions: int,
    step_size: float,
    beta: float,
) -> AttackResult:
    """Search samples as ``opt`` and ``sign_opt`` do.

    Args:
        kind: of the search.
        model, x, y, num_starts, num_directions, step_size, beta: as in ``sign_opt``.
        options: the shared keywords.

    Raises:
        ValueError: for arguments that make no sense.
    """
    check_count("num_starts", num_starts)
    check_count("num_directions", num_directions)
    check_positive("step_size", step_size)
    check_positive("beta", beta)
    problem = Problem.of(
        model, x, y, eps=options.eps, norm=options.norm, options=options, oracle=LabelOracle
    )
    search = kind(
        problem,
        num_starts=num_starts,
        num_directions=num_directions,
        step_size=step_size,
        beta=beta,
        stop_on_success=options.stop_on_success,
        callback=options.callback,
    )
    state_plan(PlannedRows(options.max_queries))
    with interruptible(problem.oracle, lambda: search.interim(x.device)):
        search.run()
    return search.result(x.device)


def _grouped(*groups: Tensor) -> tuple[Tensor, list[int]]:
    """Return positions (B,) with those of each group (B,) bool first, and how many each has."""
    code = torch.full_like(groups[0], len(groups), dtype=torch.int64)
    for number, group in enumerate(groups):
        code = code.masked_fill(group, number)
    sizes = torch.stack([group.sum() for group in groups]).tolist()
    return code.argsort(stable=True), sizes
