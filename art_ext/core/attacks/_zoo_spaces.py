"""The spaces in which ZOO moves: when they grow, and the images that their points stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks.engine.attack_space import Coordinates, ScaledImage
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.tanh_space import TanhSpace
from art_ext.core.checks import check_count


@dataclass(frozen=True)
class Schedule:
    """Sides and starts of the attack spaces, from the smallest on.

    Attributes:
        sides: of the small images. Empty for the input's own space.
        starts: the iteration at which each begins. None: the next one begins where the loss stands
            still.
    """

    sides: tuple[int, ...] = ()
    starts: tuple[int, ...] | None = None

    @staticmethod
    def of(resize: object, shape: torch.Size) -> Schedule:
        """Read ``resize`` of ``zoo`` for samples of this shape.

        Raises:
            ValueError: naming what was given and what was wanted.
        """
        if resize is None:
            return Schedule()
        starts: tuple[int, ...] | None = None
        sides: tuple[object, ...]
        if isinstance(resize, Mapping):
            starts, sides = tuple(resize), tuple(resize.values())
            for start in starts:
                check_count("resize", start, least=0)
            if not starts or starts[0] != 0 or list(starts) != sorted(starts):
                raise ValueError(
                    f"resize must map ascending iterations from 0 on to sides, got {resize!r}"
                )
        elif isinstance(resize, Sequence) and not isinstance(resize, str):
            sides = tuple(resize)
        else:
            sides = (resize,)
        if not sides:
            raise ValueError(f"resize must name at least one side, got {resize!r}")
        if len(shape) != 3:
            raise ValueError(
                "resize needs images (channels, height, width), got samples of shape"
                f" {tuple(shape)}"
            )
        for side in sides:
            check_count("resize", side)
        known = tuple(int(side) for side in sides)  # type: ignore[call-overload]  # integers, as just checked
        if list(known) != sorted(set(known)) or known[-1] > min(shape[1:]):
            raise ValueError(
                f"resize must hold ascending sides of at most the image's {min(shape[1:])}, got"
                f" {resize!r}"
            )
        return Schedule(known, starts)

    def spaces(self, shape: torch.Size, features: int, device: torch.device) -> list[Coordinates]:
        """Build the spaces for samples of this shape with so many features."""
        if not self.sides:
            return [Coordinates(features)]
        channels, height, width = shape
        return [ScaledImage((channels, height, width), side, device) for side in self.sides]


@dataclass(eq=False)
class DescentState:
    """The descent of the R active rows, each at an iteration and in a space of its own.

    Attributes:
        allowed: for each space None or (R, size) bool, the coordinates that may change.
        probes: (R, levels) queries of the probes in each space.
        anchor: (R, D) x, or what stands for it under the change of variable.
        noise: (R, M) y, the point in the attack space. M is the size of the largest space.
        first, second, count: (R, M) moments of Adam and the steps of each coordinate.
        level: (R,) number of the space.
        round: (R,) iterations so far, which key the random stream.
        settled: (R,) bool, True after a success of this optimisation.
        share: (R, M) shares of the draws. None if they are uniform.
        place: (R, D) x + D(y), or what stands for it under the change of variable.
        images: (R, D) the iterates.
    """

    allowed: list[Tensor | None]
    probes: Tensor
    anchor: Tensor
    noise: Tensor
    first: Tensor
    second: Tensor
    count: Tensor
    level: Tensor
    round: Tensor
    settled: Tensor
    share: Tensor | None
    place: Tensor
    images: Tensor

    def cost(self) -> Tensor:
        """(R,) queries of each row's next probes."""
        return self.probes.gather(1, self.level.unsqueeze(1)).squeeze(1)

    def forget_moments(self, marked: Tensor) -> None:
        """Begin Adam again in the rows marked (R,)."""
        for name in ("first", "second", "count"):
            setattr(self, name, getattr(self, name).masked_fill(marked.unsqueeze(1), 0.0))

    def restart(self, begun: Tensor) -> None:
        """Put the rows marked in begun (R,) back to their inputs."""
        if not bool(begun.any()):
            return
        self.forget_moments(begun)
        back = begun.unsqueeze(1)
        self.noise = self.noise.masked_fill(back, 0.0)
        self.level = self.level.masked_fill(begun, 0)
        self.settled = self.settled & ~begun
        self.share = None if self.share is None else self.share.masked_fill(back, 1.0)


class Spaces:
    """The attack spaces of one run, and the images of their points.

    Args:
        problem: the samples.
        schedule: of the spaces.
        use_tanh: move under the change of variable.
        importance: as in ``zoo``.
    """

    def __init__(
        self, problem: Problem, schedule: Schedule, use_tanh: bool, importance: bool | int
    ) -> None:
        self.schedule = schedule
        self.importance = importance
        self.spaces = schedule.spaces(problem.shape[1:], problem.x.shape[1], problem.oracle.device)
        self.tanh = TanhSpace(problem.low, problem.high) if use_tanh else None

    def begin(self, problem: Problem, draws: list[int]) -> DescentState:
        """Return the state at the inputs, with so many draws in each space."""
        mask, index = problem.mask, problem.index
        allowed = [None if mask is None else space.transposed(mask) > 0 for space in self.spaces]
        counts = [
            torch.full_like(index, most) if free is None else free.sum(1).clamp(max=most)
            for most, free in zip(draws, allowed, strict=True)
        ]
        anchor = problem.x if self.tanh is None else self.tanh.inverse(problem.x)
        noise = problem.x.new_zeros(len(index), max(space.size for space in self.spaces))
        return DescentState(
            allowed=allowed,
            probes=2 * torch.stack(counts, dim=1),
            anchor=anchor,
            noise=noise,
            first=torch.zeros_like(noise),
            second=torch.zeros_like(noise),
            count=torch.zeros_like(noise),
            level=torch.zeros_like(index),
            round=torch.zeros_like(index),
            settled=torch.zeros_like(index, dtype=torch.bool),
            share=torch.ones_like(noise) if self.importance else None,
            place=anchor,
            images=self.image(problem, anchor),
        )

    def members(
        self, state: DescentState, marked: Tensor
    ) -> Iterator[tuple[int, Coordinates, Tensor]]:
        """Yield number, space and positions (r,) of the marked rows in each space with some."""
        for level, space in enumerate(self.spaces):
            own = marked if len(self.spaces) == 1 else marked & (state.level == level)
            rows = own.nonzero().squeeze(1)
            if len(rows):
                yield level, space, rows

    def image(
        self, problem: Problem, place: Tensor, rows: Tensor | None = None, probe: bool = False
    ) -> Tensor:
        """Return the inputs (r, D) that points of the unbounded space stand for.

        Args:
            problem: the active rows.
            place: (r, D) the points.
            rows: (r,) positions of their rows. None for all of them.
            probe: True for probes, which may leave the box by h where single pixels are moved, so
                that they are symmetric.
        """
        if self.tanh is not None:
            place = self.tanh.image(place)
        elif not probe or self.schedule.sides:
            place = problem.clip(place)
        if problem.mask is None:
            return place
        mask = problem.mask if rows is None else problem.mask[rows]
        return torch.where(mask != 0, place, problem.x if rows is None else problem.x[rows])

    def locate(self, problem: Problem, state: DescentState) -> None:
        """Bring ``place`` and ``images`` up to date with the noise."""
        if not self.schedule.sides:
            state.place = state.anchor + state.noise
            if self.tanh is None:
                state.place = problem.clip(state.place)
                state.noise = state.place - state.anchor  # projected to the box
        else:
            state.place = torch.empty_like(state.anchor)
            for _, space, rows in self.members(state, torch.ones_like(state.settled)):
                change = space.scale_up(state.noise[rows, : space.size])
                state.place[rows] = state.anchor[rows] + change
        state.images = self.image(problem, state.place)

    def can_grow(self, state: DescentState) -> Tensor | None:
        """(R,) bool, the rows for which a larger space waits for a loss that stands still."""
        if self.schedule.starts is not None or len(self.spaces) == 1:
            return None
        return state.level < len(self.spaces) - 1

    def grow(self, state: DescentState, iteration: Tensor, going: Tensor, stuck: Tensor) -> None:
        """Enlarge the space of the rows for which it is time, and renew the shares of the draws."""
        starts = self.schedule.starts
        for level in reversed(range(len(self.spaces) - 1)):
            due = stuck if starts is None else iteration == starts[level + 1]
            rows = (going & due & (state.level == level)).nonzero().squeeze(1)
            if len(rows):
                self._enlarge(state, rows, level)
        if state.share is not None and self.importance is not True and self.schedule.sides:
            due = going & (iteration % self.importance == 0)
            for _, space, rows in self.members(state, due):
                if isinstance(space, ScaledImage):
                    noise = state.noise[rows, : space.size]
                    state.share[rows, : space.size] = space.importance(noise, space)

    def _enlarge(self, state: DescentState, rows: Tensor, level: int) -> None:
        """Carry the noise of rows (r,) over to the next space. Adam begins again."""
        small, large = self.spaces[level], self.spaces[level + 1]
        if not isinstance(small, ScaledImage) or not isinstance(large, ScaledImage):
            raise RuntimeError("only scaled images grow")
        noise = state.noise[rows, : small.size]
        if state.share is not None:
            state.share[rows, : large.size] = small.importance(noise, large)
        state.noise[rows, : large.size] = small.to_size(noise, large)
        for moments in (state.first, state.second, state.count):
            moments[rows] = 0.0
        state.level[rows] = level + 1
