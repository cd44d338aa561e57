"""Keywords of a training run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from art_ext.core.checks import (
    check_choice,
    check_count,
    check_flag,
    check_not_negative,
    check_positive,
    check_share,
)
from art_ext.core.geometry import ClipValues
from art_ext.training.augmentation import AUGMENTATIONS, Augmentation
from art_ext.training.schedules import Schedule, make_schedule
from art_ext.training.stepping import step_arguments, wants_metric

if TYPE_CHECKING:
    import os

    from art_ext.training.history import EpochEnd
    from art_ext.training.recipes import Recipe

LENGTHS = ("epochs", "updates", "equivalent_epochs", "passes")
OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS = ("no", "bf16", "fp16")
ROUNDING = 1e-9  # a budget may be the quotient of two counts
Callback = Callable[["EpochEnd"], Mapping[str, float]]
ElementwiseSchedule = Any  # anything with .step()


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingOptions:
    """Keywords of ``train``.

    Attributes:
        epochs, updates, equivalent_epochs, passes: the length of the run, by one of the four.
            ``epochs`` counts passes over the data, ``updates`` weight updates.
            ``equivalent_epochs`` counts epochs as the papers do: one pass of Free is m epochs, one
            of ATCD T K. They are not of equal cost. ``passes`` is a budget of rows forward plus
            rows backward per training sample, as the result counts them. The run ends with the last
            update inside the budget. Natural training spends 2 per epoch.
        batch_size: rows of a minibatch, over all processes. Not used with a loader.
        drop_last: omit the last minibatch of an epoch if it has fewer rows. A loader drops its
            own.
        optimizer: ``"sgd"``, ``"adam"``, ``"adamw"``, or the caller's own over the model's
            parameters.
        learning_rate, momentum, nesterov, weight_decay: of the named optimisers. The caller's own
            optimiser keeps its settings.
        schedule: ``"constant"``, ``"piecewise"``, ``"cosine"``, ``"cyclic"`` or ``"halving"``. Or a
            function of the fractional epoch and the number of epochs that returns a factor of the
            rate. Or an object with ``.step()``, which is called without arguments if possible. If
            it requires ``metrics`` it gets a metric, if it requires ``epoch`` the number of epochs
            done.
        schedule_args: arguments of a named schedule, such as ``{"milestones": (30, 36)}``.
        schedule_every: time of the calls of ``.step()``: ``"epoch"`` or ``"update"``.
        schedule_metric: column of the history for a schedule whose ``.step()`` takes a
            metric, such as ``ReduceLROnPlateau``. ``"validation_loss"`` is ``"loss"`` in a run
            without validation.
        warmup_epochs, eps_warmup_epochs: epochs over which the rate, or the recipe's radius, grows
            from 0.
        label_smoothing: s of the outer loss: 1 - s on the label, s / (C - 1) on each other class.
        validation: fraction of the training data held out (below 1), or a number of samples. 0:
            none.
        validation_data: samples to validate on instead, (x, y).
        validation_eps, validation_steps: of the PGD attack of the validation. None: the
            recipe's radius. With radius 0 the best checkpoint is that of the best clean accuracy.
        augmentation: ``"crop_flip"``, or a function of (x, ids, seed, epoch).
        ema: decay of an average of the weights. The average is validated, kept as best, and loaded
            into the model at the end.
        precision: precision of autocast, ``"no"``, ``"bf16"`` or ``"fp16"``.
        freeze_eval_modules: keep submodules in eval mode that are in eval mode when the training
            begins. BatchNorm keeps its statistics and dropout is off. If the whole network is in
            eval mode, only normalisation layers whose parameters all have ``requires_grad=False``
            stay in it. False puts every module in train mode.
        channels_last, compile: run with that memory layout, or under ``torch.compile``.
        clip_values: the box (lower, upper).
        seed: seed of the order, the noise, and the model's own draws (dropout).
        checkpoint_dir: folder for checkpoints, history and weights. None writes nothing.
        checkpoint_every: weight updates between checkpoints. None saves at the end of each epoch.
        resume: continue from the newest checkpoint in the folder, if there is one.
        callbacks: functions called at the end of each epoch. Their results are entered into the
            history.
        progress: show a bar.
        trackers: names of Accelerate's trackers, such as ``("tensorboard",)``. They write into
            ``checkpoint_dir``.
        device: device to train on. None: the model's.
    """

    epochs: int | None = None
    updates: int | None = None
    equivalent_epochs: float | None = None
    passes: float | None = None
    batch_size: int = 128
    drop_last: bool = False
    optimizer: str | torch.optim.Optimizer = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str | Schedule | ElementwiseSchedule = "constant"
    schedule_args: Mapping[str, Any] = field(default_factory=dict)
    schedule_every: str = "epoch"
    schedule_metric: str = "validation_loss"
    warmup_epochs: float = 0.0
    eps_warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    validation: float = 0.0
    validation_data: tuple[Tensor, Tensor] | None = None
    validation_eps: float | None = None
    validation_steps: int = 10
    augmentation: str | Augmentation | None = None
    ema: float | None = None
    precision: str = "no"
    freeze_eval_modules: bool = True
    channels_last: bool = False
    compile: bool = False
    clip_values: ClipValues = (0.0, 1.0)
    seed: int = 0
    checkpoint_dir: str | os.PathLike[str] | None = None
    checkpoint_every: int | None = None
    resume: bool = False
    callbacks: Iterable[Callback] = ()
    progress: bool = False
    trackers: tuple[str, ...] = ()
    device: torch.device | str | None = None

    def __post_init__(self) -> None:
        # a generator would serve one epoch only
        object.__setattr__(self, "callbacks", tuple(self.callbacks))
        lengths = {name: getattr(self, name) for name in LENGTHS}
        given = {name: value for name, value in lengths.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"pass one of {', '.join(lengths)}, got {given or 'none'}")
        for name in ("equivalent_epochs", "passes"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        for name in ("epochs", "updates", "checkpoint_every"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        check_count("batch_size", self.batch_size)
        check_count("seed", self.seed, least=0)
        check_count("validation_steps", self.validation_steps)
        check_positive("learning_rate", self.learning_rate)
        for name in ("weight_decay", "warmup_epochs", "eps_warmup_epochs", "validation"):
            check_not_negative(name, getattr(self, name))
        for name in ("momentum", "label_smoothing"):
            check_share(name, getattr(self, name))
        if self.ema is not None:
            check_share("ema", self.ema)
        for name in ("drop_last", "freeze_eval_modules"):
            check_flag(name, getattr(self, name))
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("schedule_every", self.schedule_every, ("epoch", "update"))
        if isinstance(self.optimizer, str):
            check_choice("optimizer", self.optimizer, OPTIMIZERS)
        if isinstance(self.augmentation, str):
            check_choice("augmentation", self.augmentation, tuple(AUGMENTATIONS))
        if not isinstance(self.schedule, str) and self.schedule_args:
            raise ValueError(
                f"schedule_args belong to a named schedule, got {self.schedule_args} beside an"
                " object"
            )
        if (self.resume or self.trackers) and self.checkpoint_dir is None:
            raise ValueError("resume and trackers need a checkpoint_dir")
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
            return updates_within(self.passes, recipe, sizes, samples)
        epochs = self.epochs or (self.equivalent_epochs or 0) / recipe.worth
        return max(1, round(epochs * per_epoch))

    def augment(self) -> Augmentation | None:
        """Return the augmentation as a function."""
        return (
            AUGMENTATIONS[self.augmentation]
            if isinstance(self.augmentation, str)
            else self.augmentation
        )

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Create the optimiser over the model's parameters."""
        if not isinstance(self.optimizer, str):
            own = set(model.parameters())
            if not all(
                weight in own for group in self.optimizer.param_groups for weight in group["params"]
            ):
                raise ValueError(
                    "the optimizer must be one over the model's parameters, got one with others"
                )
            return self.optimizer
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise ValueError(
                "the model must have a parameter to train, got none that requires a gradient"
            )
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters,
                self.learning_rate,
                momentum=self.momentum,
                nesterov=self.nesterov,
                weight_decay=self.weight_decay,
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, self.learning_rate, weight_decay=self.weight_decay)

    def identity(self) -> dict[str, Any]:
        """Return the options that decide the final weights, as JSON values."""
        free = {
            "checkpoint_dir",
            "checkpoint_every",
            "resume",
            "callbacks",
            "progress",
            "trackers",
            "device",
        }
        return {
            one.name: _described(getattr(self, one.name))
            for one in fields(self)
            if one.name not in free
        }


def updates_within(passes: float, recipe: Recipe, sizes: Sequence[int], samples: int) -> int:
    """Return the number of weight updates whose rows forward and backward fit into ``passes``.

    ``passes`` is per sample. No row is sent again.

    Raises:
        ValueError: if not even the first update fits.
    """
    first = sizes[0] * sum(recipe.cost()) / samples
    if passes * (1 + ROUNDING) < first:
        raise ValueError(
            f"passes must be at least {first:.4g}, the rows of one weight update per training"
            f" sample, got {passes}"
        )
    budget = passes * samples * (1 + ROUNDING)
    row = sum(recipe.cost())
    epochs = int(budget // (row * sum(sizes) * recipe.replays))
    remaining = budget - epochs * row * sum(sizes) * recipe.replays
    updates = epochs * len(sizes) * recipe.replays
    for size in sizes:
        more = min(recipe.replays, int(remaining // (row * size)))
        updates += more
        if more < recipe.replays:
            break
        remaining -= more * row * size
    return max(1, updates)


def _described(value: object) -> object:
    """Return numbers, texts and lists of them unchanged, and the kind of anything else."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _described(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_described(one) for one in value]
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, torch.optim.Optimizer):
        return {
            "kind": type(value).__qualname__,
            **{name: _described(one) for name, one in value.defaults.items()},
        }
    return getattr(value, "__qualname__", type(value).__qualname__)
