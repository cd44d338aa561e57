"""Environment of a run: Accelerate, the device, the random streams."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn

from art_ext.core.networks import model_device

if TYPE_CHECKING:
    from accelerate import Accelerator

    from art_ext.training.options import TrainingOptions


@contextmanager
def accelerated(
    options: TrainingOptions, model: nn.Module
) -> Iterator[tuple[Accelerator, torch.device]]:
    """Yield Accelerate for this run, and the device to train on.

    The device is the model's, the given one, or the process' own. Accelerate stores the first
    precision and device of a process and rejects others. A run may differ from earlier runs, and
    must not affect later ones. The stored state is therefore restored afterwards, except for a
    group of processes that was created meanwhile.

    Raises:
        ImportError: without the extra ``train``.
        ValueError: for a precision that the device does not support.
    """
    try:
        from accelerate.state import AcceleratorState, GradientState, PartialState
    except ImportError as error:
        raise ImportError(
            "training needs the extra `train`: pip install 'art-ext[train]'"
        ) from error
    memories = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(memory) for memory in memories]
    try:
        if before[0].get("num_processes", 1) == 1:
            memories[0].clear()
        memories[1].clear()
        yield make_accelerator(options, model)
    finally:
        group = memories[0].get("num_processes", 1) > 1
        for memory, content in zip(memories, before, strict=True):
            if memory is not memories[0] or not group:
                memory.clear()
                memory.update(content)


def make_accelerator(
    options: TrainingOptions, model: nn.Module
) -> tuple[Accelerator, torch.device]:
    """Create the Accelerator and return it with the device.

    It uses the state that Accelerate stores for this process, if any. A group of processes that
    Accelerate creates here is destroyed when the interpreter exits.
    """
    from accelerate import Accelerator

    had_group = _has_process_group()
    _import_functions_of_groups()
    device = model_device(model, options.device, torch.device("cpu"))
    accelerator = Accelerator(
        cpu=device.type == "cpu", mixed_precision=options.precision, device_placement=False
    )
    if _has_process_group() and not had_group:
        atexit.register(_destroy_process_group)
    return accelerator, accelerator.device if accelerator.num_processes > 1 else device


def _import_functions_of_groups() -> None:
    """Import functions whose defaults would hold the group of processes after its end.

    ``DistributedDataParallel`` imports them. The group of that moment is the default of their
    arguments, so a group that exists before would never be freed, and its threads never joined.
    """
    if distributed.is_available():
        import torch.distributed.nn.functional  # noqa: F401


def _has_process_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _destroy_process_group() -> None:
    """Destroy the group of processes, if it still exists.

    The threads of a group that outlives the interpreter abort some processes after their work.
    """
    if _has_process_group():
        distributed.destroy_process_group()


def seed_streams(seed: int, place: int, process: int, device: torch.device) -> None:
    """Seed torch's global streams for one place of a run, so that no stream has to be saved.

    Only the streams that ``global_streams_kept`` restores are seeded. ``torch.manual_seed`` would
    seed every device's.
    """
    key = stream_key(seed, place, process)
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(key)
    elif device.type != "cpu" and hasattr(torch, device.type):
        getattr(torch, device.type).manual_seed(key)


def stream_key(seed: int, place: int, process: int = 0) -> int:
    """Return the seed of the global streams for one place of a run."""
    return ((seed * 1_000_003 + place) * 1_000_003 + process) % (1 << 63)
