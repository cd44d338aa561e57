"""Detection by the probabilities: the largest one, and the entropy of the others."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from art_ext.core.detection.base import Detector
from art_ext.core.detection.registry import DetectorSpec, register


def split_prediction(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest logit (r,) of rows (r, K), and the rows with it at minus infinity."""
    best, place = logits.max(dim=1, keepdim=True)
    return best.squeeze(1), logits.scatter(1, place, -float("inf"))


class Confidence(Detector):
    """Low confidence of the prediction.

    The score is -max_k log softmax(z)_k, from the logits z. It is computed as
    log(1 + sum_{j != k} exp(z_j - z_k)), so that confidences near 1 stay apart.

    References:
        Hendrycks, Gimpel. A baseline for detecting misclassified and out-of-distribution examples
        in neural networks. ICLR 2017.
    """

    name: ClassVar[str] = "confidence"

    def measure(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...]
    ) -> Tensor:
        """Return (r,) scores of logits (r, K)."""
        best, others = split_prediction(outputs)
        return functional.softplus(others.logsumexp(dim=1) - best)


class NonMaximalEntropy(Detector):
    """Low entropy of the classes that are not predicted.

    With q the probabilities of the classes other than the predicted one, divided by their sum, the
    score is sum_j q_j log q_j, from -log(K - 1) to 0. The prediction is removed by masking its
    logit, so that the score is finite where the prediction has probability 1.

    References:
        Pang, Du, Dong, Zhu. Towards robust detection of adversarial examples. NeurIPS 2018.
    """

    name: ClassVar[str] = "non_me"

    def measure(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...]
    ) -> Tensor:
        """Return (r,) scores of logits (r, K).

        Raises:
            ValueError: for two classes, which leave one.
        """
        if outputs.shape[1] < 3:
            raise ValueError(
                f"{self.name} needs at least 3 classes, got {outputs.shape[1]}: one other class has"
                " no entropy"
            )
        _, others = split_prediction(outputs)
        log_share = others.log_softmax(dim=1).clamp(min=torch.finfo(outputs.dtype).min)
        return (log_share.exp() * log_share).sum(dim=1)


register(
    DetectorSpec(
        Confidence,
        art="ConfidenceDetector",
        paper="Hendrycks, Gimpel. A baseline for detecting misclassified and out-of-distribution"
        " examples in neural networks. ICLR 2017",
        url="https://arxiv.org/abs/1610.02136",
        page="detectors/confidence.md",
    ),
    DetectorSpec(
        NonMaximalEntropy,
        art="NonMaximalEntropyDetector",
        paper="Pang, Du, Dong, Zhu. Towards robust detection of adversarial examples. NeurIPS 2018",
        url="https://arxiv.org/abs/1706.00633",
        page="detectors/non-maximal-entropy.md",
    ),
)
