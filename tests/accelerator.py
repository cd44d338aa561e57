"""A pretend accelerator for machines without one.

Its tensors claim the device "meta" and hold a tensor of the CPU. They do not mix with tensors of
the CPU, as on a real accelerator, and reads of their values by the host are counted.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
READS = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
}
COPIES = {"aten::copy_", "aten::_to_copy"}
INDEXING = {"aten::index", "aten::index_put_", "aten::_index_put_impl_"}


class Remote(torch.Tensor):
    """A tensor on the pretend accelerator."""

    held: Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner, requires_grad=False):
        remote = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            requires_grad=requires_grad,
        )
        remote.held = inner
        return remote

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {}, None)


class Accelerator:
    """The pretend accelerator inside ``running``.

    Attributes:
        reads: how often the host has waited for a value.
        doubles: number of float64 tensors made there, which not every accelerator has.
    """

    def __init__(self) -> None:
        self.reads = 0
        self.doubles = 0

    def has(self, thing: Any) -> Any:
        """Return a copy of a tensor or module there."""
        if isinstance(thing, Tensor):
            return Remote(thing.clone())
        moved = copy.deepcopy(thing)
        for module in moved.modules():
            for name, one in module._parameters.items():
                if one is not None:
                    module._parameters[name] = nn.Parameter(Remote(one.data))
            for name, one in module._buffers.items():
                if one is not None:
                    module._buffers[name] = Remote(one)
        return moved

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run a block with the accelerator."""
        self.reads = 0
        self.doubles = 0
        with _Construction(), _Dispatch(self):
            yield


class _Dispatch(TorchDispatchMode):
    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self.accelerator = accelerator

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {}, self.accelerator)


class _Construction(TorchFunctionMode):
    """Make tensors from numbers, which no dispatch sees."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if function in (torch.tensor, torch.as_tensor) and _is_remote_device(device):
            made = function(*args, **{**kwargs, "device": "cpu"})
            return made if isinstance(made, Remote) else Remote(made)
        return function(*args, **kwargs)


def _is_remote_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _run(function, args, kwargs, accelerator):
    """Run an operation on the inner tensors, and wrap its results if they belong there."""
    name = function._schema.name
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    remote = [one for one in tensors if isinstance(one, Remote)]
    near = [one for one in tensors if not isinstance(one, Remote)]
    if remote and near and not _may_mix(name, args, near):
        shapes = [tuple(one.shape) for one in tensors]
        raise RuntimeError(f"{name} mixes tensors of the accelerator and of the CPU: {shapes}")
    device = kwargs.get("device")
    stays = _is_remote_device(device) if device is not None else bool(remote)
    if accelerator is not None and remote:
        leaves = name in COPIES and not stays
        accelerator.reads += name in READS or leaves
    inner_args, inner_kwargs = tree_map(
        lambda one: one.held if isinstance(one, Remote) else one, (args, kwargs)
    )
    if _is_remote_device(device):
        inner_kwargs["device"] = torch.device("cpu")
    out = function(*inner_args, **inner_kwargs)
    if not stays or name == "aten::_local_scalar_dense":
        return args[0] if name == "aten::copy_" else out
    if accelerator is not None:
        made = [one for one in tree_leaves(out) if isinstance(one, Tensor)]
        accelerator.doubles += sum(one.dtype == torch.float64 for one in made)
    changed = [
        place
        for place, one in enumerate(function._schema.arguments)
        if one.alias_info is not None and one.alias_info.is_write
    ]
    returns = function._schema.returns
    if changed and len(returns) == 1 and returns[0].alias_info is not None:
        place = changed[0]  # an operation in place gives its own argument
        argument = function._schema.arguments[place].name
        return args[place] if place < len(args) else kwargs[argument]
    return tree_map(
        lambda one: Remote(one) if isinstance(one, Tensor) and not isinstance(one, Remote) else one,
        out,
    )


def _may_mix(name: str, args: Any, near: list[Tensor]) -> bool:
    """Return True for what a real accelerator allows."""
    if name in COPIES:
        return True
    if name in INDEXING:  # indices may lie on the CPU, values may not
        values = args[2] if len(args) > 2 else None
        near_values = isinstance(values, Tensor) and not isinstance(values, Remote) and values.dim()
        return isinstance(args[0], Remote) and not near_values
    return all(one.dim() == 0 for one in near)
