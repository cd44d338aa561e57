"""Augmentations of training images that depend on the sample and the epoch only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from art_ext.core.streams import uniform

Augmentation = Callable[[Tensor, Tensor, int, int], Tensor]
PADDING = 4  # pixels on every side
BLOCK = 1 << 41  # block of the samples' streams, far above those of the recipes


def crop_flip(
    x: Tensor,
    ids: Tensor,
    seed: int,
    epoch: int,
    *,
    padding: int = PADDING,
    flip: bool = True,
    fill: str = "zeros",
) -> Tensor:
    """Crop each image at random from its padded copy, and mirror half of them.

    Args:
        x: (N, C, H, W).
        ids: (N,) int64 identities that key the random streams.
        seed, epoch: the rest of the key. A sample is changed alike in any process and any
            batch.
        padding: pixels on every side.
        flip: True to mirror.
        fill: ``"zeros"``, or ``"reflect"`` for the image mirrored at its edge.
    """
    draws = uniform(seed, ids, BLOCK + epoch, (3,))
    offset = (draws[:, :2] * (2 * padding + 1)).long()
    height, width = x.shape[2:]
    rows = offset[:, :1] + torch.arange(height, device=x.device)
    columns = offset[:, 1:2] + torch.arange(width, device=x.device)
    if flip:
        columns = torch.where(draws[:, 2:] < 0.5, columns.flip(1), columns)
    mode = "constant" if fill == "zeros" else fill
    padded = functional.pad(x, [padding] * 4, mode)
    sample = torch.arange(len(x), device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {"crop_flip": crop_flip}


def check_padding(fill: str, shape: Sequence[int]) -> None:
    """Raise ValueError for images (C, H, W) too small to be padded by their reflection."""
    if fill == "reflect" and min(shape[-2:]) <= PADDING:
        raise ValueError(
            f"crop_padding='reflect' needs images of more than {PADDING} pixels a side, got"
            f" {tuple(shape)}"
        )
