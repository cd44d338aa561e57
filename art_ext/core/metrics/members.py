"""Diversity of the members of an ensemble: entropy of the mean, and the ensemble diversity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.calling import widened
from art_ext.core.keywords import public
from art_ext.core.samples import check_classes

SMALLEST_NORM = 1e-12  # added to the norm of a member's probabilities of the other classes


@dataclass(frozen=True, eq=False)
class EnsembleDiversity:
    """Diversity of an ensemble's members on N samples.

    Attributes:
        determinant: (N,) in [0, 1]. 0 if two members agree on the other classes, 1 if no two
            members give any of the other classes a probability in common.
        entropy: (N,) of the mean of the members' probabilities, in nats. At most ``log C``.
    """

    determinant: Tensor
    entropy: Tensor


@public()
def ensemble_diversity(outputs: Tensor, y: Tensor) -> EnsembleDiversity:
    """Measure how different the members of an ensemble are on each sample.

    ``determinant = det(M M^T)``, where row k of M holds the probabilities of member k without the
    true class, divided by their norm. ``entropy = -sum_c q_c log q_c`` with ``q = mean_k p_k``.

    Args:
        outputs: (N, K, C) logits of the K members, as a ``JointEnsemble`` returns them.
        y: (N,) true classes.

    Returns:
        An ``EnsembleDiversity`` on the device of the outputs. No model is queried.

    Raises:
        ValueError: if the shapes do not fit, or a class is out of range.

    References:
        Pang, Xu, Du, Chen, Zhu, "Improving adversarial robustness via promoting ensemble
        diversity", ICML 2019.
    """
    if outputs.dim() != 3:
        raise ValueError(
            f"outputs must have shape (samples, members, classes), got {tuple(outputs.shape)}"
        )
    check_classes("y", y, len(outputs))
    if len(y) and int(y.max()) >= outputs.shape[2]:
        raise ValueError(f"y must hold class indices below {outputs.shape[2]}, got {int(y.max())}")
    exact = outputs.detach().to(geometry.exact_dtype(outputs.device))
    gram = other_class_gram(exact, y.to(outputs.device, torch.int64))
    determinant = torch.linalg.det(gram).clamp(0, 1)
    return EnsembleDiversity(determinant, entropy_of(log_mean_probability(exact)))


def log_mean_probability(outputs: Tensor) -> Tensor:
    """Return (N, C) ``log mean_k softmax(z_k)`` of logits (N, K, C), by log-sum-exp."""
    members = widened(outputs).log_softmax(dim=2)
    return members.logsumexp(dim=1) - math.log(outputs.shape[1])


def entropy_of(log_q: Tensor) -> Tensor:
    """Return (N,) ``-sum_c q_c log q_c`` of logarithms (N, C)."""
    return -(log_q.exp() * log_q).sum(dim=1)


def other_class_gram(outputs: Tensor, y: Tensor) -> Tensor:
    """Return (N, K, K) inner products of the members' normalised rows.

    Row k holds the probabilities of member k, with 0 at the true class.
    """
    p = widened(outputs).softmax(dim=2)
    own = y.view(-1, 1, 1).expand(-1, p.shape[1], 1)
    rest = p.scatter(2, own, 0.0)
    rows = rest / (torch.linalg.vector_norm(rest, dim=2, keepdim=True) + SMALLEST_NORM)
    # no matrix product, which an accelerator may round to less than float32
    return (rows.unsqueeze(2) * rows.unsqueeze(1)).sum(dim=3)


def log_determinant(gram: Tensor, offset: float) -> Tensor:
    """Return (N,) ``log det(G + offset I)`` of Gram matrices (N, K, K)."""
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.slogdet(gram + offset * identity).logabsdet
