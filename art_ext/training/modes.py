"""Train and eval mode of a network's modules while a recipe uses it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from art_ext.core.checks import listed
from art_ext.core.networks import eval_without_gradients

logger = logging.getLogger("art_ext")

BN_MODES = ("eval", "train", "batch")
Frozen = dict[str, nn.Module]


def frozen_modules(model: nn.Module) -> Frozen:
    """Return the modules that stay in eval mode during training, by their names.

    These are the modules that are in eval mode now. If every module with trainable parameters is in
    eval mode, that mode says nothing about the caller's intention: ART's ``predict`` and most
    loaders return such networks. Then only normalisation layers whose parameters all have
    ``requires_grad=False`` stay in eval mode.
    """
    named = {name: module for name, module in model.named_modules() if not module.training}
    if any(module.training for module in model.modules() if _is_trained(module)):
        return named
    return {name: module for name, module in named.items() if _is_frozen_norm(module)}


def _is_trained(module: nn.Module) -> bool:
    """Return True if the module itself, not a child, holds a trainable parameter."""
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))


def _is_frozen_norm(module: nn.Module) -> bool:
    """Return True for a layer with running statistics whose parameters exist and are all frozen."""
    wanted = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
    follows = isinstance(getattr(module, "running_mean", None), torch.Tensor)
    return follows and bool(wanted) and not any(wanted)


def log_frozen(frozen: Frozen) -> None:
    """Log the modules that stay in eval mode. Children of such modules are not listed."""
    parents = {name for name in frozen if name}
    outermost = [
        name or "the network's root"
        for name in frozen
        if not any(name.startswith(f"{parent}.") for parent in parents)
    ]
    if outermost:
        logger.info("these modules stay in eval mode while training: %s", listed(outermost))


def set_training(model: nn.Module, frozen: Iterable[nn.Module]) -> None:
    """Put a network in train mode, and the frozen modules back in eval mode."""
    model.train()
    for module in frozen:
        module.training = False


def _norms(model: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    norm = nn.modules.batchnorm._NormBase
    return [module for module in model.modules() if isinstance(module, norm)]


@contextmanager
def crafting_mode(model: nn.Module, mode: str, frozen: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Put a network in the state for crafting, without parameter gradients.

    Every flag is restored afterwards. A run holds its network by ``in_use``, so that no pass has to
    check this again.

    Args:
        model: the network.
        mode: mode of BatchNorm. ``"eval"`` uses the running statistics and does not change them.
            ``"train"`` uses the batch's statistics and updates the running ones. ``"batch"``
            uses the batch's statistics and updates nothing.
        frozen: modules that stay in eval mode in all three.
    """
    with eval_without_gradients(model, recurrent=mode == "eval"):
        if mode != "eval":
            set_training(model, frozen)
        tracked = [norm for norm in _norms(model) if mode == "batch" and norm.track_running_stats]
        try:
            for norm in tracked:
                norm.track_running_stats = False
            yield
        finally:
            for norm in tracked:
                norm.track_running_stats = True


@contextmanager
def settled_norms(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm use its running statistics without changing them."""
    training = [norm for norm in _norms(model) if norm.training]
    try:
        for norm in training:
            norm.eval()
        yield
    finally:
        for norm in training:
            norm.train()
