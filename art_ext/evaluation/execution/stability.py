"""Fixed-radius attacks on misclassified samples: they leave the model's own prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from art_ext.core.result import AttackResult
from art_ext.evaluation.panel.attack import Attack

Result = TypeVar("Result", bound=AttackResult)


def check_stability(panel: Sequence[Attack], targeted: str | int | None, detectors: bool) -> None:
    """Raise ValueError unless stability can be measured.

    Args:
        panel: the attacks.
        targeted: rule of the targets, or None.
        detectors: True if the models have detectors.
    """
    if targeted is not None:
        raise ValueError(f"stability needs attacks without targets, got targeted={targeted!r}")
    if detectors:
        raise ValueError("stability is of models without a detector: leave one of the two out")
    if all(attack.nearest for attack in panel):
        raise ValueError(
            "stability needs a fixed-radius attack such as pgd, got"
            f" {', '.join(attack.name for attack in panel)}"
        )


@dataclass(frozen=True, eq=False)
class Stability:
    """Predictions of K samples under one attack.

    Attributes:
        wrong: (K,) bool, misclassified before any attack.
        changed: (K,) bool, misclassified samples whose prediction the attack changed.
        known: (K,) bool, samples whose own prediction the attack tried to change.
    """

    wrong: Tensor
    changed: Tensor
    known: Tensor

    def column(self, success: Tensor) -> Tensor:
        """Return (K,) float32: 1 for a stable prediction, 0 for a changed one, NaN for unknown.

        Args:
            success: (K,) bool, successes on correctly classified samples at one radius.
        """
        changed = torch.where(self.wrong, self.changed, success.cpu())
        return torch.where(self.known, (~changed).float(), torch.nan)


def settled(
    result: Result, x: Tensor, wrong: Tensor, attacked: Tensor, own: bool
) -> tuple[Result, Stability]:
    """Return a result with misclassified samples as without stability, and the predictions.

    A misclassified sample is adversarial already. Its rows stay counted.

    Args:
        result: of an attack on K samples.
        x: (K, *S) the samples.
        wrong: (K,) bool, misclassified before any attack.
        attacked: (K,) bool.
        own: True if the attack had to leave the own predictions of misclassified samples.
    """
    if not own:
        return result, Stability(wrong, torch.zeros_like(wrong), attacked & ~wrong)
    found = Stability(wrong, wrong & result.success.cpu(), attacked)
    rows = wrong.to(result.success.device)
    given = rows & attacked.to(rows.device)
    images = result.x_adv
    wide = rows.view(-1, *(1,) * (images.dim() - 1))
    return replace(
        result,
        x_adv=torch.where(wide, x.to(images.device, images.dtype), images),
        success=torch.where(rows, given, result.success),
        already_adversarial=result.already_adversarial | rows,
        distance=torch.where(given, 0.0, result.distance),
        lengths=None if result.lengths is None else result.lengths.masked_fill(given[:, None], 0.0),
        queries_to_success=torch.where(given, 1, result.queries_to_success),
    ), found
