"""Reading of a data set range by range, with workers that read ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from art_ext.data.lazy import LazyDataset
from art_ext.data.samples import Samples

Range = tuple[int, int]


class Reader:
    """Ranges of a data set, of which workers read the next one ahead.

    At most one range is read ahead. Without workers, nothing is.

    Args:
        data: the data set.
        plan: first and one past the last position of each range, in the order in which they will
            be read. A range that is read out of this order is read in this process.
    """

    def __init__(self, data: Samples, plan: Sequence[Range] = ()) -> None:
        self.data = data
        self._workers = data.workers if isinstance(data, LazyDataset) else 0
        self._plan = list(plan) if self._workers else []
        self._ahead: Iterator[Any] | None = None

    def rows(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return x and y of a range.

        Raises:
            ValueError: as ``LazyDataset.rows``.
        """
        if self._plan[:1] != [(start, stop)]:
            return self.data.rows(start, stop)
        if self._ahead is None:
            self._ahead = iter(self._loader())
        self._plan.pop(0)
        parts = []
        for _ in _split((start, stop), self._workers):
            part = next(self._ahead)
            if isinstance(part, Exception):
                raise part
            parts.append(part)
        x, y = zip(*parts, strict=True)
        return torch.cat(x), torch.cat(y)

    def _loader(self) -> DataLoader[Any]:
        parts = [part for one in self._plan for part in _split(one, self._workers)]
        return DataLoader(
            _Parts(self.data),
            batch_size=None,
            sampler=parts,
            num_workers=self._workers,
            prefetch_factor=2,
            # the seed of the workers, which would be drawn from torch's stream
            generator=torch.Generator(),
        )


class _Parts(Dataset[Any]):
    """Ranges of a data set, by their first and one past their last position."""

    def __init__(self, data: Samples) -> None:
        self.data = data

    def __getitem__(self, part: Range) -> Any:
        try:
            return self.data.rows(*part)
        except Exception as error:  # raised in the reading process, where it keeps its message
            return error


def _split(one: Range, workers: int) -> list[Range]:
    """Split a range into two parts a worker."""
    start, stop = one
    size = max(1, -(-(stop - start) // (2 * workers)))
    return [(place, min(place + size, stop)) for place in range(start, stop, size)]
