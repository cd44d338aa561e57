"""Measures along training, as callbacks: what they return is entered into the history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from art_ext.core.attacks import pgd
from art_ext.core.checks import check_choice
from art_ext.core.metrics import local_lipschitz, perturbation_stability
from art_ext.core.training.history import EpochEnd

LABELS = ("true", "own")


@dataclass(frozen=True, eq=False)
class TrackStability:
    """Enters ``stability``: the share of predictions that a PGD attack leaves.

    The authors attack the true labels and so does ``labels="true"``: the examples are those of the
    robust accuracy. For a misclassified sample such an attack does not leave the prediction, it
    goes away from another class. Its stability is then over-estimated. ``labels="own"`` attacks
    what the network predicts.

    Attributes:
        x, y: (N, *S) and (N,) samples, held out of the training data; y may be None with
            ``labels="own"``.
        eps: radius of the attack.
        num_steps: of the attack.
        options: further keywords of ``art_ext.core.attacks.pgd``.
        labels: which classes the attack leaves: ``"true"`` (y) or ``"own"`` (the network's
            predictions).
    """

    x: Tensor
    y: Tensor | None
    eps: float
    num_steps: int = 20
    options: dict[str, Any] = field(default_factory=dict)
    labels: str = "true"

    def __post_init__(self) -> None:
        check_choice("labels", self.labels, LABELS)
        if self.y is None and self.labels == "true":
            raise ValueError(
                "y must hold the true labels, got None: pass labels='own' to attack the predictions"
            )

    def __call__(self, end: EpochEnd) -> dict[str, float]:
        """``{"stability": ...}`` of the network as it is."""
        settings = {"seed": 0, "on_failure": "last", "criterion": never, **self.options}
        y = self.y if self.labels == "true" else None
        result = pgd(end.model, self.x, y, eps=self.eps, num_steps=self.num_steps, **settings)
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
        found = local_lipschitz(
            end.model, self.x, eps=self.eps, num_steps=self.num_steps, **self.options
        )
        return {"lipschitz": found.mean}


def never(outputs: Tensor, index: Tensor) -> Tensor:
    """A criterion that no row meets: all rows, the misclassified ones too, come back as the last
    iterate.
    """
    return index < 0
