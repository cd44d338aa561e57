"""A labelled data set in memory, and its construction from raw arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from art_ext.core.identity import bytes_of
from art_ext.core.streams import fingerprint
from art_ext.data.samples import Samples


@dataclass(frozen=True, eq=False)
class Dataset(Samples):
    """N labelled inputs in memory.

    Attributes:
        name: name in reports.
        x: (N, *S) float32. Images are (N, C, H, W), in [0, 1] if they came as bytes.
        y: (N,) int64 class indices.
        class_names: one name per class, if they are known.
        latents: (N, d) float32, from which a generator made x, if they are known.

    Raises:
        ValueError: if the tensors have other types or shapes, or a label is negative or has no
            name.
    """

    name: str
    x: Tensor
    y: Tensor
    class_names: tuple[str, ...] | None = None
    latents: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.dtype != torch.float32 or self.x.ndim < 2:
            raise ValueError(
                f"x must be float32 of shape (N, *S), got {self.x.dtype} of shape"
                f" {tuple(self.x.shape)}"
            )
        if self.y.dtype != torch.int64 or self.y.shape != self.x.shape[:1]:
            raise ValueError(
                f"y must be int64 of shape ({len(self.x)},), one label for each row of x, "
                f"got {self.y.dtype} of shape {tuple(self.y.shape)}"
            )
        self.check_labels(self.y)
        z = self.latents
        if z is not None and (z.dtype != torch.float32 or z.shape[:-1] != self.y.shape):
            raise ValueError(
                f"latents must be float32 of shape ({len(self.x)}, d), one for each row of x, got"
                f" {z.dtype} of shape {tuple(z.shape)}"
            )

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> torch.Size:
        """Shape of a sample."""
        return self.x.shape[1:]

    @property
    def labels(self) -> Tensor:
        """(N,) int64 class indices."""
        return self.y

    @property
    def identity(self) -> str:
        """Digest of the fingerprints of the samples and of their labels, in order."""
        digest = hashlib.sha256()
        for name, tensor in (("ids", fingerprint(self.x)), ("y", self.y)):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(bytes_of(tensor))
        return digest.hexdigest()

    def in_memory(self) -> Dataset:
        """Return the data set itself."""
        return self

    def rows(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return views of the samples and labels from ``start`` to ``stop``."""
        return self.x[start:stop], self.y[start:stop]

    def take(self, index: Tensor | Sequence[int] | slice) -> Dataset:
        """Return the rows at the given positions, in that order, or the rows that a bool tensor
        selects. A slice gives views.

        Raises:
            IndexError: if a position lies outside the data set.
        """
        whole = isinstance(index, (Tensor, slice))
        rows = index if whole else torch.tensor(index, dtype=torch.int64)
        latents = None if self.latents is None else self.latents[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], latents=latents)


def dataset_from_arrays(
    name: str,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    class_names: tuple[str, ...] | None = None,
    latents: npt.NDArray[Any] | None = None,
) -> Dataset:
    """Convert raw arrays to a :class:`Dataset` (copied).

    Bytes (uint8) become float32 / 255, floats keep their values. (N, H, W) becomes (N, 1, H, W).
    Four axes with 1 or 3 channels last, and not 1 or 3 on the second axis, become channels first.
    Other shapes are kept.

    Args:
        name: name of the data set in reports.
        x: (N, *S), uint8 or floating.
        y: (N,) or (N, 1), any integer type: class indices.
        class_names: one name per class. A label beyond them raises an error.
        latents: (N, d) floating, from which a generator made x.

    Raises:
        ValueError: if there are no rows, another type or shape, values that are not finite, a
            number of labels other than N, or a label out of range.
    """
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(
            f"x of {name} must have shape (N, *S) with at least one row, got {x.shape}"
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(
            f"y of {name} must hold integer class indices, shape (N,), got {y.dtype} of shape"
            f" {y.shape}"
        )
    if len(x) != len(y):
        raise ValueError(
            f"{name} must have one label for each row, got {len(x)} rows and {len(y)} labels"
        )
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    labels = torch.from_numpy(y.astype(np.int64))
    z = None if latents is None else torch.from_numpy(latents.astype(np.float32))
    return Dataset(name, _as_float32(name, x), labels, class_names, z)


def _as_float32(name: str, x: npt.NDArray[Any]) -> Tensor:
    """Copy into a contiguous float32 tensor."""
    if x.dtype == np.uint8:
        # copied as bytes and divided in place: CIFAR-10's training images need 600 MB once, not
        # twice
        return torch.from_numpy(x.copy(order="C")).to(torch.float32).div_(255)
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(
            f"x of {name} must be uint8 (0 to 255) or floating (kept as it is), got {x.dtype}"
        )
    # values that do not fit float32 become infinite and raise an error below
    with np.errstate(over="ignore"):
        values = torch.from_numpy(x.astype(np.float32, order="C"))
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        row = int((~finite).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"x of {name} must be finite, got NaN or infinity, first in row {row}")
    return values
