"""State of a network in use: modes, flags, thread, device."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain

import torch
from torch import nn

from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import listed

_LOCK = threading.Lock()
# by id of a module or parameter: the thread that uses it, and how often
_USERS: dict[int, tuple[int, int]] = {}
RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)


class NetworkInUseError(RuntimeError):
    """Another thread uses the network, or a part of it."""


@contextmanager
def in_use(model: nn.Module) -> Iterator[None]:
    """Register the modules and parameters of a network as used by this thread.

    Uses in one thread may nest. Modes and flags belong to the network and not to a thread. A
    wrapper contains the modules of its inner network.

    Raises:
        NetworkInUseError: if another thread uses one of them.
    """
    held = [*model.modules(), *model.parameters()]  # references, so that no id is reused
    thread = threading.get_ident()
    with _LOCK:
        counts = [_USERS.get(id(one), (thread, 0)) for one in held]
        if any(user != thread for user, _ in counts):
            raise NetworkInUseError(
                "another thread attacks, evaluates or trains this network:"
                " give each thread a copy of its own (copy.deepcopy(model))"
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
    """Restore each submodule's train or eval mode, also after an error."""
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
    """Run an ``nn.Module`` in eval mode without parameter gradients.

    Every flag is restored, also after an error. Each submodule gets its own mode back, so layers
    that were frozen before stay frozen. Recurrent layers run in train mode without dropout, which
    computes the same. ``torch.inference_mode()`` is disabled, for other callables too.

    Raises:
        NetworkInUseError: if another thread uses the network. Nothing is changed then.
        ValueError: if the network was made in ``torch.inference_mode()``.
    """
    with outside_inference_mode():
        if not isinstance(model, nn.Module):
            yield
            return
        check_no_inference_tensor(model)
        with in_use(model), eval_without_gradients(model):
            yield


@contextmanager
def eval_without_gradients(model: nn.Module, *, recurrent: bool = True) -> Iterator[None]:
    """Run a network that this thread holds already in eval mode, as ``frozen_eval`` does.

    Args:
        model: the network.
        recurrent: True to run recurrent layers in train mode without dropout. False leaves them in
            eval mode.
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with restored_modes(model):
        try:
            model.eval()
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            with differentiable_recurrence(model) if recurrent else nullcontext():
                yield
        finally:
            for parameter, requires_grad in wanted:
                parameter.requires_grad_(requires_grad)


@contextmanager
def differentiable_recurrence(model: nn.Module) -> Iterator[None]:
    """Run the recurrent layers of a network in train mode with dropout off.

    That computes what they compute in eval mode, in which cuDNN has no backward pass for them. A
    layer of a derived class with a forward of its own stays as it is, since that may read the mode.
    """
    layers = [
        (module, module.training, module.dropout)
        for module in model.modules()
        if isinstance(module, nn.RNNBase)
        and type(module).forward in [kind.forward for kind in RECURRENT]
    ]
    try:
        for module, _, _ in layers:
            module.training = True
            module.dropout = 0.0
        yield
    finally:
        for module, mode, dropout in layers:
            module.training = mode
            module.dropout = dropout


def check_no_inference_tensor(model: nn.Module) -> None:
    """Raise ValueError if a parameter or buffer was made in ``torch.inference_mode()``.

    Autograd cannot use such a tensor.
    """
    if any(tensor.is_inference() for tensor in chain(model.parameters(), model.buffers())):
        tensors = chain(model.named_parameters(), model.named_buffers())
        name = next(name for name, tensor in tensors if tensor.is_inference())
        raise ValueError(
            f"the network must be made outside torch.inference_mode(), got {name!r} made inside:"
            " build it and load its weights before that mode begins"
        )


def usable_device(device: torch.device | str, *, tried: bool = True) -> torch.device:
    """Return a device by its name.

    Args:
        device: the name.
        tried: True to make a tensor there.

    Raises:
        ValueError: if torch does not know the device, or this machine does not have it.
    """
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device must be a name that torch knows, such as cuda, got {device!r}"
        ) from error
    if found.type != "cpu" and tried:
        try:
            torch.empty(0, device=found)
        # a build of PyTorch without the device may lack its module
        except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
            # dispatchers list all that they have behind the first sentence
            reason = str(error).partition("\n")[0].partition(". ")[0]
            raise ValueError(
                f"device must be one that this machine has, got {str(device)!r}: {reason}"
            ) from error
    return found


def model_device(
    model: object, device: torch.device | str | None, default: torch.device
) -> torch.device:
    """Return ``device``, else that of the model's first parameter or buffer, else the default."""
    if device is not None:
        return usable_device(device)
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return default


def check_on_device(model: object, device: torch.device) -> None:
    """Raise ValueError if a network has tensors, and none of them is on a device.

    Libraries that load parts of a network when it runs keep them on the device meta until then.
    """
    if not isinstance(model, nn.Module):
        return
    there = torch.empty(0, device=device).device  # with its number
    tensors = chain(model.parameters(), model.buffers())
    places = {tensor.device for tensor in tensors if tensor.device != torch.device("meta")}
    if places and there not in places:
        raise ValueError(
            f"device must be the model's, {listed(sorted(map(str, places)))}, got"
            f" {str(device)!r}: call model.to({str(device)!r}), or leave device out"
        )
