"""The test for a loss that has stopped falling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WINDOW = 5


@dataclass(frozen=True, eq=False)
class Plateau:
    """The latest five losses of each of R rows, to see where they have stopped falling.

    The window slides, and starts again where it was full and flat.

    Attributes:
        losses: (R, 5) the latest ones, newest last.
        filled: (R,) int64, how many of them count.
    """

    losses: Tensor
    filled: Tensor

    @staticmethod
    def empty(rows: Tensor) -> Plateau:
        """Return the window before the first loss, for rows (R, ...)."""
        index = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        return Plateau(torch.zeros(len(rows), WINDOW, device=rows.device), index)

    def enter(self, losses: Tensor, improvement: float = 1e-3) -> tuple[Plateau, Tensor]:
        """Enter the latest losses (R,): the new window, and (R,) bool, True where it is flat.

        Args:
            losses: that should fall.
            improvement: the least fall that counts, from the first to the last loss of the window,
                as a share of the first.
        """
        window = torch.cat([self.losses[:, 1:], losses.to(torch.float32).unsqueeze(1)], dim=1)
        filled = (self.filled + 1).clamp(max=WINDOW)
        first = window[:, 0]
        flat = (filled == WINDOW) & (first - window[:, -1] < improvement * first.abs())
        return Plateau(window, filled.masked_fill(flat, 0)), flat
