"""Trials of a copy of the network in train mode, before the first weight update."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.core.calling import ModelCall
from art_ext.core.networks import model_device
from art_ext.core.outputs import read_outputs
from art_ext.training.heads import Head
from art_ext.training.modes import set_training


def output_width(model: nn.Module, rows: Tensor) -> int:
    """Return the number of outputs d of a network for rows (r, *S), in eval mode.

    Raises:
        ValueError: if the network fails on the rows, or returns no features (r, d).
    """
    features = raw_output(model, rows)
    if not isinstance(features, Tensor) or features.dim() != 2 or len(features) != len(rows):
        shape = getattr(features, "shape", type(features).__name__)
        raise ValueError(
            f"the model must return features of shape ({len(rows)}, d) for {len(rows)} rows, got"
            f" {tuple(shape) if isinstance(features, Tensor) else shape}"
        )
    return features.shape[1]


def raw_output(model: nn.Module, rows: Tensor, name: str = "model") -> Any:
    """Return the output of a network for rows (r, *S), in eval mode and without a graph.

    A copy of the network is tried, so that its hooks count no row.

    Args:
        model, rows: the network and its inputs.
        name: of the network in the message.

    Raises:
        ValueError: if the network fails on the rows.
    """
    try:
        with trial_copy(model, ()) as network, torch.no_grad():
            return ModelCall(network.eval())(_placed(rows, model))
    except Exception as error:  # layers may raise anything for inputs that do not fit
        raise ValueError(
            f"the {name} fails on inputs of shape {tuple(rows.shape)}: {type(error).__name__}:"
            f" {error}"
        ) from error


def returns_nan(model: nn.Module, rows: Tensor) -> bool:
    """Return True if the class scores of a network for rows (r, *S), in eval mode, give no loss."""
    scores = read_outputs(raw_output(model, rows), len(rows), "logits")
    return bool(scores.float().log_softmax(dim=1).isnan().any())


def check_one_row(
    model: nn.Module,
    row: Tensor,
    *,
    samples: int,
    batch_size: int,
    drop_last: bool,
    processes: int,
    frozen: Iterable[str],
) -> None:
    """Raise ValueError if a minibatch of one row would make the network fail.

    BatchNorm fails on a single row of features in train mode. Nothing is tried if every process
    gets two rows of each minibatch.

    Args:
        model: the network, which is not changed.
        row: (1, *S) one of the samples.
        samples: N, the number of samples to train on.
        batch_size, drop_last: of the run.
        processes: number of processes that share a minibatch.
        frozen: names of the modules that stay in eval mode.
    """
    last = (samples - 1) % batch_size + 1
    shared = f" shared by {processes} processes" if processes > 1 else ""
    if min(batch_size, samples) // processes == 1:
        check_failure_on_one_row(
            model, row, frozen, f"pass a larger batch_size than {batch_size}{shared}"
        )
    elif last // processes == 1 and not drop_last:
        check_failure_on_one_row(
            model,
            row,
            frozen,
            f"pass drop_last=True, which leaves out the last minibatch ({last} of {samples} "
            f"samples{shared}), or another batch_size",
        )


def check_failure_on_one_row(
    model: nn.Module, row: Tensor, frozen: Iterable[str], remedy: str
) -> None:
    """Raise ValueError with the remedy if the network fails on one row, but not on two."""
    error = _failure(model, row, frozen)
    if error is not None and _failure(model, torch.cat([row, row]), frozen) is None:
        said = " ".join(str(error).split())
        raise ValueError(
            f"in training mode the model fails on a minibatch of one row ({type(error).__name__}: "
            f"{said}): {remedy}"
        ) from error


def _failure(model: nn.Module, rows: Tensor, frozen: Iterable[str]) -> Exception | None:
    """Return the error of a training forward of rows (r, *S), or None."""
    with trial_copy(model, frozen) as network, torch.no_grad():
        try:
            ModelCall(network)(_placed(rows, model))
        except Exception as error:
            return error
    return None


def _placed(rows: Tensor, model: nn.Module) -> Tensor:
    return rows.to(model_device(model, None, rows.device))


def unused_parameters(
    model: nn.Module, rows: Tensor, frozen: Iterable[str], head: Head
) -> list[str]:
    """List the trainable parameters that get no gradient from the class scores in train mode.

    The list is empty if the network fails on the rows (r, *S). The run itself reports that.
    """
    with trial_copy(model, frozen) as network, torch.enable_grad():
        named = {
            name: parameter
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        }
        try:
            outputs = ModelCall(head.export(network))(_placed(rows, model)).float().sum()
            found = torch.autograd.grad(outputs, list(named.values()), allow_unused=True)
        except Exception:
            return []
    return [name for name, gradient in zip(named, found, strict=True) if gradient is None]


@contextmanager
def trial_copy(model: nn.Module, frozen: Iterable[str]) -> Iterator[nn.Module]:
    """Yield a copy of a network in train mode, whose statistics, hooks and attributes may change.

    A network that cannot be copied is used itself. Its modes and buffers are restored.
    """
    try:
        network = copy.deepcopy(model)
    except Exception:  # a hook or an attribute that cannot be copied
        network = model
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    known = dict(network.named_modules())
    try:
        set_training(network, [known[name] for name in frozen])
        yield network
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
