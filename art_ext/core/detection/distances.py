"""Squared distances of features to stored ones, in pieces of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from art_ext.core import geometry

PIECE = 1 << 20  # distances in one temporary


def widest(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, or in float32 where its device has no other."""
    return tensor.to(geometry.exact_dtype(tensor.device))


def squared_distances(rows: Tensor, stored: Tensor) -> Tensor:
    """Return (R, M) squared Euclidean distances of rows (R, F) to stored features (M, F).

    ||a - b||^2 = ||a||^2 - 2 <a, b> + ||b||^2 cancels where a is close to b. In float64 it does so
    below what float32 features resolve.
    """
    left = widest(rows)
    right = widest(stored)
    cross = torch.addmm(right.square().sum(dim=1), left, right.T, alpha=-2)
    return (cross + left.square().sum(dim=1, keepdim=True)).clamp(min=0)


def pieces(rows: Tensor, stored: int) -> Iterator[Tensor]:
    """Yield slices of rows (R, F) whose distances to the stored features fit one piece."""
    yield from rows.split(max(1, PIECE // max(1, stored)))
