"""Base classes of the recipes, which turn a minibatch into weight updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from art_ext.core.checks import (
    check_choice,
    check_count,
    check_flag,
    check_not_negative,
    check_positive,
)
from art_ext.core.geometry import Box, check_ball, norm_name
from art_ext.training.engine import Step
from art_ext.training.modes import BN_MODES

Tolerance = int | Mapping[int, int | None] | None


class Cost(NamedTuple):
    """Rows that one weight update sends through the network, per sample of its minibatch.

    Attributes:
        forwards: rows forward.
        backwards: rows backward. A row counts once for each differentiation of its forward.
    """

    forwards: int
    backwards: int


def check_tolerance(tolerance: Tolerance) -> None:
    """Raise ValueError unless the tolerance is None, an integer >= 0, or a schedule of these.

    A schedule must begin at epoch 0.
    """
    schedule = tolerance if isinstance(tolerance, Mapping) else {0: tolerance}
    whole = [*schedule, *(value for value in schedule.values() if value is not None)]
    if 0 in schedule and all(
        isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in whole
    ):
        return
    raise ValueError(
        "tolerance must be an integer >= 0, None, or a schedule {epoch: tolerance} of such that"
        f" begins at epoch 0, got {tolerance!r}"
    )


def tolerance_at(tolerance: Tolerance, epoch: int) -> int | None:
    """Return the tolerance of an epoch, which is a schedule's newest entry."""
    if not isinstance(tolerance, Mapping):
        return tolerance
    return tolerance[max(start for start in tolerance if start <= epoch)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe(ABC):
    """Base class of methods that turn a minibatch into ``replays`` weight updates.

    A recipe crafts examples and returns the loss of an update. It never steps an optimiser or a
    schedule, and uses no file. Its dataclass fields are its whole configuration, and it never
    changes. ``step.memory`` holds what the replays of one minibatch share. ``step.carried`` holds
    what passes from minibatch to minibatch, and the loop saves it.
    """

    name: ClassVar[str]

    @property
    def replays(self) -> int:
        """Weight updates of one minibatch."""
        return 1

    @property
    def worth(self) -> int:
        """Epochs that the method's paper counts for one pass over the data."""
        return 1

    @property
    def radius(self) -> float:
        """Radius of crafting after warm-up. 0 for recipes that craft nothing."""
        return 0.0

    @abstractmethod
    def cost(self) -> Cost:
        """Return the rows forward and backward per weight update and sample."""

    def largest_cost(self) -> Cost:
        """Return the largest cost of an update per sample.

        It exceeds ``cost()`` if rows may be sent again.
        """
        return self.cost()

    @abstractmethod
    def loss(self, step: Step) -> Tensor:
        """Return the scalar to minimise in this update, with the graph of the parameters."""

    def after_backward(self, step: Step) -> None:  # noqa: B027  # most recipes need nothing
        """Use the gradients of an update before the optimiser steps."""

    def check(self, box: Box) -> None:  # noqa: B027  # most have nothing to check
        """Raise ValueError for a configuration that does not fit inputs in this box."""

    def settings(self) -> dict[str, Any]:
        """Return name and fields for the record of a run."""
        return {
            "name": self.name,
            **{field.name: getattr(self, field.name) for field in fields(self)},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class BallRecipe(Recipe):
    """Recipe that perturbs its inputs within a ball.

    Attributes:
        eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``, in any usual spelling.
        bn_mode: mode of BatchNorm while crafting. ``"eval"`` uses the running statistics and does
            not change them. ``"train"`` uses the batch's statistics and updates the running ones.
            ``"batch"`` uses the batch's statistics and updates nothing.
    """

    least_steps: ClassVar[int] = 1  # the smallest num_steps that makes sense
    eps: float = 8 / 255
    norm: str = "linf"
    bn_mode: str = "eval"

    def __post_init__(self) -> None:
        check_not_negative("eps", self.eps)
        object.__setattr__(self, "norm", norm_name(self.norm))
        check_choice("bn_mode", self.bn_mode, BN_MODES)
        check_flag("boxed_start", getattr(self, "boxed_start", True))
        if getattr(self, "step_size", None) is not None:
            check_positive("step_size", self.step_size)  # type: ignore[attr-defined]
        if hasattr(self, "num_steps"):
            check_count("num_steps", self.num_steps, least=self.least_steps)

    @property
    def radius(self) -> float:
        """eps."""
        return self.eps

    def check(self, box: Box) -> None:
        """Raise ValueError for a radius that covers the box, such as 8 instead of 8/255."""
        if self.eps:
            check_ball(self.norm, self.eps, box)
