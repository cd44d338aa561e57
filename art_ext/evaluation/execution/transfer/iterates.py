"""Iterates of an attack, taken after chosen numbers of iterations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from art_ext.core.geometry import distortions
from art_ext.core.result import Progress


class Iterates:
    """Callback that keeps the iterates of an attack.

    A sample that ends before an iteration keeps its last iterate.

    Args:
        x: (K, *S) the clean samples.
        at: iterations, ascending.
    """

    def __init__(self, x: Tensor, at: Sequence[int]) -> None:
        self.x = x.to(torch.float32)
        self.at = tuple(at)
        self.now = self.x.clone() if at else self.x
        self.taken: dict[int, Tensor] = {}

    def __call__(self, progress: Progress) -> None:
        """Take in the iterates of a round."""
        if progress.iterates is None or not self.at:
            return
        self._take(progress.iteration)
        self.now[progress.index.cpu()] = progress.iterates.cpu().to(torch.float32)

    def _take(self, iteration: int) -> None:
        """Keep the iterates of all marks below an iteration that begins to be told."""
        for mark in self.at:
            if mark < iteration and mark not in self.taken:
                self.taken[mark] = self.now.clone()

    def tensors(self) -> dict[str, Tensor]:
        """Return ``iterates`` (A, K, *S) and ``iterate_lengths`` (A, K, 4), empty without marks."""
        if not self.at:
            return {}
        self._take(self.at[-1] + 1)
        kept = torch.stack([self.taken[mark] for mark in self.at])
        return {
            "iterates": kept,
            "iterate_lengths": torch.stack([distortions(one, self.x) for one in kept]),
        }
