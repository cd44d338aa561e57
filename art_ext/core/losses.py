"""Per-row losses that attacks ascend.

Every loss is *ascended*, targeted or not. The sign is part of the loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LOSSES = ("ce", "margin")
Loss = Callable[[Tensor, Tensor], Tensor]


def logits_of(outputs: Tensor, kind: str, dtype: torch.dtype | None = None) -> Tensor:
    """Return logits (R, K) of a model that returns ``kind``.

    For probabilities these are their logarithms. Half types are widened, because they are too
    coarse to subtract losses in. ``dtype``, if given, is that of the result, and the logarithm is
    taken in it.
    """
    if outputs.dtype in (torch.float16, torch.bfloat16):
        outputs = outputs.float()
    if kind == "probabilities":
        outputs = outputs.clamp(min=torch.finfo(torch.float32).tiny)
    outputs = outputs if dtype is None else outputs.to(dtype)
    return outputs.log() if kind == "probabilities" else outputs


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (R,) ``-log softmax(z)_y``."""
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (R,) ``max_{j != y} z_j - z_y``, positive once another class is predicted."""
    own = labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf)
    return others.amax(dim=1) - logits.gather(1, own).squeeze(1)


def make_gain(loss: str | Loss, goal: Tensor, *, targeted: bool, outputs: str) -> Loss:
    """Build the function ``gain(outputs (R, K), index (R,)) -> (R,)`` that an attack ascends.

    Args:
        loss: ``"ce"``: cross-entropy of the label to leave, or minus that of the target.
            ``"margin"``: lead of the best other class over the label to leave, or of the target
            over the best other class. A callable of the model's outputs and the positions of their
            samples is ascended unchanged, targeted or not.
        goal: (N,) int64, the label to leave or, if targeted, to reach. It is read at each call.
        targeted: True if ``goal`` holds targets.
        outputs: ``"logits"`` or ``"probabilities"``.

    Raises:
        ValueError: for an unknown loss.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(
            f"loss must be one of {', '.join(map(repr, LOSSES))} or a callable, got {loss!r}"
        )
    function = {"ce": cross_entropy, "margin": margin}[loss]
    sign = -1.0 if targeted else 1.0

    def gain(scores: Tensor, index: Tensor) -> Tensor:
        return sign * function(logits_of(scores, outputs), goal.index_select(0, index))

    return gain


def in_simplex(outputs: Tensor, tolerance: float = 1e-5) -> Tensor:
    """Return (R,) bool: rows of outputs (R, K) without negative values and with a sum of one."""
    return (outputs >= 0).all(dim=1) & ((outputs.float().sum(dim=1) - 1).abs() < tolerance)
