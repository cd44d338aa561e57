"""Training on the inputs themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from art_ext.training.engine import Step
from art_ext.training.recipes.base import Cost, Recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class Natural(Recipe):
    """Natural training: ``min_w mean CE(f_w(x), y)``.

    An update costs 1 forward and 1 backward per sample.
    """

    name: ClassVar[str] = "natural"

    def cost(self) -> Cost:
        """Return 1 forward and 1 backward."""
        return Cost(1, 1)

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy of the minibatch."""
        step.count_backward(step.x)
        return step.mean(step.cross_entropy(step.forward(step.x)))
