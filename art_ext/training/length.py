"""Length of a run: its weight updates, and its budget of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from art_ext.training.datasets import Batches
from art_ext.training.options import ROUNDING, TrainingOptions
from art_ext.training.recipes import Recipe
from art_ext.training.recipes.phase import Phase


@dataclass(eq=False)
class Length:
    """Number of weight updates of a phase, which for most recipes is the whole run.

    Attributes:
        recipe: of the phase.
        per_epoch: weight updates of an epoch.
        total: weight updates of the phase. A budget of rows may end it earlier.
        budget: rows forward plus backward that all processes may send. None: no bound.
        first: weight updates of the run before the phase.
        first_epoch: epochs of the run before the phase.
        more: rows of an update per sample beside those of the recipe, of ``clean_forwards``.
    """

    recipe: Recipe
    per_epoch: int
    total: int
    budget: float | None = None
    first: int = 0
    first_epoch: int = 0
    more: int = 0

    @staticmethod
    def of(options: TrainingOptions, recipe: Recipe, batches: Batches, processes: int) -> Length:
        """Return the length that the options give.

        Raises:
            ValueError: if the processes cannot share the minibatches, or the budget is below one
                update.
        """
        count = batches.count(processes)
        if options.passes is None:
            total = options.total(recipe, [1] * count, 1)
            return Length(recipe, count * recipe.replays, total)
        samples = batches.samples()
        total = options.total(recipe, batches.sizes(processes), samples)
        budget = options.passes * samples * (1 + ROUNDING)
        more = sum(options.cost(recipe)) - sum(recipe.cost())
        return Length(recipe, count * recipe.replays, total, budget, more=more)

    @staticmethod
    def of_phases(
        phases: Sequence[Phase], options: TrainingOptions, batches: Batches, processes: int
    ) -> list[Length]:
        """Return the lengths of phases that follow each other.

        Raises:
            ValueError: as ``of``.
        """
        found: list[Length] = []
        for phase in phases:
            length = Length.of(options, phase.recipe, batches, processes)
            if phase.epochs is not None:
                length.total = phase.epochs * length.per_epoch
            if found:
                length.first = found[-1].end
                length.first_epoch = found[-1].first_epoch + found[-1].whole_epochs
            found.append(length)
        return found

    @property
    def end(self) -> int:
        """Weight updates of the run at the end of the phase."""
        return self.first + self.total

    @property
    def epochs(self) -> float:
        """Length in epochs."""
        return self.total / self.per_epoch

    @property
    def whole_epochs(self) -> int:
        """Number of epochs. A shorter last one counts."""
        return -(-self.total // self.per_epoch)

    def time(self, update: int) -> float:
        """Return the fractional epoch of the phase at a weight update of the run."""
        return (update - self.first) / self.per_epoch

    def ends_epoch(self, update: int) -> bool:
        """Return True if an epoch has ended after so many weight updates of the run."""
        return (update - self.first) % self.per_epoch == 0

    def place(self, update: int) -> tuple[int, int]:
        """Return the epoch of a weight update, and its minibatch in that epoch, from 0."""
        replays = self.recipe.replays
        epoch, batch = divmod((update - self.first) // replays, self.per_epoch // replays)
        return self.first_epoch + epoch, batch

    def room(self, rows: int, spent: int) -> tuple[bool, bool]:
        """Return two flags: the budget has room for an update, and for a repeat of it.

        Args:
            rows: rows of the minibatch.
            spent: rows forward plus backward so far.
        """
        if self.budget is None:
            return True, True
        remaining = self.budget - spent
        fits = remaining >= rows * (sum(self.recipe.cost()) + self.more)
        spare = remaining >= rows * (sum(self.recipe.largest_cost()) + self.more)
        return fits, spare
