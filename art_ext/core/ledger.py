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
        cost: queries of one answer: 1, or with a detector 1 and one for each variant of the row.

    Attributes:
        queries: (N,) int64, rows forward.
        gradients: (N,) int64, rows backward.
        wasted_rows: (N,) int64, rows forward in vain.
        verified: True while a second answer may be needed to verify each one. The budget then
            leaves room for both.
        model_rows: (N,) int64, rows forward of the model inside an ``Expectation``. None without
            one.
        pending: (R,) int64, the samples of those charged answers that are not complete yet. None
            between two calls.
        answered: rows of each of the first pending answers, as many as one call holds, that the
            model has returned.
    """

    def __init__(
        self, num_samples: int, max_queries: int | None, device: torch.device, cost: int = 1
    ) -> None:
        self.max_queries = max_queries
        self.cost = cost
        self.verified = False
        with outside_inference_mode():
            self.queries = torch.zeros(num_samples, dtype=torch.int64, device=device)
            self.gradients = torch.zeros_like(self.queries)
            self.wasted_rows = torch.zeros_like(self.queries)
        self.model_rows: Tensor | None = None
        self.pending: Tensor | None = None
        self.answered = (0, 0)  # pending answers, and rows of each
        self._counted = self.queries  # the column that the pending rows are counted in
        self._ones = self.queries[:0]  # one for each row of the latest call
        # a lower bound of the queries left to every sample. While it holds, no charge needs to
        # look at the device
        self._affordable = max_queries or 0

    def remaining(self, index: Tensor) -> Tensor:
        """Return the number of answers that the budget of each sample in index (B,) has left."""
        if self.max_queries is None:
            return torch.full_like(index, torch.iinfo(torch.int64).max)
        left = self.max_queries - self.queries.index_select(0, index)
        cost = 2 * self.cost if self.verified else self.cost
        return left if cost == 1 else left // cost

    def charge(self, index: Tensor) -> None:
        """Charge one answer to the sample of each entry of index (R,).

        Raises:
            RuntimeError: if a sample has more than ``max_queries`` then.
        """
        rows = len(index)
        if rows != len(self._ones):
            self._ones = torch.full_like(index, self.cost)
        self.queries.index_add_(0, index, self._ones)
        self._counted = self.queries
        self._affordable -= rows * self.cost
        if self._affordable < 0:
            self._check_budget()

    def claim(self, index: Tensor, count: Tensor) -> None:
        """Charge ``count`` (B,) wasted answers of each sample in ``index`` (B,) as queries."""
        count = count if self.cost == 1 else count * self.cost
        self.wasted_rows.index_add_(0, index, -count)
        self.queries.index_add_(0, index, count)
        self._check_budget()

    def speculate(self, index: Tensor) -> None:
        """Count one wasted answer for each entry of index (R,), until ``claim`` charges it."""
        self.wasted_rows.index_add_(0, index, torch.full_like(index, self.cost))
        self._counted = self.wasted_rows

    def take_back(self) -> None:
        """Count the pending rows no longer: the model stopped before it answered them."""
        if self.pending is not None:
            self._counted.index_add_(0, self.pending, -self.missing())
            self.pending = None

    def missing(self) -> Tensor:
        """Return (R,) the number of rows of each pending answer that the model has not returned."""
        pending = self.queries[:0] if self.pending is None else self.pending
        rows = torch.full_like(pending, self.cost)
        answers, returned = self.answered
        rows[:answers] -= returned
        return rows

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
