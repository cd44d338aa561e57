"""The blocks of signs that RayS flips, and their order (Algorithm 6)."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_PLACES = 1 << 20  # flips whose blocks are tabulated
LARGEST_FACTORS = 1 << 22  # numbers in the table of factors: 16 MiB
SMALLEST_TABLE = 64  # flips


class Blocks:
    """The order of the block flips, for all samples or, with a mask of its own each, for every
    sample.

    Stage l splits d free coordinates into blocks of ceil(d / 2^l). From the stage of single
    coordinates on, the sweep over all of them repeats. Flip 0 turns nothing: it serves to try a
    starting direction itself.

    Args:
        columns: D.
        free: (N or 1, D) bool, the coordinates that may change. None if all may.
        hierarchical: False begins with single coordinates.
        flips: the number of flips that a budget allows.
        device: of the samples.

    Attributes:
        count: (U,) free coordinates. U = 1 if all samples share them, else N.
        shared: True for U = 1.
    """

    def __init__(
        self,
        columns: int,
        free: Tensor | None,
        hierarchical: bool,
        flips: int,
        device: torch.device,
    ) -> None:
        if free is None:
            self.count = torch.tensor([columns], device=device)
            rank = torch.arange(columns, device=device).unsqueeze(0)
        else:
            self.count, rank = free.sum(dim=1), free.cumsum(dim=1) - 1
        self.shared = len(rank) == 1
        # (U, D) twice the position of a coordinate among the free ones; such floats are exact
        self._rank = 2 * rank.to(torch.float32 if columns < 1 << 22 else torch.int64)
        last = max(0, columns - 1).bit_length()
        stage = torch.arange(0 if hierarchical else last, last + 1, device=device)
        count = self.count.unsqueeze(1)
        self._size = ((count + (1 << stage) - 1) >> stage).clamp_(min=1)  # (U, L)
        blocks = (count + self._size - 1) // self._size
        self._offset = 1 + blocks.cumsum(dim=1) - blocks  # (U, L) number of a stage's first flip
        # looked up in every round, so tabulated where one row serves all samples
        self._places: tuple[Tensor, Tensor] | None = None
        if self.shared and flips <= LARGEST_PLACES:
            every = torch.arange(flips, device=device)
            self._places = self._locate(torch.zeros_like(every), every)
        self._flips = min(flips, LARGEST_FACTORS // max(1, columns)) if self.shared else 0
        self._factors = self._rank.new_empty(0, columns)
        self._tabulated = False

    def prepare(self, last: int) -> None:
        """Tabulate the factors of the flips up to number ``last``, unless they need too much
        memory.
        """
        self._tabulated = last < self._flips
        if self._tabulated and len(self._factors) <= last:
            every = torch.arange(
                min(self._flips, max(SMALLEST_TABLE, 2 * last)), device=self._rank.device
            )
            self._factors = self._compute(torch.zeros_like(every), every)

    def factors(self, sample: Tensor, flip: Tensor) -> Tensor:
        """(B, D) factors that turn the signs of each sample's block: -1 on it, +1 elsewhere."""
        if self._tabulated:
            return self._factors.index_select(0, flip)
        return self._compute(sample, flip)

    def _compute(self, sample: Tensor, flip: Tensor) -> Tensor:
        if self._places is not None:
            middle, size = (column.index_select(0, flip) for column in self._places)
        else:
            middle, size = self._locate(torch.zeros_like(sample) if self.shared else sample, flip)
        # |2 rank - (first + last)| - size is at most -1 on the block and at least 1 off it.
        # Arithmetic of floats takes a fifth of the time of comparisons and torch.where, and this is
        # done for every row of every model call.
        rank = self._rank if self.shared else self._rank[sample]
        distance = (rank - middle.unsqueeze(1)).abs_().sub_(size.unsqueeze(1))
        return distance.clamp_(-1, 1).to(torch.float32)

    def _locate(self, row: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) the sum of a block's first and last position, and (B,) its size."""
        stage = torch.searchsorted(self._offset[row, 1:], flip.unsqueeze(1), right=True)
        block = flip - self._offset[row].gather(1, stage).squeeze(1)
        size = self._size[row].gather(1, stage).squeeze(1)
        first = block % self.count[row].clamp(min=1) * size  # the last stage repeats
        nothing = flip == 0
        middle = torch.where(nothing, -1, 2 * first + size - 1)
        return middle.to(self._rank.dtype), torch.where(nothing, 0, size).to(self._rank.dtype)
