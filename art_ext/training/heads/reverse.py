"""The head of reverse cross-entropy: the smallest output decides."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from art_ext.training.heads.base import Adaptive, Head, HeadedModel


class ReverseLogitsHead(Head):
    """Class scores ``-z`` of raw outputs z.

    Reverse cross-entropy makes the output of the label the smallest one. A network without this
    head predicts the least likely class.

    References:
        Pang, Du, Dong, Zhu, "Towards robust detection of adversarial examples", NeurIPS 2018.
    """

    name: ClassVar[str] = "reverse-logits"
    adaptive: ClassVar[Adaptive] = (("pgd", {"num_steps": 50, "loss": "margin"}),)
    takes_rows: ClassVar[bool] = True
    attack_loss: ClassVar[str] = "margin"

    def scores(self, raw: Any) -> Tensor:
        """Return (rows, classes) ``-z`` for z of the same shape."""
        scores: Tensor = -raw
        return scores


class ReverseLogits(HeadedModel):
    """A network whose smallest output decides, as a module that returns class scores ``-z``.

    Args:
        network: from rows (r, *S) to outputs z (r, C). It is not copied.

    Raises:
        ValueError: if the network has this head.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, ReverseLogitsHead())
