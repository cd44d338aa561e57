"""One of the phases that follow each other in a run of some recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from art_ext.training.recipes.base import Recipe

INITIAL = "initial"  # name of the weights that a run begins with


@dataclass(frozen=True, eq=False)
class Phase:
    """A part of a run. Its optimiser, schedule and order of the samples begin again.

    Attributes:
        name: of the phase, and of the weights at its end.
        recipe: of its weight updates.
        epochs: passes over the data. None: the length that the options of the run give.
        start: phase whose final weights it begins with, or ``INITIAL``. None: it goes on with the
            weights of the phase before it.
        targets: function from the class scores (r, C) of a teacher to target rows (r, C), which the
            updates find in ``step.targets``. The teacher is the network of the phase before, or
            that of the caller. Its inputs are the training samples without augmentation. None: no
            targets.
    """

    name: str
    recipe: Recipe
    epochs: int | None = None
    start: str | None = None
    targets: Callable[[Tensor], Tensor] | None = None
