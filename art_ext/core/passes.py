"""Forward passes of a model in slices of a batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from art_ext.core.calling import ModelCall
from art_ext.core.ledger import Ledger
from art_ext.core.outputs import OutputReader


class Passes:
    """Calls of a model with at most ``batch_size`` rows, and never fewer than ``pad_rows``.

    Args:
        model_call: the model.
        reader: of its outputs.
        ledger: gets the rows that are evaluated in vain.
        batch_size: maximum number of rows in one call.
        pad_rows: minimum number of rows in one call.
    """

    def __init__(
        self,
        model_call: ModelCall,
        reader: OutputReader,
        ledger: Ledger,
        *,
        batch_size: int,
        pad_rows: int,
    ) -> None:
        self.model_call = model_call
        self.reader = reader
        self.ledger = ledger
        self.batch_size = batch_size
        self.pad_rows = pad_rows

    def forward(self, rows: Tensor, index: Tensor, fresh: bool = False) -> Tensor:
        """Return scores (R, K) or labels (R,) for rows (R, *S) of the samples in index (R,).

        ``fresh`` is True if the model may overwrite the rows.
        """
        parts = []
        with torch.no_grad():
            for part, owner in self.slices(rows, index):
                padded = self.pad(part, owner)
                # padded rows are a copy already
                outputs = self.model_call(padded, fresh=fresh or len(padded) > len(owner))
                parts.append(self.read(outputs, padded, owner))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def slices(self, rows: Tensor, index: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the rows of each call, and the samples that they belong to."""
        ledger = self.ledger
        if 0 < len(rows) <= self.batch_size:
            ledger.pending = index
            yield rows, index  # two operations less in each call of the search attacks
        else:
            for start in range(0, len(rows), self.batch_size):
                ledger.pending = index[start:]
                yield (
                    rows[start : start + self.batch_size],
                    index[start : start + self.batch_size],
                )
        ledger.pending = None

    def described(self, ids: Tensor | None) -> tuple[list[int], list[int]]:
        """Return the identities of the samples in the present call, and the number of each query.

        Args:
            ids: (N,) identities. None describes nothing.
        """
        if self.ledger.pending is None or ids is None:
            return [], []
        pending = self.ledger.pending.cpu()
        owners = pending.tolist()
        left = self.ledger.queries.cpu()[pending].tolist()  # with later rows of the same sample
        missing = self.ledger.missing().tolist()
        later: dict[int, int] = {}
        for place in reversed(range(len(owners))):
            after = later.get(owners[place], 0)
            later[owners[place]] = after + missing[place]
            left[place] -= after + missing[place] - 1
        known = ids.cpu()[pending].tolist()
        return known[: self.batch_size], left[: self.batch_size]

    def pad(self, rows: Tensor, index: Tensor) -> Tensor:
        """Pad a short slice with copies of its last row, counted as wasted on that row's sample."""
        missing = self.pad_rows - len(rows)
        if missing <= 0:
            return rows
        self.ledger.waste(index[-1:], missing)
        return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])

    def read(self, outputs: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        """Read the model's outputs for one padded slice of rows of the samples in index (r,).

        Rows that the model rejected, because of their dtype, are counted as wasted.
        """
        if self.model_call.refused_rows:
            self.ledger.waste(index, self.model_call.refused_rows)
            self.model_call.refused_rows = 0
        self.reader.output_dtype = self.model_call.output_dtype
        return self.checked(outputs, rows, len(index))

    def checked(self, outputs: Tensor, rows: Tensor, count: int) -> Tensor:
        """Read the outputs for one padded slice as scores or labels, without the padding."""
        scores = self.reader(outputs, len(rows))
        part = scores if count == len(rows) else scores[:count]
        return part.to(self.ledger.queries.device)
