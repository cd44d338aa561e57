"""Faster passes of a network: bfloat16, channels-last memory and compilation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def check_amp(device: torch.device) -> None:
    """Raise ValueError unless a device computes in bfloat16 under ``torch.autocast``."""
    reason = "it has no autocast"
    if torch.amp.is_autocast_available(device.type):
        try:
            with lowered(device):
                one = torch.ones(1, 1, device=device)
                found = (one @ one).dtype
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
        else:
            if found == torch.bfloat16:
                return
            reason = f"its autocast computes in {found}"
    raise ValueError(
        f"amp needs a device with bfloat16, which {str(device)!r} has not in this build of PyTorch"
        f" ({reason}): leave amp=False"
    )


def lowered(device: torch.device) -> torch.autocast:
    """Return a context in which matrix products and convolutions compute in bfloat16."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def unlowered(device: torch.device) -> torch.autocast:
    """Return a context without autocast, whatever surrounds it."""
    return torch.autocast(device.type, enabled=False)


@contextmanager
def channels_last_weights(model: object) -> Iterator[None]:
    """Hold the convolution weights of a network in channels-last memory for a block.

    Their values do not change. Afterwards each parameter has its own memory again.
    """
    kept = [
        (parameter, parameter.data)
        for parameter in (model.parameters() if isinstance(model, nn.Module) else ())
        if parameter.dim() == 4
    ]
    try:
        for parameter, data in kept:
            parameter.data = data.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


class Compiled:
    """A network behind ``torch.compile``.

    The first call for a new shape, dtype or gradient mode compiles, which takes seconds to minutes.
    Later calls of this process reuse the code, also those of other attacks on the network.

    Args:
        model: the network.

    Raises:
        ValueError: unless ``torch.compile`` can work on it.
    """

    def __init__(self, model: object) -> None:
        if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
            raise ValueError(
                f"compile needs an nn.Module in Python code, got {type(model).__name__}: leave"
                " compile=False"
            )
        if getattr(model, "copies_rows", False):
            raise ValueError(
                f"compile needs the network itself, got the wrapper {type(model).__name__}: put"
                " torch.compile(network) into it, and leave compile=False"
            )
        try:
            self._call: Callable[[Tensor], Any] = torch.compile(model)
        except RuntimeError as error:  # of a Python that PyTorch does not compile for
            raise self._failure(error) from error

    def __call__(self, rows: Tensor) -> Any:
        """Return the outputs for rows (R, *S).

        Raises:
            ValueError: if the network cannot be compiled.
        """
        try:
            return self._call(rows)
        except Exception as error:
            from torch._dynamo.exc import TorchDynamoException

            if not isinstance(error, TorchDynamoException):
                raise
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ValueError:
        first = str(error).strip().partition("\n")[0]
        return ValueError(
            f"torch.compile fails on the network ({type(error).__name__}: {first}): leave"
            " compile=False"
        )
