"""Minibatches, held-out samples and box of a run, from what the caller passed as data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

from art_ext.core.geometry import Box
from art_ext.core.samples import with_tensors
from art_ext.data import Dataset, LazyDataset, Samples, as_dataset
from art_ext.data.objects import is_dataset
from art_ext.training.appending import Joined, More, appended
from art_ext.training.batches import LoaderBatches, TensorBatches
from art_ext.training.datasets import BEFORE, Batches, DatasetBatches
from art_ext.training.extra import ExtraRows
from art_ext.training.loaders import SharedLoaderBatches, can_be_shared
from art_ext.training.options import TrainingOptions
from art_ext.training.recipes import Recipe
from art_ext.training.validation import Held, HeldOut, Validation, hold_out, make_validation

Data = tuple[Tensor, Tensor] | Iterable[Any] | Samples


class Sources(NamedTuple):
    """Data of a run.

    Attributes:
        batches: minibatches to train on.
        validation: held-out samples, or None.
        box: the box of a sample.
    """

    batches: Batches
    validation: Validation | None
    box: Box


def make_sources(
    data: Data, options: TrainingOptions, recipe: Recipe, device: torch.device, processes: int = 1
) -> Sources:
    """Return the minibatches, the held-out samples, and their box.

    Args:
        data: as in ``train``.
        options, recipe: of the run.
        device: device of the training.
        processes: number of processes that share the minibatches.

    Raises:
        TypeError, ValueError: for data that do not fit, or that do not fit the options.
    """
    held: Held | None = options.validation_data
    batches: Batches
    data = with_tensors(data)
    if isinstance(data, Dataset):
        data = (data.x, data.y)
    elif is_dataset(data):
        data = as_dataset(data)
    if isinstance(data, LazyDataset):
        batches, lazily = _of_dataset(data, options, pin=device.type == "cuda")
        held = lazily if held is None else held
        box = batches.box
    elif _are_tensors(data):
        batches, split, box = _of_tensors(*data, options)
        held = split if held is None else held
    else:
        loader = _of_loader(data, options, processes)
        batches = loader
        box = loader.box
    if held is None:
        return Sources(batches, None, box)
    validation = make_validation(held, options, recipe, batches.example.shape[1:], box)
    batches.largest_label = max(batches.largest_label, validation.largest_label)
    return Sources(batches, validation, box)


def _are_tensors(data: Data) -> TypeGuard[tuple[Tensor, Tensor]]:
    return (
        isinstance(data, (tuple, list))
        and len(data) == 2
        and all(isinstance(part, Tensor) for part in data)
    )


def _of_tensors(
    x: Tensor, y: Tensor, options: TrainingOptions
) -> tuple[TensorBatches, tuple[Tensor, Tensor] | None, Box]:
    """Return the minibatches of tensors, the samples held out of them, and the box."""
    if x.dim() < 2 or not len(x):
        raise ValueError(
            f"x must have shape (N, *S) with at least one sample, got {tuple(x.shape)}"
        )
    box = Box.of(options.clip_values, x.shape[1:], x.device)
    x = box.admit(x)
    y = y.to(x.device)
    # check the labels before they are split
    TensorBatches(x, y, options.batch_size, options.seed)
    more = appended(options.append, x.shape[1:], box)
    extra = appended(options.extra_data, x.shape[1:], box, name="extra_data")
    held = None
    if options.validation and options.validation_data is None:
        (x, y), held = hold_out(x, y, options.validation, options.seed)
    for part in (more, extra):
        if part is not None:
            x = torch.cat([x, part[0]])
            y = torch.cat([y.to(torch.int64), part[1]])
    places = _places(options, len(x), extra)
    batches = TensorBatches(x, y, options.batch_size, options.seed, options.drop_last, places)
    return batches, held, box


def _of_dataset(
    data: LazyDataset, options: TrainingOptions, pin: bool
) -> tuple[DatasetBatches, HeldOut | None]:
    """Return the minibatches of a data set, and the samples held out of them by index."""
    indices = rest = torch.arange(len(data))
    split = bool(options.validation) and options.validation_data is None
    if split:
        (indices, _), (rest, _) = hold_out(indices, indices, options.validation, options.seed)
    box = Box.of(options.clip_values, data.shape, torch.device("cpu"))
    more = appended(options.append, data.shape, box)
    extra = appended(options.extra_data, data.shape, box, name="extra_data")
    parts = [part for part in (more, extra) if part is not None]
    if parts:
        x, y = (torch.cat(values) for values in zip(*parts, strict=True))
        indices = torch.cat([indices, torch.arange(len(data), len(data) + len(x))])
        data = Joined(data, (x, y))
    batches = DatasetBatches(
        data,
        indices,
        options.clip_values,
        options.batch_size,
        options.seed,
        options.drop_last,
        pin,
        _places(options, len(indices), extra),
    )
    read = partial(_read_held, batches, rest)
    return batches, HeldOut(len(rest), read) if split else None


def _places(options: TrainingOptions, samples: int, extra: More | None) -> ExtraRows | None:
    """Return the places of the extra samples, which are the last ones, or None without any."""
    count = 0 if extra is None else len(extra[0])
    share, weight = options.extra_share, options.extra_weight
    return ExtraRows.of(samples - count, count, options.batch_size, share, weight)


def _read_held(
    batches: DatasetBatches, held: Tensor, parts: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read samples held out of a data set, as they are before the first epoch."""
    return batches.read([held[positions] for positions in parts], BEFORE)


def _of_loader(data: Any, options: TrainingOptions, processes: int) -> LoaderBatches:
    """Return the minibatches of the caller's own loader."""
    if options.validation:
        raise ValueError("a loader cannot be split: pass validation_data instead of validation")
    for name in ("append", "extra_data"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"{name} is for data in tensors and datasets, got a loader: add the samples to it"
            )
    if options.drop_last:
        raise ValueError(
            "drop_last is for data in tensors; a loader drops its own last batch: "
            "DataLoader(..., drop_last=True)"
        )
    if options.scale_rate:
        raise ValueError(
            "scale_rate is for data in tensors and datasets, whose batch_size the run knows,"
            " got a loader"
        )
    kind = SharedLoaderBatches if processes > 1 and can_be_shared(data) else LoaderBatches
    return kind(data, options.clip_values, options.seed)
