"""Minibatches of a data set that is read when it is needed. Each process reads its own rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from art_ext.core.geometry import Box, ClipValues
from art_ext.core.samples import check_classes
from art_ext.data import LazyDataset
from art_ext.data.lazy import stacked
from art_ext.data.streams import seeded_streams
from art_ext.training.batches import Batch, LoaderBatches, OrderedBatches, TensorBatches
from art_ext.training.environment import stream_key
from art_ext.training.extra import ExtraRows

BEFORE = -1  # the epoch of samples as they are before the first one


class DatasetBatches(OrderedBatches):
    """Minibatches of a data set, in another order each epoch.

    Order and identities of the samples are those of ``TensorBatches``, so that a data set of
    tensors gives the same weights. The random streams of torch, NumPy and Python are seeded before
    each sample by seed, epoch and index, and put back after it. A data set that augments by them
    gives the same samples for any number of processes and workers, and after a resume.

    Args:
        data: the data set. Its ``workers`` read ahead, and stay from epoch to epoch.
        indices: (N,) positions in the data set to train on.
        clip_values: the box that must contain every sample.
        batch_size, seed, drop_last, extra: as in ``OrderedBatches``.
        pin: True to put minibatches into pinned memory, for a GPU.

    Attributes:
        box: the box of a sample.
        largest_label: largest label so far.
        example: (r, *S) one or two samples.

    Raises:
        ValueError: if there is no sample, or the first two do not fit.
    """

    def __init__(
        self,
        data: LazyDataset,
        indices: Tensor,
        clip_values: ClipValues,
        batch_size: int,
        seed: int,
        drop_last: bool = False,
        pin: bool = False,
        extra: ExtraRows | None = None,
    ) -> None:
        super().__init__(len(indices), batch_size, seed, drop_last, extra)
        self.data = data
        self.indices = indices
        self.largest_label = 0
        self.box = Box.of(clip_values, data.shape, torch.device("cpu"))
        self._plan = _Plan()
        source = _Keyed(data, seed)
        self._loader: DataLoader[Any] = DataLoader(
            source,
            batch_sampler=self._plan,
            num_workers=data.workers,
            persistent_workers=data.workers > 0,
            collate_fn=source.stacked,
            pin_memory=pin,
            # the seed of the workers, which would be drawn from torch's stream
            generator=torch.Generator().manual_seed(seed),
        )
        first = source.stacked([source[BEFORE, index] for index in indices[:2].tolist()])
        if isinstance(first, Exception):
            raise first
        self.example = self._admit(*first, "the first samples")[0]

    def describe(self) -> str:
        """Return the identity of the data for the record of a run."""
        return f"a dataset of {self.samples()} samples, {self.data.identity[:16]}"

    def _admit(self, x: Tensor, y: Tensor, place: str) -> tuple[Tensor, Tensor]:
        """Return x, inside the box, and y of a minibatch."""
        check_classes(f"y of {place}", y, len(x))
        x = self.box.admit(x, f"x of {place}")
        self.largest_label = max(self.largest_label, int(y.max()) if len(y) else 0)
        return x, y

    def epoch(self, epoch: int, skip: int, process: int, processes: int) -> Iterator[Batch]:
        """Yield one process' part of the batches of an epoch, from position ``skip`` on."""
        batches = self.order(epoch, skip, processes)
        own = [batch[process::processes] for batch in batches]
        parts = self.read([self.indices[rows] for rows in own], epoch)
        for place, part in enumerate(parts):
            x, y = self._admit(*part, f"batch {skip + place}")
            yield self.batch(x, y, own[place], batches[place])

    def unaugmented(self, parts: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield samples (r, *S) as they are before the first epoch, by lists of their positions.

        A data set that draws nothing at random gives them as they are in any epoch.
        """
        for x, y in self.read([self.indices[part] for part in parts], BEFORE):
            yield self._admit(x, y, "the samples to label")[0]

    def read(self, parts: Sequence[Tensor], epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield samples (r, *S) and labels (r,) as they are in an epoch.

        Args:
            parts: positions in the data set, each (r,).
            epoch: number of the epoch, or ``BEFORE``.
        """
        self._plan.batches = [[(epoch, index) for index in part.tolist()] for part in parts]
        for part in self._loader:
            if isinstance(part, Exception):
                raise part
            yield part[0], part[1]


class _Plan:
    """The minibatches of the next epoch: lists of epoch and index."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Keyed(Dataset[Any]):
    """A data set whose random draws depend on seed, epoch and index.

    Errors are returned, since a loader would add the traceback of its worker to their messages.
    """

    def __init__(self, data: LazyDataset, seed: int) -> None:
        self.data = data
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int] | Exception:
        epoch, index = key
        # keys of samples are below 0, those of weight updates are not
        place = -1 - (epoch + 1) * len(self.data) - index
        try:
            with seeded_streams(stream_key(self.seed, place)):
                return self.data.read(index)
        except Exception as error:
            return error

    def stacked(self, samples: list[Any]) -> tuple[Tensor, Tensor] | Exception:
        """Stack the samples of a minibatch, or return the first error."""
        failed = next((one for one in samples if isinstance(one, Exception)), None)
        if failed is not None:
            return failed
        try:
            return stacked(self.data, samples, len(samples))
        except ValueError as error:
            return error


Batches = TensorBatches | LoaderBatches | DatasetBatches
