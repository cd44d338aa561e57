"""Distances of the nearest adversarial that RayS had found after given numbers of queries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from art_ext.core.attacks.engine.nearest import NearestAdversarials
from art_ext.core.checks import check_count

FAR = 1 << 62  # no mark


def check_marks(trace_at: Sequence[int] | None, max_queries: int) -> None:
    """Raise ValueError unless the marks are increasing numbers of queries within the budget."""
    if trace_at is None:
        return
    wanted = "trace_at must hold increasing numbers of queries such as (100, 300, 1000)"
    if isinstance(trace_at, str) or not isinstance(trace_at, Sequence) or not len(trace_at):
        raise ValueError(f"{wanted}, got {trace_at!r}")
    for mark in trace_at:
        check_count("trace_at", mark)
    if any(later <= mark for mark, later in pairwise(trace_at)):
        raise ValueError(f"{wanted}, got {tuple(trace_at)}")
    if trace_at[-1] > max_queries:
        raise ValueError(
            f"trace_at must not exceed max_queries={max_queries}, got {tuple(trace_at)}"
        )


class DistanceTrace:
    """The distance of each of N samples at each of M marks, as a run with that budget returns it.

    Args:
        marks: numbers of queries, increasing.
        found: the nearest adversarials of the search.

    Attributes:
        distance: (M, N) in the exact dtype, inf before the first success. NaN where a sample has
            not come to the mark.
    """

    def __init__(self, marks: Sequence[int], found: NearestAdversarials) -> None:
        index = found.whole.index
        self.found = found
        self.ledger = found.whole.oracle.ledger
        self.distance = found.distance.new_full((len(marks), len(index)), torch.nan)
        # one more, which is never reached
        self._marks = torch.tensor([*marks, FAR], device=index.device)
        self._number = torch.arange(len(marks), device=index.device).unsqueeze(1)
        self._next = torch.zeros_like(index)
        self._sure = 0  # answers after which no active row can have come to a mark

    def remaining(self, index: Tensor) -> Tensor:
        """Return (B,) the number of answers of each sample in index (B,) up to its next mark."""
        mark = self._marks.index_select(0, self._next.index_select(0, index))
        return (mark - self.ledger.queries.index_select(0, index)) // self.ledger.cost

    def begin(self) -> None:
        """Note that other samples have become active."""
        self._sure = 0

    def is_due(self, index: Tensor, answers: int) -> bool:
        """Return True if a sample in index (B,) has come to a mark with these further answers."""
        self._sure -= answers
        if self._sure > 0:
            return False
        self._sure = int(self.remaining(index).min()) if len(index) else FAR
        return self._sure <= 0

    def enter(self, index: Tensor, distance: Tensor) -> None:
        """Enter distances (B,) of the samples in index (B,) at the marks that they have come to."""
        spent = self.ledger.queries.index_select(0, index) + self.ledger.cost
        reached = torch.searchsorted(self._marks, spent)  # marks that pay for no further answer
        before = self._next.index_select(0, index)
        new = (self._number >= before) & (self._number < reached)
        kept = self.distance.index_select(1, index)
        self.distance.index_copy_(1, index, torch.where(new, distance, kept))
        self._next.index_copy_(0, index, torch.maximum(before, reached))
        self._sure = 0

    def whole(self, finished: Tensor) -> Tensor:
        """Return (M, N) float32: samples that have finished (N,) keep their last distance."""
        last = torch.where(finished, self.found.distance, torch.nan)
        ahead = self._number >= self._next
        return torch.where(ahead, last, self.distance).to(torch.float32)
