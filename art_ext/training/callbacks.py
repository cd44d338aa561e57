"""Callbacks that measure the network during training. Their values are columns of the history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from art_ext.core.attacks import pgd
from art_ext.core.checks import check_choice
from art_ext.core.metrics import local_lipschitz, perturbation_stability
from art_ext.training.history import EpochEnd

LABELS = ("true", "own")


@dataclass(frozen=True, eq=False)
class TrackStability:
    """Column ``stability``: fraction of predictions that a PGD attack does not change.

    ``labels="true"``, as in the paper's program, attacks the true labels, so that the examples are
    those of the robust accuracy. For a misclassified sample such an attack moves away from another
    class than the predicted one. Its stability is then over-estimated. ``labels="own"`` attacks the
    network's predictions.

    Attributes:
        x: (N, *S) samples held out of the training data.
        y: (N,) their classes. None is allowed with ``labels="own"``.
        eps: radius of the attack.
        num_steps: number of steps of the attack.
        options: further keywords of ``art_ext.core.attacks.pgd``.
        labels: classes that the attack moves away from: ``"true"`` (y) or ``"own"`` (the network's
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
        """Return ``{"stability": ...}`` of the current network."""
        settings = {"seed": 0, "on_failure": "last", "criterion": never, **self.options}
        y = self.y if self.labels == "true" else None
        result = pgd(end.model, self.x, y, eps=self.eps, num_steps=self.num_steps, **settings)
        return {"stability": perturbation_stability(end.model, self.x, result.x_adv)}


@dataclass(frozen=True, eq=False)
class TrackLipschitz:
    """Column ``lipschitz``: the mean local Lipschitz constant.

    Attributes:
        x: (N, *S) samples.
        eps: radius of the ball.
        num_steps: number of steps of the ascent.
        options: further keywords of ``art_ext.core.metrics.local_lipschitz``.
    """

    x: Tensor
    eps: float
    num_steps: int = 10
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, end: EpochEnd) -> dict[str, float]:
        """Return ``{"lipschitz": ...}`` of the current network."""
        found = local_lipschitz(
            end.model, self.x, eps=self.eps, num_steps=self.num_steps, **self.options
        )
        return {"lipschitz": found.mean}


def never(outputs: Tensor, index: Tensor) -> Tensor:
    """Return False for every row, as a criterion that no row satisfies.

    All rows, the misclassified ones too, then end at the last iterate.
    """
    return index < 0
