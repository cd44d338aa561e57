"""The search of the Square attack: candidates that differ from the best point in windows."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State
from art_ext.core.checks import check_number
from art_ext.core.geometry import unit
from art_ext.core.streams import uniform

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of p, at these candidates
SCHEDULED = 10_000  # queries for which HALVINGS hold
TILES = 5  # of the first L2 candidate, along each axis
DRAWN = 32  # candidates whose random numbers are drawn at once
SLACK = 1 - 2**-20  # of the L2 radius, for the rounding of sums
TINY = 1e-12


@dataclass(frozen=True)
class Layout:
    """Inputs (*S) as ``channels`` planes of height x width pixels.

    The last two axes are the plane, as in (C, H, W). All axes before them are channels. A vector
    (D,) is one row of D pixels.
    """

    channels: int
    height: int
    width: int

    @staticmethod
    def of(shape: torch.Size) -> Layout:
        """Return the layout of inputs of this shape (*S)."""
        if 0 in shape:
            raise ValueError(f"square needs inputs without an empty axis, got shape {tuple(shape)}")
        height, width = (1, 1, *shape)[-2:]
        return Layout(math.prod(shape[:-2]), height, width)

    def window(self, share: float, *, odd: bool = False) -> tuple[int, int]:
        """Return height and width of the window that holds this share of the pixels of a plane.

        It is the square of the nearest side. A square that is longer than the shorter axis becomes
        a rectangle that fills this axis and the share of the other.

        Args:
            share: p, in (0, 1].
            odd: the sides are odd and at least 3, as far as the axes allow.
        """
        side = math.sqrt(share * self.height * self.width)
        if side > min(self.height, self.width):
            filled = self.height <= self.width
            height = self.height if filled else max(round(share * self.height), 1)
            width = max(round(share * self.width), 1) if filled else self.width
        else:
            height = width = max(round(side), 1)
        if odd:
            height, width = max(height, 3) | 1, max(width, 3) | 1
        return min(height, self.height), min(width, self.width)

    def corners(self, windows: Sequence[tuple[int, int]], places: Tensor) -> Tensor:
        """(R, T, w) int64, the coordinate of the first pixel of w windows in each of T candidates.

        Args:
            windows: h, w of each candidate, T pairs.
            places: (R, T, w, 2) in [0, 1), which choose the place of a window among all.
        """
        first = []
        for axis, side in enumerate((self.height, self.width)):
            counts = [side - window[axis] + 1 for window in windows]
            number = torch.tensor(counts, device="cpu").to(places.device)
            first.append((places[..., axis] * number.unsqueeze(1)).to(torch.int64))
        return first[0].mul_(self.width).add_(first[1])


@functools.lru_cache(maxsize=16)
def _offsets(layout: Layout, window: tuple[int, int], device: torch.device) -> Tensor:
    """(C h w,) int64, the coordinates of the window in the first corner."""
    channels, height, width = (
        torch.arange(count, device=device) for count in (layout.channels, *window)
    )
    plane = height.unsqueeze(1) * layout.width + width
    planes = channels * (layout.height * layout.width)
    return (planes[:, None, None] + plane).flatten()


def _pyramid(height: int, width: int) -> Tensor:
    """(h, w) ``sum_{k=0}^{M(r,s)} 1 / (n + 1 - k)^2``: squares around the centre, added up.

    n is half of the longer side. ``n - M(r, s)`` is the distance of a pixel from the centre, along
    the axis where it is farther.
    """
    n = max(height, width) // 2
    levels = [sum(1 / (1 + j) ** 2 for j in range(distance, n + 1)) for distance in range(n + 1)]
    rows, columns = (
        (torch.arange(side, device="cpu") - side // 2).abs() for side in (height, width)
    )
    distance = torch.maximum(rows.unsqueeze(1), columns)
    return torch.tensor(levels, dtype=torch.float32, device="cpu")[distance]


@functools.lru_cache(maxsize=64)
def bumps(window: tuple[int, int], device: torch.device) -> Tensor:
    """(4, h w) the pattern eta of L2 windows, of length 1: one half positive, the other negative.

    The first is split into an upper and a lower half, the second into a left and a right one. The
    others are minus these.
    """
    height, width = window
    upper, left = height // 2, width // 2
    split = torch.stack(
        [
            torch.cat([_pyramid(upper, width), -_pyramid(height - upper, width)]),
            torch.cat([_pyramid(height, left), -_pyramid(height, width - left)], dim=1),
        ]
    )
    eta = unit(split.flatten(1), "l2")
    return torch.cat([-eta, eta]).to(device)


@functools.lru_cache(maxsize=16)
def _tiling(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor]:
    """(2, H W) eta in each tile, 0 around them, and (H W,) the number of the tile."""
    tops, height = _cuts(layout.height)
    lefts, width = _cuts(layout.width)
    numbers = torch.zeros(layout.height, layout.width, dtype=torch.int64, device="cpu")
    patterns = torch.zeros(2, *numbers.shape, dtype=torch.float32, device="cpu")
    eta = bumps((height, width), numbers.device)[2:].view(2, height, width)
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            patterns[:, top : top + height, left : left + width] = eta
            numbers[top : top + height, left : left + width] = i * TILES + j
    return patterns.flatten(1).to(device), numbers.flatten().to(device)


def _cuts(side: int) -> tuple[list[int], int]:
    """Return where the tiles along an axis begin, and their length. They lie in the middle."""
    count = min(TILES, side)
    length = side // count
    start = (side - count * length) // 2
    return [start + length * part for part in range(count)], length


def _signs(draws: Tensor) -> Tensor:
    """Signs of numbers in [0, 1): -1 below 1/2, else 1."""
    return 2 * (draws >= 0.5).to(draws.dtype) - 1


@dataclass(eq=False)
class SquareState(State):
    """The candidates, which are the best points once they have been compared with these.

    Attributes:
        x: (R, D), changed in place.
        losses: (R,) the highest loss so far.
        success: (R,) bool, True where the best point is a success.
        cells: (R, k) int64, the coordinates in which a candidate differs from the best point.
        before: (R, k) the best point there.
        corners: (R, DRAWN, w) int64, the first pixels of the windows of the next candidates.
        choices: (R, DRAWN, C) what the next candidates put into each channel.
        used: (R,) squared length of the perturbation of the best point. L2 alone tracks it.
        next_used: (R,) that of the candidate.
    """

    losses: Tensor
    success: Tensor
    cells: Tensor
    before: Tensor
    corners: Tensor
    choices: Tensor
    used: Tensor
    next_used: Tensor


@dataclass(frozen=True, kw_only=True)
class Square(Method[SquareState]):
    """Random search: a candidate differs from the best point in a window, and replaces it if its
    loss is higher (Algorithm 1).

    Attributes:
        layout: of the inputs.
        p_init: p, the share of the pixels in the first window, in (0, 1].
        max_queries: N, the answers for which the schedule of p is rescaled.
        num_draws: random numbers of a candidate.
    """

    layout: Layout
    p_init: float
    max_queries: int
    starts_at_input = False
    needs_gradient = False

    def __post_init__(self) -> None:
        check_number("p_init", self.p_init)
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init must lie in (0, 1], of the pixels, got {self.p_init!r}")

    @property
    def num_steps(self) -> int:  # type: ignore[override]  # read only here
        """Candidates besides the first, which the clean check leaves a query for."""
        return max(self.max_queries - 2, 0)

    @property
    def num_draws(self) -> int:
        """Random numbers of a candidate."""
        raise NotImplementedError

    def share(self, number: int) -> float:
        """Return p for a candidate, numbered from 1 after the first one."""
        passed = sum(number * SCHEDULED >= one * self.max_queries for one in HALVINGS)
        return self.p_init / 2**passed

    def window(self, number: int) -> tuple[int, int]:
        """Return height and width of the windows of a candidate."""
        return self.layout.window(self.share(number))

    def init(self, problem: Problem, trajectory: int) -> SquareState:
        """Return the first candidates, which replace the inputs whatever their loss."""
        start = problem.feasible(problem.x + problem.masked(self.first(problem)))
        none = problem.index.new_empty((len(start), 0))
        return SquareState(
            x=start,
            losses=start.new_full((len(start),), -torch.inf),
            success=torch.zeros_like(problem.index, dtype=torch.bool),
            cells=none,
            before=start[:, :0],
            corners=none,
            choices=none,
            used=start[:, 0],
            next_used=start[:, 0],
        )

    def step(self, problem: Problem, state: SquareState, answers: Answers, t: int) -> SquareState:
        """Return the next candidates."""
        if t % DRAWN == 0:
            self.draw(problem, state, t + 1)
        self.move(problem, state, self.window(t + 1), t % DRAWN)
        return state

    def draw(self, problem: Problem, state: SquareState, number: int) -> None:
        """Draw the windows of many candidates at once, because the operations are small.

        Args:
            problem: the active rows.
            state: of these rows. Its ``corners`` and ``choices`` are written.
            number: of the first of these candidates.
        """
        steps = torch.arange(number, number + DRAWN, device=problem.ids.device)
        ids = problem.ids.repeat_interleave(DRAWN)
        draws = uniform(problem.seed, ids, steps.repeat(len(problem.ids)), (self.num_draws,))
        draws = draws.view(len(problem.ids), DRAWN, self.num_draws)
        windows = [self.window(one) for one in range(number, number + DRAWN)]
        state.corners = self.layout.corners(windows, self.places(draws))
        state.choices = self.choices(draws)

    def observe(
        self, problem: Problem, state: SquareState, answers: Answers, t: int
    ) -> SquareState:
        """Take back the candidates that do not raise the loss."""
        better = answers.losses > state.losses
        after = state.x.gather(1, state.cells)
        state.x.scatter_(1, state.cells, torch.where(better.unsqueeze(1), after, state.before))
        state.losses = torch.where(better, answers.losses, state.losses)
        state.success = torch.where(better, answers.success, state.success)
        state.used = torch.where(better, state.next_used, state.used)
        return state

    def end(self, state: SquareState, answers: Answers) -> tuple[Tensor, Tensor]:
        """Return the best points and their losses."""
        return state.x, state.losses

    def preferred(self, state: SquareState) -> tuple[Tensor, Tensor]:
        """Prefer the best point where it is a success."""
        return state.x, state.success

    def first(self, problem: Problem) -> Tensor:
        """(R, D) perturbations of the first candidates."""
        raise NotImplementedError

    def places(self, draws: Tensor) -> Tensor:
        """(R, T, w, 2) in [0, 1), the places of the windows, from draws (R, T, n)."""
        raise NotImplementedError

    def choices(self, draws: Tensor) -> Tensor:
        """(R, T, C) what a candidate puts into each channel, from draws (R, T, n)."""
        raise NotImplementedError

    def move(
        self, problem: Problem, state: SquareState, window: tuple[int, int], place: int
    ) -> None:
        """Turn the best points into candidates of ball and box, which differ in one or two windows.

        Args:
            problem: the active rows.
            state: of these rows. Its ``x``, ``cells`` and ``before`` are written.
            window: height and width.
            place: of the candidate among those that are drawn.
        """
        raise NotImplementedError


class SquareLinf(Square):
    """Windows that move to a corner of the ball, with one sign for each channel (Algorithm 2)."""

    @property
    def num_draws(self) -> int:
        """The place of the window and the signs."""
        return 2 + self.layout.channels

    def first(self, problem: Problem) -> Tensor:
        """(R, D) vertical stripes: one sign for each channel and column."""
        layout = self.layout
        shape = (layout.channels, 1, layout.width)
        signs = _signs(uniform(problem.seed, problem.ids, 0, shape))
        stripes = signs.expand(-1, -1, layout.height, -1)
        return problem.radius * stripes.flatten(1)

    def places(self, draws: Tensor) -> Tensor:
        """(R, T, 1, 2) in [0, 1), so that all places are equally likely."""
        return draws[..., None, :2]

    def choices(self, draws: Tensor) -> Tensor:
        """(R, T, C) the sign of each channel, -1 or 1."""
        return _signs(draws[..., 2:])

    def move(
        self, problem: Problem, state: SquareState, window: tuple[int, int], place: int
    ) -> None:
        """Move one window. One that changes nothing gets the opposite signs."""
        cells = state.corners[:, place] + _offsets(self.layout, window, state.x.device)
        parts = (len(cells), self.layout.channels, math.prod(window))
        before = state.x.gather(1, cells)
        inputs = problem.x.gather(1, cells)
        delta = (problem.radius * state.choices[:, place]).unsqueeze(2)
        if problem.mask is not None:
            delta = delta * problem.mask.gather(1, cells).view(parts)
        after, opposite = (
            _clip(problem, moved(inputs.view(parts), delta).flatten(1), cells)
            for moved in (torch.add, torch.sub)
        )
        same = (after == before).all(dim=1, keepdim=True)
        after = torch.where(same, opposite, after)
        state.x.scatter_(1, cells, after)
        state.cells, state.before = cells, before


class SquareL2(Square):
    """Windows that receive a bump, and the length of a second window that is cleared
    (Algorithm 3).
    """

    @property
    def num_draws(self) -> int:
        """Two for each coordinate of both windows, one for the bump, and the signs."""
        return 9 + self.layout.channels

    def window(self, number: int) -> tuple[int, int]:
        """Return height and width, which are odd."""
        return self.layout.window(self.share(number), odd=True)

    def first(self, problem: Problem) -> Tensor:
        """(R, D) a bump in each tile, with a sign of its own for each channel."""
        layout = self.layout
        patterns, tile = _tiling(layout, problem.x.device)
        draws = uniform(problem.seed, problem.ids, 0, (1 + layout.channels, TILES * TILES))
        draws = draws.index_select(2, tile)  # of each pixel
        bump = torch.where(draws[:, :1] < 0.5, patterns[0], patterns[1])
        delta = problem.masked((bump * _signs(draws[:, 1:])).flatten(1))
        return problem.radius * unit(delta, "l2")

    def draw(self, problem: Problem, state: SquareState, number: int) -> None:
        """Draw as the base does, and measure the lengths, whose changes are added up in between."""
        super().draw(problem, state, number)
        state.used = (state.x - problem.x).square_().sum(dim=1)

    def places(self, draws: Tensor) -> Tensor:
        """(R, T, 2, 2) in [0, 1). On planes it is the mean of two numbers, which prefers the
        middle: images show their object there.
        """
        numbers = draws[..., :8].unflatten(2, (2, 2, 2))
        return numbers.mean(dim=2) if self.layout.height > 1 else numbers[:, :, 0]

    def choices(self, draws: Tensor) -> Tensor:
        """(R, T, C) the number of the bump of each channel, with the same split in all of them."""
        high = (draws[..., 8:] >= 0.5).to(torch.int64)
        return high[..., :1] + 2 * high[..., 1:]

    def move(
        self, problem: Problem, state: SquareState, window: tuple[int, int], place: int
    ) -> None:
        """Fill the first window with the lengths of both, and with what the ball leaves."""
        parts = (len(state.x), self.layout.channels, math.prod(window))
        offsets = _offsets(self.layout, window, state.x.device)
        cells = (state.corners[:, place].unsqueeze(2) + offsets).flatten(1)
        before = state.x.gather(1, cells)
        filled, cleared = cells.chunk(2, dim=1)
        inputs, empty = problem.x.gather(1, cells).chunk(2, dim=1)
        old = before[:, : len(offsets)] - inputs
        state.x.scatter_(1, filled, inputs)  # before the second, as pixels of both count once
        others = state.x.gather(1, cleared) - empty
        state.x.scatter_(1, cleared, empty)
        freed = old.square().addcmul_(others, others).view(parts).sum(dim=2)
        unused = ((problem.radius * SLACK) ** 2 - state.used).clamp_(min=0)
        energy = torch.add(freed, unused.unsqueeze(1), alpha=1 / self.layout.channels)
        bump = bumps(window, state.x.device).index_select(0, state.choices[:, place].flatten())
        new = bump.view(parts).add_(_directions(old.view(parts))).flatten(1)
        if problem.mask is not None:
            new = new * problem.mask.gather(1, filled)
        new = _directions(_inside(problem, inputs, new, filled).view(parts))
        new = inputs + (new * energy.sqrt().unsqueeze(2)).flatten(1)
        after = _clip(problem, new, filled)
        state.x.scatter_(1, filled, after)
        state.cells, state.before = cells, before
        state.next_used = state.used - freed.sum(dim=1) + (after - inputs).square_().sum(dim=1)


def _at(bound: float | Tensor, cells: Tensor) -> float | Tensor:
    """Bound of the box at the coordinates in cells (R, k)."""
    return bound[cells] if isinstance(bound, Tensor) else bound


def _clip(problem: Problem, values: Tensor, cells: Tensor) -> Tensor:
    """Values (R, k) at the coordinates in cells (R, k), clipped to the box."""
    low, high = _at(problem.low, cells), _at(problem.high, cells)
    return torch.clamp(values, low, high)  # type: ignore[arg-type]  # both are numbers, or both tensors


def _inside(problem: Problem, inputs: Tensor, delta: Tensor, cells: Tensor) -> Tensor:
    """Perturbations (R, k) of inputs (R, k) at the coordinates in cells (R, k), with zeros where
    an input lies at the bound of the box that it would leave.
    """
    low, high = _at(problem.low, cells), _at(problem.high, cells)
    lost = torch.where(delta < 0, inputs <= low, inputs >= high)
    return delta.masked_fill(lost, 0)


def _directions(parts: Tensor) -> Tensor:
    """Parts (R, C, k) at length 1 in each channel. Zeros stay zeros."""
    length = torch.linalg.vector_norm(parts, dim=2, keepdim=True)
    return parts / length.clamp_(min=TINY)


METHODS = {"linf": SquareLinf, "l2": SquareL2}
