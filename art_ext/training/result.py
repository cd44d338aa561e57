"""The result of a training."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from art_ext.training.history import Row


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """Result of a run.

    Attributes:
        model: the network that was passed, trained. Its mode is unchanged. If the recipe has a head
            of its own, a module around the network that returns class scores.
        history: a row per epoch: loss, rate, radius, the recipe's values, validation, rows forward
            and backward.
        losses: (updates,) the loss of each weight update's whole minibatch.
        best: the state dict of the epoch with the best validation, on the CPU. None without
            validation.
        best_epoch: number of that epoch. None without validation.
        updates: number of weight updates done.
        forwards: forward rows of all processes, without those of the validation.
        backwards: backward rows of the same.
        validations: a row per validation between the ends of the epochs, with
            ``validation_every``. Its epoch is a fraction.
        first_layer_rows: rows that were sent to the first layer alone, and back from it. They are
            in neither of the two.
        seconds: wall time, of all parts of a resumed run.
        teacher: the state dict of the teacher that the run trained, on the CPU. None for recipes
            without one.
    """

    model: nn.Module
    history: list[Row]
    losses: Tensor
    best: dict[str, Tensor] | None
    best_epoch: int | None
    updates: int
    forwards: int
    backwards: int
    seconds: float
    teacher: dict[str, Tensor] | None = None
    first_layer_rows: int = 0
    validations: list[Row] = field(default_factory=list)
