"""Minibatches of a ``DataLoader`` for several processes. Each process reads its own rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from art_ext.core.geometry import ClipValues
from art_ext.core.streams import fingerprint, global_streams_kept
from art_ext.data.streams import seeded_streams
from art_ext.training.batches import Batch, LoaderBatches
from art_ext.training.environment import stream_key

Key = tuple[int, Any]  # of an item: seed of its draws, and its index in the dataset
_APART = 1 << 40  # between the keys of items and those of minibatches
_MOST_ROWS = 1 << 20  # of a minibatch


def can_be_shared(loader: object) -> bool:
    """Return True for a ``DataLoader`` whose items can be read one by one."""
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and loader.batch_sampler is not None
    )


class SharedLoaderBatches(LoaderBatches):
    """Minibatches of a ``DataLoader``, of which each process reads its own rows only.

    The order is that of the loader on one process. The random streams of torch, NumPy and Python
    are seeded before each item by seed, epoch and place, and put back after it. So the items are
    the same for any number of processes from two on, for any number of workers, and after a resume.

    Args:
        loader: of a map-style dataset, with a batch sampler.
        clip_values, seed: as in ``LoaderBatches``.

    Raises:
        ValueError: as ``LoaderBatches``, and for a loader that a ``DistributedSampler`` splits.
    """

    def __init__(self, loader: DataLoader[Any], clip_values: ClipValues, seed: int) -> None:
        if isinstance(loader.sampler, torch.utils.data.DistributedSampler):
            raise ValueError(
                "the processes share each minibatch of a loader: leave out the DistributedSampler,"
                " which gives each process other minibatches"
            )
        self._plan = _Plan()
        self._order: DataLoader[Any] = DataLoader(
            _Positions(),
            batch_sampler=loader.batch_sampler,
            collate_fn=list,
            generator=loader.generator,
        )
        workers = loader.num_workers
        self._reader: DataLoader[Any] = DataLoader(
            _Items(loader.dataset),
            batch_sampler=self._plan,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor if workers else None,
            # the seed of the workers, which would be drawn from torch's stream
            generator=torch.Generator().manual_seed(seed),
        )
        super().__init__(loader, clip_values, seed)

    def _first(self) -> object:
        """Return a minibatch of the first two rows."""
        with global_streams_kept(torch.device("cpu")):
            self._seed(0, 0)  # the same rows on all processes
            indices = next(iter(self._order))[:2]
            return self._reader.collate_fn([self._reader.dataset[0, index] for index in indices])

    def _indices(self, epoch: int) -> list[list[Any]]:
        """Return the indices of each minibatch of an epoch, as the loader would draw them."""
        self._seed(epoch, 0)
        # a loader whose workers stay draws nothing else before the order
        persistent = self.loader.persistent_workers  # type: ignore[attr-defined]
        found = list(self._order.batch_sampler or () if persistent else self._order)
        if len(found) < self.length:
            raise ValueError(
                f"the loader promised {self.length} batches and gave {len(found)} in epoch {epoch}"
            )
        return found[: self.length]

    def epoch(self, epoch: int, skip: int, process: int, processes: int) -> Iterator[Batch]:
        """Yield one process' part of the batches of an epoch, from position ``skip`` on."""
        batches = self._indices(epoch)
        for place, indices in enumerate(batches):
            self.check_rows(len(indices), place, processes)
        parts = [
            [(self._key(epoch, place, row), index) for row, index in enumerate(indices)]
            for place, indices in enumerate(batches)
        ]
        self._plan.batches = [part[process::processes] for part in parts[skip:]]
        reader = iter(self._reader)
        for place, own in enumerate(self._plan.batches, start=skip):
            self._seed(epoch, place)
            x, y = self._admit(next(reader), place)
            if len(x) != len(own):
                raise ValueError(
                    f"collate_fn of the loader must keep the number of items, got {len(x)} rows of"
                    f" {len(own)} items in batch {place}"
                )
            yield Batch(x, y, fingerprint(x), len(batches[place]))

    def _key(self, epoch: int, place: int, row: int) -> int:
        """Return the seed of an item's draws."""
        return stream_key(self.seed, -_APART - (epoch * self.length + place) * _MOST_ROWS - row)


class _Plan:
    """The minibatches of the next epoch."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Positions(Dataset[Any]):
    """A dataset of the indices themselves."""

    def __getitem__(self, index: Any) -> Any:
        return index


class _Items(Dataset[Any]):
    """A dataset whose random draws depend on a key."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __getitem__(self, key: Key) -> tuple[Tensor, Any]:
        seed, index = key
        with seeded_streams(seed):
            item: tuple[Tensor, Any] = self.data[index]
        return item
