"""Per-row losses of training, for the weight updates and for crafting."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from art_ext.core.losses import dlr, margin

ScoreLoss = Callable[[Tensor, Tensor], Tensor]  # from scores (R, C) and classes (R,) to (R,)
_MARGINS: dict[str, ScoreLoss] = {"dlr": dlr, "cw": margin}


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


def ramped(entropy: Tensor, logits: Tensor, y: Tensor, loss: str, share: float) -> Tensor:
    """Return (R,) ``(1 - b) CE + b L``.

    Args:
        entropy: (R,) CE.
        logits: (R, C) class scores.
        y: (R,) labels.
        loss: of L: ``"dlr"``, ``"cw"`` or ``"ce"``, for CE alone.
        share: b.
    """
    if loss == "ce" or not share:
        return entropy
    return (1 - share) * entropy + share * _MARGINS[loss](logits, y)


def soft_cross_entropy(logits: Tensor, q: Tensor) -> Tensor:
    """Return (R,) ``-sum_c q_c log softmax(z)_c`` for target rows q (R, C).

    The rows need not be distributions.
    """
    return -(q * functional.log_softmax(logits, dim=1)).sum(dim=1)


def rce(scores: Tensor, y: Tensor) -> Tensor:
    """Return (R,) reverse cross-entropy, ``-1/(C-1) sum_{j != y} log softmax(-s)_j``.

    The scores are those of ``ReverseLogits``, minus the outputs of the network. The least value is
    ``log(C - 1)``, reached when all other classes have equal scores far below the label's.
    """
    log_p = functional.log_softmax(-scores, dim=1)
    # masked, because the label's own is the smallest by far: a difference would lose digits
    others = log_p.scatter(1, y.unsqueeze(1), 0.0).sum(dim=1)
    return -others / (scores.shape[1] - 1)


def mmlda(factor: float = 1.0) -> ScoreLoss:
    """Return Max-Mahalanobis linear discriminant analysis, ``-log softmax(factor s)_y``.

    The scores are those of ``MaxMahalanobis``.

    Args:
        factor: 1, as in the reference implementation, or 1/2, as in their text.
    """
    return partial(_mmlda, factor=factor)


def mmc(factor: float = 1.0) -> ScoreLoss:
    """Return the Max-Mahalanobis centre loss, ``-factor s_y = factor ||z - mu_y||^2``.

    The scores are those of ``MaxMahalanobis``.

    Args:
        factor: 1, as in the reference implementation, or 1/2, as in their text.
    """
    return partial(_mmc, factor=factor)


def _mmlda(scores: Tensor, y: Tensor, factor: float) -> Tensor:
    return functional.cross_entropy(factor * scores, y, reduction="none")


def _mmc(scores: Tensor, y: Tensor, factor: float) -> Tensor:
    return -factor * scores.gather(1, y.unsqueeze(1)).squeeze(1)


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """Return (R,) ``KL(softmax(logits) || softmax(other))``. Gradients flow through both."""
    log_p = functional.log_softmax(logits, dim=1)
    log_q = functional.log_softmax(other, dim=1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def one_hot(y: Tensor, classes: int) -> Tensor:
    """Return (R, C) float32 rows with a one at the label."""
    return functional.one_hot(y, classes).to(torch.float32)
