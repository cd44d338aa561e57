"""A labelled data set whose samples are read when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from art_ext.core.checks import check_count
from art_ext.core.identity import bytes_of
from art_ext.data.dataset import Dataset
from art_ext.data.images import to_tensor
from art_ext.data.samples import Samples
from art_ext.data.streams import streams_put_back
from art_ext.data.transform import Transform
from art_ext.errors import UserCodeError, describe, is_plain

PROBED = 8  # samples that are read twice to find a source that draws at random


class Items(Protocol):
    """Source of the samples of a ``LazyDataset``.

    Attributes:
        labels: (N,) int64 class index of each item, or None if items have to be read to know them.
        colour: True to give grey images three channels. None: as the first item.
    """

    labels: Tensor | None
    colour: bool | None

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitem__(self, place: int) -> tuple[Any, int]:
        """Return an image or array, see ``to_tensor``, and its class index."""

    def describe(self, places: Sequence[int]) -> str:
        """Return a text that differs where the items at these places are others."""


class LazyDataset(Samples):
    """N labelled inputs that are read when they are needed. Nothing is kept.

    Args:
        name: name in reports.
        items: source of the samples.
        class_names: one name per class, if they are known.
        transform: resizes and crops images.
        workers: number of processes that read ahead in an evaluation. 0 reads in its process.
        index: (N,) places of the samples in the source. None: all, in its order.
        note: what a user should know of how the data were read, in one line.

    Raises:
        ValueError: if there is no sample, the first cannot be read, or a known label has no name.
    """

    def __init__(
        self,
        name: str,
        items: Items,
        class_names: tuple[str, ...] | None = None,
        *,
        transform: Transform | None = None,
        workers: int = 0,
        index: Tensor | None = None,
        note: str = "",
    ) -> None:
        check_count("workers", workers, least=0)
        self.name = name
        self.items = items
        self.class_names = class_names
        self.transform = transform
        self.workers = workers
        self.note = note
        self.index = torch.arange(len(items)) if index is None else index
        if not len(self.index):
            raise ValueError(f"{name} must hold at least one sample, got none")
        self._shape: torch.Size | None = None
        self._colour = bool(items.colour)
        with streams_put_back():  # a source that augments draws from them
            first = self.read(0)[0]
        self._colour = len(first) == 3 if items.colour is None else items.colour
        self._shape = first.shape
        if self.labels is not None:
            self.check_labels(self.labels)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> torch.Size:
        """Shape of a sample, that of the first."""
        return self._shape or torch.Size()

    @property
    def labels(self) -> Tensor | None:
        """(N,) int64 class indices, or None if samples have to be read to know them."""
        return None if self.items.labels is None else self.items.labels[self.index]

    @property
    def identity(self) -> str:
        """Digest of name, length, known labels, transform, and what the source says of its items.

        No sample is read. Files of equal names and sizes are taken for equal ones.
        """
        digest = hashlib.sha256(f"{self.name} {len(self)} {self.transform or 'none'}\n".encode())
        if self.labels is not None:
            digest.update(bytes_of(self.labels))
        digest.update(self.items.describe(self.index.tolist()).encode())
        return digest.hexdigest()

    @property
    def x(self) -> Tensor:
        """(N, *S) all samples, read again each time. For data that fit in memory."""
        return self.rows(0, len(self))[0]

    @property
    def y(self) -> Tensor:
        """(N,) all labels. Samples are read if their labels are not known."""
        return self.rows(0, len(self))[1] if self.labels is None else self.labels

    def take(self, index: Tensor | Sequence[int] | slice) -> LazyDataset:
        """Return the samples at the given positions, in that order, or those that a bool tensor
        selects.

        Raises:
            IndexError: if a position lies outside the data set.
        """
        whole = isinstance(index, (Tensor, slice))
        rows = index if whole else torch.tensor(index, dtype=torch.int64)
        return self.with_(index=self.index[rows])

    def with_(self, **changed: Any) -> LazyDataset:
        """Return the same data with other arguments of the constructor."""
        names = ("name", "items", "class_names", "transform", "workers", "index", "note")
        return LazyDataset(**{**{name: getattr(self, name) for name in names}, **changed})

    def rows(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Read the samples from ``start`` to ``stop``.

        Raises:
            ValueError: if a sample cannot be read or has another shape than the first.
        """
        places = range(len(self))[start:stop]
        return stacked(self, map(self.read, places), len(places))

    def read(self, row: int) -> tuple[Tensor, int]:
        """Read one sample.

        Raises:
            ValueError: if it cannot be read or has another shape than the first.
        """
        try:
            value, label = self.items[int(self.index[row])]
            x = to_tensor(value, self.transform, self._colour)
        except Exception as error:  # the source is the user's
            if is_plain(error) and not isinstance(error, ValueError):
                raise
            if is_plain(error):
                raise ValueError(f"sample {row} of {self.name}: {describe(error)}") from error
            raise UserCodeError(
                f"sample {row} of {self.name} cannot be read: {describe(error)}"
            ) from error
        if self._shape is not None and x.shape != self._shape:
            raise ValueError(
                f"sample {row} of {self.name} must have the shape {tuple(self._shape)} of the"
                f" first, got {tuple(x.shape)}: give resize and crop (--resize 256 --crop 224)"
            )
        return x, label

    def in_memory(self) -> Dataset:
        """Read everything."""
        return Dataset(self.name, *self.rows(0, len(self)), self.class_names)


def stacked(
    data: LazyDataset, samples: Iterable[tuple[Tensor, int]], count: int
) -> tuple[Tensor, Tensor]:
    """Stack so many samples, as ``data.read`` returns them, to x (R, *S) and y (R,)."""
    x = torch.empty(count, *data.shape)
    y = torch.empty(count, dtype=torch.int64)
    for row, (sample, label) in enumerate(samples):
        x[row] = sample
        y[row] = label
    data.check_labels(y)
    return x, y


def check_repeatable(data: Samples) -> None:
    """Raise ValueError if the first samples differ when they are read twice.

    Raises:
        ValueError: naming the first such sample.
    """
    few = min(PROBED, len(data))
    once, labels = data.rows(0, few)
    again, other_labels = data.rows(0, few)
    differs = ((once != again).flatten(1).any(dim=1) | (labels != other_labels)).nonzero()
    if len(differs):
        raise ValueError(
            f"sample {int(differs[0])} of {data.name} differs when it is read twice: an evaluation"
            " needs data without random augmentation"
        )
