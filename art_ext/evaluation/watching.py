"""Who is told how an evaluation goes, and how far an attack is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.geometry import within_ball
from art_ext.core.result import AttackResult, Progress

if TYPE_CHECKING:
    import pandas as pd


class Watcher:
    """Told what happens while an evaluation runs; this base class says nothing."""

    def training(self, model: str, samples: int) -> None:
        """The demonstration trains a model on so many samples."""

    def clean(self, model: str, accuracy: float) -> None:
        """The share of this process's samples that the model classifies correctly, before any
        attack.
        """

    def start(self, model: str, attack: str, eps: float, samples: int) -> None:
        """An attack on so many samples begins: all, or those of this process."""

    def progress(self, done: float, robust: float) -> None:
        """An attack went on.

        Args:
            done: samples finished; one under way counts as much as it spent of its budget.
            robust: share of these samples that hold out so far; it starts at the clean accuracy, or
                in a cascade at what the attacks before left, and falls.
        """


class Tally:
    """The callback of an attack: how many samples are done and hold out, and when each came within
    each radius.

    Args:
        watcher: is told.
        radii: of the search, ascending.
        cost: about how many queries a sample costs that holds out.
        mine: (N,) bool, the samples of this process.
        fallen: (N,) bool, misclassified samples and, in a cascade, those that the attacks before
            broke within the largest of these radii.
    """

    def __init__(
        self, watcher: Watcher, radii: Sequence[float], cost: int, mine: Tensor, fallen: Tensor
    ) -> None:
        self.watcher, self.radii, self.cost, self.count = watcher, radii, cost, int(mine.sum())
        self.done = torch.zeros(len(mine))
        self.before = fallen & mine
        self.fallen = self.before.clone()

    def begin(self, chunk: slice, attacked: Tensor) -> None:
        """The attack on a chunk begins, on the samples at these positions (M,) of it."""
        self.chunk, self.attacked = chunk, attacked
        count = len(self.done[chunk])
        # of the largest radius the attack itself keeps the account
        self.since = {radius: torch.full((count,), -1) for radius in self.radii[:-1]}

    def __call__(self, progress: Progress) -> None:
        """The attack went on."""
        position = self.attacked[progress.index.cpu()]
        spent = (progress.queries / self.cost).clamp(max=0.99)  # it may cost more
        self.done[self.chunk][position] = torch.where(progress.finished, 1.0, spent).cpu()
        self.fallen[self.chunk][position] = (
            progress.success.cpu() | self.before[self.chunk][position]
        )
        for radius, since in self.since.items():
            new = within_ball(progress.distance, radius).cpu() & (since[position] < 0)
            since[position[new]] = progress.queries.cpu()[new]
        self._tell()

    def end(self, result: AttackResult, attacked: Tensor) -> None:
        """The chunk ended; attacks that tell nothing on their way are counted here.

        Args:
            result: of its K samples.
            attacked: (K,) bool, those that were attacked; the others stay as they were.
        """
        fallen = (result.success | result.already_adversarial).cpu()
        self.done[self.chunk] = 1.0
        self.fallen[self.chunk] = torch.where(
            attacked, fallen | self.before[self.chunk], self.fallen[self.chunk]
        )
        self._tell()

    def skip(self, chunk: slice, rows: pd.DataFrame) -> None:
        """The chunk had ended before this process began; rows are its records."""
        found = rows[rows["eps"] == self.radii[-1]]
        fallen = torch.from_numpy(
            (found["success"] | found["already_adversarial"]).to_numpy(copy=True)
        )
        self.done[chunk] = 1.0
        self.fallen[chunk] |= fallen
        self._tell()

    def _tell(self) -> None:
        self.watcher.progress(float(self.done.sum()), 1 - float(self.fallen.sum()) / self.count)
