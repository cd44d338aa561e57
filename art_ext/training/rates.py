"""The learning rate of a run: a function of the epoch, or a schedule with ``.step()``."""

from __future__ import annotations

from typing import Any

import torch

from art_ext.training.engine import Engine
from art_ext.training.history import Row
from art_ext.training.options import TrainingOptions
from art_ext.training.schedules import warm_up
from art_ext.training.stepping import call_step, check_metric, metric_of, wants_metric
from art_ext.training.validation import Validation


def check_schedule(options: TrainingOptions, validation: Validation | None) -> None:
    """Raise ValueError for a schedule that fits neither the optimiser nor the validation."""
    if getattr(options.schedule, "optimizer", options.optimizer) is not options.optimizer:
        raise ValueError(
            "a schedule must be one of the optimiser that trains: pass its own as optimizer"
        )
    if options.rate() is None and wants_metric(options.schedule):
        robust = validation is not None and validation.eps > 0
        check_metric(options.schedule_metric, validation is not None, robust)


class Rate:
    """The learning rate.

    Args:
        options: of the run.
        optimizer: whose rate is set.
    """

    def __init__(self, options: TrainingOptions, optimizer: torch.optim.Optimizer) -> None:
        self.options = options
        self.optimizer = optimizer
        self.function = options.rate()
        self.schedule: Any = options.schedule
        if self.function is not None:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])

    @property
    def current(self) -> float:
        """Rate of the first group of parameters."""
        return float(self.optimizer.param_groups[0]["lr"])

    def set(self, time: float, epochs: float) -> None:
        """Write the rate at an epoch into the optimiser, unless a schedule with ``.step()`` does.

        Args:
            time: the fractional epoch.
            epochs: length of the run.
        """
        if self.function is None:
            return
        factor = self.function(time, epochs) * warm_up(time, self.options.warmup_epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def end_update(self) -> None:
        """Step a schedule that steps once an update."""
        if self.function is None and self.options.schedule_every == "update":
            self.schedule.step()

    def end_epoch(self, row: Row, epoch: int, engine: Engine) -> None:
        """Step a schedule that steps once an epoch, and enter its rate into the row."""
        if self.function is not None or self.options.schedule_every != "epoch":
            return
        metric = None
        if wants_metric(self.schedule):
            # a callback's column may differ between processes, and the rate must not
            metric = engine.agreed(metric_of(row, self.options.schedule_metric))
        call_step(self.schedule, epoch, metric)
        row["learning_rate"] = self.current

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state of the schedule, or None if it has none."""
        state: dict[str, Any] | None = (
            self.schedule.state_dict() if hasattr(self.schedule, "state_dict") else None
        )
        return state

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Restore the state of the schedule.

        Raises:
            ValueError: for a schedule with ``.step()`` that has no state to restore.
        """
        if self.function is None and state is None:
            raise ValueError(
                "a schedule must have state_dict() and load_state_dict() to be resumed"
            )
        if state is not None:
            self.schedule.load_state_dict(state)
