"""The interface of crafting, and the craft that changes nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from art_ext.training.cost import Cost
from art_ext.training.step import Step


class Craft(ABC):
    """A function from a minibatch to training examples.

    A craft holds settings only. It draws its random numbers and sends its rows through the
    ``Step``, which counts them. The radius is ``step.eps``.
    """

    @property
    def ascends_labels(self) -> bool:
        """True if the craft ascends the run's ``craft_loss``."""
        return False

    @abstractmethod
    def cost(self) -> Cost:
        """Return the rows forward and backward per sample."""

    @abstractmethod
    def __call__(self, step: Step) -> Tensor:
        """Return (r, *S) examples for the rows of the step, without a graph."""


@dataclass(frozen=True)
class Clean(Craft):
    """The inputs themselves."""

    def cost(self) -> Cost:
        """Return 0."""
        return Cost(0, 0)

    def __call__(self, step: Step) -> Tensor:
        """Return the inputs (r, *S)."""
        return step.x
