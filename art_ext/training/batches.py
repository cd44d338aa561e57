"""Minibatches whose order depends on the seed and the epoch only.

The processes share each minibatch row by row. Accelerate's loaders would fill an uneven last batch
with rows of the first one, and so change the loss with the number of processes. Here each process
takes every P-th row of the same global batch. Data in memory are indexed, which costs less than a
loader's collation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from art_ext.core.checks import check_count
from art_ext.core.geometry import Box, ClipValues
from art_ext.core.identity import describe_samples
from art_ext.core.samples import check_classes
from art_ext.core.streams import fingerprint, global_streams_kept
from art_ext.training.environment import seed_streams
from art_ext.training.extra import ExtraRows


class Batch(NamedTuple):
    """One process' rows of a minibatch.

    Attributes:
        x: (r, *S) float32.
        y: (r,) int64 class indices.
        ids: (r,) int64 identities of the samples.
        rows: number of rows of the whole minibatch, over all processes.
        weights: (r,) weights of these rows in means. None: all are 1.
        weight: sum of the weights of the whole minibatch. None: the number of rows.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    rows: int
    weights: Tensor | None = None
    weight: float | None = None


class OrderedBatches:
    """Minibatches of N samples that can be read by their positions, in another order each epoch.

    Args:
        samples: N.
        batch_size: rows of a global batch. The last one of an epoch may be shorter.
        seed: seed of the order.
        drop_last: omit a last batch with fewer rows.
        extra: the last of the samples, which fill a share of each batch. An epoch is a pass over
            the others. None: there are no such samples.

    Raises:
        ValueError: if there is no sample, or every minibatch is omitted.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        seed: int,
        drop_last: bool = False,
        extra: ExtraRows | None = None,
    ) -> None:
        check_count("batch_size", batch_size)
        if not samples:
            raise ValueError("the training data must hold at least one sample, got none")
        self._samples = samples if extra is None else extra.first
        self._part = batch_size if extra is None else extra.others
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.extra = extra
        check_drop_last(self._samples, self._part, drop_last)

    def __len__(self) -> int:
        whole, rest = divmod(self._samples, self._part)
        return whole + (rest > 0 and not self.drop_last)

    def count(self, processes: int) -> int:
        """Return the number of batches of an epoch.

        A last batch with fewer rows than processes is omitted.

        Raises:
            ValueError: if the processes cannot share the batches.
        """
        if self.batch_size % processes:
            raise ValueError(
                f"batch_size must be a multiple of the {processes} processes, got {self.batch_size}"
            )
        if self._samples < processes:
            raise ValueError(
                f"each of the {processes} processes must have a sample, got {self._samples} samples"
            )
        last = self._samples - (len(self) - 1) * self._part  # more than a batch with drop_last
        return len(self) - (self._joined(last) < processes)

    def _joined(self, rows: int) -> int:
        """Return the rows of a batch, extra ones included."""
        return rows if self.extra is None else rows + self.extra.beside(rows)

    def sizes(self, processes: int) -> list[int]:
        """Return the rows of each batch of an epoch, over all processes."""
        count = self.count(processes)
        last = min(self._part, self._samples - (count - 1) * self._part)
        return [self.batch_size] * (count - 1) + [self._joined(last)]

    def samples(self) -> int:
        """Return the number of samples, extra ones included."""
        return self._samples + (0 if self.extra is None else self.extra.count)

    def order(self, epoch: int, skip: int, processes: int) -> Sequence[Tensor]:
        """Return the positions of the samples of an epoch's batches, from batch ``skip`` on."""
        order = torch.randperm(
            self._samples, generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        )
        parts = order.split(self._part)[skip : self.count(processes)]
        if self.extra is None or not parts:  # a run may resume after the last batch
            return parts
        rows = self.extra.rows
        before = (epoch * len(self) + skip) * rows
        drawn = self.extra.positions(self.seed, before, len(parts) * rows).split(rows)
        return [
            torch.cat([part, more[: self.extra.beside(len(part))]])
            for part, more in zip(parts, drawn, strict=True)
        ]

    def batch(self, x: Tensor, y: Tensor, own: Tensor, positions: Tensor) -> Batch:
        """Return one process' part of a batch, with its weights.

        Args:
            x: (r, *S) samples.
            y: (r,) their classes.
            own: (r,) their positions.
            positions: (R,) those of the whole batch.
        """
        if self.extra is None:
            return Batch(x, y, own, len(positions))
        weight = float(self.extra.weights(positions).sum())
        return Batch(x, y, own, len(positions), self.extra.weights(own), weight)


class TensorBatches(OrderedBatches):
    """Minibatches of data in memory, in another order each epoch.

    Args:
        x: (N, *S) float32, on any device.
        y: (N,) int64 class indices.
        batch_size, seed, drop_last, extra: as in ``OrderedBatches``.

    Attributes:
        largest_label: largest label of all samples.
        example: (r, *S) one or two samples.

    Raises:
        ValueError: if there is no sample, or the labels do not fit.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        batch_size: int,
        seed: int,
        drop_last: bool = False,
        extra: ExtraRows | None = None,
    ) -> None:
        super().__init__(len(x), batch_size, seed, drop_last, extra)
        if not x.is_floating_point():
            raise TypeError(
                f"x must be floating point, got {x.dtype}; for 8-bit images pass x.float() / 255"
            )
        check_classes("y", y, len(x))
        self.x = x.to(torch.float32)
        self.y = y.to(x.device, torch.int64)
        self.largest_label = int(y.max())
        self.example = self.x[:2]

    def describe(self) -> str:
        """Return the identity of the data for the record of a run."""
        return describe_samples(self.x, self.y)

    def epoch(self, epoch: int, skip: int, process: int, processes: int) -> Iterator[Batch]:
        """Yield one process' part of the batches of an epoch, from position ``skip`` on."""
        for batch in self.order(epoch, skip, processes):
            own = batch[process::processes]
            rows = own.to(self.x.device, non_blocking=True)
            yield self.batch(self.x[rows], self.y[rows], own, batch)

    def unaugmented(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield samples (r, *S) by lists of their positions, each (r,)."""
        for part in parts:
            yield self.x[part.to(self.x.device)]


def check_drop_last(samples: int, batch_size: int, drop_last: bool) -> None:
    """Raise ValueError if ``drop_last`` would omit every minibatch."""
    if drop_last and samples < batch_size:
        raise ValueError(
            f"drop_last omits every minibatch: batch_size must be at most {samples}, the number of "
            f"samples to train on, got {batch_size}"
        )


class LoaderBatches:
    """Minibatches of the caller's own iterable of (x, y), such as a ``DataLoader``.

    The iterable is iterated again in each epoch. Every process iterates over all of it and keeps
    its own rows. ``SharedLoaderBatches`` is for loaders whose items can be read one by one. torch's
    random stream is seeded before each batch. A loader that shuffles or augments by that stream
    then gives the same batches on every process and after a resume. A loader with a generator of
    its own, or one that draws from NumPy, does not. A sample's identity is a fingerprint of its
    bits.

    Args:
        loader: the iterable, on any device.
        clip_values: the box that must contain every minibatch.
        seed: seed of torch's random stream.

    Attributes:
        shape: shape of a sample.
        box: the box of ``clip_values``.
        largest_label: largest label so far.
        example: (r, *S) one or two samples.

    Raises:
        ValueError: if it has no length, is empty, or does not give pairs.
    """

    def __init__(self, loader: Iterable[Any], clip_values: ClipValues, seed: int) -> None:
        try:
            self.length = len(loader)  # type: ignore[arg-type]
        except TypeError as error:  # also of a DataLoader over a stream
            raise ValueError(
                "a loader must have a length, the batches of an epoch: wrap it in a list or a"
                f" DataLoader; got {type(loader).__name__}"
            ) from error
        if not self.length:
            raise ValueError("the loader must hold at least one batch, got none")
        self.loader = loader
        self.seed = seed
        self.largest_label = 0
        self._sizes: list[int] = []
        first = self._first()
        x, _ = self._pair(first, 0)
        self.shape = x.shape[1:]
        self.box = Box.of(clip_values, self.shape, x.device)
        self.example = self._admit(first, 0)[0][:2].clone()  # before anything is written

    def _first(self) -> object:
        """Return the first minibatch, or None."""
        # a loader that shuffles draws as soon as its iterator is made
        with global_streams_kept(torch.device("cpu")):
            return next(iter(self.loader), None)

    @staticmethod
    def _pair(batch: object, place: int) -> tuple[Tensor, Tensor]:
        """Return x and y of a minibatch."""
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise ValueError(
                f"a loader must give pairs (x, y), got {type(batch).__name__} in batch {place}"
            )
        x = batch[0]
        y = batch[1]
        if not isinstance(x, Tensor) or x.dim() < 2:
            given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x of batch {place} must be a tensor of shape (r, *S), got {given}")
        check_classes(f"y of batch {place}", y, len(x))
        return x, y

    def _admit(self, batch: object, place: int) -> tuple[Tensor, Tensor]:
        """Return x, inside the box, and y of a minibatch."""
        x, y = self._pair(batch, place)
        x = self.box.admit(x, f"x of batch {place}")
        self.largest_label = max(self.largest_label, int(y.max()) if len(y) else 0)
        return x, y.to(torch.int64)

    def describe(self) -> str:
        """Return a description of the data for the record of a run."""
        return f"a loader of {self.length} batches"

    def __len__(self) -> int:
        return self.length

    def count(self, processes: int) -> int:
        """Return the number of batches of an epoch."""
        return self.length

    def sizes(self, processes: int) -> list[int]:
        """Return the rows of each batch of an epoch, over all processes.

        Without a batch sampler, this takes one pass over the loader.
        """
        if not self._sizes:
            # with a DataLoader's sampler no sample has to be read
            sampler = getattr(self.loader, "batch_sampler", None)
            with global_streams_kept(torch.device("cpu")):
                self._seed(0, 0)
                batches = self.epoch(0, 0, 0, 1) if sampler is None else sampler
                self._sizes = [
                    batch.rows if isinstance(batch, Batch) else len(batch) for batch in batches
                ]
        return self._sizes

    def samples(self) -> int:
        """Return the number of samples of an epoch."""
        return sum(self.sizes(1))

    def epoch(self, epoch: int, skip: int, process: int, processes: int) -> Iterator[Batch]:
        """Yield one process' part of the batches of an epoch, from position ``skip`` on."""
        self._seed(epoch, 0)
        iterator = iter(self.loader)
        for place in range(self.length):
            if place:
                self._seed(epoch, place)
            batch = next(iterator, None)
            if batch is None:
                raise ValueError(
                    f"the loader promised {self.length} batches and gave {place} in epoch {epoch}"
                )
            if place < skip:
                continue
            x, y = self._admit(batch, place)
            self.check_rows(len(x), place, processes)
            own = x[process::processes]
            yield Batch(own, y[process::processes], fingerprint(own), len(x))

    def unaugmented(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """Raise ValueError, because a loader gives no samples by their positions."""
        raise ValueError("samples are read by their positions from tensors and datasets only")

    @staticmethod
    def check_rows(rows: int, place: int, processes: int) -> None:
        """Raise ValueError unless each process gets a row of a minibatch."""
        if rows < processes:
            raise ValueError(
                f"a batch must have a row for each of the {processes} processes, got {rows}"
                f" rows in batch {place}: drop it (drop_last=True)"
            )

    def _seed(self, epoch: int, place: int) -> None:
        """Seed torch's stream for a batch. Its key is below 0, those of weight updates are not."""
        seed_streams(self.seed, -1 - epoch * self.length - place, 0, torch.device("cpu"))
