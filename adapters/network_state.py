"""Parameters, buffers, modes, modules and hooks of a network: kept before an external attack,
compared and restored after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from art_ext.core.checks import listed
from art_ext.core.oracle import Model

_TENSORS = ("_parameters", "_buffers")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_ABSENT = object()


class NetworkState:
    """Copy of the state of a network. Nothing is kept of any other callable.

    Args:
        model: what an attack is going to call.
    """

    def __init__(self, model: Model) -> None:
        network = model if isinstance(model, nn.Module) else nn.Module()
        self._modes = [
            (name, module, module.training)
            for name, module in network.named_modules()
            if hasattr(module, "training")  # a frozen ScriptModule has no mode
        ]
        self._tables = [
            (name, attribute, table, dict(table))
            for name, module in network.named_modules()
            for attribute in (*_TENSORS, "_modules", *_HOOKS)
            if isinstance(table := vars(module).get(attribute), dict)
        ]
        self._tensors = [
            (name, tensor, tensor.detach().clone())
            for name, tensor in chain(network.named_parameters(), network.named_buffers())
            if not is_lazy(tensor)
        ]

    def restore(self) -> list[str]:
        """Restore the state, and return the names of what had changed.

        Raises:
            RuntimeError: if a tensor cannot be written.
        """
        changed: dict[str, None] = {}
        for name, attribute, table, entries in self._tables:
            changed |= dict.fromkeys(_changed_entries(name, attribute, table, entries))
            table.clear()
            table.update(entries)
        for name, tensor, before in self._tensors:
            if not _same(tensor.detach(), before):
                changed[name] = None
                _write(tensor, before)
        for name, module, mode in self._modes:
            if module.training != mode:
                changed[f"mode of {name or 'the network'}"] = None
                module.training = mode
        return list(changed)


def _changed_entries(
    name: str, attribute: str, table: dict[Any, Any], before: dict[Any, Any]
) -> list[str]:
    """Return names of the entries of a module's table that were added, removed or replaced."""
    keys = [
        key
        for key in {**before, **table}
        if table.get(key, _ABSENT) is not before.get(key, _ABSENT)
    ]
    if attribute in _HOOKS:
        return [f"hooks of {name or 'the network'}"] if keys else []
    return [f"{name}.{key}" if name else str(key) for key in keys]


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _same(tensor: Tensor, before: Tensor) -> bool:
    """Return True if two tensors are equal. NaN equals NaN."""
    if _kind(tensor) != _kind(before):
        return False
    return bool(((tensor == before) | ((tensor != tensor) & (before != before))).all())


def _write(tensor: Tensor, before: Tensor) -> None:
    """Give a tensor its former values, shape, dtype and device."""
    with torch.no_grad():
        if _kind(tensor) == _kind(before):
            tensor.copy_(before)  # in place, since other modules may share its memory
        else:
            tensor.data = before


@contextmanager
def preserved(model: Model, name: str) -> Iterator[list[str]]:
    """Restore a network after an attack, also after an error.

    Args:
        model: what the attack calls.
        name: of the attack, for messages.

    Yields:
        A list that holds the names of what the attack changed, once the block has ended.

    Raises:
        ValueError: if the network cannot be restored.
    """
    state = NetworkState(model)
    changed: list[str] = []
    try:
        yield changed
    finally:
        try:
            changed += state.restore()
        except RuntimeError as error:
            raise ValueError(
                f"{name} changed the network, which cannot be restored: {error}"
            ) from error


def describe_changes(name: str, changed: list[str]) -> str:
    """Describe what the attack of this name changed, and the remedy."""
    return (
        f"{name} changed the network ({listed(changed)}): it was restored after each call, and"
        " successes were judged by the restored network. The attack itself saw another, so the"
        " robust accuracy may be too high: let it work on a copy.deepcopy of the network"
    )
