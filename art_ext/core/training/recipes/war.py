"""Width adjusted regularisation: the weight of the robust term finds itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_not_negative, check_positive, check_share
from art_ext.core.training.engine import Step
from art_ext.core.training.recipes.base import Cost
from art_ext.core.training.recipes.pgd import Pgd
from art_ext.core.training.recipes.trades import Trades, regularised

REGULARISERS = ("trades", "at")
SMALLEST = 1e-8  # of the robust term, in the ratio


@dataclass(frozen=True, kw_only=True, eq=False)
class War(Trades):
    """Width adjusted regularisation (Algorithm 8): ``min_w l_nat + lambda_t l_rob``, lambda found along the way.

        ``lambda_t = max(lambda_{t-1} + alpha (zeta - l_nat / l_rob), 0)``, ``lambda_0 = 0``

    l_nat is the mean cross-entropy of the minibatch and l_rob the mean of the robust term, *without* lambda: the
    divergence of TRADES, or ``max(CE(x'), CE(x)) - CE(x)`` of generalised adversarial training. lambda is a constant of
    the update: no gradient goes through it. It rises until natural and robust loss stand in the ratio zeta that was
    measured on a thin network (``measure_zeta``): a wider network, whose local Lipschitz constant is larger, needs
    more.

    There is no program of the authors for the update. Our reading: the outer maximum (printed parentheses do not
    balance), one update of lambda a minibatch, on means over all processes. Where l_rob is still near 0 the ratio is
    unbounded and would throw lambda to 0 from any height: it is capped at ``cap`` times zeta, which is our deviation
    (``cap=None`` takes it off).

    With K = num_steps, an update costs K + 3 forwards and K + 2 backwards a sample over TRADES, and K + 2 and K + 2
    over generalised adversarial training. The history holds the means of lambda, the (capped) ratio and both terms.

    Attributes:
        regulariser: ``"trades"`` or ``"at"``.
        zeta: the ratio to reach; 0 is natural training.
        alpha: how fast lambda moves.
        cap: of the ratio, in multiples of zeta.
        ema: decay of an average of the ratio that lambda follows in its place; 0 for none.
        fixed: a lambda that stays as it is: TRADES with that beta, or, over "at", generalised adversarial training.
        num_steps, step_size, start: of crafting: TRADES' own, or, over "at", PGD's with ``start`` unused.

    References:
        Wu, Chen, Cai, He, Gu, "Do wider neural networks really help adversarial robustness?", NeurIPS 2021; algorithm
        number of Chen's dissertation, 2021, chapter 5.
    """

    name: ClassVar[str] = "war"
    beta: ClassVar[float] = 1.0  # type: ignore[misc]  # lambda stands in its place: not an argument here
    regulariser: str = "trades"
    zeta: float = 30.0
    alpha: float = 0.1
    cap: float | None = 10.0
    ema: float = 0.0
    fixed: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("regulariser", self.regulariser, REGULARISERS)
        check_not_negative("zeta", self.zeta)
        check_positive("alpha", self.alpha)
        check_share("ema", self.ema)
        if self.cap is not None:
            check_positive("cap", self.cap)
        if self.fixed is not None:
            check_not_negative("fixed", self.fixed)

    def cost(self) -> Cost:
        """K + 3 forwards over TRADES, K + 2 over generalised adversarial training; K + 2 backwards."""
        return Cost(self.num_steps + (3 if self.regulariser == "trades" else 2), self.num_steps + 2)

    def craft(self, step: Step) -> Tensor:
        """(r, *S) examples of the method that is regularised."""
        if self.regulariser == "trades":
            return super().craft(step)
        inner = Pgd(
            eps=self.eps, norm=self.norm, bn_mode=self.bn_mode, num_steps=self.num_steps, step_size=self.step_size
        )
        return inner.craft(step)

    def loss(self, step: Step) -> Tensor:
        """``l_nat + lambda l_rob`` with the lambda of this minibatch."""
        x_adv = self.craft(step)
        if self.regulariser == "trades":
            natural, robust = regularised(step, x_adv)
        else:
            natural, robust = generalised(step, x_adv)
        weight = self._adjust(step, step.total_mean(natural), step.total_mean(robust))
        return step.mean(natural + weight * robust)

    def _adjust(self, step: Step, natural: Tensor, robust: Tensor) -> Tensor:
        """lambda_t (), detached, from the batch means () of this minibatch."""
        ratio = natural / robust.clamp(min=SMALLEST)
        if self.fixed is not None:
            weight = torch.full_like(ratio, self.fixed)
        else:
            if self.cap is not None and self.zeta:
                ratio = ratio.clamp(max=self.cap * self.zeta)
            before = step.carried.get("lambda", torch.zeros_like(ratio))
            average = step.carried.get("ratio", ratio) * self.ema + ratio * (1 - self.ema)
            weight = (before + self.alpha * (self.zeta - average)).clamp(min=0)
            step.carried.update({"lambda": weight, "ratio": average})
        step.log.update({"lambda": weight, "ratio": ratio, "l_nat": natural, "l_rob": robust})
        return weight


def generalised(step: Step, x_adv: Tensor) -> tuple[Tensor, Tensor]:
    """(r,) cross-entropies of x, and (r,) ``max(CE(x_adv), CE(x)) - CE(x)``, through two training forwards."""
    step.count_backward(step.x)
    step.count_backward(x_adv)
    natural = step.cross_entropy(step.forward(step.x))
    return natural, torch.maximum(step.cross_entropy(step.forward(x_adv)), natural) - natural
