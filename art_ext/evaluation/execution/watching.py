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
        """Start of an attack on a chunk. ``samples`` is the number of all chunks together."""

    def progress(self, done: float, robust: float) -> None:
        """Progress of an attack.

        Args:
            done: finished samples. An unfinished one counts by the used fraction of its budget.
            robust: fraction, of the samples of all chunks that have begun, without a success so
                far. In a chunk it starts at the clean accuracy, in a cascade at the robust accuracy
                after the earlier attacks, and falls.
        """

    def chunks(self, done: int, total: int) -> None:
        """Progress of workers: chunks that are finished, and chunks to do."""


class Tally:
    """Callback of an attack that counts finished samples, and queries at each radius.

    It counts on from chunk to chunk.

    Args:
        watcher: observer of the progress.
        radii: radii of the units, ascending.
        cost: expected queries of a sample without a success.
    """

    def __init__(self, watcher: Watcher, radii: Sequence[float], cost: int) -> None:
        self.watcher = watcher
        self.radii = radii
        self.cost = cost
        # of the chunks that have ended
        self.samples = 0
        self.successes = 0

    def begin(self, attacked: Tensor, adversarial: Tensor) -> None:
        """Start of the attack on a chunk.

        Args:
            attacked: (M,) positions of the attacked samples.
            adversarial: (K,) bool, misclassified samples and, in a cascade, those with a success of
                an earlier attack within the largest of the radii.
        """
        self.attacked = attacked
        self.before = adversarial
        self.adversarial = adversarial.clone()
        self.done = torch.zeros(len(adversarial))
        # of the largest radius the attack itself keeps the account
        self.since = {radius: torch.full((len(adversarial),), -1) for radius in self.radii[:-1]}

    def __call__(self, progress: Progress) -> None:
        """Take in the progress of the attack."""
        position = self.attacked[progress.index.cpu()]
        spent = (progress.queries / self.cost).clamp(max=0.99)  # it may cost more
        self.done[position] = torch.where(progress.finished, 1.0, spent).cpu()
        self.adversarial[position] = progress.success.cpu() | self.before[position]
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
        self._end(torch.where(attacked, adversarial | self.before, self.before))

    def skip(self, rows: pd.DataFrame, adversarial: Tensor) -> None:
        """Count a chunk that had ended before this process began, from its records.

        Args:
            rows: the records.
            adversarial: as in ``begin``.
        """
        found = rows[rows["eps"] == self.radii[-1]]
        successes = (found["success"] | found["already_adversarial"]).to_numpy(copy=True)
        self._end(adversarial | torch.from_numpy(successes))

    def _end(self, adversarial: Tensor) -> None:
        self.adversarial = adversarial
        self.done = torch.ones(len(adversarial))
        self._notify()
        self.samples += len(adversarial)
        self.successes += int(adversarial.sum())
        self.done = self.done[:0]

    def _notify(self) -> None:
        samples = self.samples + len(self.done)
        successes = self.successes + int(self.adversarial.sum())
        self.watcher.progress(self.samples + float(self.done.sum()), 1 - successes / samples)
