"""TRADES and Fast TRADES."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softmax

from art_ext.core.checks import check_not_negative
from art_ext.training.engine import Step
from art_ext.training.objectives import divergence, soft_cross_entropy
from art_ext.training.recipes.base import BallRecipe, Cost, Tolerance, check_tolerance, tolerance_at


@dataclass(frozen=True, kw_only=True, eq=False)
class Trades(BallRecipe):
    """TRADES: ``min_w mean CE(f_w(x), y) + beta max_{||x' - x|| <= eps} KL(p_w(x) || p_w(x'))``.

    With K = num_steps, an update costs 1 + K + 2 forwards and K + 2 backwards per sample. These are
    the clean outputs that crafting compares with, K passes of crafting, and the clean and the
    perturbed forward of the loss, both differentiated by one call. (The authors' program runs the
    clean forward of the loss twice.) BatchNorm sees the two separately.

    Attributes:
        beta: weight of the divergence. 0 is natural training.
        num_steps: K.
        step_size: in the units of x. None: ``2.5 eps / K``.
        start: standard deviation of the normal noise that crafting starts from.
        tolerance: as of ``Pgd``: a sample is not moved any further once it was misclassified before
            tolerance + 1 steps. None, an integer, or a schedule ``{epoch: tolerance}``.

    References:
        Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, "Theoretically principled trade-off between
        robustness and accuracy", ICML 2019.
    """

    name: ClassVar[str] = "trades"
    beta: float = 6.0
    num_steps: int = 10
    step_size: float | None = None
    start: float = 1e-3
    tolerance: Tolerance = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("beta", self.beta)
        check_not_negative("start", self.start)
        check_tolerance(self.tolerance)

    def cost(self) -> Cost:
        """Return K + 3 forwards and K + 2 backwards."""
        return Cost(self.num_steps + 3, self.num_steps + 2)

    def craft(self, step: Step) -> Tensor:
        """Return (r, *S) examples."""
        ball = step.ball(self.norm)
        length = 2.5 * step.eps / self.num_steps if self.step_size is None else self.step_size
        start = ball.into(step.x + self.start * step.normal_like_x())
        return ascend_divergence(self, step, start, self.num_steps, length)

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy of the inputs plus beta times the mean divergence."""
        natural, robust = regularised(step, self.craft(step))
        return step.mean(natural + self.beta * robust)


@dataclass(frozen=True, kw_only=True, eq=False)
class FastTrades(Trades):
    """Fast TRADES: TRADES with one step, or a few, from a random point of the ball.

    The point is drawn uniformly. With n = num_steps, an update costs 1 + n + 2 forwards and n + 2
    backwards per sample.

    Attributes:
        num_steps: n.
        step_size: in the units of x. None: eps.
        boxed_start: True clamps the random start to the box too. False projects it onto the ball
            only, as the authors' program does. The steps of ascent always stay inside both. The
            choice matters if many pixels lie on a face of the box.

    References:
        Chen, Cheng, Gan, Gu, Liu, "Efficient robust training via backward smoothing", AAAI 2022
        (the comparator).
    """

    name: ClassVar[str] = "fast-trades"
    start: ClassVar[float] = 0.0  # type: ignore[misc]  # no noise around x: not an argument here
    num_steps: int = 1
    boxed_start: bool = True

    def craft(self, step: Step) -> Tensor:
        """Return (r, *S) examples."""
        length = step.eps if self.step_size is None else self.step_size
        ball = step.ball(self.norm)
        start = step.uniform_start(ball, self.boxed_start)
        rows = ascend_divergence(self, step, start, self.num_steps, length)
        # rows that are never moved may lie outside the box
        return rows if self.boxed_start or self.tolerance is None else ball.into(rows)


def ascend_divergence(
    recipe: Trades, step: Step, start: Tensor, num_steps: int, length: float
) -> Tensor:
    """Return (r, *S) examples that maximise ``KL(p(x) || p(x'))`` by steps from start.

    This costs 1 + num_steps forwards and num_steps backwards. p(x) is a constant, so the divergence
    has the gradient of the cross-entropy with target p(x).
    """
    p = softmax(step.crafting_logits(step.x, recipe.bn_mode), dim=1)
    ball = step.ball(recipe.norm)
    tolerance = tolerance_at(recipe.tolerance, step.epoch)
    return step.ascend(
        start,
        lambda logits: soft_cross_entropy(logits, p),
        ball,
        num_steps,
        length,
        recipe.bn_mode,
        tolerance,
    )


def regularised(step: Step, x_adv: Tensor) -> tuple[Tensor, Tensor]:
    """Return (r,) cross-entropies of x and (r,) ``KL(p(x) || p(x_adv))``.

    They cost two training forwards.
    """
    step.count_backward(step.x)
    step.count_backward(x_adv)
    clean = step.forward(step.x)
    return step.cross_entropy(clean), divergence(clean, step.forward(x_adv))
