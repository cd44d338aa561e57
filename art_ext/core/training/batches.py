"""Minibatches whose order depends on the seed and the epoch alone, shared out among the processes row by row.

Accelerate's loaders would fill an uneven last batch with rows of the first one, and so change the loss with the number
of processes. Here each process takes every P-th row of the same global batch; data in memory are cut by index, which
costs less than any loader's collation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Any, NamedTuple

import torch
from torch import Tensor

from art_ext.core.checks import check_count
from art_ext.core.problem import check_classes
from art_ext.core.streams import fingerprint


class Batch(NamedTuple):
    """What one process sees of a minibatch.

    Attributes:
        x: (r, *S) float32.
        y: (r,) int64 class indices.
        ids: (r,) int64 identities of the samples.
        rows: of the whole minibatch, over all processes.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    rows: int


class TensorBatches:
    """Minibatches of data in memory, in another order each epoch.

    Args:
        x: (N, *S) float32, on any device.
        y: (N,) int64 class indices.
        batch_size: rows of a global batch; the last one of an epoch may be shorter.
        seed: of the order.

    Raises:
        ValueError: if there is no sample, or labels do not fit.
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, seed: int) -> None:
        check_count("batch_size", batch_size)
        if not len(x):
            raise ValueError("the training data must hold at least one sample, got none")
        if not x.is_floating_point():
            raise TypeError(f"x must be floating point, got {x.dtype}; for 8-bit images pass x.float() / 255")
        check_classes("y", y, len(x))
        self.x, self.y, self.batch_size, self.seed = x.to(torch.float32), y.to(torch.int64), batch_size, seed

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def epoch(self, epoch: int, skip: int, process: int, processes: int) -> Iterator[Batch]:
        """The batches of an epoch from the one at position ``skip`` on, as one of the processes sees them."""
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))
        for batch in order.split(self.batch_size)[skip:]:
            own = batch[process::processes]
            rows = own.to(self.x.device)
            yield Batch(self.x[rows], self.y[rows], own, len(batch))


class LoaderBatches:
    """Minibatches of the caller's own iterable of (x, y), such as a ``DataLoader``; iterated anew in each epoch.

    Every process iterates over all of it and keeps its own rows. The loop seeds torch's random stream before each
    epoch, so that a shuffling loader repeats its order when a run is resumed. A sample's identity is a fingerprint of
    its bits.

    Raises:
        ValueError: if it has no length, or is empty.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        if not isinstance(loader, Sized):
            raise ValueError("a loader must have a length, the batches of an epoch: wrap it in a list or a DataLoader")
        if not len(loader):
            raise ValueError("the loader must hold at least one batch, got none")
        self.loader = loader
        self.length = len(loader)

    def __len__(self) -> int:
        return self.length

    def epoch(self, epoch: int, skip: int, process: int, processes: int) -> Iterator[Batch]:
        """The batches of an epoch from the one at position ``skip`` on, as one of the processes sees them."""
        count = 0
        for place, batch in enumerate(self.loader):
            count = place + 1
            if place < skip:
                continue
            if not isinstance(batch, (tuple, list)) or len(batch) < 2:
                raise ValueError(f"a loader must give pairs (x, y), got {type(batch).__name__} in batch {place}")
            x, y = batch[0], batch[1]
            check_classes(f"y of batch {place}", y, len(x))
            if not x.is_floating_point():
                raise TypeError(f"x must be floating point, got {x.dtype} in batch {place}")
            own = x[process::processes].to(torch.float32)
            yield Batch(own, y[process::processes].to(torch.int64), fingerprint(own), len(x))
        if count < self.length:
            raise ValueError(f"the loader promised {self.length} batches and gave {count} in epoch {epoch}")


Batches = TensorBatches | LoaderBatches
