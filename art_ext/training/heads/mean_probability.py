"""The head of ensembles that are trained together."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from torch import Tensor, nn

from art_ext.core.checks import check_count
from art_ext.core.metrics.members import log_mean_probability
from art_ext.models.joint import LEAST, JointEnsemble
from art_ext.training.heads.base import Adaptive, Head, HeadedModel


class MeanProbabilityHead(Head):
    """Class scores ``log mean_k softmax(z_k)`` of the raw output (rows, K, C) of an ensemble.

    The class of the largest mean probability decides. The logarithm is taken by log-sum-exp.

    Args:
        members: K.

    Raises:
        ValueError: for fewer than two members.

    References:
        Pang, Xu, Du, Chen, Zhu, "Improving adversarial robustness via promoting ensemble
        diversity", ICML 2019.
    """

    name: ClassVar[str] = "mean-probability"
    adaptive: ClassVar[Adaptive] = (
        ("pgd", {"num_steps": 50, "loss": "margin"}),
        ("pgd", {"num_steps": 50, "loss": "mean-logits"}),
    )

    def __init__(self, members: int) -> None:
        check_count("members", members, least=LEAST)
        self.members = members

    def scores(self, raw: Any) -> Tensor:
        """Return (rows, C) logarithms of the mean probabilities for logits (rows, K, C)."""
        if not isinstance(raw, Tensor) or raw.dim() != 3 or raw.shape[1] != self.members:
            found = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            raise ValueError(
                f"the network must return (rows, {self.members}, classes), as an"
                f" art_ext.models.JointEnsemble of {self.members} members, got {found}"
            )
        return log_mean_probability(raw)

    def fitted(self, network: nn.Module) -> nn.Module:
        """Return an ensemble of K copies of a single network, for weights that are loaded."""
        if isinstance(network, JointEnsemble):
            return network
        return JointEnsemble([copy.deepcopy(network) for _ in range(self.members)])


class MeanProbability(HeadedModel):
    """An ensemble whose mean probabilities decide, as a module that returns their logarithms.

    Args:
        network: a ``JointEnsemble``, from rows (r, *S) to logits (r, K, C). It is not copied.

    Raises:
        ValueError: for another network.
    """

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(network, JointEnsemble):
            raise ValueError(
                f"MeanProbability is put around a JointEnsemble, got {type(network).__name__}"
            )
        super().__init__(network, MeanProbabilityHead(len(network.members)))
