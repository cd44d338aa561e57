"""Progress of a run: what a checkpoint holds beside the weights, the optimiser and the schedule."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from art_ext.training.engine import Engine
from art_ext.training.history import Row
from art_ext.training.length import Length


class Losses:
    """Losses of the weight updates so far, on the device.

    They are checked and averaged over the processes from time to time only, because both wait for
    an accelerator.

    Args:
        values: losses of whole minibatches that are known to be finite.
    """

    def __init__(self, values: Iterable[Tensor] = ()) -> None:
        self._values = list(values)
        self._checked = len(self._values)
        self._averaged = len(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def append(self, loss: Tensor) -> None:
        """Add this process' part of the loss () of a weight update."""
        self._values.append(loss)

    def check(self, every: int, length: Length) -> None:
        """Raise ValueError if a loss is not finite.

        Args:
            every: number of unchecked losses from which on they are checked.
            length: tells the batch of an update, for the message.
        """
        if len(self._values) - self._checked < every:
            return
        finite = torch.stack(self._values[self._checked :]).isfinite()
        if not bool(finite.all()):
            update = self._checked + int((~finite).nonzero()[0])
            epoch, batch = length.place(update)
            raise ValueError(
                f"the loss is {float(self._values[update])} in batch {batch} of epoch {epoch},"
                f" counted from 0 (weight update {update}): lower the learning rate, or look at"
                " that batch; earlier checkpoints are kept"
            )
        self._checked = len(self._values)

    def average(self, engine: Engine) -> None:
        """Replace this process' parts of the losses by the losses of whole minibatches.

        The loss of a minibatch is the mean of the processes' parts.
        """
        mine = self._values[self._averaged :]
        if mine:
            total = engine.total(torch.stack(mine))
            self._values[self._averaged :] = (total / engine.processes).unbind()
        self._averaged = len(self._values)

    def mean(self, last: int) -> float:
        """Return the mean of the last losses."""
        return float(torch.stack(self._values[-last:]).mean())

    def stacked(self) -> Tensor:
        """Return all losses (updates,)."""
        return torch.stack(self._values)


@dataclass(eq=False)
class TrainState:
    """Progress of a run.

    Attributes:
        update: weight updates done.
        epoch, batch: position in the data: epochs done, and minibatches of the current one.
        carried: values that the recipe keeps from one minibatch to the next.
        history: a row per completed epoch.
        validations: a row per validation between the ends of the epochs.
        losses: losses of the weight updates.
        logged: sums of the recipe's values over the current epoch.
        measured: sum and number (2,) of each value that callbacks measured in the current epoch.
        best: score, epoch and weights of the best validation of the phase so far.
        kept: weights on the CPU that a later phase begins with, by the phase that they come from.
        earlier: seconds of the parts of the run before this one.
        started: time at which this part began.
    """

    update: int = 0
    epoch: int = 0
    batch: int = 0
    carried: dict[str, Tensor] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    validations: list[Row] = field(default_factory=list)
    losses: Losses = field(default_factory=Losses)
    logged: dict[str, Tensor] = field(default_factory=dict)
    measured: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    earlier: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Wall time of all parts of the run."""
        return self.earlier + time.perf_counter() - self.started

    @property
    def rows(self) -> list[Row]:
        """Rows of the epochs and of the validations between their ends, in their order."""
        return sorted([*self.history, *self.validations], key=lambda row: row["updates"])

    @property
    def epoch_updates(self) -> int:
        """Weight updates since the last completed epoch."""
        return self.update - sum(int(row["epoch_updates"]) for row in self.history)

    def log(self, values: Mapping[str, Tensor]) -> None:
        """Add the recipe's values of a weight update."""
        for name, value in values.items():
            self.logged[name] = self.logged.get(name, 0) + value

    def measure(self, values: Mapping[str, Tensor]) -> None:
        """Add the values () that a callback measured in a weight update."""
        for name, value in values.items():
            pair = torch.stack([value, torch.ones_like(value)])
            self.measured[name] = self.measured.get(name, 0) + pair
