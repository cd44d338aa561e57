"""Projected gradient ascent within a ball, of the cross-entropy or of a divergence."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import softmax

from art_ext.core.checks import check_count, check_positive
from art_ext.core.geometry import Ball
from art_ext.training.cost import Cost
from art_ext.training.craft.base import Craft
from art_ext.training.craft.starts import Start
from art_ext.training.craft.tolerance import Tolerance, check_tolerance, tolerance_at
from art_ext.training.objectives.losses import soft_cross_entropy
from art_ext.training.passes import Gain
from art_ext.training.step import Step


@dataclass(frozen=True)
class RandomRadius:
    """A radius for each weight update, drawn uniformly by the seed and the number of the update.

    Attributes:
        smallest, largest: ends of the range, before the warm-up of the radius.
    """

    smallest: float
    largest: float

    def __call__(self, step: Step) -> float:
        """Return the radius, the same for all rows and processes, and enter it into the history."""
        drawn = self.smallest + step.uniform_of_update() * (self.largest - self.smallest)
        radius = drawn * (step.eps / self.largest) if self.largest else 0.0
        step.log["radius"] = torch.tensor(radius, device=step.x.device)
        return radius


@dataclass(frozen=True, kw_only=True)
class Ascent(Craft):
    """Projected gradient ascent of a gain from a starting point.

    Attributes:
        norm: of the ball.
        bn_mode: mode of BatchNorm while crafting.
        num_steps: K.
        step_size: in the units of x. None: ``radii eps``.
        radii: the default step size in radii. None: ``2.5 / K``.
        start: gives the starting points.
        tolerance: of ``ascend``, or a schedule ``{epoch: tolerance}``.
        radius: gives the radius of an update. None: that of the step.
    """

    norm: str
    bn_mode: str
    num_steps: int
    start: Start
    step_size: float | None = None
    radii: float | None = None
    tolerance: Tolerance = None
    radius: RandomRadius | None = None

    def __post_init__(self) -> None:
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        check_count("num_steps", self.num_steps)
        check_tolerance(self.tolerance)

    @abstractmethod
    def gain(self, step: Step) -> Gain:
        """Return the function from class scores (r, C) to (r,) that is ascended."""

    def cost(self) -> Cost:
        """Return K forwards and K backwards."""
        return Cost(self.num_steps, self.num_steps)

    def __call__(self, step: Step) -> Tensor:
        """Return (r, *S) examples."""
        eps = step.eps if self.radius is None else self.radius(step)
        ball = step.ball(self.norm, eps)
        start = self.start(step, ball)
        tolerance = tolerance_at(self.tolerance, step.epoch)
        with step.crafting(self.bn_mode):
            rows = ascend(
                step,
                start,
                self.gain(step),
                ball,
                self.num_steps,
                self._length(eps),
                self.bn_mode,
                tolerance,
            )
        # rows that are never moved may lie outside the box
        rows = rows if self.start.boxed or tolerance is None else ball.into(rows)
        self.start.end(step, rows)
        return rows

    def _length(self, eps: float) -> float:
        if self.step_size is not None:
            return self.step_size
        return self._share(eps) if self.radii is None else self.radii * eps

    def _share(self, eps: float) -> float:
        """Return the default length of each of K steps."""
        return 2.5 / self.num_steps * eps


@dataclass(frozen=True, kw_only=True)
class CrossEntropyAscent(Ascent):
    """Ascent of the cross-entropy of the unsmoothed label, or of the run's ``craft_loss``."""

    @property
    def ascends_labels(self) -> bool:
        """True."""
        return True

    def gain(self, step: Step) -> Gain:
        """Return the loss of the labels."""
        return step.crafting_loss


@dataclass(frozen=True, kw_only=True)
class DivergenceAscent(Ascent):
    """Ascent of ``KL(p(x) || p(x'))``.

    p(x) is a constant, so the divergence has the gradient of the cross-entropy with target p(x).
    """

    def cost(self) -> Cost:
        """Return K + 1 forwards, one for p(x), and K backwards."""
        return Cost(1, 0).plus(super().cost())

    def gain(self, step: Step) -> Gain:
        """Return the cross-entropy with target p(x), for one forward."""
        p = softmax(step.crafting_logits(step.x, self.bn_mode), dim=1)
        return partial(soft_cross_entropy, q=p)

    def _share(self, eps: float) -> float:
        """Return the default length of each of K steps, rounded as in earlier versions."""
        return 2.5 * eps / self.num_steps


def ascend(
    step: Step,
    rows: Tensor,
    gain: Gain,
    ball: Ball,
    num_steps: int,
    length: float,
    mode: str,
    tolerance: int | None = None,
) -> Tensor:
    """Iterate ``x_{t+1} = P(x_t + length steepest(grad gain))`` num_steps times.

    Each step costs one forward and one backward. A row that was found misclassified before more
    than ``tolerance`` steps is not moved again. With None, all rows are moved.
    """
    allowed = None if tolerance is None else torch.full_like(step.y, tolerance)
    for _ in range(num_steps):
        gradient, logits = step.input_gradient(rows, gain, mode)
        moved = ball.step(rows, gradient, length)
        if allowed is not None:
            allowed = allowed - (logits.argmax(dim=1) != step.y).to(allowed.dtype)
            moved = torch.where((allowed >= 0).view((-1,) + (1,) * (rows.dim() - 1)), moved, rows)
        rows = moved
    return rows.detach()
