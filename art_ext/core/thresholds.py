"""Thresholds of scores at a false-positive rate."""

from __future__ import annotations

import math

from torch import Tensor

from art_ext.core.checks import check_number


def threshold_of(scores: Tensor, fpr: float) -> float:
    """Return the smallest of n scores that at most a share ``fpr`` of them exceeds.

    It is the (n - floor(n fpr))-th smallest score.

    Args:
        scores: (n,) scores of clean inputs, n >= 1.
        fpr: the false-positive rate, in (0, 1).

    Raises:
        ValueError: if fpr is out of range, there is no score, or a score is NaN.
    """
    check_fpr(fpr)
    check_scores("scores", scores)
    rejected = math.floor(len(scores) * fpr + 1e-9)  # 1e-9: 0.05 is no binary fraction
    return float(scores.sort().values[len(scores) - rejected - 1])


def check_fpr(fpr: float) -> None:
    """Raise ValueError unless the false-positive rate is a number in (0, 1)."""
    check_number("fpr", fpr)
    if not 0 < fpr < 1:
        raise ValueError(f"fpr must lie in (0, 1), got {fpr!r}")


def check_scores(name: str, scores: Tensor, reason: str = "none") -> None:
    """Raise an error unless scores are a tensor of one axis that holds a score and no NaN.

    Raises:
        TypeError: for anything but a tensor.
        ValueError: for more axes, no score, or NaN.
    """
    if not isinstance(scores, Tensor):
        raise TypeError(
            f"{name} must be a torch tensor, got {type(scores).__name__}: pass"
            " torch.as_tensor(scores)"
        )
    if scores.dim() != 1:
        raise ValueError(f"{name} must have one axis, got shape {tuple(scores.shape)}")
    if not len(scores):
        raise ValueError(f"{name} must hold at least one score, got {reason}")
    if bool(scores.isnan().any()):
        raise ValueError(f"{name} must be numbers, got NaN")
