"""Where a run takes place: Accelerate, the device, the random streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from art_ext.core.oracle import model_device

if TYPE_CHECKING:
    from accelerate import Accelerator

    from art_ext.core.training.options import TrainingOptions


def make_accelerator(options: TrainingOptions, model: nn.Module) -> tuple[Accelerator, torch.device]:
    """Accelerate for this run, and the device to train on: the model's, the one asked for, or the process' own.

    Raises:
        ImportError: without the extra ``train``.
        ValueError: for a precision that the device has not.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise ImportError("training needs the extra `train`: pip install 'art-ext[train]'") from error
    device = model_device(model, options.device, torch.device("cpu"))
    # Accelerate remembers the first precision and device of a process and refuses others; a run of ours may differ
    known = AcceleratorState._shared_state
    if known and (known.get("_mixed_precision"), known["device"].type) != (options.precision, device.type):
        distributed = known.get("num_processes", 1) > 1
        AcceleratorState._reset_state(reset_partial_state=not distributed)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=options.precision,
        device_placement=False,
        log_with=list(options.trackers) or None,
        project_dir=options.checkpoint_dir if options.trackers else None,
    )
    return accelerator, accelerator.device if accelerator.num_processes > 1 else device


@contextmanager
def own_random_streams(device: torch.device) -> Iterator[None]:
    """Give back torch's global streams as they were: a model may draw from them (dropout), and a loader (its order)."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
        yield


def seed_streams(seed: int, place: int, process: int) -> None:
    """Seed torch's global streams for one place of a run: nothing of them has to be saved then."""
    torch.manual_seed(((seed * 1_000_003 + place) * 1_000_003 + process) % (1 << 63))


@contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """Put each submodule's train or eval mode back, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
