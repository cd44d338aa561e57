"""Backward Smoothing: crafting starts at a random output instead of a random input."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softmax

from art_ext.core.checks import check_choice, check_count, check_not_negative
from art_ext.training.engine import Gain, Step
from art_ext.training.objectives import soft_cross_entropy
from art_ext.training.recipes.base import BallRecipe, Cost
from art_ext.training.recipes.trades import regularised

VARIANTS = ("trades", "pgd")
STARTS = ("backward", "odi")
TARGETS = ("printed", "shifted")


@dataclass(frozen=True, kw_only=True, eq=False)
class BackwardSmoothing(BallRecipe):
    """Backward Smoothing: TRADES in two steps, the first of which approaches a random output.

        ``xi = argmin KL(s(f(x) + gamma psi) || s(f(x + xi)))`` (6.4.4), ``psi ~ U(-1, 1)`` for each
        logit, ``delta = argmax KL(s(f(x)) || s(f(x + xi + delta)))`` (6.4.5), both by steps of sign
        gradient from xi = 0, ``min_w mean CE(f_w(x), y) + beta KL(p_w(x) || p_w(x + xi + delta))``.

    With alpha = eps, a pixel that lies at least eps from both faces of the box is moved by -eps, 0
    or +eps. It is 0 if the two signs differ. Nearer to a face the box has an effect. A pixel at 0
    ends at eps if the last sign is +, whatever the first one was, because the box undoes a first
    step downwards. The first step has no effect there. With ``boxed_start=False`` it ends at eps
    only if both signs are +.

    gamma = 0 gives x itself. Both gradients are zero there, exactly as in exact arithmetic, where
    rounding would give them random signs. The same holds for the first step of the PGD variant with
    ``target="shifted"``.

    An update costs per sample, with S = num_steps, 1 forward for f(x), 1 + S passes of crafting (a
    forward and a backward each), then 2 forwards, differentiated by one call. That is 4 + S
    forwards and 3 + S backwards. The PGD variant takes 1 + S passes and 1 training forward, which
    is 2 + S of each, and 1 forward more with ``target="shifted"``.

    Attributes:
        beta: weight of the divergence.
        gamma: scale of the random target.
        num_steps: S, steps of ascent. 0 is the initialisation "alone".
        step_size: alpha, in the units of x. None: eps.
        points: number of random targets. The first step follows the mean of their losses, which
            costs no further pass (our reading of Table 6.10).
        variant: ``"trades"`` or ``"pgd"``. With ``"pgd"`` xi minimises ``([f(x + xi) - gamma
            psi]_y)^2`` (6.7.5), and ascent and training use the cross-entropy.
        start: ``"backward"`` or the comparator ``"odi"``, which maximises ``f(x + xi)^T psi``.
        target: target of the PGD variant: ``"printed"``, or ``"shifted"`` for ``[f(x) + gamma
            psi]_y`` instead of ``gamma psi_y``, as (6.4.3) suggests.
        boxed_start: True brings the first step to ball and box, as the authors' program does. False
            brings it to the ball only, and the steps of ascent to both. Pass False if many pixels
            lie on a face of the box. On MNIST, training with True failed in two of three seeds.

    References:
        Chen, Cheng, Gan, Gu, Liu, "Efficient robust training via backward smoothing", AAAI 2022.
        Equation numbers are those of Chen's dissertation, 2021, chapter 6. Tashiro, Song, Ermon,
        "Diversity can be transferred: output diversification for white- and black-box attacks",
        NeurIPS 2020 (ODI).
    """

    name: ClassVar[str] = "backward-smoothing"
    least_steps: ClassVar[int] = 0  # the initialisation "alone"
    beta: float = 10.0
    gamma: float = 1.0
    num_steps: int = 1
    step_size: float | None = None
    points: int = 1
    variant: str = "trades"
    start: str = "backward"
    target: str = "printed"
    boxed_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("points", self.points)
        check_not_negative("beta", self.beta)
        check_not_negative("gamma", self.gamma)
        check_choice("variant", self.variant, VARIANTS)
        check_choice("start", self.start, STARTS)
        check_choice("target", self.target, TARGETS)

    def cost(self) -> Cost:
        """Return the cost by variant."""
        if self.variant == "trades":
            return Cost(self.num_steps + 4, self.num_steps + 3)
        return Cost(self.num_steps + 2 + self._needs_clean, self.num_steps + 2)

    @property
    def _needs_clean(self) -> bool:
        return self.variant == "trades" or (self.start == "backward" and self.target == "shifted")

    def craft(self, step: Step) -> Tensor:
        """Return (r, *S) examples."""
        clean = step.crafting_logits(step.x, self.bn_mode) if self._needs_clean else None
        ball = step.ball(self.norm)
        length = step.eps if self.step_size is None else self.step_size
        first = self._first_gain(step, clean)
        first_ball = ball if self.boxed_start else ball.unboxed()
        rows = step.ascend(step.x, first, first_ball, 1, length, self.bn_mode)
        if not self.num_steps:
            rows = ball.into(rows)
        # without a random shift the minimum is x itself, where the gradient is rounding noise
        still = self.gamma == 0 and self.start == "backward" and clean is not None
        rows = step.x if still else rows
        if self.variant == "pgd" or clean is None:
            return step.ascend(
                rows, step.hard_cross_entropy, ball, self.num_steps, length, self.bn_mode
            )
        p = softmax(clean, dim=1)
        away = functools.partial(soft_cross_entropy, q=p)
        rows = step.ascend(rows, away, ball, self.num_steps, length, self.bn_mode)
        return step.x if still else rows

    def _first_gain(self, step: Step, clean: Tensor | None) -> Gain:
        """Return the gain of the first step, from logits (r, C) to (r,).

        It is minus the distance from the random targets.
        """

        def targets(classes: int) -> Tensor:
            return 2 * step.uniform((self.points, classes)) - 1  # (r, points, C) psi

        if self.start == "odi":
            return lambda logits: (logits * targets(logits.shape[1]).mean(dim=1)).sum(dim=1)
        if self.variant == "trades" and clean is not None:
            shifted = clean.unsqueeze(1) + self.gamma * targets(clean.shape[1])
            # the divergences from several targets have the gradient of that from their mean
            q = softmax(shifted, dim=2).mean(dim=1)
            return lambda logits: -soft_cross_entropy(logits, q)
        own = step.y.unsqueeze(1)

        def towards(logits: Tensor) -> Tensor:
            psi = targets(logits.shape[1])
            wanted = self.gamma * psi.gather(
                2, own.unsqueeze(1).expand(-1, self.points, 1)
            ).squeeze(2)
            if clean is not None:
                wanted = wanted + clean.gather(1, own)
            return -(logits.gather(1, own) - wanted).square().mean(dim=1)

        return towards

    def loss(self, step: Step) -> Tensor:
        """Return the loss of TRADES, or of adversarial training."""
        x_adv = self.craft(step)
        if self.variant == "trades":
            natural, robust = regularised(step, x_adv)
            return step.mean(natural + self.beta * robust)
        step.count_backward(x_adv)
        return step.mean(step.cross_entropy(step.forward(x_adv)))
