"""The head of a distilled network: its scores as they are, with the attack that it needs."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from art_ext.training.heads.base import Adaptive, Head


class DistilledHead(Head):
    """Class scores of a student, at temperature 1.

    They are the outputs of the network. The student is trained at a temperature T, so they are
    about T times as large as usual. The softmax is then 1 and 0 exactly, and cross-entropy has no
    gradient. An attack needs the margin of the scores.

    References:
        Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017,
        section VIII.
    """

    name: ClassVar[str] = "distilled"
    attack_loss: ClassVar[str] = "margin"
    adaptive: ClassVar[Adaptive] = (("pgd", {"num_steps": 50, "loss": "margin"}),)

    def scores(self, raw: Any) -> Tensor:
        """Return the raw output."""
        scores: Tensor = raw
        return scores

    def record(self) -> dict[str, Any]:
        """Return name and arguments, and that the network gives the same scores without it."""
        return {**super().record(), "optional": True}
