"""Minibatches of a map-style dataset, of which each process reads its own rows only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from art_ext.core.checks import check_count
from art_ext.core.geometry import Box, ClipValues
from art_ext.core.samples import check_classes
from art_ext.training.batches import (
    Batch,
    LoaderBatches,
    OrderedBatches,
    TensorBatches,
    check_drop_last,
)
from art_ext.training.environment import own_random_streams, seed_streams


@dataclass(frozen=True, eq=False)
class MapDataset:
    """A map-style dataset to train on, and the worker processes that read it.

    Attributes:
        dataset: an object with ``__len__``, whose ``[i]`` is a pair of a tensor (*S) in the box and
            a class index.
        workers: number of processes that read samples for each training process. 0 reads them in
            the training process.
    """

    dataset: Any
    workers: int = 0

    def __post_init__(self) -> None:
        check_count("workers", self.workers, least=0)
        for name in ("__len__", "__getitem__"):
            if not hasattr(self.dataset, name):
                raise ValueError(
                    f"a map-style dataset must have __len__ and __getitem__, got"
                    f" {type(self.dataset).__name__}"
                )

    @staticmethod
    def of(data: object) -> MapDataset | None:
        """Return data as a map-style dataset, or None if they are something else."""
        if isinstance(data, MapDataset):
            return data
        is_map = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
        return MapDataset(data) if is_map else None

    def read(self, indices: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return samples (n, *S) and labels (n,) as they are before the first epoch."""
        keyed = _Keyed(self.dataset, seed, -1)
        with own_random_streams(torch.device("cpu")):
            return _collate([keyed[int(index)] for index in indices])


class DatasetBatches(OrderedBatches):
    """Minibatches of a map-style dataset, in another order each epoch.

    Order and identities of the samples are those of ``TensorBatches``, so that a dataset of tensors
    gives the same weights. torch's random stream is seeded before each sample by seed, epoch and
    index. A dataset that augments by that stream gives the same samples for any number of
    processes and workers, and after a resume. One that draws from NumPy does not.

    Args:
        source: the dataset and its workers.
        indices: (N,) positions in the dataset to train on.
        clip_values: the box that must contain every sample.
        batch_size, seed, drop_last: as in ``OrderedBatches``.

    Attributes:
        box: the box of a sample.
        largest_label: largest label so far.
        example: (r, *S) one or two samples.

    Raises:
        ValueError: if there is no sample, or the first two do not fit.
    """

    def __init__(
        self,
        source: MapDataset,
        indices: Tensor,
        clip_values: ClipValues,
        batch_size: int,
        seed: int,
        drop_last: bool = False,
    ) -> None:
        super().__init__(len(indices), batch_size, seed, drop_last)
        check_drop_last(len(indices), batch_size, drop_last)
        self.source = source
        self.indices = indices
        self.largest_label = 0
        x, y = source.read(indices[:2], seed)
        self.box = Box.of(clip_values, x.shape[1:], x.device)
        self.example = self._admit(x, y, "the first samples")[0]

    def describe(self) -> str:
        """Return a description of the data for the record of a run."""
        return f"a dataset of {self.samples()} samples"

    def _admit(self, x: Tensor, y: Tensor, place: str) -> tuple[Tensor, Tensor]:
        """Return x, inside the box, and y of a minibatch."""
        check_classes(f"y of {place}", y, len(x))
        x = self.box.admit(x, f"x of {place}")
        self.largest_label = max(self.largest_label, int(y.max()) if len(y) else 0)
        return x, y.to(torch.int64)

    def epoch(self, epoch: int, skip: int, process: int, processes: int) -> Iterator[Batch]:
        """Yield one process' part of the batches of an epoch, from position ``skip`` on."""
        batches = self.order(epoch, skip, processes)
        own = [batch[process::processes] for batch in batches]
        loader: DataLoader[Any] = DataLoader(
            _Keyed(self.source.dataset, self.seed, epoch),
            batch_sampler=[self.indices[rows].tolist() for rows in own],
            num_workers=self.source.workers,
            collate_fn=_collate,
            # the seed of the workers, which would be drawn from torch's stream
            generator=torch.Generator().manual_seed(self.seed),
        )
        for place, (x, y) in enumerate(loader):
            x, y = self._admit(x, y, f"batch {skip + place}")
            yield Batch(x, y, own[place], len(batches[place]))


class _Keyed(Dataset[Any]):
    """A dataset whose random draws depend on seed, epoch and index."""

    def __init__(self, dataset: Any, seed: int, epoch: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.epoch = epoch

    def __getitem__(self, index: int) -> Any:
        # keys of samples are below 0, those of weight updates are not
        place = -1 - (self.epoch + 1) * len(self.dataset) - index
        seed_streams(self.seed, place, 0, torch.device("cpu"))
        return self.dataset[index]


def _collate(samples: list[Any]) -> tuple[Tensor, Tensor]:
    """Stack pairs (x, y) of samples."""
    for sample in samples:
        if not isinstance(sample, (tuple, list)) or len(sample) < 2:
            raise ValueError(f"a dataset must give pairs (x, y), got {type(sample).__name__}")
        if not isinstance(sample[0], Tensor) or not sample[0].is_floating_point():
            kind = sample[0].dtype if isinstance(sample[0], Tensor) else type(sample[0]).__name__
            raise ValueError(f"x of a sample must be a floating-point tensor, got {kind}")
    shapes = {tuple(sample[0].shape) for sample in samples}
    if len(shapes) > 1:
        raise ValueError(f"samples must have one shape, got {', '.join(map(str, sorted(shapes)))}")
    labels = [torch.as_tensor(sample[1]) for sample in samples]
    return torch.stack([sample[0] for sample in samples]), torch.stack(labels)


Batches = TensorBatches | LoaderBatches | DatasetBatches
