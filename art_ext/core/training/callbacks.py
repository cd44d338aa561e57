"""Measures along training, as callbacks: what they return is entered into the history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from art_ext.core.attacks import pgd
from art_ext.core.metrics import local_lipschitz, perturbation_stability
from art_ext.core.training.history import EpochEnd


@dataclass(frozen=True, eq=False)
class TrackStability:
    """Enters ``stability``: the share of predictions that a PGD attack leaves.

    Attributes:
        x, y: (N, *S) and (N,) samples, held out of the training data.
        eps: radius of the attack.
        num_steps: of the attack.
        options: further keywords of ``art_ext.core.attacks.pgd``.
    """

    x: Tensor
    y: Tensor
    eps: float
    num_steps: int = 20
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, end: EpochEnd) -> dict[str, float]:
        """``{"stability": ...}`` of the network as it is."""
        settings = {"seed": 0, "on_failure": "last", "criterion": never, **self.options}
        result = pgd(end.model, self.x, self.y, eps=self.eps, num_steps=self.num_steps, **settings)
        return {"stability": perturbation_stability(end.model, self.x, result.x_adv)}


@dataclass(frozen=True, eq=False)
class TrackLipschitz:
    """Enters ``lipschitz``: the mean local Lipschitz constant.

    Attributes:
        x: (N, *S) samples.
        eps: radius of the ball.
        num_steps: of the ascent.
        options: further keywords of ``art_ext.core.metrics.local_lipschitz``.
    """

    x: Tensor
    eps: float
    num_steps: int = 10
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, end: EpochEnd) -> dict[str, float]:
        """``{"lipschitz": ...}`` of the network as it is."""
        found = local_lipschitz(end.model, self.x, eps=self.eps, num_steps=self.num_steps, **self.options)
        return {"lipschitz": found.mean}


def never(outputs: Tensor, index: Tensor) -> Tensor:
    """A criterion that no row meets: all rows, the misclassified ones too, come back as the last iterate."""
    return index < 0
