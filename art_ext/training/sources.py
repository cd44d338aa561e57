"""Minibatches, held-out samples and box of a run, from what the caller passed as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import Dataset

from art_ext.core.geometry import Box
from art_ext.training.batches import LoaderBatches, TensorBatches
from art_ext.training.datasets import Batches, DatasetBatches, MapDataset
from art_ext.training.options import TrainingOptions
from art_ext.training.recipes import Recipe
from art_ext.training.validation import Validation, hold_out, make_validation

Data = tuple[Tensor, Tensor] | Iterable[Any] | Dataset[Any] | MapDataset


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


def make_sources(data: Data, options: TrainingOptions, recipe: Recipe) -> Sources:
    """Return the minibatches, the held-out samples, and their box.

    Raises:
        TypeError, ValueError: for data that do not fit, or that do not fit the options.
    """
    held = options.validation_data
    batches: Batches
    dataset = MapDataset.of(data)
    if dataset is not None:
        batches, split = _of_dataset(dataset, options)
        held = split if held is None else held
        box = batches.box
    elif _are_tensors(data):
        batches, split, box = _of_tensors(*data, options)
        held = split if held is None else held
    else:
        loader = _of_loader(data, options)
        batches = loader
        box = loader.box
    if held is None:
        return Sources(batches, None, box)
    validation = make_validation(held, options, recipe, batches.example.shape[1:], box)
    batches.largest_label = max(batches.largest_label, int(validation.y.max()))
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
    held = None
    if options.validation and options.validation_data is None:
        (x, y), held = hold_out(x, y, options.validation, options.seed)
    batches = TensorBatches(x, y, options.batch_size, options.seed, options.drop_last)
    return batches, held, box


def _of_dataset(
    source: MapDataset, options: TrainingOptions
) -> tuple[DatasetBatches, tuple[Tensor, Tensor] | None]:
    """Return the minibatches of a map-style dataset, and the samples held out of them."""
    indices = torch.arange(len(source.dataset))
    held = None
    if options.validation and options.validation_data is None:
        (indices, _), (rest, _) = hold_out(indices, indices, options.validation, options.seed)
        held = source.read(rest, options.seed)
    batches = DatasetBatches(
        source, indices, options.clip_values, options.batch_size, options.seed, options.drop_last
    )
    return batches, held


def _of_loader(data: Any, options: TrainingOptions) -> LoaderBatches:
    """Return the minibatches of the caller's own loader."""
    if options.validation:
        raise ValueError("a loader cannot be split: pass validation_data instead of validation")
    if options.drop_last:
        raise ValueError(
            "drop_last is for data in tensors; a loader drops its own last batch: "
            "DataLoader(..., drop_last=True)"
        )
    return LoaderBatches(data, options.clip_values, options.seed)
