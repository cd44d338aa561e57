"""The Frank-Wolfe step, shared by the white-box and the black-box attack: momentum, vertex, step
size.

References:
    Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial attacks",
    AAAI 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 2 (the equation and algorithm
    numbers).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from art_ext.core.ball import BallRun
from art_ext.core.checks import check_choice, check_number, check_share
from art_ext.core.geometry import linear_minimiser

SCHEDULES = ("constant", "inverse_sqrt", "plateau")
WINDOW = 5


def check_step(
    step_fraction: float, momentum: float, schedule: str, momentum_init: str, box: str
) -> None:
    """Refuse settings of the Frank-Wolfe step that make no sense.

    Raises:
        ValueError: naming the argument, what was given and what was wanted.
    """
    check_number("step_fraction", step_fraction)
    if not 0 < step_fraction <= 1:
        raise ValueError(
            f"step_fraction must lie in (0, 1], of the way to the vertex, got {step_fraction!r}"
        )
    check_share("momentum", momentum)
    check_choice("schedule", schedule, SCHEDULES)
    check_choice("momentum_init", momentum_init, ("zero", "gradient"))
    check_choice("box", box, ("clip", "vertex"))


class Plateau:
    """Whether each of R minimised losses has stopped falling, from the first to the last of the
    latest five.

    The window slides, and starts anew where it was full and flat.

    Args:
        count: R.
        device: of the losses.
        improvement: the least fall that counts, as a share of the first loss of the window.
    """

    def __init__(self, count: int, device: torch.device, improvement: float = 1e-3) -> None:
        self.improvement = improvement
        self.losses = torch.zeros(count, WINDOW, device=device)
        self.filled = torch.zeros(count, dtype=torch.int64, device=device)

    def flat(self, losses: Tensor) -> Tensor:
        """(R,) bool, after entering the latest losses (R,)."""
        self.losses = torch.cat([self.losses[:, 1:], losses.to(torch.float32).unsqueeze(1)], dim=1)
        self.filled = (self.filled + 1).clamp(max=WINDOW)
        first = self.losses[:, 0]
        flat = (self.filled == WINDOW) & (
            first - self.losses[:, -1] < self.improvement * first.abs()
        )
        self.filled = self.filled.masked_fill(flat, 0)
        return flat

    def select(self, stay: Tensor) -> None:
        """Keep the samples at these positions."""
        self.losses, self.filled = self.losses[stay], self.filled[stay]


class ConditionalGradient:
    """``x_{t+1} = x_t + gamma_t (v_t - x_t)`` with ``v_t = argmin_{v in X} <v, m_t>`` (Algorithm 1,
    lines 4 to 7).

    X is the ball around the clean input; with ``box="vertex"`` its intersection with the box,
    otherwise the step is clipped to the box, which moves no coordinate away from the clean input.
    Either way the iterate is a convex combination of points of the ball and needs no projection.

    Args:
        run: the samples; after ``drop`` hand its positions to ``select``.
        step_fraction: gamma in (0, 1].
        momentum: beta of ``m_t = beta m_{t-1} + (1 - beta) grad f(x_t)``.
        schedule: ``"constant"``; ``"inverse_sqrt"``, the constant ``gamma / sqrt(T)`` of Theorem
            2.4.4; ``"plateau"``, gamma until the losses of the iterates are flat for the first
            time, then ``gamma / sqrt(3)``, ``gamma / sqrt(4)``, and so on (the authors count from
            two iterations before).
        momentum_init: ``"zero"``, or ``"gradient"`` for ``m_{-1} = grad f(x_0)``.
        box: ``"clip"`` or ``"vertex"``.
        steps: T.
        start: (R, D) x_0; None takes the clean inputs.
    """

    def __init__(
        self,
        run: BallRun,
        *,
        step_fraction: float,
        momentum: float,
        schedule: str,
        momentum_init: str,
        box: str,
        steps: int,
        start: Tensor | None = None,
    ) -> None:
        self.run, self.momentum, self.momentum_init, self.schedule = (
            run,
            momentum,
            momentum_init,
            schedule,
        )
        self.step_fraction = (
            step_fraction / math.sqrt(max(1, steps))
            if schedule == "inverse_sqrt"
            else step_fraction
        )
        self.within_box = box == "vertex"
        self.x = run.x if start is None else start  # x_0
        self.m: Tensor | None = None
        self.plateau = Plateau(len(self.x), self.x.device)
        self.decaying_since = torch.full((len(self.x),), -1, device=self.x.device)
        self.iteration = 0

    def vertex(self, m: Tensor) -> Tensor:
        """(R, D) the vertices of X that minimise ``<v, m>``."""
        run, room = self.run, None
        if self.within_box:
            room = torch.where(m > 0, run.x - run.low, run.high - run.x)
        return run.x + linear_minimiser(m, run.norm, run.radius, room)

    def gap(self, slope: Tensor) -> Tensor:
        """(R,) the Frank-Wolfe gap ``max_{x in X} <x - x_t, -grad f(x_t)>`` (section 2.4.1), 0 at
        stationary points.

        Args:
            slope: (R, D) the gradient of f at the iterates.
        """
        return ((self.x - self.vertex(slope)) * slope).sum(dim=1)

    def step(self, slope: Tensor, losses: Tensor) -> Tensor:
        """The next iterates (R, D).

        Args:
            slope: (R, D) the gradient, or its estimate, of f at the iterates.
            losses: (R,) f there, for the plateau schedule.
        """
        if self.m is None:
            self.m = torch.zeros_like(slope) if self.momentum_init == "zero" else slope
        self.m = self.momentum * self.m + (1 - self.momentum) * slope
        # x + gamma (v - x), which for gamma = 1 is v to the bit
        moved = torch.lerp(self.x, self.vertex(self.m), self._step_fractions(losses))
        self.x = self.run.clip(moved)  # with the vertex inside the box, only rounding can leave it
        self.iteration += 1
        return self.x

    def select(self, stay: Tensor | None) -> None:
        """Keep the samples at these positions; None keeps all."""
        if stay is None:
            return
        self.x, self.decaying_since = self.x[stay], self.decaying_since[stay]
        self.m = None if self.m is None else self.m[stay]
        self.plateau.select(stay)

    def _step_fractions(self, losses: Tensor) -> float | Tensor:
        """gamma_t: one for all samples, or (R, 1)."""
        if self.schedule != "plateau":
            return self.step_fraction
        if self.iteration:  # the window begins with x_1
            start = torch.where(self.plateau.flat(losses), self.iteration, -1)
            self.decaying_since = torch.where(self.decaying_since < 0, start, self.decaying_since)
        age = (self.iteration - self.decaying_since + 3).to(torch.float32)
        return (
            self.step_fraction * torch.where(self.decaying_since < 0, 1.0, age.rsqrt())
        ).unsqueeze(1)
