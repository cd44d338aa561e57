"""What an attack drives up: a number per row of a model's output.

Every loss here is *ascended*, targeted or not; the sign is part of it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

LOSSES = ("ce", "margin")
Loss = Callable[[Tensor, Tensor], Tensor]


def logits_of(outputs: Tensor, kind: str, dtype: torch.dtype | None = None) -> Tensor:
    """Logits (R, K) of a model that returns ``kind``: those themselves, or the logarithm of its
    probabilities.

    Halves are widened: losses are compared and subtracted, which they are too coarse for. A dtype,
        if given, is that of
    the result; the logarithm is taken in it.
    """
    if outputs.dtype in (torch.float16, torch.bfloat16):
        outputs = outputs.float()
    if kind == "probabilities":
        outputs = outputs.clamp(min=torch.finfo(torch.float32).tiny)
    outputs = outputs if dtype is None else outputs.to(dtype)
    return outputs.log() if kind == "probabilities" else outputs


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(R,) ``-log softmax(z)_y``, one for each row."""
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """(R,) ``max_{j != y} z_j - z_y``, positive once another class wins."""
    own = labels.unsqueeze(1)
    others = logits.scatter(1, own, -torch.inf)
    return others.amax(dim=1) - logits.gather(1, own).squeeze(1)


def make_gain(loss: str | Loss, goal: Tensor, *, targeted: bool, outputs: str) -> Loss:
    """The function ``gain(outputs (R, K), index (R,)) -> (R,)`` that an attack ascends.

    Args:
        loss: ``"ce"``: cross-entropy of the label to leave, or minus that of the target;
            ``"margin"``: how far the best other class is above the label to leave, or the target
            above the best other class; or a callable of the model's outputs and the positions of
            their samples, which is ascended as it is, targeted or not.
        goal: (N,) int64, the label to leave or, if targeted, to reach; read when the gain is
            called.
        targeted: which of the two.
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
    function, sign = {"ce": cross_entropy, "margin": margin}[loss], -1.0 if targeted else 1.0

    def gain(scores: Tensor, index: Tensor) -> Tensor:
        return sign * function(logits_of(scores, outputs), goal.index_select(0, index))

    return gain


def in_simplex(outputs: Tensor, tolerance: float = 1e-5) -> Tensor:
    """(R,) bool, the rows of outputs (R, K) that look like probabilities: nothing negative, and
    a sum of one.
    """
    return (outputs >= 0).all(dim=1) & ((outputs.float().sum(dim=1) - 1).abs() < tolerance)
