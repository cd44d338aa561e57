"""Width adjusted regularisation: TRADES with a weight lambda that is adapted during training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from art_ext.core.checks import (
    check_choice,
    check_not_negative,
    check_number,
    check_positive,
    check_share,
)
from art_ext.training.craft import CrossEntropyAscent, DivergenceAscent, NormalStart, UniformStart
from art_ext.training.craft.tolerance import Tolerance
from art_ext.training.objectives import Regularised, divergence_terms, generalised_terms
from art_ext.training.recipes.base import Composition, CraftingRecipe
from art_ext.training.step import Step

REGULARISERS = ("trades", "at")
SMALLEST = 1e-8  # smallest robust term in the ratio
# the arguments of each rule and their defaults; the first two are common to both rules
RULES: Mapping[str, Mapping[str, float]] = {
    "log": {"lambda_0": 6.0, "hold_epochs": 1.0, "gain": 0.02},
    "printed": {"lambda_0": 0.0, "hold_epochs": 0.0, "alpha": 0.1, "cap": 10.0, "ema": 0.0},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class War(Composition, CraftingRecipe):
    """Width adjusted regularisation: ``min_w l_nat + lambda_t l_rob`` with an adapted lambda_t.

    l_nat is the mean cross-entropy of the minibatch. l_rob is the mean of the robust term *without*
    lambda: the divergence of TRADES, or ``max(CE(x'), CE(x)) - CE(x)`` of generalised adversarial
    training. lambda is a constant of the update, and no gradient goes through it. It is moved until
    ``ratio = l_nat / l_rob`` is zeta, the ratio measured on a thin network (``measure_zeta``). A
    wider network, whose local Lipschitz constant is larger, needs a larger lambda for the same
    ratio.

    There are two rules for lambda, applied once per minibatch to means over all processes:

    * ``rule="log"``: ``lambda <- lambda exp(gain clamp(log(zeta / ratio), -1, 1))``. This rule is
    ours. * ``rule="printed"``: ``lambda <- max(lambda + alpha (zeta - ratio), 0)``, Algorithm 8.

    With K = num_steps, an update costs K + 3 forwards and K + 2 backwards per sample with the
    TRADES regulariser, and K + 2 of each with generalised adversarial training. The history holds
    the means of lambda, the (capped) ratio and both terms.

    Attributes:
        regulariser: ``"trades"`` or ``"at"``.
        zeta: the ratio to reach. It depends on data, network, radius and regulariser, and is 30 for
            CIFAR-10. 0 is natural training, with the printed rule only.
        rule: ``"log"`` or ``"printed"``.
        lambda_0: initial lambda. None: 6 for the log rule, which needs a value > 0, and 0 for the
            printed rule.
        hold_epochs: epochs over which lambda stays at lambda_0 before the rule moves it. None: 1
            (log) or 0 (printed).
        gain: log rule: the largest change of log(lambda) in an update. None: .02.
        alpha: printed rule: step size of lambda. None: .1.
        cap: printed rule: bound of the ratio in multiples of zeta. None: 10. Infinity: no bound.
        ema: printed rule: decay of an average of the ratio that replaces the ratio. None: 0.
        fixed: a constant lambda. This is TRADES with that beta, or, with "at", generalised
            adversarial training.
        num_steps: K, the steps of crafting.
        step_size: of crafting, in the units of x. None: ``2.5 eps / K``.
        start: of crafting, as in ``Trades``. Unused with "at".
        tolerance: as of ``Pgd``.

    Differences from the paper:
        The authors published no program for Algorithm 8. The printed parentheses do not balance,
        and we read the maximum as the outer operation. If l_rob is near 0 the ratio has no bound
        and would set any lambda to 0. The ratio therefore counts as at most ``cap`` zeta.

        The log rule exists because the printed rule did not find lambda in our runs. zeta was
        measured at lambda 6, and WAR was trained with that zeta on the same network, data and
        schedule (digits, 10 epochs, three seeds). The printed rule ended at lambda 6.0, 10.7 and
        12.0, with a robust accuracy of 30 % on average. A fixed lambda of 6 gave 56 %. The log
        rule ended at 6.1 on average, with 53 %. This says nothing about the printed rule at the
        scale of the paper (CIFAR-10, 100 epochs).

    References:
        Wu, Chen, Cai, He, Gu, "Do wider neural networks really help adversarial robustness?",
        NeurIPS 2021. The algorithm number is that of Chen's dissertation, 2021, chapter 5.
    """

    name: ClassVar[str] = "war"
    needs: ClassVar[str] = "labels, eps, zeta"
    paper: ClassVar[str] = (
        "Wu, Chen, Cai, He, Gu. Do wider neural networks really help adversarial robustness?"
        " NeurIPS 2021."
    )
    num_steps: int = 10
    step_size: float | None = None
    start: float = 1e-3
    tolerance: Tolerance = None
    regulariser: str = "trades"
    zeta: float = 30.0
    rule: str = "log"
    lambda_0: float | None = None
    hold_epochs: float | None = None
    gain: float | None = None
    alpha: float | None = None
    cap: float | None = None
    ema: float | None = None
    fixed: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("regulariser", self.regulariser, REGULARISERS)
        check_choice("rule", self.rule, tuple(RULES))
        check_not_negative("zeta", self.zeta)
        if self.fixed is not None:
            check_not_negative("fixed", self.fixed)
        self._take_rule()
        self._check_rule()

    def _take_rule(self) -> None:
        """Fill in the defaults of the rule. Raise ValueError for arguments of the other one."""
        known = RULES[self.rule]
        for name in sorted({name for rule in RULES.values() for name in rule} - set(known)):
            if getattr(self, name) is not None:
                owner = next(rule for rule in RULES if name in RULES[rule])
                raise ValueError(
                    f"{name} belongs to rule={owner!r}, got {name}={getattr(self, name)!r} with"
                    f" rule={self.rule!r}; rule={self.rule!r} takes {', '.join(known)}"
                )
        for name, value in known.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def _check_rule(self) -> None:
        check_not_negative("lambda_0", self.lambda_0)
        check_not_negative("hold_epochs", self.hold_epochs)
        if self.rule == "log":
            check_positive("gain", self.gain)
            if not self.lambda_0:
                raise ValueError(
                    "lambda_0 must be > 0 with rule='log', which multiplies lambda, got 0"
                )
            if not self.zeta and self.fixed is None:
                raise ValueError(
                    "zeta must be > 0 with rule='log', got 0; for natural training take the recipe"
                    " 'natural', or rule='printed'"
                )
            return
        check_positive("alpha", self.alpha)
        check_share("ema", self.ema)
        check_number("cap", self.cap)
        if self.cap != math.inf:
            check_positive("cap", self.cap)

    @property
    def crafting(self) -> CrossEntropyAscent | DivergenceAscent:
        """The ascent of TRADES or, with generalised adversarial training, of PGD training."""
        shared: dict[str, Any] = {
            "norm": self.norm,
            "bn_mode": self.bn_mode,
            "num_steps": self.num_steps,
            "step_size": self.step_size,
            "tolerance": self.tolerance,
        }
        if self.regulariser == "trades":
            return DivergenceAscent(start=NormalStart(self.start), **shared)
        return CrossEntropyAscent(start=UniformStart(), **shared)

    @property
    def objective(self) -> Regularised:
        """``l_nat + lambda l_rob`` with the lambda of the minibatch."""
        trades = self.regulariser == "trades"
        return Regularised(divergence_terms if trades else generalised_terms, self._weight)

    def _weight(self, step: Step, natural: Tensor, robust: Tensor) -> Tensor:
        """Return lambda_t () from both terms (r,) of this minibatch."""
        return self._adjust(step, step.total_mean(natural), step.total_mean(robust))

    def _adjust(self, step: Step, natural: Tensor, robust: Tensor) -> Tensor:
        """Return lambda_t (), detached, from the batch means () of this minibatch."""
        ratio = natural / robust.clamp(min=SMALLEST)
        if self.fixed is not None:
            weight = torch.full_like(ratio, self.fixed)
        else:
            if self.rule == "printed" and self.zeta:
                ratio = ratio.clamp(max=self._own("cap") * self.zeta)
            start = torch.full_like(ratio, self._own("lambda_0"))
            move = self._move_by_log if self.rule == "log" else self._move_as_printed
            moved = move(step, step.carried.get("lambda", start), ratio)
            weight = start if step.time < self._own("hold_epochs") else moved
            step.carried["lambda"] = weight
        step.log.update({"lambda": weight, "ratio": ratio, "l_nat": natural, "l_rob": robust})
        return weight

    def _own(self, name: str) -> Any:
        """Return an argument of the rule, which is a number once the recipe is made."""
        return getattr(self, name)

    def _move_by_log(self, step: Step, before: Tensor, ratio: Tensor) -> Tensor:
        """Return lambda after an update of the log rule."""
        return before * (self._own("gain") * torch.log(self.zeta / ratio).clamp(-1, 1)).exp()

    def _move_as_printed(self, step: Step, before: Tensor, ratio: Tensor) -> Tensor:
        """Return lambda after an update of the printed rule, line 9 of Algorithm 8."""
        ema = self._own("ema")
        average = step.carried.get("ratio", ratio) * ema + ratio * (1 - ema)
        step.carried["ratio"] = average
        return (before + self._own("alpha") * (self.zeta - average)).clamp(min=0)
