"""Detection by the largest probability."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from art_ext.core.detection.base import Detector


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
