"""Progress observers of an evaluation."""

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
    """Observer of an evaluation. This base class does nothing."""

    def training(self, model: str, samples: int) -> None:
        """Start of the training of a model, in the demonstration."""

    def clean(self, model: str, accuracy: float) -> None:
        """Clean accuracy of a model on this process's samples."""

    def start(self, model: str, attack: str, eps: float, samples: int) -> None:
        """Start of an attack on the samples of this process."""

    def progress(self, done: float, robust: float) -> None:
        """Progress of an attack.

        Args:
            done: finished samples. An unfinished one counts by the used fraction of its budget.
            robust: fraction of these samples without a success so far. It starts at the clean
                accuracy, in a cascade at the robust accuracy after the earlier attacks, and falls.
        """


class Tally:
    """Callback of an attack that counts finished samples, and queries at each radius.

    Args:
        watcher: observer of the progress.
        radii: radii of the unit, ascending.
        cost: expected queries of a sample without a success.
        mine: (N,) bool, the samples of this process.
        adversarial: (N,) bool, misclassified samples and, in a cascade, those with a success of an
            earlier attack within the largest of these radii.
    """

    def __init__(
        self, watcher: Watcher, radii: Sequence[float], cost: int, mine: Tensor, adversarial: Tensor
    ) -> None:
        self.watcher = watcher
        self.radii = radii
        self.cost = cost
        self.count = int(mine.sum())
        self.done = torch.zeros(len(mine))
        self.before = adversarial & mine
        self.adversarial = self.before.clone()

    def begin(self, chunk: slice, attacked: Tensor) -> None:
        """Start of the attack on a chunk, on the samples at these positions (M,) of it."""
        self.chunk = chunk
        self.attacked = attacked
        count = len(self.done[chunk])
        # of the largest radius the attack itself keeps the account
        self.since = {radius: torch.full((count,), -1) for radius in self.radii[:-1]}

    def __call__(self, progress: Progress) -> None:
        """Take in the progress of the attack."""
        position = self.attacked[progress.index.cpu()]
        spent = (progress.queries / self.cost).clamp(max=0.99)  # it may cost more
        self.done[self.chunk][position] = torch.where(progress.finished, 1.0, spent).cpu()
        self.adversarial[self.chunk][position] = (
            progress.success.cpu() | self.before[self.chunk][position]
        )
        for radius, since in self.since.items():
            new = within_ball(progress.distance, radius).cpu() & (since[position] < 0)
            since[position[new]] = progress.queries.cpu()[new]
        self._notify()

    def end(self, result: AttackResult, attacked: Tensor) -> None:
        """End of the chunk. Attacks without callbacks are counted here.

        Args:
            result: of its K samples.
            attacked: (K,) bool, the attacked samples. The others are unchanged.
        """
        adversarial = (result.success | result.already_adversarial).cpu()
        self.done[self.chunk] = 1.0
        self.adversarial[self.chunk] = torch.where(
            attacked, adversarial | self.before[self.chunk], self.adversarial[self.chunk]
        )
        self._notify()

    def skip(self, chunk: slice, rows: pd.DataFrame) -> None:
        """Count a chunk that had ended before this process began, from its records."""
        found = rows[rows["eps"] == self.radii[-1]]
        adversarial = torch.from_numpy(
            (found["success"] | found["already_adversarial"]).to_numpy(copy=True)
        )
        self.done[chunk] = 1.0
        self.adversarial[chunk] |= adversarial
        self._notify()

    def _notify(self) -> None:
        self.watcher.progress(
            float(self.done.sum()), 1 - float(self.adversarial.sum()) / self.count
        )
