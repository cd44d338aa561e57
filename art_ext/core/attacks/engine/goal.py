"""The class that each sample of an attack is to leave or to reach."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.oracle import LabelOracle
from art_ext.core.samples import check_classes, check_width, reaches_goal


@dataclass(frozen=True, kw_only=True, eq=False)
class Goal:
    """The classes that N samples are to leave or, if ``targeted``, to reach.

    Attributes:
        labels: (N,) int64.
        targeted: True if they are to be reached.
        name: the argument that held them, ``"y"`` or ``"targets"``.
        unlabelled: True if the clean check must fill them, with the model's predictions.
    """

    labels: Tensor
    targeted: bool
    name: str
    unlabelled: bool

    @staticmethod
    def of(y: Tensor | None, options: AttackOptions, count: int, device: torch.device) -> Goal:
        """Check the labels and targets of ``count`` samples.

        Raises:
            ValueError: naming the argument, what was given and what was wanted.
        """
        check_classes("y", y, count)
        check_classes("targets", options.targets, count)
        given = y if options.targets is None else options.targets
        if options.targeted and given is None:
            raise ValueError(
                "a targeted attack needs the classes to reach: pass them as y or as targets"
            )
        labels = torch.zeros(count, dtype=torch.int64, device=device)
        if given is not None:
            labels.copy_(given)  # a copy, because the labels of unlabelled samples are written
        return Goal(
            labels=labels,
            targeted=options.targeted or options.targets is not None,
            name="y" if options.targets is None else "targets",
            unlabelled=given is None,
        )

    def reached(self, predicted: Tensor, index: Tensor) -> Tensor:
        """(r,) bool, True where predicted classes (r,) reach the goals of the samples in index
        (r,).

        A row of NaN never does.
        """
        return reaches_goal(predicted, self.labels.index_select(0, index), self.targeted)

    def fill(self, predicted: Tensor, index: Tensor) -> None:
        """Take the predicted classes (r,) of the clean inputs for the labels of unlabelled
        samples.
        """
        if self.unlabelled:
            self.labels[index] = predicted

    def check(self, oracle: LabelOracle, index: Tensor) -> None:
        """Raise ValueError unless the model has a class for the goal of each sample in index."""
        check_width(self.name, self.labels[index], oracle)
