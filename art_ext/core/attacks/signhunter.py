"""SignHunter: the signs of the gradient, searched by flipping blocks of coordinates."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.options import NEEDS_GRADIENTS, FixedRadiusOptions, affordable
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_choice, check_count
from art_ext.core.geometry import unit
from art_ext.core.keywords import public
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult

NORMS = ("linf", "l2")


@dataclass(frozen=True)
class Blocks:
    """The blocks of coordinates of one round: level h has blocks of ``ceil(d / 2^h)``.

    Attributes:
        features: d.
    """

    features: int

    def level(self, h: int) -> tuple[int, int]:
        """Return the length of the blocks of a level, and their number."""
        length = -(-self.features // 2**h)
        return length, -(-self.features // max(length, 1))

    @functools.cached_property
    def levels(self) -> int:
        """Levels 0 to ``ceil(log2 d)``. The blocks of the last one are single coordinates."""
        return 1 + max(self.features - 1, 0).bit_length()

    @functools.cached_property
    def count(self) -> int:
        """Blocks of all levels."""
        return sum(self.level(h)[1] for h in range(self.levels))

    def block(self, number: int) -> slice:
        """Return the coordinates of a block, numbered from 0 over all levels."""
        for h in range(self.levels):
            length, count = self.level(h)
            if number < count:
                return slice(number * length, min((number + 1) * length, self.features))
            number -= count
        raise IndexError(f"a round has {self.count} blocks")


@dataclass(eq=False)
class SignState(State):
    """The candidates, which are the current points once they have been compared with these.

    Attributes:
        x: (R, D), changed in place.
        signs: (R, D) s of the candidates, -1 or 1.
        centre: (R, D) the point from which this round steps.
        before: (R, k) the current point in the coordinates that the candidate may change.
        losses: (R,) of the current point.
        success: (R,) bool, True where the current point is a success.
        best: (R, D) the point of highest loss at the end of a round.
        best_losses: (R,) there.
        best_success: (R,) bool, True where it is a success.
    """

    signs: Tensor
    centre: Tensor
    before: Tensor
    losses: Tensor
    success: Tensor
    best: Tensor
    best_losses: Tensor
    best_success: Tensor


@dataclass(frozen=True, kw_only=True)
class SignHunter(Method[SignState]):
    """Flip a block of signs, and take it back where the loss is lower.

    Attributes:
        blocks: of a round.
        num_steps: candidates besides the first, which the clean check leaves a query for.
    """

    blocks: Blocks
    num_steps: int
    starts_at_input = False
    needs_gradient = False

    def init(self, problem: Problem, trajectory: int) -> SignState:
        """Return the first candidates, a step along +1 from the inputs."""
        lowest = torch.full_like(problem.x[:, 0], -torch.inf)
        none = torch.zeros_like(problem.index, dtype=torch.bool)
        state = SignState(
            x=problem.x,
            signs=torch.ones_like(problem.x),
            centre=problem.x,
            before=problem.x[:, :0],
            losses=lowest,
            success=none,
            best=problem.x,
            best_losses=lowest,
            best_success=none,
        )
        state.x = self.point(problem, state, slice(None))
        return state

    def step(self, problem: Problem, state: SignState, answers: Answers, t: int) -> SignState:
        """Return the next candidates: the next block is flipped, or a new round begins."""
        number = self.block_of(t + 1)
        if number is None:
            return self.begin(problem, state)
        block = self.blocks.block(number)
        changed = self.changed(problem, block)
        state.signs[:, block].neg_()
        state.before = state.x[:, changed].clone()
        state.x[:, changed] = self.point(problem, state, changed)
        return state

    def begin(self, problem: Problem, state: SignState) -> SignState:
        """Begin a round at the current points, which are remembered if none was better."""
        state.best, state.best_losses, state.best_success = self._highest(state)
        state.centre = state.x
        state.signs.fill_(1)
        state.x = self.point(problem, state, slice(None))
        return state

    def observe(self, problem: Problem, state: SignState, answers: Answers, t: int) -> SignState:
        """Take back the flips that lower the loss. The first candidate of a round stays."""
        number = self.block_of(t)
        if number is None:
            state.losses = answers.losses.nan_to_num(nan=-torch.inf)
            state.success = answers.success
            return state
        kept = answers.losses >= state.losses  # NaN is taken back
        rows = kept.unsqueeze(1)
        block = self.blocks.block(number)
        signs = state.signs[:, block]
        state.signs[:, block] = torch.where(rows, signs, -signs)
        changed = self.changed(problem, block)
        state.x[:, changed] = torch.where(rows, state.x[:, changed], state.before)
        state.losses = torch.where(kept, answers.losses, state.losses)
        state.success = torch.where(kept, answers.success, state.success)
        return state

    def end(self, state: SignState, answers: Answers) -> tuple[Tensor, Tensor]:
        """Return the points of highest loss, and their losses."""
        x, losses, _ = self._highest(state)
        return x, losses

    def preferred(self, state: SignState) -> tuple[Tensor, Tensor]:
        """Prefer the point of highest loss where it is a success."""
        x, _, success = self._highest(state)
        return x, success

    @staticmethod
    def _highest(state: SignState) -> tuple[Tensor, Tensor, Tensor]:
        """Return the points of highest loss so far, their losses, and whether they succeed."""
        better = ~(state.losses < state.best_losses)
        x = torch.where(better.unsqueeze(1), state.x, state.best)
        losses = torch.where(better, state.losses, state.best_losses)
        return x, losses, torch.where(better, state.success, state.best_success)

    def block_of(self, number: int) -> int | None:
        """Return the block of a candidate, None for the first one of a round."""
        place = number % (1 + self.blocks.count)
        return place - 1 if place else None

    @staticmethod
    def changed(problem: Problem, block: slice) -> slice:
        """Return the coordinates that may move: in L2 the projection moves all of them."""
        return block if problem.norm == "linf" else slice(None)

    @staticmethod
    def point(problem: Problem, state: SignState, part: slice) -> Tensor:
        """(R, k) coordinates of the point that lies a step along the signs from the centre."""
        signs = state.signs[:, part]
        if problem.mask is not None:
            signs = signs * problem.mask[:, part]
        if problem.norm == "l2":
            return problem.feasible(state.centre + problem.radius * unit(signs, "l2"))
        x = problem.x[:, part]
        offset = (state.centre[:, part] - x).add_(signs, alpha=problem.radius)
        moved = offset.clamp_(-problem.radius, problem.radius).add_(x)
        low, high = (_part(bound, part) for bound in (problem.low, problem.high))
        return torch.clamp(moved, low, high, out=moved)  # type: ignore[arg-type]  # both are numbers, or both tensors


def _part(bound: float | Tensor, part: slice) -> float | Tensor:
    """Return a bound of the box in these coordinates."""
    return bound[part] if isinstance(bound, Tensor) else bound


@public(FixedRadiusOptions, FixedRadius, without=NEEDS_GRADIENTS)
def signhunter(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    **options: Any,
) -> AttackResult:
    """SignHunter score-based attack: search for the signs of the gradient by flips of blocks.

    Solves ``max_s J(x_ori + eps s)`` over signs ``s in {-1, 1}^d``, one query a candidate. The
    first candidate has s = 1. Level h = 0, 1, ..., ceil(log2 d) divides the d coordinates into
    blocks of ``ceil(d / 2^h)``. Each block in turn is flipped, and the flip stays unless J is
    lower. After the last level the current point takes the place of x_ori, and the search begins
    again with s = 1. All candidates are brought to the ball and the box around x_ori.

    In L2 the step is ``eps s / sqrt(d)``. The attack draws no random numbers.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        norm: of the ball, ``"linf"`` or ``"l2"``. Default: linf.
        max_queries: most forward rows per sample. Default: 10,000.
        stop_on_success: True stops a sample at its first success. Otherwise the point of highest
            loss is reported if it is a success, and else the last candidate that was one. Default:
            True.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            point of highest loss. Default: ``"input"``.

    Returns:
        An ``AttackResult``. ``queries`` counts the clean check, and one for each candidate.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The paper flips blocks until the signs are found. Here the search then goes on from the
        point that it has reached, as in the authors' code, which adds 3 queries at the start of
        each round. Here the start is one query, and the clean check is charged once. The step in L2
        has the signs of free coordinates only.

    References:
        Al-Dujaili, O'Reilly, "Sign bits are all you need for black-box attacks", ICLR 2020.
    """
    check_count("max_queries", max_queries)  # None would be a search without an end
    check_choice("norm", norm, NORMS)
    driver = FixedRadius(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        oracle=ScoreOracle,
        stop_on_success=stop_on_success,
        max_queries=max_queries,
        **options,
    )
    answers = affordable(max_queries, options.get("detector"))
    blocks = Blocks(math.prod(x.shape[1:]))
    return driver.run(SignHunter(blocks=blocks, num_steps=max(answers - 2, 0)))


register(
    AttackSpec(
        "signhunter",
        signhunter,
        title="SignHunter",
        access="scores",
        family="fixed-radius",
        summary="Flips blocks of signs of a perturbation, and keeps what does not lower the loss.",
        paper=(
            "Al-Dujaili, O'Reilly. Sign bits are all you need for black-box attacks. ICLR 2020."
        ),
        url="https://openreview.net/forum?id=SygW0TEFwH",
        page="attacks/signhunter.md",
        norms=NORMS,
        hosts={"art": Shell(name="SignHunter"), "torchattacks": Shell(name="SignHunter")},
    )
)
