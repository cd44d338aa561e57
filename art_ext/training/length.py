"""Length of a run: its weight updates, and its budget of rows."""

from __future__ import annotations

from dataclasses import dataclass

from art_ext.training.datasets import Batches
from art_ext.training.options import ROUNDING, TrainingOptions
from art_ext.training.recipes import Recipe


@dataclass(eq=False)
class Length:
    """Number of weight updates of a run.

    Attributes:
        recipe: of the run.
        per_epoch: weight updates of an epoch.
        total: weight updates of the run. A budget of rows may end it earlier.
        budget: rows forward plus backward that all processes may send. None: no bound.
    """

    recipe: Recipe
    per_epoch: int
    total: int
    budget: float | None = None

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
        return Length(recipe, count * recipe.replays, total, budget)

    @property
    def epochs(self) -> float:
        """Length in epochs."""
        return self.total / self.per_epoch

    def time(self, update: int) -> float:
        """Return the fractional epoch of a weight update."""
        return update / self.per_epoch

    def place(self, update: int) -> tuple[int, int]:
        """Return the epoch of a weight update, and its minibatch in that epoch, from 0."""
        replays = self.recipe.replays
        return divmod(update // replays, self.per_epoch // replays)

    def room(self, rows: int, spent: int) -> tuple[bool, bool]:
        """Return two flags: the budget has room for an update, and for a repeat of it.

        Args:
            rows: rows of the minibatch.
            spent: rows forward plus backward so far.
        """
        if self.budget is None:
            return True, True
        remaining = self.budget - spent
        fits = remaining >= rows * sum(self.recipe.cost())
        spare = remaining >= rows * sum(self.recipe.largest_cost())
        return fits, spare
