"""The state of a network while it is used: its modes, its flags, its thread, its device."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from art_ext.core.calling import outside_inference_mode

_LOCK = threading.Lock()
# by id of a module or parameter: the thread that uses it, and how often
_USERS: dict[int, tuple[int, int]] = {}


class NetworkInUseError(RuntimeError):
    """Another thread uses the network, or a part of it."""


@contextmanager
def in_use(model: nn.Module) -> Iterator[None]:
    """Register the modules and parameters of a network as used by this thread, which may nest such
    uses.

    Modes and flags belong to the network and not to a thread. A wrapper shares the modules of the
    network inside.

    Raises:
        NetworkInUseError: if another thread uses one of them.
    """
    held = [*model.modules(), *model.parameters()]  # kept alive meanwhile, so that ids stay theirs
    thread = threading.get_ident()
    with _LOCK:
        counts = [_USERS.get(id(one), (thread, 0)) for one in held]
        if any(user != thread for user, _ in counts):
            raise NetworkInUseError(
                "the network is in use in another thread, where it is attacked, evaluated or"
                " trained: give each thread a copy of its own (copy.deepcopy(model))"
            )
        _USERS.update(
            {id(one): (thread, count + 1) for one, (_, count) in zip(held, counts, strict=True)}
        )
    try:
        yield
    finally:
        with _LOCK:
            for one in held:
                count = _USERS.pop(id(one))[1] - 1
                if count:
                    _USERS[id(one)] = thread, count


@contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """Put each submodule's train or eval mode back, also after an error."""
    modes = [(module, getattr(module, "training", None)) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            if mode is not None:
                module.training = mode
            elif hasattr(module, "training"):  # a frozen ScriptModule has no mode of its own
                del module.training


@contextmanager
def frozen_eval(model: object) -> Iterator[None]:
    """Run an ``nn.Module`` in eval mode without parameter gradients, and put every flag back, also
    after an error.

    Each submodule's own mode is restored, so layers that were frozen before stay frozen.
    ``torch.inference_mode()`` is left meanwhile, for other callables too.

    Raises:
        NetworkInUseError: if another thread uses the network. Everything stays as it was.
        ValueError: if the network was made in ``torch.inference_mode()``.
    """
    with outside_inference_mode():
        if not isinstance(model, nn.Module):
            yield
            return
        check_no_inference_tensor(model)
        with in_use(model), restored_modes(model):
            wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
            try:
                model.eval()
                for parameter, _ in wanted:
                    parameter.requires_grad_(False)
                yield
            finally:
                for parameter, requires_grad in wanted:
                    parameter.requires_grad_(requires_grad)


def check_no_inference_tensor(model: nn.Module) -> None:
    """Raise ValueError if a parameter or buffer was made in ``torch.inference_mode()``: autograd
    cannot use it.
    """
    if any(tensor.is_inference() for tensor in chain(model.parameters(), model.buffers())):
        tensors = chain(model.named_parameters(), model.named_buffers())
        name = next(name for name, tensor in tensors if tensor.is_inference())
        raise ValueError(
            f"the network must be made outside of torch.inference_mode(), got {name!r} made inside:"
            " build it, and load its weights, before that mode begins"
        )


def model_device(
    model: object, device: torch.device | str | None, default: torch.device
) -> torch.device:
    """Where to send inputs: ``device``, or where the model's first parameter or buffer lies, or
    default.
    """
    if device is not None:
        return torch.device(device)
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return default
