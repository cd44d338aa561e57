"""The options of training: of ``art-ext train``, its file, ``train`` and the ART trainers.

A new option is a field here, and the line of code that uses it. The groups are the headings of
``art-ext train --help``. Values are checked where they are used, in ``art_ext.training.options``
and ``art_ext.training.runs.configuration``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.configuration import shared
from art_ext.configuration.data import DataOptions
from art_ext.configuration.options import COMMAND, EVERY, LOOP, RUN, option
from art_ext.configuration.values import RECIPES

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    import torch
    from torch import Tensor

    from art_ext.training.augmentation import Augmentation
    from art_ext.training.options import Callback
    from art_ext.training.schedules import Schedule, ScheduleObject

PYTHON = ("loop", "art")
TABLE = "key=value,key=value"
MEASURES = ("stability", "lipschitz", "loss-increment", "hessian")
LENGTHS = ("epochs", "updates", "equivalent_epochs", "passes")
_length = partial(option, panel="Length and batches")
_update = partial(option, panel="Weight updates")
_measure = partial(option, panel="Selection and figures")
_machine = partial(option, panel="Machine")


@dataclass(frozen=True, kw_only=True)
class _Run(DataOptions):
    """Method, data, network and folder."""

    out: str = option(
        MISSING,
        "Run folder: new or empty, or an earlier one with --resume or --overwrite.",
        hosts=COMMAND,
        metavar="FOLDER",
    )
    preset: str | None = option(
        None,
        "Take the settings of a paper (art-ext presets lists all). The command line and the file"
        " win over them.",
        decides="",
        metavar="NAME",
    )
    recipe: str = option(
        MISSING,
        f"Training method: {', '.join(RECIPES)}, or FILE.py:CLASS, one of your own (art-ext recipes"
        " lists all). Needed, here, in the configuration file or by a preset.",
    )
    craft: str | None = option(
        None,
        "Examples to train on, for rce, mmlda and mmc: those of pgd, fast, trades, fast-trades or"
        " backward-smoothing. By default the inputs themselves.",
        of=("recipe",),
    )
    data: str = option(MISSING, shared.with_more(shared.DATA, "It holds both splits."))
    model: str = option(
        MISSING,
        f"{shared.MODEL.help} By default the network that belongs to the data.",
        by_data=True,
    )
    eps: float = option(
        MISSING,
        "Radius of crafting and of the figures, such as 8/255. By default that of the data.",
        unit=shared.INPUT,
        by_data=True,
    )
    seed: int = option(
        0,
        replace(
            shared.SEED, doc="seed of the order, the noise, and the model's own draws (dropout)."
        ),
    )
    recipe_args: Mapping[str, Any] = option(
        dict, "Arguments of the recipe.", metavar=TABLE, of=("recipe",)
    )
    teacher: str | torch.nn.Module | None = option(
        None,
        "Model that gives the soft labels of distillation, such as the folder of a training. By"
        " default the run trains one.",
        doc="""network from (r, *S) to class scores (r, C) that gives the soft labels of a recipe
        with a teacher. None: the run trains one.""",
        hosts=LOOP,
        of=("recipe",),
    )
    model_args: Mapping[str, str] = option(dict, replace(shared.MODEL_ARGS, of=("model",)))
    weights: str | None = option(
        None,
        shared.with_more(
            shared.WEIGHTS, "By default pretrained for a library's model, else drawn by the seed."
        ),
    )
    normalize: str | None = option(None, replace(shared.NORMALIZE, of=("model",)))
    untrained: bool = option(False, shared.UNTRAINED)
    trust_checkpoint: bool = option(False, shared.TRUST_CHECKPOINT)
    config: Path | None = option(None, shared.CONFIG)
    resume: bool = option(
        False,
        "Go on from the newest checkpoint, if there is one.",
        doc="continue from the newest checkpoint in the folder, if there is one.",
        hosts=("cli", "loop", "art"),
        decides="",
    )
    overwrite: bool = option(False, "Begin again in the folder of an earlier run.", hosts=COMMAND)
    quiet: bool = option(False, shared.QUIET)


@dataclass(frozen=True, kw_only=True)
class _Length:
    """Length of the run, and its batches."""

    epochs: int | None = _length(
        None,
        "Passes over the data.",
        doc="""length of the run in passes over the data. The length is given by one of
        ``epochs``, ``updates``, ``equivalent_epochs`` and ``passes``.""",
        hosts=LOOP,
        range=">= 1",
    )
    equivalent_epochs: float | None = _length(
        None,
        "Instead of epochs: epochs as the papers count them, no equal cost.",
        doc="""length in epochs as the papers count: one pass of Free is m epochs, one of ATCD T K.
        They are not of equal cost.""",
        hosts=LOOP,
        range="> 0",
    )
    passes: float | None = _length(
        None,
        "Instead of epochs: rows forward plus backward per training sample, as counted.",
        doc="""length as a budget of rows forward plus rows backward per training sample, as the
        result counts them. The run ends with the last update inside the budget. Natural training
        spends 2 per epoch.""",
        hosts=LOOP,
        range="> 0",
    )
    updates: int | None = _length(
        None,
        "Instead of epochs: weight updates.",
        doc="length in weight updates.",
        hosts=LOOP,
        range=">= 1",
    )
    batch_size: int = _length(
        128,
        "Rows of a minibatch, over all processes.",
        doc="rows of a minibatch, over all processes. Not used with a loader.",
        hosts=EVERY,
        range=">= 1",
        by_data=True,
    )
    drop_last: bool = _length(
        False,
        "Leave out a last minibatch with fewer rows.",
        doc="""omit the last minibatch of an epoch if it has fewer rows. A loader drops its
        own.""",
        hosts=EVERY,
    )
    n: int | None = _length(None, "Take the first n training samples.", range=">= 1")
    append: tuple[str, ...] | list[str] | tuple[Tensor, Tensor] | None = _length(
        None,
        "Files of samples to train on as well, such as those of art-ext craft, separated by commas."
        " None of them is held out.",
        doc="""samples to train on as well, (x, y) or names of ``.npz`` files, such as those of
        ``fixed_set``. They are never held out for the validation.""",
        hosts=EVERY,
        metavar="FILE,FILE",
    )
    extra_data: tuple[str, ...] | list[str] | tuple[Tensor, Tensor] | None = _length(
        None,
        "Files of samples with pseudo-labels, separated by commas, that fill a share of each"
        " minibatch. An epoch is a pass over the other samples.",
        doc="""samples with pseudo-labels, (x, y) or names of ``.npz`` files, as ``pseudo_labels``
        makes them. They fill a share of each minibatch, and are never held out. An epoch is a pass
        over the other samples.""",
        hosts=EVERY,
        metavar="FILE,FILE",
    )
    extra_share: float = _length(
        0.5,
        "Share of each minibatch that the extra data fill.",
        doc="share of each minibatch that ``extra_data`` fill.",
        hosts=EVERY,
        range="(0, 1)",
    )
    extra_weight: float = _length(
        1.0,
        "Weight of an extra sample in the mean of the loss. Other samples have 1.",
        doc="""weight w of each row of ``extra_data`` in the mean ``sum(w l) / sum(w)`` of the
        loss. Other rows have 1.""",
        hosts=EVERY,
        range=">= 0",
    )
    augmentation: str | Augmentation | None = _length(
        None,
        "Augmentation of the images: none or crop_flip.",
        doc='``"crop_flip"``, or a function of (x, ids, seed, epoch).',
        hosts=EVERY,
        choices=("crop_flip",),
        off="none",
        by_data=True,
    )
    crop_padding: str = _length(
        "zeros",
        "Pixels around an image that crop_flip crops from: zeros, or the image reflected.",
        doc="""pixels around an image that ``"crop_flip"`` crops from: ``"zeros"``, or ``"reflect"``
        for the image mirrored at its edge.""",
        hosts=EVERY,
        choices=("zeros", "reflect"),
    )
    clip_values: tuple[float, float] = _length(
        (0.0, 1.0),
        "The box: lower,upper.",
        doc="the box (lower, upper).",
        hosts=LOOP,
        unit=shared.INPUT,
        shown="0,1",
    )


@dataclass(frozen=True, kw_only=True)
class _Updates:
    """Optimiser, schedules and loss of the weight updates."""

    optimizer: str | torch.optim.Optimizer = _update(
        "sgd",
        "Optimiser: sgd, adam or adamw.",
        doc="""``"sgd"``, ``"adam"``, ``"adamw"``, or the caller's own over the model's
        parameters.""",
        hosts=LOOP,
        choices=("sgd", "adam", "adamw"),
        by_data=True,
    )
    learning_rate: float = _update(
        0.1,
        "Learning rate, the largest of the schedule.",
        doc="""learning rate of a named optimiser, the largest of the schedule. The caller's own
        optimiser keeps its settings.""",
        hosts=LOOP,
        range="> 0",
        by_data=True,
    )
    scale_rate: bool = _update(
        False,
        "Multiply the rate by batch_size / reference_batch.",
        doc="""multiply the learning rate by ``batch_size / reference_batch`` (the linear rule). The
        history holds the rate that was used.""",
        hosts=LOOP,
    )
    reference_batch: int = _update(
        128,
        "Batch size that the learning rate belongs to, for scale_rate.",
        hosts=LOOP,
        range=">= 1",
    )
    momentum: float = _update(
        0.9, "Momentum of sgd.", doc='momentum of ``"sgd"``.', hosts=LOOP, range="[0, 1)"
    )
    nesterov: bool = _update(
        False,
        "Nesterov momentum, of sgd.",
        doc='True: Nesterov momentum, of ``"sgd"``.',
        hosts=LOOP,
    )
    weight_decay: float = _update(
        5e-4,
        "Weight decay of the optimiser.",
        doc="weight decay of a named optimiser.",
        hosts=LOOP,
        range=">= 0",
        by_data=True,
    )
    decay: str = _update(
        "all",
        "Tensors that weight_decay applies to: all, or weights, those of two dimensions or more.",
        doc="""tensors that ``weight_decay`` applies to: ``"all"``, or ``"weights"``, those of two
        dimensions or more. Biases and the parameters of BatchNorm have one.""",
        hosts=LOOP,
        choices=("all", "weights"),
    )
    gradient_centralisation: str = _update(
        "none",
        "Subtract the mean of each gradient of sgd, weight decay included: none, all or conv.",
        doc="""subtract from each gradient, weight decay included, its mean over all axes but the
        first, before momentum. ``"all"``: of tensors of two dimensions or more (GC). ``"conv"``: of
        four or more (GCC). Of ``"sgd"`` only.""",
        hosts=LOOP,
        choices=("none", "all", "conv"),
    )
    schedule: str | Schedule | ScheduleObject = _update(
        "constant",
        "Schedule of the rate: constant, piecewise, cosine, cyclic, halving.",
        doc="""``"constant"``, ``"piecewise"``, ``"cosine"``, ``"cyclic"`` or ``"halving"``. Or a
        function of the fractional epoch and the number of epochs that returns a factor of the
        rate. Or an object with ``.step()``, which is called without arguments if possible. If it
        requires ``metrics`` it gets a metric, if it requires ``epoch`` the number of epochs
        done.""",
        hosts=LOOP,
        by_data=True,
    )
    schedule_args: Mapping[str, Any] = _update(
        dict,
        "Arguments of the schedule, such as milestones=(30,36).",
        doc='arguments of a named schedule, such as ``{"milestones": (30, 36)}``.',
        hosts=LOOP,
        metavar=TABLE,
        of=("schedule",),
    )
    warmup_epochs: float = _update(
        0.0,
        "Epochs over which the rate grows from 0.",
        doc="epochs over which the rate grows from 0.",
        hosts=LOOP,
        range=">= 0",
    )
    eps_warmup_epochs: float = _update(
        0.0,
        "Epochs over which the radius grows from 0.",
        doc="epochs over which the recipe's radius grows from 0.",
        hosts=EVERY,
        range=">= 0",
        by_data=True,
    )
    label_smoothing: float = _update(
        0.0,
        "Share of the label given to the other classes.",
        doc="s of the outer loss: 1 - s on the label, s / (C - 1) on each other class.",
        hosts=EVERY,
        range="[0, 1)",
    )
    outer_loss: str = _update(
        "ce",
        "Loss of the labels that the weights minimise: ce, or ce turning into dlr or cw.",
        doc="""loss of the labels that the weights minimise. ``"ce"`` is the cross-entropy CE.
        ``"dlr"`` and ``"cw"`` are ``(1 - b) CE + b L`` with ``b = loss_ramp t / T`` at epoch t of
        T, where L is the difference of logits ratio, or the margin of Carlini and Wagner.""",
        hosts=EVERY,
        choices=("ce", "dlr", "cw"),
    )
    craft_loss: str = _update(
        "ce",
        "Loss of the labels that crafting ascends: ce, or ce turning into dlr or cw.",
        doc="""the same of the loss that crafting ascends, for recipes that ascend the
        cross-entropy of the labels.""",
        hosts=EVERY,
        choices=("ce", "dlr", "cw"),
    )
    loss_ramp: float = _update(
        0.8,
        "Share of dlr or cw in the loss at the end of the run, which grows from 0.",
        doc="share of L in ``outer_loss`` and ``craft_loss`` at the end of the run.",
        hosts=EVERY,
        range="[0, 1]",
    )
    clean_forwards: int = _update(
        0,
        "Passes of the clean minibatch for BatchNorm: 1 after each update, 2 before it too.",
        doc="""forwards of the clean minibatch in train mode, which change the statistics of
        BatchNorm and nothing else: 0, 1 (after the weight update) or 2 (before it too). They are
        counted.""",
        hosts=EVERY,
        range="0 to 2",
    )
    ema: float | None = _update(
        None,
        "Decay of an average of the weights. 0: none.",
        doc="""decay of an average of the weights. The average is validated, kept as best, and
        loaded into the model at the end.""",
        hosts=EVERY,
        range="[0, 1)",
        off=0.0,
    )
    freeze_eval_modules: bool = _update(
        True,
        "Submodules that the factory leaves in eval mode stay there.",
        doc="""keep submodules in eval mode that are in eval mode when the training begins.
        BatchNorm keeps its statistics and dropout is off. If the whole network is in eval mode,
        only normalisation layers whose parameters all have ``requires_grad=False`` stay in it.
        False puts every module in train mode.""",
        hosts=EVERY,
    )


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """Validation, and the figures of the trained network."""

    validation: float = _measure(
        0.0,
        "Share (or number) of training samples held out to choose the best epoch. 0: none.",
        doc="""fraction of the training data held out (below 1), or a number of samples. 0:
        none.""",
        hosts=EVERY,
        range=">= 0",
        by_data=True,
    )
    validation_eps: float | None = _measure(
        None,
        "Radius of the attack of the validation (default the recipe's).",
        doc="""radius of the PGD attack of the validation. None: the recipe's. With 0 the best
        checkpoint is that of the best clean accuracy.""",
        hosts=EVERY,
        unit=shared.INPUT,
    )
    validation_steps: int = _measure(
        10,
        "Steps of PGD in the validation.",
        doc="steps of the PGD attack of the validation.",
        hosts=EVERY,
        range=">= 1",
    )
    validation_every: int | None = _measure(
        None,
        "Weight updates between further validations within an epoch, for the curves alone. The best"
        " epoch is chosen at the ends of epochs.",
        doc="""weight updates between further validations within an epoch, for curves. They choose
        no weights: the best epoch is chosen at the ends of epochs. A minibatch that is replayed is
        completed first. None: none.""",
        hosts=EVERY,
        range=">= 1",
        decides="",
    )
    track: tuple[str, ...] = _measure(
        (),
        "Measures of each epoch for the history, separated by commas: stability, lipschitz,"
        " loss-increment, hessian.",
        doc="""``"stability"``, ``"lipschitz"``, ``"loss-increment"`` and ``"hessian"``, or some of
        them: columns of the history. All but ``"loss-increment"`` are measured on 256 samples of
        the validation. Their passes are not counted. ``"loss-increment"`` sends a clean minibatch
        every 10 updates, which is counted.""",
        hosts=EVERY,
        metavar="NAME,NAME",
    )
    rays: int = _measure(
        0,
        "Measure RayS too, with so many queries a sample. 0: do not.",
        range=">= 0",
        metavar="QUERIES",
        decides="figures",
    )
    test_n: int | None = _measure(
        None, "Measure on the first so many test samples.", range=">= 1", decides="figures"
    )
    pgd_steps: int = _measure(20, "Steps of PGD for the figures.", range=">= 1", decides="figures")
    pgd_step_size: float | None = _measure(
        None,
        "Length of these steps, such as 2/255, the papers' (default 2.5 eps / steps).",
        range="> 0",
        unit=shared.INPUT,
        decides="figures",
    )


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """Device, precision and checkpoints."""

    device: str | torch.device | None = _machine(
        None,
        f"{shared.DEVICE.help} By default a GPU where there is one.",
        doc="device to train on. None: the model's.",
        hosts=LOOP,
        decides="",
    )
    precision: str = _machine(
        "no",
        "Precision of autocast: no, bf16 or fp16.",
        doc='precision of autocast, ``"no"``, ``"bf16"`` or ``"fp16"``.',
        hosts=EVERY,
        choices=("no", "bf16", "fp16"),
    )
    channels_last: bool = _machine(
        False,
        "Run in the channels-last memory layout.",
        doc="run with that memory layout.",
        hosts=EVERY,
    )
    compile: bool = _machine(
        False, "Run under torch.compile.", doc="run under ``torch.compile``.", hosts=EVERY
    )
    tensorboard: bool = _machine(False, "The same as --tracker tensorboard.", hosts=RUN, decides="")
    trackers: tuple[str, ...] = option(
        (),
        replace(
            shared.TRACKERS,
            doc=f"{shared.TRACKERS.doc} They need a ``checkpoint_dir``.",
            hosts=EVERY,
            panel="Machine",
        ),
    )
    tracker_args: Mapping[str, Mapping[str, Any]] = option(
        dict, replace(shared.TRACKER_ARGS, hosts=EVERY, panel="Machine")
    )
    checkpoint_every: int | None = _machine(
        None,
        "Weight updates between checkpoints (default an epoch's).",
        doc="""weight updates between checkpoints. None saves at the end of each epoch.""",
        hosts=EVERY,
        range=">= 1",
        decides="",
    )


@dataclass(frozen=True, kw_only=True)
class _Python:
    """Keywords that are objects of Python, and have no option."""

    schedule_every: str = option(
        "epoch",
        'Time of the calls of ``.step()``: ``"epoch"`` or ``"update"``.',
        hosts=PYTHON,
        choices=("epoch", "update"),
    )
    schedule_metric: str = option(
        "validation_loss",
        "Column of the history for a schedule whose ``.step()`` takes a metric.",
        doc="""column of the history for a schedule whose ``.step()`` takes a metric, such as
        ``ReduceLROnPlateau``. ``"validation_loss"`` is ``"loss"`` in a run without
        validation.""",
        hosts=PYTHON,
    )
    validation_data: tuple[Tensor, Tensor] | None = option(
        None, "Samples to validate on instead, (x, y).", hosts=("loop",)
    )
    checkpoint_dir: str | os.PathLike[str] | None = option(
        None,
        "Folder for checkpoints, history and weights. None writes nothing.",
        hosts=PYTHON,
        decides="",
    )
    callbacks: Iterable[Callback] = option(
        (),
        "Functions called at the end of each epoch. Their results are entered into the history.",
        hosts=PYTHON,
        decides="",
    )
    progress: bool = option(False, "Show a bar.", hosts=("loop",), decides="")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(_Python, _Machine, _Figures, _Updates, _Length, _Run):
    """All options of training, with the hosts that take each."""

    # fields are collected from the last base to the first, which is the order of the help
