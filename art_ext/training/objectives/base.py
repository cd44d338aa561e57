"""Objectives: the loss of a row, whose mean a weight update minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.checks import check_fraction, check_not_negative
from art_ext.training.cost import Cost
from art_ext.training.objectives.losses import ScoreLoss, divergence

if TYPE_CHECKING:
    from art_ext.training.step import Step

Terms = Callable[["Step", Tensor], tuple[Tensor, Tensor]]
Weight = Callable[["Step", Tensor, Tensor], Tensor]


class Objective(ABC):
    """Loss of the rows of a step at examples crafted from them."""

    @abstractmethod
    def cost(self) -> Cost:
        """Return the rows forward and backward per sample."""

    @abstractmethod
    def __call__(self, step: Step, x_adv: Tensor) -> Tensor:
        """Return (r,) the losses, with the graph of the parameters.

        Args:
            step: the weight update, which sends the rows through the network.
            x_adv: (r, *S) examples.
        """


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """Cross-entropy of the examples, with the run's label smoothing."""

    def cost(self) -> Cost:
        """Return 1 forward and 1 backward."""
        return Cost(1, 1)

    def __call__(self, step: Step, x_adv: Tensor) -> Tensor:
        """Return (r,) cross-entropies."""
        step.count_backward(x_adv)
        return step.cross_entropy(step.forward(x_adv))


@dataclass(frozen=True)
class Mixture(Objective):
    """``alpha CE(f(x'), y) + (1 - alpha) CE(f(x), y)``, with the run's label smoothing.

    Two training forwards, which BatchNorm sees separately.

    Attributes:
        alpha: weight of the examples, in [0, 1].
    """

    alpha: float

    def __post_init__(self) -> None:
        check_fraction("mixture", self.alpha)

    def cost(self) -> Cost:
        """Return 2 forwards and 2 backwards."""
        return Cost(2, 2)

    def __call__(self, step: Step, x_adv: Tensor) -> Tensor:
        """Return (r,) losses."""
        step.count_backward(step.x)
        step.count_backward(x_adv)
        # the examples first, so that their forward draws what it draws without the inputs
        robust = step.cross_entropy(step.forward(x_adv))
        natural = step.cross_entropy(step.forward(step.x))
        return self.alpha * robust + (1 - self.alpha) * natural


@dataclass(frozen=True)
class OfScores(Objective):
    """A loss of the class scores of the examples. Label smoothing does not apply.

    Attributes:
        loss: from scores (r, C) and labels (r,) to (r,).
    """

    loss: ScoreLoss

    def cost(self) -> Cost:
        """Return 1 forward and 1 backward."""
        return Cost(1, 1)

    def __call__(self, step: Step, x_adv: Tensor) -> Tensor:
        """Return (r,) losses."""
        step.count_backward(x_adv)
        return self.loss(step.forward(x_adv), step.y)


@dataclass(frozen=True)
class Regularised(Objective):
    """A natural term plus a weight times a robust term.

    Attributes:
        terms: gives the two terms (r,) of a step for two training forwards, both differentiated.
        weight: the weight, or a rule that returns it from the step and both terms.
    """

    terms: Terms
    weight: float | Weight

    def __post_init__(self) -> None:
        if not callable(self.weight):
            check_not_negative("beta", self.weight)

    def cost(self) -> Cost:
        """Return 2 forwards and 2 backwards."""
        return Cost(2, 2)

    def __call__(self, step: Step, x_adv: Tensor) -> Tensor:
        """Return (r,) ``natural + weight robust``."""
        natural, robust = self.terms(step, x_adv)
        weight = self.weight(step, natural, robust) if callable(self.weight) else self.weight
        return natural + weight * robust


def divergence_terms(step: Step, x_adv: Tensor) -> tuple[Tensor, Tensor]:
    """Return (r,) cross-entropies of x and (r,) ``KL(p(x) || p(x_adv))``, the terms of TRADES.

    They cost two training forwards. BatchNorm sees the two separately.
    """
    step.count_backward(step.x)
    step.count_backward(x_adv)
    clean = step.forward(step.x)
    return step.cross_entropy(clean), divergence(clean, step.forward(x_adv))


def generalised_terms(step: Step, x_adv: Tensor) -> tuple[Tensor, Tensor]:
    """Return (r,) cross-entropies of x, and (r,) ``max(CE(x_adv), CE(x)) - CE(x)``.

    These are the terms of generalised adversarial training. They cost two training forwards.
    """
    step.count_backward(step.x)
    step.count_backward(x_adv)
    natural = step.cross_entropy(step.forward(step.x))
    return natural, torch.maximum(step.cross_entropy(step.forward(x_adv)), natural) - natural
