"""Per-row losses of training, for the weight updates and for crafting."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def smoothed_cross_entropy(logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return (R,) cross-entropy with label smoothing, ``-sum_c q_c log softmax(z)_c``.

    ``q = 1 - s`` on the label and ``s / (C - 1)`` on every other class. This is the slides' label
    smoothing. ``torch.nn.functional.cross_entropy`` spreads s over all C classes, the label
    included, which is the same with another s.

    References:
        Pang, Yang, Dong, Su, Zhu, "Bag of tricks for adversarial training", ICLR 2021.
    """
    if not smoothing:
        return functional.cross_entropy(logits, y, reduction="none")
    log_p = functional.log_softmax(logits, dim=1)
    own = log_p.gather(1, y.unsqueeze(1)).squeeze(1)
    others = (log_p.sum(dim=1) - own) / (logits.shape[1] - 1)
    return -((1 - smoothing) * own + smoothing * others)


def soft_cross_entropy(logits: Tensor, q: Tensor) -> Tensor:
    """Return (R,) ``-sum_c q_c log softmax(z)_c`` for target rows q (R, C).

    The rows need not be distributions.
    """
    return -(q * functional.log_softmax(logits, dim=1)).sum(dim=1)


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """Return (R,) ``KL(softmax(logits) || softmax(other))``. Gradients flow through both."""
    log_p = functional.log_softmax(logits, dim=1)
    log_q = functional.log_softmax(other, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def one_hot(y: Tensor, classes: int) -> Tensor:
    """Return (R, C) float32 rows with a one at the label."""
    return functional.one_hot(y, classes).to(torch.float32)
