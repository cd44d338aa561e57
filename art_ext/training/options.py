"""Keywords of a training run."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from art_ext.configuration.options import check_options, class_for, documented, options_of
from art_ext.configuration.training import LENGTHS, MEASURES, TrainingConfig
from art_ext.core.checks import check_choice
from art_ext.core.samples import with_tensors
from art_ext.storage.store import local_folder
from art_ext.tracking import check_trackers
from art_ext.training.augmentation import AUGMENTATIONS, Augmentation
from art_ext.training.cost import Cost
from art_ext.training.history import EpochEnd
from art_ext.training.optimizers import check_optimizer
from art_ext.training.schedules import Schedule, ScheduleObject, make_schedule
from art_ext.training.stepping import step_arguments, wants_metric

if TYPE_CHECKING:
    from art_ext.training.recipes import Recipe

ROUNDING = 1e-9  # a budget may be the quotient of two counts
Callback = Callable[[EpochEnd], Mapping[str, float]]

if TYPE_CHECKING:
    _Keywords = TrainingConfig
else:
    _TYPES = {
        "Augmentation": Augmentation,
        "Callback": Callback,
        "EpochEnd": EpochEnd,
        "Iterable": Iterable,
        "Schedule": Schedule,
        "ScheduleObject": ScheduleObject,
        "Tensor": Tensor,
        "os": os,
        "torch": torch,
    }
    _Keywords = class_for(TrainingConfig, "loop", _TYPES)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingOptions(_Keywords):
    """Keywords of ``train``: the fields of ``TrainingConfig`` that the loop takes."""

    def __post_init__(self) -> None:
        # a generator would serve one epoch only
        object.__setattr__(self, "callbacks", tuple(self.callbacks))
        for name in ("append", "extra_data", "validation_data"):
            object.__setattr__(self, name, with_tensors(getattr(self, name)))
        lengths = {name: getattr(self, name) for name in LENGTHS}
        given = {name: value for name, value in lengths.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"pass one of {', '.join(lengths)}, got {given or 'none'}")
        check_options(self)
        if not isinstance(self.schedule, str) and self.schedule_args:
            raise ValueError(
                f"schedule_args belong to a named schedule, got {self.schedule_args} beside an"
                " object"
            )
        if (self.resume or self.trackers) and self.checkpoint_dir is None:
            raise ValueError("resume and trackers need a checkpoint_dir")
        if isinstance(self.checkpoint_dir, (str, os.PathLike)):
            local_folder(self.checkpoint_dir, "train")
        if self.teacher is not None and not isinstance(self.teacher, nn.Module):
            raise ValueError(f"teacher must be an nn.Module, got {self.teacher!r}")
        check_trackers(self.trackers, self.tracker_args)
        check_optimizer(self)
        if self.crop_padding != "zeros" and self.augmentation != "crop_flip":
            raise ValueError(
                "crop_padding belongs to augmentation='crop_flip', got"
                f" {self.crop_padding!r} beside another augmentation"
            )
        check_measures(self.track)
        for name in ("extra_share", "extra_weight"):
            value = getattr(self, name)
            if self.extra_data is None and value != getattr(TrainingConfig, name):
                raise ValueError(f"{name} belongs to extra_data, got {value} without any")
        self._check_schedule()

    def _check_schedule(self) -> None:
        """Raise ValueError for a schedule that cannot be used."""
        steps = self.rate() is None
        wanted = step_arguments(self.schedule) if steps else ()
        if steps and self.warmup_epochs:
            raise ValueError(
                "warmup_epochs needs a named schedule or a function: an object's .step() sets the"
                " rate"
            )
        if wanted and self.schedule_every == "update":
            raise ValueError(
                f"{type(self.schedule).__name__}.step() needs {', '.join(map(repr, wanted))}, which"
                " changes once an epoch: pass schedule_every='epoch'"
            )
        if not isinstance(self.schedule_metric, str):
            raise ValueError(
                f"schedule_metric must be the name of a column, got {self.schedule_metric!r}"
            )
        if self.schedule_metric != "validation_loss" and not (
            wanted and wants_metric(self.schedule)
        ):
            raise ValueError(
                "schedule_metric belongs to a schedule whose .step() takes a metric, such as"
                f" ReduceLROnPlateau, got {self.schedule_metric!r} beside another schedule"
            )

    def given_teacher(self) -> nn.Module | None:
        """Return the caller's teacher, if there is one."""
        return self.teacher if isinstance(self.teacher, nn.Module) else None

    def rate(self) -> Schedule | None:
        """Return the schedule as a function of the epoch. None for an object with ``.step()``."""
        if isinstance(self.schedule, str):
            return make_schedule(self.schedule, **self.schedule_args)
        if hasattr(self.schedule, "step"):
            return None
        if not callable(self.schedule):
            raise ValueError(
                f"schedule must be a name, a function or have .step(), got {self.schedule!r}"
            )
        return self.schedule

    def total(self, recipe: Recipe, sizes: Sequence[int], samples: int) -> int:
        """Return the number of weight updates of the run.

        With ``passes``, this is the number that fits if no row is sent again.

        Args:
            recipe: of the run.
            sizes: rows of the minibatches of an epoch. Without ``passes`` only their number
                matters.
            samples: number of training samples.

        Raises:
            ValueError: if ``passes`` is below one update.
        """
        if self.updates is not None:
            return self.updates
        per_epoch = len(sizes) * recipe.replays
        if self.passes is not None:
            return updates_within(self.passes, self.cost(recipe), recipe.replays, sizes, samples)
        epochs = self.epochs or (self.equivalent_epochs or 0) / recipe.worth
        return max(1, round(epochs * per_epoch))

    def cost(self, recipe: Recipe) -> Cost:
        """Return the rows of an update per sample, those of ``clean_forwards`` included."""
        return recipe.cost().plus(Cost(self.clean_forwards, 0).times(recipe.networks))

    def augment(self) -> Augmentation | None:
        """Return the augmentation as a function."""
        if not isinstance(self.augmentation, str):
            return self.augmentation
        return partial(AUGMENTATIONS[self.augmentation], fill=self.crop_padding)

    def identity(self) -> dict[str, Any]:
        """Return the options that decide the final weights, as JSON values."""
        return {
            name: described(getattr(self, name))
            for name, (_, about) in options_of(type(self)).items()
            if about.decides == "weights"
        }


TrainingOptions.__doc__ = f"{TrainingOptions.__doc__}\n\n{documented(TrainingOptions)}\n"


def check_measures(names: Any) -> None:
    """Raise ValueError for a name that is no measure. The nearest one is named."""
    if isinstance(names, str) or not isinstance(names, Collection):
        kind = "the text " if isinstance(names, str) else ""
        raise ValueError(f"track must be a sequence of names, got {kind}{names!r}")
    for name in names:
        check_choice("track", name, MEASURES)


def updates_within(
    passes: float, cost: Cost, replays: int, sizes: Sequence[int], samples: int
) -> int:
    """Return the number of weight updates whose rows forward and backward fit into ``passes``.

    Args:
        passes: rows per sample.
        cost: of an update per sample. No row is sent again.
        replays: updates of a minibatch.
        sizes: rows of the minibatches of an epoch.
        samples: number of training samples.

    Raises:
        ValueError: if not even the first update fits.
    """
    row = sum(cost)
    first = sizes[0] * row / samples
    if passes * (1 + ROUNDING) < first:
        raise ValueError(
            f"passes must be at least {first:.4g}, the rows of one weight update per training"
            f" sample, got {passes}"
        )
    budget = passes * samples * (1 + ROUNDING)
    epochs = int(budget // (row * sum(sizes) * replays))
    remaining = budget - epochs * row * sum(sizes) * replays
    updates = epochs * len(sizes) * replays
    for size in sizes:
        more = min(replays, int(remaining // (row * size)))
        updates += more
        if more < replays:
            break
        remaining -= more * row * size
    return max(1, updates)


def described(value: object) -> object:
    """Return numbers, texts and lists of them unchanged, and the kind of anything else."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): described(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [described(one) for one in value]
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, torch.optim.Optimizer):
        return {
            "kind": type(value).__qualname__,
            **{name: described(one) for name, one in value.defaults.items()},
        }
    return getattr(value, "__qualname__", type(value).__qualname__)
