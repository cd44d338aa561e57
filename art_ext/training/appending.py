"""Samples that are trained on beside the training data, and are never held out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from art_ext.core.geometry import Box
from art_ext.core.identity import describe_samples
from art_ext.core.samples import check_classes
from art_ext.data import LazyDataset
from art_ext.data.arrays import read_npz
from art_ext.data.dataset import dataset_from_arrays

More = tuple[Tensor, Tensor]


def appended(
    given: Any, shape: torch.Size, box: Box, classes: int | None = None, name: str = "append"
) -> More | None:
    """Return the samples to append, x (M, *S) in the box and y (M,) int64, on the box's device.

    Args:
        given: a pair (x, y) of tensors, names of ``.npz`` files, or None.
        shape: of a training sample.
        box: of a training sample.
        classes: number of classes of the network. None: not known yet.
        name: of the option, for messages.

    Raises:
        TypeError, ValueError: for anything else, another shape, a label that is no class, or
            samples outside the box. The message names the file.
    """
    if given is None:
        return None
    if isinstance(given, (tuple, list)) and any(isinstance(part, Tensor) for part in given):
        return _admitted(given, shape, box, classes, name)
    names = given if isinstance(given, (tuple, list)) else (None,)
    if not names or not all(isinstance(file, (str, os.PathLike)) for file in names):
        kinds = [type(one).__name__ for one in names] if names is given else type(given).__name__
        got = repr(given) if isinstance(given, str) else kinds
        raise ValueError(f"{name} must be a pair of tensors (x, y) or a list of files, got {got}")
    parts = [_admitted(read_file(file, name), shape, box, classes, str(file)) for file in names]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def read_file(place: str | os.PathLike[str], name: str = "append") -> More:
    """Read the samples of an ``.npz`` file: x_train and y_train, x and y, or images and labels.

    Raises:
        ValueError: if there is no such file, it is damaged, or it holds no such pair.
    """
    file = Path(place)
    if file.suffix != ".npz" or not file.is_file():
        raise ValueError(f"{name} must name an existing .npz file, got {str(place)!r}")
    data = dataset_from_arrays(str(place), *read_npz(file, "append"))
    return data.x, data.y


def _admitted(
    given: Sequence[Any], shape: torch.Size, box: Box, classes: int | None, name: str
) -> More:
    """Check samples, and move them to the device of the box."""
    if len(given) != 2 or not isinstance(given[0], Tensor):
        raise ValueError(f"{name} must be a pair of tensors (x, y), got {len(given)} values")
    x, y = given
    if not x.numel():
        raise ValueError(f"{name} must hold at least one sample, got none")
    if x.shape[1:] != shape:
        raise ValueError(
            f"{name} must hold samples of shape {tuple(shape)}, as the training data, got x of"
            f" shape {tuple(x.shape)}"
        )
    check_classes(f"y of {name}", y, len(x))
    if classes is not None and int(y.max()) >= classes:
        raise ValueError(
            f"labels of {name} must be below {classes}, the model's outputs, got {int(y.max())}"
        )
    device = box.lower.device
    return box.admit(x.to(device), f"x of {name}"), y.to(device, torch.int64)


class Joined(LazyDataset):
    """A data set that is read when it is needed, followed by samples in memory.

    Args:
        first: the data set.
        more: the samples, x (M, *S) and y (M,).
    """

    def __init__(self, first: LazyDataset, more: More) -> None:
        self.first_part = first
        self.more = more
        super().__init__(
            first.name,
            first.items,
            first.class_names,
            workers=first.workers,
            note=first.note,
            index=torch.arange(len(first) + len(more[0])),
        )

    @property
    def labels(self) -> Tensor | None:
        """(N + M,) int64 class indices, or None if samples have to be read to know them."""
        known = self.first_part.labels
        return None if known is None else torch.cat([known, self.more[1]])

    @property
    def identity(self) -> str:
        """Digest of the data set, and the description of the samples in memory."""
        return f"{self.first_part.identity} {describe_samples(*self.more)}"

    def read(self, row: int) -> tuple[Tensor, int]:
        """Read one sample."""
        beyond = row - len(self.first_part)
        if beyond < 0:
            return self.first_part.read(row)
        return self.more[0][beyond], int(self.more[1][beyond])
