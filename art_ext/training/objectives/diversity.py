"""Loss of an ensemble whose members' wrong predictions are to differ."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_not_negative, check_positive
from art_ext.core.metrics.members import (
    entropy_of,
    log_determinant,
    log_mean_probability,
    other_class_gram,
)
from art_ext.training.cost import Cost
from art_ext.training.objectives.base import Objective
from art_ext.training.step import Step

ADVERSARIAL = ("none", "regularised", "plain")


@dataclass(frozen=True)
class PromotedDiversity(Objective):
    """``sum_k CE_k - alpha H(mean_k p_k) - beta log det(M M^T + det_offset I)``.

    Row k of M holds the probabilities of member k without the true class, divided by their norm.

    Attributes:
        alpha: weight of the entropy H of the mean.
        beta: weight of the logarithm of the determinant.
        det_offset: added to the diagonal, so that the logarithm exists if members agree.
        adversarial: ``"none"``: the loss of the clean inputs. ``"regularised"`` adds the whole loss
            of the examples, ``"plain"`` adds ``sum_k CE_k`` of them.
    """

    alpha: float
    beta: float
    det_offset: float
    adversarial: str

    def __post_init__(self) -> None:
        check_not_negative("alpha", self.alpha)
        check_not_negative("beta", self.beta)
        check_positive("det_offset", self.det_offset)
        check_choice("adversarial", self.adversarial, ADVERSARIAL)

    def cost(self) -> Cost:
        """Return 1 forward and 1 backward of each member, or 2 of each with examples."""
        passes = 1 if self.adversarial == "none" else 2
        return Cost(passes, passes)

    def __call__(self, step: Step, x_adv: Tensor) -> Tensor:
        """Return (r,) losses."""
        loss = self._regularised(step, self._outputs(step, step.x), "")
        if self.adversarial == "none":
            return loss
        outputs = self._outputs(step, x_adv)
        if self.adversarial == "plain":
            return loss + _cross_entropies(step, outputs)
        return loss + self._regularised(step, outputs, "_adversarial")

    def _outputs(self, step: Step, rows: Tensor) -> Tensor:
        """Return (r, K, C) logits of the members, with the graph of the parameters."""
        step.count_backward(rows)
        outputs: Tensor = step.forward_raw(rows)
        return outputs

    def _regularised(self, step: Step, outputs: Tensor, suffix: str) -> Tensor:
        """Return (r,) losses, and enter the determinant and the entropy into the history."""
        loss = _cross_entropies(step, outputs)
        with torch.set_grad_enabled(self.alpha > 0):
            entropy = entropy_of(log_mean_probability(outputs))
        with torch.set_grad_enabled(self.beta > 0):
            log_det = log_determinant(other_class_gram(outputs, step.y), self.det_offset)
        step.log[f"determinant{suffix}"] = step.total_mean(log_det.exp())
        step.log[f"entropy{suffix}"] = step.total_mean(entropy)
        # a term of weight 0 is left out, so that the members are trained as if each were alone
        if self.alpha:
            loss = loss - self.alpha * entropy
        if self.beta:
            loss = loss - self.beta * log_det
        return loss


def _cross_entropies(step: Step, outputs: Tensor) -> Tensor:
    """Return (r,) the sum of the members' cross-entropies."""
    first, *others = outputs.transpose(0, 1).unbind(0)
    loss = step.cross_entropy(first)
    for one in others:
        loss = loss + step.cross_entropy(one)
    return loss


def check_members(members: int, classes: int) -> None:
    """Raise ValueError unless each member can have a wrong class of its own."""
    if members > classes - 1:
        raise ValueError(
            f"members must be at most {classes - 1} for {classes} classes, because the wrong"
            f" classes are shared out among the members, got {members}"
        )
