"""The interface of every data set, in memory or read from a source when it is needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

_Own = TypeVar("_Own", bound="Samples")


class Samples(ABC):
    """N labelled inputs.

    Attributes:
        name: name in reports.
        class_names: one name per class, if they are known.
        first_of: number of samples of the data set whose first ones these are, if not all.
    """

    name: str
    class_names: tuple[str, ...] | None
    first_of: int | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Return N."""

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """Shape of a sample."""

    @property
    @abstractmethod
    def labels(self) -> Tensor | None:
        """(N,) int64 class indices, or None if samples have to be read to know them."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Digest by which a run recognises its data."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return x (R, *S) float32 and y (R,) int64 of the samples from ``start`` to ``stop``."""

    @abstractmethod
    def take(self: _Own, index: Tensor | Sequence[int] | slice) -> _Own:
        """Return the samples at the given positions, in that order."""

    def first(self: _Own, n: int | None) -> _Own:
        """Return the first n samples, or all of them if n is None or larger than the data set.

        Raises:
            ValueError: if n < 1.
        """
        if n is None:
            return self
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        found = self.take(slice(n))
        if len(found) < len(self):
            object.__setattr__(found, "first_of", self.first_of or len(self))  # also of frozen ones
        return found

    def check_labels(self, y: Tensor) -> None:
        """Raise ValueError unless every label is a class index.

        Raises:
            ValueError: for a negative label, or one without a name.
        """
        classes = None if self.class_names is None else len(self.class_names)
        if len(y) and (y.min() < 0 or (classes is not None and y.max() >= classes)):
            wanted = "at least 0" if classes is None else f"0 to {classes - 1}"
            raise ValueError(
                f"labels of {self.name} must be {wanted}, got {int(y.min())} to {int(y.max())}"
            )
