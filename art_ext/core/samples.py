"""Checks of the samples, labels and identities that a caller passes."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from art_ext.core.geometry import Box
from art_ext.core.oracle import LabelOracle
from art_ext.core.outputs import as_tensor

logger = logging.getLogger("art_ext")


def with_tensors(given: Any) -> Any:
    """Return a pair (x, y) of NumPy arrays as tensors, and anything else as it is."""
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        return given
    parts = [as_tensor(part) for part in given]
    return given if any(part is None for part in parts) else tuple(parts)


def check_samples(x: Tensor) -> None:
    """Raise an error unless x is a batch of samples.

    Raises:
        TypeError: if x is no tensor.
        ValueError: if it has no axis of features.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch tensor, got {type(x).__name__}")
    if x.dim() < 2:
        raise ValueError(f"x must have shape (samples, *features), got {tuple(x.shape)}")


def check_classes(name: str, labels: Tensor | None, count: int) -> None:
    """Raise ValueError unless labels hold one class index per sample.

    Raises:
        ValueError: for a wrong type, shape or a negative index.
    """
    if labels is None:
        return
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"{name} must be a tensor of integer class indices, got {kind}")
    if labels.shape != (count,):
        raise ValueError(
            f"{name} must have shape ({count},), one class per sample of x, got"
            f" {tuple(labels.shape)}"
        )
    if count and int(labels.to(torch.int64).min()) < 0:
        raise ValueError(
            f"{name} must hold class indices >= 0, got {int(labels.to(torch.int64).min())}"
        )


def check_ids(sample_ids: Tensor | None, count: int) -> None:
    """Raise ValueError unless the identities are one integer per sample.

    Raises:
        ValueError: naming the shape and type that were given.
    """
    if sample_ids is not None and (sample_ids.shape != (count,) or sample_ids.dtype != torch.int64):
        given = f"{tuple(sample_ids.shape)} of {sample_ids.dtype}"
        raise ValueError(
            f"sample_ids must have shape ({count},) of torch.int64, one identity per sample, got"
            f" {given}"
        )


def check_width(name: str, labels: Tensor, oracle: LabelOracle) -> None:
    """Raise ValueError unless the model, once it has answered, has a column for each index.

    Raises:
        ValueError: naming the largest label and the model's width.
    """
    width = oracle.num_classes
    if width is not None and len(labels) and int(labels.max()) >= width:
        raise ValueError(
            f"{name} must hold class indices below {width}, the model's width, got"
            f" {int(labels.max())}"
        )


def warn_if_reached(reached: Tensor) -> None:
    """Warn if most clean inputs reach their targets: they may be the true labels."""
    if len(reached) and 2 * int(reached.sum()) > len(reached):
        logger.warning(
            "most targets are what the model predicts already: are they the true labels by mistake?"
        )


def reaches_goal(labels: Tensor, goal: Tensor, targeted: bool) -> Tensor:
    """(R,) bool, True where predicted labels (R,) reach their goals (R,) or, untargeted, leave
    them. A row of NaN (-1) never does.
    """
    return labels == goal if targeted else (labels != goal) & (labels >= 0)


def admit(oracle: LabelOracle, x: Tensor) -> tuple[Tensor, Box]:
    """Check, cast and clamp samples, and send them to the oracle's device. Returns their box too.

    Raises:
        TypeError, ValueError: for anything that is not finite float samples in the box.
    """
    check_samples(x)
    x = x.detach().to(oracle.device)
    box = Box.of(oracle.clip_values, x.shape[1:], oracle.device)
    return box.admit(x), box


def admit_start(box: Box, x_init: Tensor, x: Tensor) -> Tensor:
    """Check, cast and clamp starting points ``x_init``, and send them to the device of x.

    Raises:
        TypeError, ValueError: for anything but finite float samples of x's shape in the box.
    """
    if not isinstance(x_init, Tensor) or x_init.shape != x.shape:
        shape = getattr(x_init, "shape", type(x_init).__name__)
        raise ValueError(f"x_init must be a tensor of x's shape {tuple(x.shape)}, got {shape}")
    return box.admit(x_init.to(x.device), "x_init")
