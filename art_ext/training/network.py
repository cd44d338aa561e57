"""The network of a run under Accelerate, and its way back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from art_ext.core.checks import listed
from art_ext.core.geometry import Box
from art_ext.training.averaging import WeightAverage
from art_ext.training.engine import Engine
from art_ext.training.heads import Head
from art_ext.training.modes import Frozen
from art_ext.training.options import TrainingOptions
from art_ext.training.trial import unused_parameters

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger("art_ext")
# attributes that preparing adds to a network
ADDED = ("forward", "_is_accelerate_prepared", "_is_torch_compile")


class Prepared(NamedTuple):
    """A network that is ready to train.

    Attributes:
        engine: sends rows through the network.
        average: of its weights.
        stepper: the optimiser, under Accelerate where that is needed.
    """

    engine: Engine
    average: WeightAverage
    stepper: Any


@contextmanager
def prepared(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    options: TrainingOptions,
    accelerator: Accelerator,
    device: torch.device,
    box: Box,
    *,
    frozen: Frozen,
    head: Head,
    networks: int,
    example: Tensor,
) -> Iterator[Prepared]:
    """Prepare a network and its optimiser for the device, for a block.

    Accelerate's wrapping and the gradients are removed from the network afterwards.

    Args:
        model, optimizer: the network, and the optimiser of its parameters.
        options: of the run.
        accelerator, device: the environment of the run.
        box: of a sample.
        frozen: modules that stay in eval mode.
        head, networks: of the recipe.
        example: (r, *S) one or two samples.
    """
    own_names = dict(model.__dict__)
    model.to(device)
    if options.channels_last:
        model.to(memory_format=torch.channels_last)
    average = WeightAverage(model, options.ema)
    plain: nn.Module = torch.compile(model) if options.compile else model  # type: ignore[assignment]
    _handle_unused_parameters(accelerator, model, example, frozen, head)
    wrapped = accelerator.prepare_model(plain, device_placement=False)
    stepper: Any = optimizer
    # Accelerate's optimiser looks for a package in every step, and one process without scaled
    # losses needs nothing of it
    if accelerator.num_processes > 1 or accelerator.scaler is not None:
        stepper = accelerator.prepare_optimizer(optimizer, device_placement=False)
    own = Box(box.lower.to(device), box.upper.to(device))
    engine = Engine(
        accelerator,
        plain,
        wrapped,
        own,
        device,
        options.channels_last,
        frozen.values(),
        head,
        networks,
    )
    try:
        yield Prepared(engine, average, stepper)
    finally:
        accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
        for name in ADDED:
            model.__dict__.pop(name, None)
            if name in own_names:
                model.__dict__[name] = own_names[name]
        model.zero_grad(set_to_none=True)


def _handle_unused_parameters(
    accelerator: Accelerator, model: nn.Module, example: Tensor, frozen: Frozen, head: Head
) -> None:
    """Let several processes wait for no gradient of parameters that no output depends on.

    Finding such parameters in every update takes time, so it is done only for networks that have
    some.
    """
    if accelerator.num_processes == 1:
        return
    from accelerate import DistributedDataParallelKwargs

    unused = unused_parameters(model, example, frozen, head)
    count = torch.tensor([len(unused)], device=accelerator.device)
    if int(accelerator.reduce(count, reduction="sum")):
        logger.info(
            "no output depends on these parameters, which stay as they are: %s", listed(unused)
        )
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
