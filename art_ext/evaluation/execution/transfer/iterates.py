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
        self.taken = self.x.expand(len(self.at), *x.shape).clone()

    def __call__(self, progress: Progress) -> None:
        """Take in the iterates of a round. Slices of the samples may come one after the other."""
        if progress.iterates is None:
            return
        index = progress.index.cpu()
        rows = progress.iterates.cpu().to(torch.float32)
        ended = progress.finished.cpu()
        for place, mark in enumerate(self.at):
            if mark == progress.iteration:
                self.taken[place, index] = rows
            elif mark > progress.iteration:
                self.taken[place, index[ended]] = rows[ended]

    def tensors(self) -> dict[str, Tensor]:
        """Return ``iterates`` (A, K, *S) and ``iterate_lengths`` (A, K, 4), empty without marks."""
        if not self.at:
            return {}
        lengths = torch.stack([distortions(one, self.x) for one in self.taken])
        return {"iterates": self.taken, "iterate_lengths": lengths}
