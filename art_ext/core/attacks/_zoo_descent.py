"""The moves of ZOO: where each sample stands, which coordinates it probes, and the step along
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.adam import BETA1, BETA2, adam_step
from art_ext.core.attack_space import Coordinates, ScaledImage
from art_ext.core.attacks.engine.constant_search import ConstantSearch
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm
from art_ext.core.checks import check_count
from art_ext.core.streams import uniform
from art_ext.core.tanh_space import TanhSpace

SOLVERS = ("adam", "newton", "adam-newton")
LEAST_CURVATURE = 0.1  # Newton divides by no less
UNIFORM_SHARE = 0.01  # of the draws under importance sampling: no coordinate is out of reach


@dataclass(frozen=True)
class Schedule:
    """The attack spaces, from the smallest on.

    Attributes:
        sides: of the small images; empty for the input's own space.
        starts: the iteration at which each begins; None: the next one begins where the loss stands
            still.
    """

    sides: tuple[int, ...] = ()
    starts: tuple[int, ...] | None = None

    @staticmethod
    def of(resize: object, shape: torch.Size) -> Schedule:
        """What ``resize`` of ``zoo`` asks for, for samples of this shape.

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
        """The spaces themselves, for samples of this shape with so many features."""
        if not self.sides:
            return [Coordinates(features)]
        channels, height, width = shape
        return [ScaledImage((channels, height, width), side, device) for side in self.sides]


class Descent:
    """Coordinate descent for the live samples, each at an iteration and in a space of its own.

    Args:
        run: the samples; its oracle is asked for scores only.
        schedule: of the spaces.
        solver, step_size, coordinates, h, use_tanh, importance, reset_adam: as in ``zoo``.

    Attributes:
        noise: (R, M) y, the point in the attack space; M is the size of the largest space.
        place: (R, D) x + D(y), or what stands for it under the change of variable.
        images: (R, D) the iterates.
    """

    def __init__(
        self,
        run: MinimumNorm,
        schedule: Schedule,
        *,
        solver: str,
        step_size: float,
        coordinates: int,
        h: float,
        use_tanh: bool,
        importance: bool | int,
        reset_adam: bool,
    ) -> None:
        self.run, self.schedule, self.solver, self.step_size, self.h = (
            run,
            schedule,
            solver,
            step_size,
            h,
        )
        self.importance, self.reset_adam = importance, reset_adam
        self.exact = geometry.exact_dtype(run.problem.oracle.device)
        self.spaces = schedule.spaces(
            run.problem.shape[1:], run.problem.x.shape[1], run.problem.oracle.device
        )
        self.tanh = TanhSpace(run.problem.low, run.problem.high) if use_tanh else None
        self.allowed = [
            None if run.problem.mask is None else space.transposed(run.problem.mask) > 0
            for space in self.spaces
        ]
        self.draws = [min(coordinates, space.size) for space in self.spaces]
        counts = [
            (
                torch.full_like(run.problem.index, draws)
                if free is None
                else free.sum(1).clamp(max=draws).expand(len(run.problem.index))
            )
            for draws, free in zip(self.draws, self.allowed, strict=True)
        ]
        self.probes = 2 * torch.stack(counts, dim=1)  # (R, levels)
        self.anchor = run.problem.x if self.tanh is None else self.tanh.inverse(run.problem.x)
        self.noise = run.problem.x.new_zeros(
            len(run.problem.index), max(space.size for space in self.spaces)
        )
        self.first, self.second, self.count = (torch.zeros_like(self.noise) for _ in range(3))
        self.level, self.round = (
            torch.zeros_like(run.problem.index),
            torch.zeros_like(run.problem.index),
        )
        self.settled = torch.zeros_like(run.problem.index, dtype=torch.bool)
        self.share = torch.ones_like(self.noise) if importance else None
        self.place = self.anchor
        self.images = self._image(
            self.place, torch.arange(len(run.problem.index), device=run.problem.index.device)
        )

    def cost(self) -> Tensor:
        """(R,) queries of each sample's next probes."""
        return self.probes.gather(1, self.level.unsqueeze(1)).squeeze(1)

    def can_grow(self) -> Tensor | None:
        """(R,) bool, the samples for which a larger space waits for a loss that stands still."""
        if self.schedule.starts is not None or len(self.spaces) == 1:
            return None
        return self.level < len(self.spaces) - 1

    def hinge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) ``max(kappa - margin, 0)`` in float64: (10) and (11) plus kappa."""
        run = self.run
        return (run.confidence - run.margins(outputs, owner, self.exact)).clamp(min=0)

    def distortion(self) -> Tensor:
        """(R,) ``||D(y)||_2^2``, or the squared distance of the images under the change of
        variable.
        """
        if self.tanh is not None:
            moved = self.images - self.run.problem.x
        else:
            moved = self.run.problem.masked(self.place - self.anchor)
        return torch.linalg.vector_norm(moved, dim=1).square()

    def select(self, stay: Tensor | None) -> None:
        """Keep the samples at these positions; None keeps all."""
        if stay is None:
            return
        for name in (
            "probes",
            "anchor",
            "noise",
            "first",
            "second",
            "count",
            "level",
            "round",
            "settled",
        ):
            setattr(self, name, getattr(self, name)[stay])
        self.place, self.images = self.place[stay], self.images[stay]
        self.share = None if self.share is None else self.share[stay]
        self.allowed = [
            free if free is None or len(free) == 1 else free[stay] for free in self.allowed
        ]

    def restart(self, begun: Tensor) -> None:
        """Put the samples marked in begun (R,) back to their inputs."""
        if not bool(begun.any()):
            return
        back = begun.unsqueeze(1)
        for name in ("noise", "first", "second", "count"):
            setattr(self, name, getattr(self, name).masked_fill(back, 0.0))
        self.level, self.settled = self.level.masked_fill(begun, 0), self.settled & ~begun
        self.share = None if self.share is None else self.share.masked_fill(back, 1.0)

    def advance(self, search: ConstantSearch, going: Tensor, hinge: Tensor, stuck: Tensor) -> None:
        """One iteration for the samples marked in going (R,), whose iterates have this hinge
        (R,).
        """
        self._forget(going & (hinge == 0))
        for level, space in enumerate(self.spaces):
            members = going if len(self.spaces) == 1 else going & (self.level == level)
            positions = members.nonzero().squeeze(1)
            if len(positions):
                self._move(positions, level, space, search.at.const[positions], hinge[positions])
        self.round = self.round + going.to(self.round.dtype)
        self._grow(search.at.iteration, going, stuck)
        self._place()

    # ---- one iteration

    def _forget(self, reached: Tensor) -> None:
        """Reset Adam where an optimisation has reached its goal for the first time."""
        if not self.reset_adam:
            return
        new = (reached & ~self.settled).unsqueeze(1)
        self.settled = self.settled | reached
        if bool(new.any()):
            for name in ("first", "second", "count"):
                setattr(self, name, getattr(self, name).masked_fill(new, 0.0))

    def _move(
        self, rows: Tensor, level: int, space: Coordinates, const: Tensor, hinge: Tensor
    ) -> None:
        """Probe and move coordinates of the samples at these positions (r,)."""
        drawn, allowed = self._draw(rows, level, space)
        above, below = self._probe(rows, space, drawn, allowed)
        weight = const.unsqueeze(1)
        # a direction whose probes say nothing must not spoil the moments for good
        slope = torch.nan_to_num(
            weight * (above - below) / (2 * self.h), nan=0.0, posinf=0.0, neginf=0.0
        )
        slope = slope + self._distortion_slope(rows, space).gather(1, drawn)
        at = (rows.unsqueeze(1), drawn)
        if self.solver == "adam":
            step = self._adam(at, slope)
        else:
            second = weight * (above - 2 * hinge.unsqueeze(1) + below) / self.h**2
            curvature = torch.nan_to_num(second, nan=0.0, posinf=0.0, neginf=0.0)
            curvature = curvature + self._distortion_curvature(rows, space).gather(1, drawn)
            step = (
                -slope
                / torch.where(curvature > 0, curvature.clamp(min=LEAST_CURVATURE), 1.0)
                * self.step_size
            )
            if self.solver == "adam-newton":
                step = torch.where(curvature > 0, step, self._adam(at, slope))
        self.noise[at] += step.to(torch.float32)

    def _draw(self, rows: Tensor, level: int, space: Coordinates) -> tuple[Tensor, Tensor]:
        """(r, B) distinct coordinates for each sample, from its own stream, and which of them it
        may change.

        Of keys ``-log(1 - u) / p`` the smallest B are draws without replacement in proportion to p.
        """
        run = self.run
        key = uniform(run.problem.seed, run.problem.ids[rows], self.round[rows], (space.size,))
        if self.share is not None:
            share = self.share[rows, : space.size]
            share = share / share.sum(dim=1, keepdim=True)
            share = (1 - UNIFORM_SHARE) * share + UNIFORM_SHARE / space.size
            key = -torch.log1p(-key.to(self.exact)) / share
        free = self.allowed[level]
        if free is not None:
            key = key.masked_fill(~(free if len(free) == 1 else free[rows]), torch.inf)
        smallest = key.topk(self.draws[level], dim=1, largest=False, sorted=False)
        return smallest.indices, smallest.values.isfinite()

    def _probe(
        self, rows: Tensor, space: Coordinates, drawn: Tensor, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(r, B) the hinge above and below each coordinate, built as they are asked; 0 where it
        may not change.
        """
        run = self.run
        row, column = allowed.nonzero().unbind(1)
        pairs = len(row)
        answers = []
        for part in torch.arange(2 * pairs, device=drawn.device).split(
            run.problem.oracle.batch_size
        ):
            pair = part % max(pairs, 1)
            amount = torch.where(part < pairs, self.h, -self.h).to(torch.float32)
            owner = rows[row[pair]]
            probes = space.add_(self.place[owner], drawn[row[pair], column[pair]], amount)
            probes = self._image(probes, owner, probe=True)
            index = run.problem.index[owner]
            answers.append(
                self.hinge(
                    run.problem.oracle.scores(probes.view(-1, *run.problem.shape[1:]), index), index
                )
            )
        found = torch.zeros(2, *drawn.shape, dtype=self.exact, device=drawn.device)
        found[:, row, column] = torch.cat(answers).view(2, pairs)
        return found[0], found[1]

    def _distortion_slope(self, rows: Tensor, space: Coordinates) -> Tensor:
        """(r, size) the first derivative of the distortion, which no query is needed for."""
        place, x = self.place[rows], self.run.problem.x[rows]
        if self.tanh is None:
            slope = 2 * (place - x)
        else:
            slope = 2 * (self.images[rows] - x) * self.tanh.slope(place)
        return space.transposed(self.run.problem.masked(slope, rows))

    def _distortion_curvature(self, rows: Tensor, space: Coordinates) -> Tensor:
        """(r, size) its second derivative."""
        place = self.place[rows]
        if self.tanh is None:
            bend = torch.full_like(place, 2.0)
        else:
            offset, rate = self.images[rows] - self.run.problem.x[rows], self.tanh.slope(place)
            bend = 2 * rate.square() + 2 * offset * self.tanh.curvature(place)
        return space.transposed_squared(self.run.problem.masked(bend, rows))

    def _adam(self, at: tuple[Tensor, Tensor], slope: Tensor) -> Tensor:
        """(r, B) the step of Adam, whose moments and step count each coordinate has of its own."""
        first = BETA1 * self.first[at].to(slope.dtype) + (1 - BETA1) * slope
        second = BETA2 * self.second[at].to(slope.dtype) + (1 - BETA2) * slope.square()
        t = self.count[at].to(slope.dtype) + 1
        self.first[at], self.second[at], self.count[at] = (
            one.to(torch.float32) for one in (first, second, t)
        )
        return adam_step(first, second, t, self.step_size)

    # ---- the spaces

    def _image(self, place: Tensor, rows: Tensor, probe: bool = False) -> Tensor:
        """The inputs (r, D) that points of the unbounded space stand for, of the samples at
        positions rows (r,).
        """
        run = self.run
        if self.tanh is not None:
            place = self.tanh.image(place)
        elif not probe or self.schedule.sides:
            # probes of single pixels stay symmetric: they may leave the box by h
            place = run.problem.clip(place)
        if run.problem.mask is None:
            return place
        return torch.where(
            (run.problem.mask if len(run.problem.mask) == 1 else run.problem.mask[rows]) != 0,
            place,
            run.problem.x[rows],
        )

    def _place(self) -> None:
        """Bring ``place`` and ``images`` up to date with the noise."""
        run = self.run
        if not self.schedule.sides:
            self.place = self.anchor + self.noise
            if self.tanh is None:
                self.place = run.problem.clip(self.place)
                self.noise = self.place - self.anchor  # projected to the box
        else:
            self.place = torch.empty_like(self.anchor)
            for level, space in enumerate(self.spaces):
                members = (self.level == level).nonzero().squeeze(1)
                if len(members):
                    self.place[members] = self.anchor[members] + space.scale_up(
                        self.noise[members, : space.size]
                    )
        self.images = self._image(
            self.place, torch.arange(len(run.problem.index), device=run.problem.index.device)
        )

    def _grow(self, iteration: Tensor, going: Tensor, stuck: Tensor) -> None:
        """Enlarge the space of the samples for which it is time, and renew the shares of the
        draws.
        """
        for level in reversed(range(len(self.spaces) - 1)):
            due = (
                stuck
                if self.schedule.starts is None
                else iteration == self.schedule.starts[level + 1]
            )
            rows = (going & due & (self.level == level)).nonzero().squeeze(1)
            if len(rows):
                self._enlarge(rows, level)
        if self.share is not None and self.importance is not True and self.schedule.sides:
            for level, space in enumerate(self.spaces):
                due = going & (self.level == level) & (iteration % self.importance == 0)
                rows = due.nonzero().squeeze(1)
                if len(rows) and isinstance(space, ScaledImage):
                    self.share[rows, : space.size] = space.importance(
                        self.noise[rows, : space.size], space
                    )

    def _enlarge(self, rows: Tensor, level: int) -> None:
        """Carry the noise of samples (r,) over to the next space; Adam begins anew."""
        small, large = self.spaces[level], self.spaces[level + 1]
        if not isinstance(small, ScaledImage) or not isinstance(large, ScaledImage):
            raise RuntimeError("only scaled images grow")
        noise = self.noise[rows, : small.size]
        if self.share is not None:
            self.share[rows, : large.size] = small.importance(noise, large)
        self.noise[rows, : large.size] = small.to_size(noise, large)
        for moments in (self.first, self.second, self.count):
            moments[rows] = 0.0
        self.level[rows] = level + 1
