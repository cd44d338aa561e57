"""Robust training, with all keywords, for editors and type checkers.

Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those instead.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.training.analysis import TrajectoryShift as TrajectoryShift
from art_ext.training.analysis import trajectory_shift as trajectory_shift
from art_ext.training.callbacks import TrackHessian as TrackHessian
from art_ext.training.callbacks import TrackLipschitz as TrackLipschitz
from art_ext.training.callbacks import TrackLossIncrement as TrackLossIncrement
from art_ext.training.callbacks import TrackStability as TrackStability
from art_ext.training.cost import Cost as Cost
from art_ext.training.extra import pseudo_labels as pseudo_labels
from art_ext.training.fixed_set import FixedSet as FixedSet
from art_ext.training.fixed_set import fixed_set as fixed_set
from art_ext.training.heads import Head as Head
from art_ext.training.heads import IdentityHead as IdentityHead
from art_ext.training.heads import MaxMahalanobis as MaxMahalanobis
from art_ext.training.heads import ReverseLogits as ReverseLogits
from art_ext.training.history import EpochEnd as EpochEnd
from art_ext.training.options import TrainingOptions as TrainingOptions
from art_ext.training.recipes import RECIPES as RECIPES
from art_ext.training.recipes import Adp as Adp
from art_ext.training.recipes import Atcd as Atcd
from art_ext.training.recipes import BackwardSmoothing as BackwardSmoothing
from art_ext.training.recipes import Cat as Cat
from art_ext.training.recipes import Distillation as Distillation
from art_ext.training.recipes import Fast as Fast
from art_ext.training.recipes import FastPlus as FastPlus
from art_ext.training.recipes import FastTrades as FastTrades
from art_ext.training.recipes import Free as Free
from art_ext.training.recipes import GradAlign as GradAlign
from art_ext.training.recipes import Mmc as Mmc
from art_ext.training.recipes import Mmlda as Mmlda
from art_ext.training.recipes import Natural as Natural
from art_ext.training.recipes import Pgd as Pgd
from art_ext.training.recipes import Rce as Rce
from art_ext.training.recipes import Recipe as Recipe
from art_ext.training.recipes import Trades as Trades
from art_ext.training.recipes import War as War
from art_ext.training.recipes import Yopo as Yopo
from art_ext.training.recipes import YopoTrades as YopoTrades
from art_ext.training.recipes import find_recipe as find_recipe
from art_ext.training.recipes import load_recipe as load_recipe
from art_ext.training.recipes import make_recipe as make_recipe
from art_ext.training.result import TrainingResult as TrainingResult
from art_ext.training.schedules import ScheduleObject
from art_ext.training.sources import Data
from art_ext.training.zeta import measure_zeta as measure_zeta

__all__: list[str]

def train(
    model: nn.Module,
    data: Data,
    recipe: Recipe | str,
    *,
    seed: int = 0,
    teacher: str | torch.nn.modules.module.Module | None = None,
    resume: bool = False,
    epochs: int | None = None,
    equivalent_epochs: float | None = None,
    passes: float | None = None,
    updates: int | None = None,
    batch_size: int = 128,
    drop_last: bool = False,
    append: tuple[str, ...] | list[str] | tuple[Tensor, Tensor] | None = None,
    extra_data: tuple[str, ...] | list[str] | tuple[Tensor, Tensor] | None = None,
    extra_share: float = 0.5,
    extra_weight: float = 1.0,
    augmentation: str | Callable[[Tensor, Tensor, int, int], Tensor] | None = None,
    crop_padding: str = "zeros",
    clip_values: tuple[float, float] = (0.0, 1.0),
    optimizer: str | torch.optim.optimizer.Optimizer = "sgd",
    learning_rate: float = 0.1,
    scale_rate: bool = False,
    reference_batch: int = 128,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0005,
    decay: str = "all",
    gradient_centralisation: str = "none",
    schedule: str | Callable[[float, float], float] | ScheduleObject = "constant",
    schedule_args: Mapping[str, Any] = {},
    warmup_epochs: float = 0.0,
    eps_warmup_epochs: float = 0.0,
    label_smoothing: float = 0.0,
    outer_loss: str = "ce",
    craft_loss: str = "ce",
    loss_ramp: float = 0.8,
    clean_forwards: int = 0,
    ema: float | None = None,
    freeze_eval_modules: bool = True,
    validation: float = 0.0,
    validation_eps: float | None = None,
    validation_steps: int = 10,
    validation_every: int | None = None,
    track: tuple[str, ...] = (),
    device: str | torch.device | None = None,
    precision: str = "no",
    channels_last: bool = False,
    compile: bool = False,
    trackers: tuple[str, ...] = (),
    tracker_args: Mapping[str, Mapping[str, Any]] = {},
    checkpoint_every: int | None = None,
    schedule_every: str = "epoch",
    schedule_metric: str = "validation_loss",
    validation_data: tuple[Tensor, Tensor] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    callbacks: Iterable[Callable[[EpochEnd], Mapping[str, float]]] = (),
    progress: bool = False,
) -> TrainingResult:
    """Train a network by a recipe.

    The run takes one process or, under ``torchrun`` and ``accelerate launch``, several, which share
    each minibatch. Noise is keyed by seed, sample and update, so the number of processes changes
    results by rounding only. BatchNorm is the exception: its statistics are those of a process' own
    rows.

    Args:
        model: an ``nn.Module`` from (r, *S) to logits (r, C), or to what the recipe's head makes
            class scores of, normalisation included. It is trained in place.
        data: (x, y), tensors or arrays (N, *S) in the box and (N,) class indices. Or an iterable of
            minibatches of tensors with a length, such as a ``DataLoader``. Or a map-style dataset
            of torch, torchvision, Hugging Face or MAITE, or ``as_dataset(dataset, workers=4)`` of
            any library. Each process reads its own rows only, except of iterables that are no
            ``DataLoader`` of a map-style dataset.
        recipe: a recipe, or the name of one, as ``make_recipe`` takes it, which then has its
            defaults.
        seed: seed of the order, the noise, and the model's own draws (dropout).
        teacher: network from (r, *S) to class scores (r, C) that gives the soft labels of a recipe
            with a teacher. None: the run trains one.
        resume: continue from the newest checkpoint in the folder, if there is one.
        epochs: length of the run in passes over the data. The length is given by one of ``epochs``,
            ``updates``, ``equivalent_epochs`` and ``passes``.
        equivalent_epochs: length in epochs as the papers count: one pass of Free is m epochs, one
            of ATCD T K. They are not of equal cost.
        passes: length as a budget of rows forward plus rows backward per training sample, as the
            result counts them. The run ends with the last update inside the budget. Natural
            training spends 2 per epoch.
        updates: length in weight updates.
        batch_size: rows of a minibatch, over all processes. Not used with a loader.
        drop_last: omit the last minibatch of an epoch if it has fewer rows. A loader drops its own.
        append: samples to train on as well, (x, y) or names of ``.npz`` files, such as those of
            ``fixed_set``. They are never held out for the validation.
        extra_data: samples with pseudo-labels, (x, y) or names of ``.npz`` files, as
            ``pseudo_labels`` makes them. They fill a share of each minibatch, and are never held
            out. An epoch is a pass over the other samples.
        extra_share: share of each minibatch that ``extra_data`` fill.
        extra_weight: weight w of each row of ``extra_data`` in the mean ``sum(w l) / sum(w)`` of
            the loss. Other rows have 1.
        augmentation: ``"crop_flip"``, or a function of (x, ids, seed, epoch).
        crop_padding: pixels around an image that ``"crop_flip"`` crops from: ``"zeros"``, or
            ``"reflect"`` for the image mirrored at its edge.
        clip_values: the box (lower, upper).
        optimizer: ``"sgd"``, ``"adam"``, ``"adamw"``, or the caller's own over the model's
            parameters.
        learning_rate: learning rate of a named optimiser, the largest of the schedule. The caller's
            own optimiser keeps its settings.
        scale_rate: multiply the learning rate by ``batch_size / reference_batch`` (the linear
            rule). The history holds the rate that was used.
        reference_batch: batch size that the learning rate belongs to, for scale_rate.
        momentum: momentum of ``"sgd"``.
        nesterov: True: Nesterov momentum, of ``"sgd"``.
        weight_decay: weight decay of a named optimiser.
        decay: tensors that ``weight_decay`` applies to: ``"all"``, or ``"weights"``, those of two
            dimensions or more. Biases and the parameters of BatchNorm have one.
        gradient_centralisation: subtract from each gradient, weight decay included, its mean over
            all axes but the first, before momentum. ``"all"``: of tensors of two dimensions or more
            (GC). ``"conv"``: of four or more (GCC). Of ``"sgd"`` only.
        schedule: ``"constant"``, ``"piecewise"``, ``"cosine"``, ``"cyclic"`` or ``"halving"``. Or a
            function of the fractional epoch and the number of epochs that returns a factor of the
            rate. Or an object with ``.step()``, which is called without arguments if possible. If
            it requires ``metrics`` it gets a metric, if it requires ``epoch`` the number of epochs
            done.
        schedule_args: arguments of a named schedule, such as ``{"milestones": (30, 36)}``.
        warmup_epochs: epochs over which the rate grows from 0.
        eps_warmup_epochs: epochs over which the recipe's radius grows from 0.
        label_smoothing: s of the outer loss: 1 - s on the label, s / (C - 1) on each other class.
        outer_loss: loss of the labels that the weights minimise. ``"ce"`` is the cross-entropy CE.
            ``"dlr"`` and ``"cw"`` are ``(1 - b) CE + b L`` with ``b = loss_ramp t / T`` at epoch t
            of T, where L is the difference of logits ratio, or the margin of Carlini and Wagner.
        craft_loss: the same of the loss that crafting ascends, for recipes that ascend the cross-
            entropy of the labels.
        loss_ramp: share of L in ``outer_loss`` and ``craft_loss`` at the end of the run.
        clean_forwards: forwards of the clean minibatch in train mode, which change the statistics
            of BatchNorm and nothing else: 0, 1 (after the weight update) or 2 (before it too). They
            are counted.
        ema: decay of an average of the weights. The average is validated, kept as best, and loaded
            into the model at the end.
        freeze_eval_modules: keep submodules in eval mode that are in eval mode when the training
            begins. BatchNorm keeps its statistics and dropout is off. If the whole network is in
            eval mode, only normalisation layers whose parameters all have ``requires_grad=False``
            stay in it. False puts every module in train mode.
        validation: fraction of the training data held out (below 1), or a number of samples. 0:
            none.
        validation_eps: radius of the PGD attack of the validation. None: the recipe's. With 0 the
            best checkpoint is that of the best clean accuracy.
        validation_steps: steps of the PGD attack of the validation.
        validation_every: weight updates between further validations within an epoch, for curves.
            They choose no weights: the best epoch is chosen at the ends of epochs. A minibatch that
            is replayed is completed first. None: none.
        track: ``"stability"``, ``"lipschitz"``, ``"loss-increment"`` and ``"hessian"``, or some of
            them: columns of the history. All but ``"loss-increment"`` are measured on 256 samples
            of the validation. Their passes are not counted. ``"loss-increment"`` sends a clean
            minibatch every 10 updates, which is counted.
        device: device to train on. None: the model's.
        precision: precision of autocast, ``"no"``, ``"bf16"`` or ``"fp16"``.
        channels_last: run with that memory layout.
        compile: run under ``torch.compile``.
        trackers: ``"tensorboard"``, ``"wandb"`` and ``"mlflow"``, or some of them: they get the
            progress. They need a ``checkpoint_dir``.
        tracker_args: by tracker, its arguments, such as ``{"wandb": {"project": "robustness"}}``.
        checkpoint_every: weight updates between checkpoints. None saves at the end of each epoch.
        schedule_every: time of the calls of ``.step()``: ``"epoch"`` or ``"update"``.
        schedule_metric: column of the history for a schedule whose ``.step()`` takes a metric, such
            as ``ReduceLROnPlateau``. ``"validation_loss"`` is ``"loss"`` in a run without
            validation.
        validation_data: samples to validate on instead, (x, y).
        checkpoint_dir: folder for checkpoints, history and weights. None writes nothing.
        callbacks: functions called at the end of each epoch. Their results are entered into the
            history.
        progress: show a bar.

    Raises:
        ValueError: for arguments, data or a folder that do not fit, and for a loss that is not
            finite. The message names the batch, and earlier checkpoints are kept.
        ImportError: without the extra ``train``.
    """
