"""A pretend accelerator for machines without one.

Its tensors claim the device "meta" and hold a tensor of the CPU. They do not mix with tensors of
the CPU, or of a second accelerator, as on real ones. Waits of the host are counted.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from art_ext.core import geometry

DEVICE = torch.device("meta:0")
# results whose size or value the host must know
READS = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::allclose",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::unique_dim",
}
COPIES = {"aten::copy_", "aten::_to_copy"}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
# beside the operations that PyTorch tags as pointwise
TAKE_NUMBERS = {"aten::masked_fill", "aten::masked_fill_", "aten::fill_", "aten::rsub"}
CONSTRUCTORS = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)


class Remote(torch.Tensor):
    """A tensor on the pretend accelerator."""

    held: Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner, requires_grad=False, device=DEVICE):
        remote = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            dtype=inner.dtype,
            layout=inner.layout,
            device=device,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            requires_grad=requires_grad,
        )
        remote.held = inner
        return remote

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {}, None)

    # with these two, Module.to keeps its parameters, as optimizers need it
    def __tensor_flatten__(self):
        return ["held"], self.device

    @staticmethod
    def __tensor_unflatten__(inner, device, size, stride):
        return Remote(inner["held"], device=device)

    def tolist(self):
        return self.cpu().tolist()


def held(thing: Any) -> Any:
    """Return the CPU tensor of a tensor on any device, and anything else unchanged."""
    return thing.held if isinstance(thing, Remote) else thing


class Accelerator:
    """The pretend accelerator inside ``running``.

    Args:
        index: of the device, to tell two accelerators apart.
        float64: False for one that has no such numbers, like Apple's GPUs.

    Attributes:
        device: of its tensors.
        reads: how often the host has waited for a value.
        uploads: how often the host has waited for a copy of its values to the device.
        places: the waits by operation and line of the package.
        doubles: number of float64 tensors made there, which not every accelerator has.
    """

    def __init__(self, index: int = 0, *, float64: bool = True) -> None:
        self.device = torch.device("meta", index)
        self.float64 = float64
        self.forget()

    def forget(self) -> None:
        """Begin to count again."""
        self.reads = 0
        self.uploads = 0
        self.doubles = 0
        self.places: Counter[str] = Counter()

    @property
    def waits(self) -> int:
        """How often the host has waited for the device."""
        return self.reads + self.uploads

    def has(self, thing: Any) -> Any:
        """Return a copy of a tensor or module there."""
        if isinstance(thing, Tensor):
            return Remote(thing.clone(), device=self.device)
        moved = copy.deepcopy(thing)
        for module in moved.modules():
            for name, one in module._parameters.items():
                if one is not None:
                    there = Remote(one.data, device=self.device)
                    module._parameters[name] = nn.Parameter(there, one.requires_grad)
            for name, one in module._buffers.items():
                if one is not None:
                    module._buffers[name] = Remote(one, device=self.device)
        return moved

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run a block with the accelerator."""
        self.forget()
        without = set() if self.float64 else {DEVICE.type}
        with (
            mock.patch.object(geometry, "WITHOUT_FLOAT64", geometry.WITHOUT_FLOAT64 | without),
            _Construction(self),
            _Dispatch(self),
        ):
            yield

    def note(self, name: str, *, reads: bool, uploads: bool) -> None:
        """Count the waits of an operation."""
        self.reads += reads
        self.uploads += uploads
        if reads or uploads:
            self.places[f"{name} in {_line()}"] += 1

    def check_made(self, made: Iterable[Any]) -> None:
        """Count float64 tensors, or raise TypeError where there are none."""
        doubles = sum(isinstance(one, Tensor) and one.dtype == torch.float64 for one in made)
        self.doubles += doubles
        if doubles and not self.float64:
            raise TypeError("the accelerator has no float64")


class _Dispatch(TorchDispatchMode):
    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self.accelerator = accelerator

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {}, self.accelerator)


class _Construction(TorchFunctionMode):
    """Make tensors from numbers, which no dispatch sees."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self.accelerator = accelerator

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if function is torch.Tensor.new_tensor and device is None and isinstance(args[0], Remote):
            device = args[0].device
        if function not in CONSTRUCTORS or not _is_remote_device(device):
            return function(*args, **kwargs)
        if function is torch.Tensor.new_tensor:
            kwargs = {"dtype": args[0].dtype, **kwargs}
            function, args = torch.tensor, args[1:]
        made = function(*args, **{**kwargs, "device": "cpu"})
        if isinstance(made, Remote):
            return made
        self.accelerator.note(function.__name__, reads=False, uploads=True)
        self.accelerator.check_made([made])
        return Remote(made, device=_with_index(device))


def _line() -> str:
    """Return the line of the package that is being run."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        _, package, file = frame.f_code.co_filename.rpartition("/art_ext/")
        if package:
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "a test"


def _with_index(device: Any) -> torch.device:
    found = torch.device(device)
    return DEVICE if found.index is None else found


def _is_remote_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _run(function, args, kwargs, accelerator):
    """Run an operation on the inner tensors, and wrap its results if they belong there."""
    name = function._schema.name
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    remote = [one for one in tensors if isinstance(one, Remote)]
    _check_mixing(function, args, kwargs, tensors)
    device = kwargs.get("device")
    stays = _is_remote_device(device) if device is not None else bool(remote)
    if stays:
        place = remote[0].device if device is None else _with_index(device)
        if kwargs.get("generator") is not None:
            raise RuntimeError(f"{name} draws on the accelerator from a generator of the CPU")
    if accelerator is not None and (remote or stays):
        accelerator.note(name, **_waits(name, args, kwargs, tensors, stays))
    inner_args, inner_kwargs = tree_map(held, (args, kwargs))
    if _is_remote_device(device):
        inner_kwargs["device"] = torch.device("cpu")
    out = function(*inner_args, **inner_kwargs)
    if not stays or name == "aten::_local_scalar_dense":
        return args[0] if name == "aten::copy_" else out
    if accelerator is not None:
        accelerator.check_made(tree_leaves(out))
    changed = _changed(function, args, kwargs)
    returns = function._schema.returns
    if changed and len(returns) == 1 and returns[0].alias_info is not None:
        return changed[0]  # an operation in place gives its own argument

    def wrapped(one: Any) -> Any:
        plain = isinstance(one, Tensor) and not isinstance(one, Remote)
        return Remote(one, device=place) if plain else one

    return tree_map(wrapped, out)


def _changed(function, args, kwargs) -> list[Any]:
    """Return the arguments that an operation writes into."""
    written = [
        (place, one.name)
        for place, one in enumerate(function._schema.arguments)
        if one.alias_info is not None and one.alias_info.is_write
    ]
    return [
        args[place] if place < len(args) else kwargs[name]
        for place, name in written
        if place < len(args) or name in kwargs
    ]


def _check_mixing(function, args, kwargs, tensors: list[Tensor]) -> None:
    """Raise RuntimeError for tensors of two devices, unless real accelerators allow them."""
    name = function._schema.name
    remote = [one for one in tensors if isinstance(one, Remote)]
    near = [one for one in tensors if not isinstance(one, Remote)]
    apart = len({one.device for one in remote}) > 1
    if name in COPIES or not remote or not (near or apart):
        return
    numbers = all(one.dim() == 0 for one in near)
    if apart:
        allowed = False
    elif name in INDEXING:  # indices may lie on the CPU, values may not
        values = args[2] if len(args) > 2 else None
        far = not isinstance(values, Tensor) or isinstance(values, Remote) or not values.dim()
        allowed = isinstance(args[0], Remote) and far
    elif torch.Tag.pointwise in function.tags or name in TAKE_NUMBERS:
        written = _changed(function, args, kwargs)
        into = any(isinstance(one, Tensor) and not isinstance(one, Remote) for one in written)
        allowed = numbers and len(near) == 1 and not into
    else:
        allowed = False
    if not allowed:
        shapes = [(tuple(one.shape), str(one.device)) for one in tensors]
        raise RuntimeError(f"{name} mixes tensors of the accelerator and of the CPU: {shapes}")


def _waits(name, args, kwargs, tensors: list[Tensor], stays: bool) -> dict[str, bool]:
    """Return whether the host waits for a value, and for a copy to the device."""
    near = any(not isinstance(one, Remote) for one in tensors)
    if name in COPIES:
        waits = not kwargs.get("non_blocking") and not (name == "aten::copy_" and args[2:3] == (1,))
        into = isinstance(args[0], Remote) if name == "aten::copy_" else stays
        return {"reads": waits and not into, "uploads": waits and into and near}
    reads = name in READS
    reads |= name == "aten::repeat_interleave" and kwargs.get("output_size") is None
    uploads = False
    if name in INDEXING:
        indices = [one for one in args[1] if one is not None]
        far = [one for one in indices if isinstance(one, Remote)]
        mask = any(one.dtype in (torch.bool, torch.uint8) for one in far)
        # a single value goes in by masked_fill
        reads = mask and not (len(args) > 2 and args[2].numel() == 1)
        uploads = len(far) < len(indices)
    return {"reads": reads, "uploads": uploads}
