"""The rows charged to each sample, and the budget."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.core.calling import outside_inference_mode


class Ledger:
    """Rows charged to each of N samples.

    Args:
        num_samples: N.
        max_queries: maximum number of rows charged to one sample. None: no limit.
        device: of the columns.

    Attributes:
        queries: (N,) int64, rows forward.
        gradients: (N,) int64, rows backward.
        wasted_rows: (N,) int64, rows forward in vain.
        pending: (R,) int64, the samples of those counted rows that have no answer yet. None
            between two calls.
    """

    def __init__(self, num_samples: int, max_queries: int | None, device: torch.device) -> None:
        self.max_queries = max_queries
        with outside_inference_mode():
            self.queries = torch.zeros(num_samples, dtype=torch.int64, device=device)
            self.gradients = torch.zeros_like(self.queries)
            self.wasted_rows = torch.zeros_like(self.queries)
        self.pending: Tensor | None = None
        self._counted = self.queries  # the column that the pending rows are counted in
        self._ones = self.queries[:0]  # one for each row of the latest call
        # a lower bound of the queries left to every sample. While it holds, no charge needs to
        # look at the device
        self._affordable = max_queries or 0

    def remaining(self, index: Tensor) -> Tensor:
        """Return the number of queries that each sample in index (B,) has left."""
        if self.max_queries is None:
            return torch.full_like(index, torch.iinfo(torch.int64).max)
        return self.max_queries - self.queries.index_select(0, index)

    def charge(self, index: Tensor) -> None:
        """Charge one query to the sample of each entry of index (R,).

        Raises:
            RuntimeError: if a sample has more than ``max_queries`` then.
        """
        rows = len(index)
        if rows != len(self._ones):
            self._ones = torch.ones_like(index)
        self.queries.index_add_(0, index, self._ones)
        self._counted = self.queries
        self._affordable -= rows
        if self._affordable < 0:
            self._check_budget()

    def claim(self, index: Tensor, count: Tensor) -> None:
        """Charge ``count`` (B,) wasted rows of each sample in ``index`` (B,) as queries."""
        self.wasted_rows.index_add_(0, index, -count)
        self.queries.index_add_(0, index, count)
        self._check_budget()

    def speculate(self, index: Tensor) -> None:
        """Count one wasted row for each entry of index (R,), until ``claim`` charges it."""
        self.waste(index, len(index))
        self._counted = self.wasted_rows

    def take_back(self) -> None:
        """Count the pending rows no longer: the model stopped before it answered them."""
        if self.pending is not None:
            self._counted.index_add_(0, self.pending, -torch.ones_like(self.pending))
            self.pending = None

    def waste(self, index: Tensor, rows: int) -> None:
        """Count wasted rows: one for each entry of index (R,), and what is left on the last."""
        self.wasted_rows.index_add_(0, index, torch.ones_like(index))
        if rows > len(index):
            self.wasted_rows[index[-1]] += rows - len(index)

    def _check_budget(self) -> None:
        if self.max_queries is None or not len(self.queries):
            return
        self._affordable = self.max_queries - int(self.queries.max())
        if self._affordable < 0:
            sample = int(self.queries.argmax())
            raise RuntimeError(
                f"an attack used more than max_queries={self.max_queries} rows for sample {sample}"
            )
