"""Conversion of ART's arrays and data generators to tensors and minibatches of the core."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from art.data_generators import DataGenerator, NumpyDataGenerator, PyTorchDataGenerator
from torch import Tensor

from art_ext.attacks.shell import as_tensor, class_indices


def as_samples(x: Any, y: Any, nb_classes: int, name: str = "y") -> tuple[Tensor, Tensor]:
    """Convert inputs (n, *S) and labels to tensors (n, *S) and (n,).

    Labels are indices (n,) or (n, 1), or one-hot (n, nb_classes).

    Raises:
        ValueError: for labels of another shape, or that are not classes of the classifier.
    """
    inputs = x.detach() if isinstance(x, Tensor) else as_tensor(x)
    if not inputs.is_floating_point():
        inputs = inputs.to(torch.float32)
    labels = class_indices(y.cpu() if isinstance(y, Tensor) else y, len(inputs), nb_classes)
    if labels is None:
        raise ValueError(f"{name} must hold the labels of x, got None")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < nb_classes:
        raise ValueError(
            f"{name} must hold class indices in [0, {nb_classes}), got {int(labels.min())} to"
            f" {int(labels.max())}"
        )
    return inputs, labels


class Minibatches:
    """Minibatches of ART's data generators, or of any iterable with a length, for the core's loop.

    ``NumpyDataGenerator`` and ``PyTorchDataGenerator`` are iterated again in each epoch, so that a
    resumed run gets the same minibatches. From other generators ``ceil(size / batch_size)`` batches
    are drawn for an epoch, as ART does, from their current position on.

    Args:
        source: a generator, or an iterable of (x, y) with a length.
        nb_classes: number of classes of the classifier.

    Raises:
        ValueError: if it has no length.
    """

    def __init__(self, source: DataGenerator | Iterable[Any], nb_classes: int) -> None:
        self.nb_classes = nb_classes
        self.source: Any = source
        if isinstance(source, PyTorchDataGenerator):
            self.source = source.iterator
        self.draws = isinstance(self.source, DataGenerator) and not isinstance(
            source, NumpyDataGenerator
        )
        self.ahead: Any = None
        self.peeked = False
        if isinstance(source, NumpyDataGenerator):
            self.length = source.batches_per_epoch
        elif self.draws:
            if self.source.size is None:
                raise ValueError(
                    "the data generator must know its size, got None: an epoch would have no end"
                )
            self.length = -(-self.source.size // self.source.batch_size)
        else:
            try:
                self.length = len(self.source)
            except TypeError as error:  # also of a DataLoader over a stream
                raise ValueError(
                    "generator must be a DataGenerator or have a length, got"
                    f" {type(source).__name__}"
                ) from error

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        # the loop has just seeded torch with the seed and the epoch, and numpy gets that seed too
        _seed(torch.initial_seed())
        peek = not self.peeked
        self.peeked = True
        batches = self._drawn(peek) if self.draws else iter(self.source)
        for place, batch in zip(range(self.length), batches, strict=False):
            if not isinstance(batch, (tuple, list)) or len(batch) < 2:
                raise ValueError(
                    f"generator must give pairs (x, y), got {type(batch).__name__} in batch {place}"
                )
            yield as_samples(batch[0], batch[1], self.nb_classes, f"y of batch {place}")

    def _drawn(self, peek: bool) -> Iterator[Any]:
        """Yield the batches of ``get_batch``.

        The first batch that the loop reads before it starts is kept and given again.
        """
        while True:
            batch = self.source.get_batch() if self.ahead is None else self.ahead
            self.ahead = batch if peek else None
            yield batch


@contextmanager
def own_numpy_streams(seed: int) -> Iterator[None]:
    """Seed the global streams of numpy and Python, and restore them afterwards.

    Generators and defences draw from them.
    """
    kept = np.random.get_state(), random.getstate()  # noqa: NPY002  # ART draws from the global one
    try:
        _seed(seed)
        yield
    finally:
        np.random.set_state(kept[0])  # noqa: NPY002
        random.setstate(kept[1])


def _seed(seed: int) -> None:
    np.random.seed(seed % (1 << 32))  # noqa: NPY002
    random.seed(seed)
