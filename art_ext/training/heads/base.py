"""The interface of heads, the identity, and the module that a head exports."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from art_ext.core.calling import widened
from art_ext.core.networks import model_device
from art_ext.core.outputs import predicted_classes
from art_ext.models.layers import Wrapper

Adaptive = tuple[tuple[str, Mapping[str, Any]], ...]


class Head(ABC):
    """The way from a network's raw output to class scores.

    A recipe names its head. Crafting, validation, the choice of the best checkpoint and the
    exported model use it. A head holds settings and, if it is an ``nn.Module`` too, buffers. What
    is trained belongs to the network.

    Attributes:
        name: key of the head in the metadata of weights. Default: the name of the class.
        adaptive: attacks that know the head, as names of ``art-ext attacks`` with arguments. An
            evaluation adds them to every panel.
        takes_rows: True if the raw output must be a tensor of a row for each input, (rows, d).
        attack_loss: loss of the PGD attacks of the validation and of the figures of a training,
            ``"ce"`` or ``"margin"``.
    """

    name: ClassVar[str]
    adaptive: ClassVar[Adaptive] = ()
    takes_rows: ClassVar[bool] = False
    attack_loss: ClassVar[str] = "ce"

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "name" not in vars(cls):
            cls.name = cls.__name__

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

        Its state dict is that of the network and, under ``head.``, the buffers of the head.

        Raises:
            ValueError: if the network has a head of this kind.
        """
        return HeadedModel(model, self)

    def fitted(self, network: nn.Module) -> nn.Module:
        """Return the network, changed so that its raw output fits this head.

        It is called before weights are loaded.
        """
        return network

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that build this head again, in the types of JSON."""
        return dict(vars(self))

    @classmethod
    def rebuilt(cls, arguments: Mapping[str, Any]) -> Head:
        """Return the head of saved arguments. Buffers are filled when weights are loaded."""
        return cls(**arguments)

    def record(self) -> dict[str, Any]:
        """Return name and arguments, which are saved beside the weights."""
        return {"name": self.name, "arguments": self.arguments()}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
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

    The state dict is that of the network, so that weights can be exchanged. The buffers of a head
    are added to it under ``head.``.

    Args:
        model: the network. It is not copied.
        head: the head. A head with buffers is copied.

    Raises:
        ValueError: if the network has a head of this kind.
    """

    def __init__(self, model: nn.Module, head: Head) -> None:
        taken = [one for one in heads_of(model) if one.name == head.name]
        if taken:
            raise ValueError(
                f"a head is put around a network without a head of its kind, got {head!r} around"
                f" a network with {taken[0]!r}: pass the network inside, which is .model"
            )
        super().__init__(model)
        self.head: Any = on_device(head, model_device(model, None, torch.device("cpu")))
        if isinstance(self.head, nn.Module):
            self.head.train(model.training)

    def forward(self, rows: Tensor) -> Tensor:
        """Return (r, C) class scores for rows (r, *S)."""
        return apply_head(self.head, self.model(rows), len(rows))

    @property
    def head_record(self) -> dict[str, Any]:
        """Name and arguments of the head."""
        found: dict[str, Any] = self.head.record()
        return found


def on_device(head: Head, device: torch.device) -> Head:
    """Return a head for a model on a device: a copy if it has buffers, else the head itself."""
    return copy.deepcopy(head).to(device) if isinstance(head, nn.Module) else head


def heads_of(model: object) -> list[Head]:
    """Return the heads in a model, the outermost first."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    return [module.head for module in modules if isinstance(module, HeadedModel)]


def adaptive_attacks(model: object) -> Adaptive:
    """Return the attacks that the heads of a model declare, as names with arguments."""
    return tuple(attack for head in heads_of(model) for attack in head.adaptive)


def apply_head(head: Head, raw: Any, rows: int) -> Tensor:
    """Return the scores that a head makes of a raw output, tensors at least in float32.

    The output of the identity is not checked.

    Raises:
        ValueError: if the raw output does not fit the head, if the head fails, or if it returns no
            (rows, classes) scores.
    """
    raw = widened(raw) if isinstance(raw, Tensor) else raw
    if isinstance(head, IdentityHead):
        return head.scores(raw)
    if head.takes_rows:
        _check_rows(head, raw, rows)
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


def _check_rows(head: Head, raw: object, rows: int) -> None:
    """Raise ValueError unless a raw output is a tensor (rows, d)."""
    if not isinstance(raw, Tensor):
        raise ValueError(f"the model must return a tensor, got {type(raw).__name__}")
    if raw.dim() != 2 or len(raw) != rows:
        raise ValueError(
            f"the model must return (rows, classes) logits, or features (rows, d) for the head"
            f" {head!r}, got shape {tuple(raw.shape)} for {rows} rows"
        )


def _form(value: object) -> str:
    """Describe an output by its shape or its type."""
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
