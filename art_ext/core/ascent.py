"""One step up the loss within a ball, put together from named parts: the family from FGSM to HMCAM.

    x_{t+1} = P(x_t + step_rule(momentum_rule(normaliser(grad J(x_t)))))

References:
    Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack and
    learning", IEEE TPAMI 2022, Table 1 and Algorithm 2 (the equation and algorithm numbers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.ball import BallRun, Look
from art_ext.core.checks import check_choice, check_number, check_positive, check_share
from art_ext.core.geometry import row_norms, uniform_in_ball, unit

MOMENTUM_RULES = ("none", "accumulated", "average")
NORMALISERS = ("none", "l1", "mean")
STEP_RULES = ("sign", "adaptive", "corrected")
STARTS = ("input", "uniform")
START_BLOCK = 1 << 40  # of the samples' streams; the other draws of a chain lie far below
PHASES = 1 << 20  # blocks of one restart, two for each phase


def random_start(run: BallRun, restart: int = 0, phase: int = 0) -> Tensor:
    """A point (R, D) drawn uniformly from the ball of each live sample and clipped to the box.

    Each restart and phase has two blocks of its own in the samples' streams. Masked coordinates
    stay where they are.
    """
    block = START_BLOCK + restart * PHASES + 2 * phase
    offset = uniform_in_ball(
        run.norm, run.radius, run.seed, run.ids[run.index], block, run.x.shape[1]
    )
    return run.feasible(run.x + run.masked(offset))


@dataclass(frozen=True)
class Rule:
    """The parts of a step, by name.

    Attributes:
        step_size: alpha, in the units of x.
        momentum_rule: ``"none"``: ``v_t = g_t``; ``"accumulated"``: ``v_t = decay v_{t-1} + g_t``;
            ``"average"``: ``v_t = beta1 v_{t-1} + (1 - beta1) g_t`` (10).
        normaliser: of each sample's gradient: ``"none"``, ``"l1"`` for ``g / ||g||_1``, ``"mean"``
            for ``g / mean |g|``. Under the sign the latter two differ by rounding only.
        step_rule: ``"sign"``: ``alpha sgn(v)`` (8). ``"adaptive"``: ``sgn(v)`` times, for each
            coordinate, ``min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e))`` (11), e
            being the largest so far of the averages ``e_t = beta2 e_{t-1} + (1 - beta2) g_t^2``.
            ``"corrected"``: the same without the second moment, ``min(eps, alpha / (1 - beta1^t))
            sgn(v)``. In L2 and L1, ``v / ||v||_p`` stands for ``sgn(v)``.
        start: ``"input"``, or ``"uniform"``, a point drawn uniformly from the ball and clipped to
            the box.
        decay: of ``"accumulated"``.
        beta1, beta2: of the averages.
        delta: the small constant under e, added to its root (``delta_inside`` false, as the
            authors' program) or inside it (as the paper prints).
        grad_scale: multiplies every gradient. Only the adaptive step depends on it: 1 is the
            gradient of each sample's own loss; 1/B is what the authors' mean over batches of B
            samples gives.
    """

    step_size: float
    momentum_rule: str = "none"
    normaliser: str = "none"
    step_rule: str = "sign"
    start: str = "input"
    decay: float = 1.0
    beta1: float = 0.95
    beta2: float = 0.999
    delta: float = 1e-7
    delta_inside: bool = False
    grad_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("step_size", "delta", "grad_scale"):
            check_positive(name, getattr(self, name))
        for name in ("beta1", "beta2"):
            check_share(name, getattr(self, name))
        check_number("decay", self.decay)
        if not 0 <= self.decay < math.inf:
            raise ValueError(f"decay must be >= 0, got {self.decay!r}")
        check_choice("momentum_rule", self.momentum_rule, MOMENTUM_RULES)
        check_choice("normaliser", self.normaliser, NORMALISERS)
        check_choice("step_rule", self.step_rule, STEP_RULES)
        check_choice("start", self.start, STARTS)

    def begin(self, run: BallRun, restart: int = 0) -> tuple[Look, Tensor]:
        """The look at the live samples' starting points (R, D), and these points.

        Another start than the input costs a query of its own. The first trajectory begins with the
        clean check.
        """
        if self.start == "input":
            look = run.open(differentiate=run.remaining > 1, last=run.remaining == 1)
            return look, run.x
        if restart == 0:
            look = run.open(differentiate=False, last=run.remaining == 1)
            if not run.remaining or not len(run.index):
                return look, run.x
        rows = random_start(run, restart)
        further = run.remaining > 1
        look, stay = run.drop(run.look(rows, differentiate=further), last=not further)
        return look, rows if stay is None else rows[stay]


class Trajectory:
    """Steps of one rule, with the moments of the live samples: (R, D) each."""

    def __init__(self, rule: Rule, run: BallRun) -> None:
        self.rule, self.run = rule, run
        self.restart()

    def restart(self) -> None:
        """Forget the moments."""
        self.t = 0
        self.v = self.e = self.e_max = torch.zeros_like(self.run.x)

    def step(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """The next iterates (R, D) from rows (R, D) and the gradient there."""
        rule, run = self.rule, self.run
        self.t += 1
        g = self._normalised(gradient if rule.grad_scale == 1 else gradient * rule.grad_scale)
        if rule.momentum_rule == "none":
            self.v = g
        elif rule.momentum_rule == "accumulated":
            self.v = rule.decay * self.v + g
        else:
            self.v = rule.beta1 * self.v + (1 - rule.beta1) * g
        direction = self.v.sign() if run.norm == "linf" else unit(self.v, run.norm)
        return run.feasible(rows + self._lengths(g) * direction)

    def select(self, stay: Tensor | None) -> None:
        """Keep the samples at these positions; None keeps all."""
        if stay is not None:
            self.v, self.e, self.e_max = self.v[stay], self.e[stay], self.e_max[stay]

    def _normalised(self, gradient: Tensor) -> Tensor:
        if self.rule.normaliser == "none":
            return gradient
        length = row_norms(gradient, "l1").unsqueeze(1)
        if self.rule.normaliser == "mean":
            length = length / gradient.shape[1]
        return torch.where(length > 0, gradient / length, 0.0)

    def _lengths(self, g: Tensor) -> float | Tensor:
        """How far to go along the direction: one number, or one per coordinate (R, D)."""
        rule = self.rule
        if rule.step_rule == "sign":
            return rule.step_size
        alpha = rule.step_size / (1 - rule.beta1**self.t)
        if rule.step_rule == "corrected":
            return min(self.run.eps, alpha)
        self.e = rule.beta2 * self.e + (1 - rule.beta2) * g.square()
        self.e_max = torch.maximum(self.e_max, self.e)
        second = self.e_max / (1 - rule.beta2**self.t)
        root = (second + rule.delta).sqrt() if rule.delta_inside else second.sqrt() + rule.delta
        return (alpha / root).clamp(max=self.run.eps)
