"""The interface of heads, the identity, and the module that a head exports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

from torch import Tensor, nn

from art_ext.core.calling import widened
from art_ext.core.outputs import predicted_classes
from art_ext.models.layers import Wrapper


class Head(ABC):
    """The way from a network's raw output to class scores.

    A recipe names its head. Crafting, validation, the choice of the best checkpoint and the
    exported model use it. A head holds settings only, no parameters.
    """

    @abstractmethod
    def scores(self, raw: Any) -> Tensor:
        """Return (rows, classes) scores, of which the largest decides.

        Losses treat the scores as logits. Row i depends on row i of the raw output only.

        Args:
            raw: output of the network for a batch, in any form. A tensor is at least float32.
        """

    @final
    def decision(self, scores: Tensor) -> Tensor:
        """Return the (rows,) classes of (rows, classes) scores.

        This is the arg max, as in all attacks and toolkits. A row of NaN has the class -1.
        """
        return predicted_classes(scores, "logits")

    def export(self, model: nn.Module) -> nn.Module:
        """Return a module around the network whose output is class scores.

        Its state dict is that of the network.
        """
        return HeadedModel(model, self)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class IdentityHead(Head):
    """The head of a network that returns class scores itself."""

    def scores(self, raw: Any) -> Tensor:
        """Return the raw output."""
        scores: Tensor = raw
        return scores

    def export(self, model: nn.Module) -> nn.Module:
        """Return the network itself."""
        return model


class HeadedModel(Wrapper):
    """A network with a head: from rows (r, *S) to class scores (r, C).

    The state dict is that of the network, so that weights can be exchanged.
    """

    def __init__(self, model: nn.Module, head: Head) -> None:
        super().__init__(model)
        self.head = head

    def forward(self, rows: Tensor) -> Tensor:
        """Return (r, C) class scores for rows (r, *S)."""
        return apply_head(self.head, self.model(rows), len(rows))


def apply_head(head: Head, raw: Any, rows: int) -> Tensor:
    """Return the scores that a head makes of a raw output, tensors at least in float32.

    The output of the identity is not checked.

    Raises:
        ValueError: if the head fails, or returns no (rows, classes) scores.
    """
    raw = widened(raw) if isinstance(raw, Tensor) else raw
    if isinstance(head, IdentityHead):
        return head.scores(raw)
    try:
        scores = head.scores(raw)
    except Exception as error:  # the head is the user's: it may fail in any way
        raise ValueError(
            f"the head {head!r} fails on the model's raw output, {_form(raw)}:"
            f" {type(error).__name__}: {error}"
        ) from error
    if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != rows:
        raise ValueError(
            f"the head {head!r} must return scores of shape ({rows}, classes) for {rows} rows, got"
            f" {_form(scores)}"
        )
    return scores


def _form(value: object) -> str:
    """Describe an output by its shape or its type."""
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
