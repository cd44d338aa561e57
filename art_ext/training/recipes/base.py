"""Base classes of the recipes, which turn a minibatch into weight updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor, nn

from art_ext.core.checks import check_choice, check_not_negative
from art_ext.core.geometry import Box, check_ball, norm_name
from art_ext.training.cost import Cost
from art_ext.training.craft.base import Craft
from art_ext.training.heads import Head, IdentityHead
from art_ext.training.modes import BN_MODES
from art_ext.training.objectives.base import Objective
from art_ext.training.recipes.phase import Phase
from art_ext.training.step import Step


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe(ABC):
    """Base class of methods that turn a minibatch into ``replays`` weight updates.

    A recipe crafts examples and returns the loss of an update. It never steps an optimiser or a
    schedule, and uses no file. Its dataclass fields are its whole configuration, and it never
    changes. ``step.memory`` holds what the replays of one minibatch share. ``step.carried`` holds
    what passes from minibatch to minibatch, and the loop saves it.

    Attributes:
        name: key of the recipe in listings and records. Default: the name of the class.
        needs: the data and arguments that the method needs, for listings.
        paper: the publication, as ``"Authors. Title. Venue year."``
        head: makes class scores of the network's raw output. Default: the output itself.
        sgd_rate: learning rate of SGD on the command line. None: that of the data set.
        smooths: False for losses to which label smoothing and ``outer_loss`` do not apply.
        eager: why the network must not be compiled, for the message. Empty: it may be.
    """

    name: ClassVar[str]
    needs: ClassVar[str] = "labels"
    paper: ClassVar[str] = ""
    head: ClassVar[Head] = IdentityHead()
    sgd_rate: ClassVar[float | None] = None
    smooths: ClassVar[bool] = True
    eager: ClassVar[str] = ""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def __post_init__(self) -> None:  # noqa: B027  # most check something
        """Check the arguments."""

    @property
    def replays(self) -> int:
        """Weight updates of one minibatch."""
        return 1

    @property
    def worth(self) -> int:
        """Epochs that the method's paper counts for one pass over the data."""
        return 1

    @property
    def networks(self) -> int:
        """Networks that a row is sent through, each of which counts it: 1, or K of an ensemble."""
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

        It exceeds ``cost()`` if rows may be sent again, or if a teacher labels the samples.
        """
        return self.cost()

    def phases(self, taught: bool = False) -> tuple[Phase, ...]:
        """Return the phases of a run, one for most recipes.

        Args:
            taught: True if the caller has a teacher, whose training is left out.
        """
        return (Phase(self.name, self),)

    @abstractmethod
    def loss(self, step: Step) -> Tensor:
        """Return the scalar to minimise in this update, with the graph of the parameters."""

    def after_backward(self, step: Step) -> None:  # noqa: B027  # most recipes need nothing
        """Use the gradients of an update before the optimiser steps."""

    def check(self, box: Box) -> None:  # noqa: B027  # most have nothing to check
        """Raise ValueError for a configuration that does not fit inputs in this box."""

    @property
    def ascends_labels(self) -> bool:
        """True if crafting ascends the run's ``craft_loss``."""
        return False

    def check_losses(self, label_smoothing: float, outer_loss: str, craft_loss: str) -> None:
        """Raise ValueError for options of the loss that the recipe would leave out."""
        if label_smoothing and not self.smooths:
            raise ValueError(
                f"label_smoothing does not apply to the loss of {self.name}, got {label_smoothing}"
            )
        if outer_loss != "ce" and not self.smooths:
            raise ValueError(
                f"outer_loss does not apply to the loss of {self.name}, got {outer_loss!r}"
            )
        if craft_loss != "ce" and not self.ascends_labels:
            raise ValueError(
                "craft_loss is for recipes whose crafting ascends the cross-entropy of the labels,"
                f" such as pgd, got {craft_loss!r} beside {self.name}"
            )

    def check_compile(self, compiled: bool) -> None:
        """Raise ValueError for a compiled network if the recipe cannot train one."""
        if compiled and self.eager:
            raise ValueError(f"compile must be False for {self.name}, {self.eager}, got True")

    def fitted(self, model: nn.Module, rows: Tensor, seed: int) -> Recipe:
        """Return the recipe with the arguments that depend on the network.

        Args:
            model: the network, which may be changed in place.
            rows: (r, *S) one or two samples, on any device.
            seed: of the weights of new layers.
        """
        return self

    def build(self, make: Callable[[int], nn.Module], seed: int) -> nn.Module:
        """Return the network to train.

        Args:
            make: makes a network from a seed.
            seed: of the run.
        """
        return make(seed)

    def settings(self) -> dict[str, Any]:
        """Return name, fields and a head of its own for the record of a run."""
        own = {} if isinstance(self.head, IdentityHead) else {"head": repr(self.head)}
        return {
            "name": self.name,
            **{field.name: getattr(self, field.name) for field in fields(self)},
            **own,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class BallRecipe(Recipe):
    """Recipe that perturbs its inputs within a ball.

    Attributes:
        eps: radius in the units of x (8/255, never 8). 0 trains on the inputs themselves.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``, in any usual spelling.
    """

    needs: ClassVar[str] = "labels, eps"
    eps: float = 8 / 255
    norm: str = "linf"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("eps", self.eps)
        object.__setattr__(self, "norm", norm_name(self.norm))

    @property
    def radius(self) -> float:
        """eps."""
        return self.eps

    def check(self, box: Box) -> None:
        """Raise ValueError for a radius that covers the box, such as 8 instead of 8/255."""
        if self.eps:
            check_ball(self.norm, self.eps, box)


@dataclass(frozen=True, kw_only=True, eq=False)
class CraftingRecipe(BallRecipe):
    """Recipe that crafts by passes of its own.

    Attributes:
        bn_mode: mode of BatchNorm while crafting. ``"eval"`` uses the running statistics and does
            not change them. ``"train"`` uses the batch's statistics and updates the running ones.
            ``"batch"`` uses the batch's statistics and updates nothing.
    """

    bn_mode: str = "eval"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("bn_mode", self.bn_mode, BN_MODES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Composition(Recipe):
    """Recipe that crafts examples, and minimises the mean of an objective at them.

    A subclass names its craft and its objective, which check the arguments that they are given.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cost()  # makes both parts, which check their arguments

    @property
    @abstractmethod
    def crafting(self) -> Craft:
        """Way to craft the examples."""

    @property
    def ascends_labels(self) -> bool:
        """True if the craft does."""
        return self.crafting.ascends_labels

    @property
    @abstractmethod
    def objective(self) -> Objective:
        """Loss of a row."""

    def cost(self) -> Cost:
        """Return the rows of the craft and of the objective."""
        return self.crafting.cost().plus(self.objective.cost())

    def craft(self, step: Step) -> Tensor:
        """Return (r, *S) examples."""
        return self.crafting(step)

    def loss(self, step: Step) -> Tensor:
        """Return the mean of the objective over the minibatch."""
        return step.mean(self.objective(step, self.craft(step)))
