"""Per-row losses that attacks ascend.

Every loss is *ascended*, targeted or not. The sign is part of the loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from art_ext.core.checks import check_choice, check_flag, check_number, nearest

Loss = Callable[[Tensor, Tensor], Tensor]
LEAST_CLASSES = 4  # of a difference of logits ratio


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


def probability_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (R,) ``1 + max_{j != y} p_j - p_y`` of ``p = softmax(z)``, above 1 once another class
    is predicted.

    The 1 keeps the value exact in float32 for rows that the model is sure of.

    References:
        Xie, Zheng, Huang, Ye, Ma. Towards million-scale adversarial robustness evaluation with
        stronger individual attacks. CVPR 2025.
    """
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    return _probability_lead(logits, labels, others, others.amax(dim=1))


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (R,) the difference of logits ratio ``(max_{j != y} z_j - z_y) / (z_(1) - z_(3))``,
    ``z_(k)`` being the k-th largest score. With fewer than four classes, the margin.

    References:
        Croce, Hein. Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks. ICML 2020.
    """
    lead = margin(logits, labels)
    if logits.shape[1] < LEAST_CLASSES:
        return lead
    first, _, third = logits.topk(3, dim=1).values.unbind(dim=1)
    return lead / _positive(first - third)


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "margin": margin,
    "probability_margin": probability_margin,
    "dlr": dlr,
}


def _margin_of(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    """Return (R,) ``z_t - z_y``."""
    return logits.gather(1, torch.stack([labels, rivals], dim=1)).diff(dim=1).squeeze(1)


def _probability_margin_of(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    """Return (R,) ``1 + p_t - p_y``."""
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    rival = logits.gather(1, rivals.unsqueeze(1)).squeeze(1)
    return _probability_lead(logits, labels, others, rival)


def _dlr_of(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    """Return (R,) ``(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)``, or with fewer than four classes
    ``z_t - z_y``.
    """
    lead = _margin_of(logits, labels, rivals)
    if logits.shape[1] < LEAST_CLASSES:
        return lead
    first, _, third, fourth = logits.topk(4, dim=1).values.unbind(dim=1)
    return lead / _positive(first - (third + fourth) / 2)


def _score_of(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    """Return (R,) ``z_t``."""
    return logits.gather(1, rivals.unsqueeze(1)).squeeze(1)


# of one other class t: what an attack on several classes ascends in the phase of t
RIVAL_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "margin": _margin_of,
    "probability_margin": _probability_margin_of,
    "dlr": _dlr_of,
    "score": _score_of,
}


def _probability_lead(logits: Tensor, labels: Tensor, others: Tensor, rival: Tensor) -> Tensor:
    """Return (R,) ``1 + p_t - p_y``, t being the class of the score ``rival`` (R,).

    With L the logarithm of the summed exponentials of the other classes' scores, and
    ``q = sigmoid(L - z_y)`` their probability, this is ``q (1 + exp(z_t - L))``.
    """
    level = others.logsumexp(dim=1)
    lead = level - logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    # of each pair the form whose value or slope does not round to 0
    rest = torch.where(lead < 0, lead.sigmoid(), 1 - (-lead).sigmoid())
    return rest * (1 + (rival - level).exp())


def _positive(scale: Tensor) -> Tensor:
    """Return a difference of sorted scores, kept above 0 where scores are equal."""
    return scale.clamp(min=1e-12)


def make_gain(loss: str | Loss, goal: Tensor, *, targeted: bool, outputs: str) -> Loss:
    """Build the function ``gain(outputs (R, K), index (R,)) -> (R,)`` that an attack ascends.

    Args:
        loss: a name in ``LOSSES``, of a loss of the label to leave. That of a target to reach is
            ascended with the opposite sign. A callable of the model's outputs and the positions of
            their samples is ascended unchanged, targeted or not.
        goal: (N,) int64, the label to leave or, if targeted, to reach. It is read at each call.
        targeted: True if ``goal`` holds targets.
        outputs: ``"logits"`` or ``"probabilities"``.

    Raises:
        ValueError: for an unknown loss.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        hint = nearest(loss, LOSSES) if isinstance(loss, str) else ""
        raise ValueError(
            f"loss must be one of {', '.join(map(repr, LOSSES))} or a callable, got {loss!r}{hint}"
        )
    function = LOSSES[loss]
    sign = -1.0 if targeted else 1.0

    def gain(scores: Tensor, index: Tensor) -> Tensor:
        return sign * function(logits_of(scores, outputs), goal.index_select(0, index))

    return gain


def embedding_goal(
    target_embeddings: Tensor, threshold: float, measure: str = "inner", toward: bool = True
) -> tuple[Loss, Loss]:
    """Return the loss and the criterion of an attack on a model that returns embeddings.

    The loss is ``s_i = <f(x'_i), e_i>``, or the cosine of the two. A sample is adversarial if
    ``s_i >= threshold``. Away from e, the loss is ``-s_i``, and ``s_i < threshold`` is wanted.

    Args:
        target_embeddings: (N, D) float, the embedding e_i of each sample, to come close to or to
            leave. They are used as they are.
        threshold: of the similarity, above which a system takes two embeddings for one identity.
        measure: ``"inner"`` or ``"cosine"``. Default: inner.
        toward: True to come close, as one who impersonates another. False to leave. Default: True.

    Returns:
        ``(loss, criterion)`` for the keywords of the same names of fixed-radius attacks: functions
        of the embeddings (r, D) and the positions (r,) of their samples, to (r,) numbers and (r,)
        bool. A row of NaN meets no criterion.

    Raises:
        ValueError: if an argument is out of range, and on a call with embeddings of another length.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, section 5.6 (attacks on face recognition).
    """
    if not isinstance(target_embeddings, Tensor) or target_embeddings.dim() != 2:
        shape = getattr(target_embeddings, "shape", type(target_embeddings).__name__)
        given = tuple(shape) if isinstance(shape, torch.Size) else shape
        raise ValueError(f"target_embeddings must be a tensor (N, D), got {given}")
    if not target_embeddings.is_floating_point() or not bool(target_embeddings.isfinite().all()):
        raise ValueError("target_embeddings must hold finite floating point numbers")
    check_number("threshold", threshold)
    check_choice("measure", measure, ("inner", "cosine"))
    check_flag("toward", toward)
    wanted = target_embeddings.detach()

    def similarity(outputs: Tensor, index: Tensor) -> Tensor:
        own = wanted.to(outputs.device)[index].to(outputs.dtype)
        if outputs.shape != own.shape:
            raise ValueError(
                f"the model must return embeddings of length {own.shape[1]}, as those of"
                f" target_embeddings, got outputs {tuple(outputs.shape)}"
            )
        if measure == "cosine":
            return functional.cosine_similarity(outputs, own, dim=1)
        return (outputs * own).sum(dim=1)

    def loss(outputs: Tensor, index: Tensor) -> Tensor:
        found = similarity(outputs, index)
        return found if toward else -found

    def criterion(outputs: Tensor, index: Tensor) -> Tensor:
        found = similarity(outputs, index)
        return found >= threshold if toward else found < threshold

    return loss, criterion


def in_simplex(outputs: Tensor, tolerance: float = 1e-5) -> Tensor:
    """Return (R,) bool: rows of outputs (R, K) without negative values and with a sum of one."""
    return (outputs >= 0).all(dim=1) & ((outputs.float().sum(dim=1) - 1).abs() < tolerance)
