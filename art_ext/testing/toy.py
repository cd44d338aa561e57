"""The toy problem of the checks: scikit-learn's digits and a classifier in closed form."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from art_ext.data import load_data


class Toy(NamedTuple):
    """Samples (N, 1, 8, 8) in [0, 1], and their classes (N,) among 10."""

    x: Tensor
    y: Tensor


def digits(count: int, split: str = "test") -> Toy:
    """Return the first digits of a split."""
    data = load_data("digits", split=split).first(count)
    return Toy(data.x, data.y)


class NearestMean(nn.Module):
    """Classifier by the nearest class mean of the training digits, one row at a time.

    It counts the rows that it is sent. Its dropout does nothing in eval mode.
    """

    def __init__(self) -> None:
        super().__init__()
        data = load_data("digits", split="train")
        rows = data.x.flatten(1)
        means = torch.stack([rows[data.y == label].mean(dim=0) for label in range(10)])
        self.weight = nn.Parameter(2 * means)
        self.bias = nn.Parameter(-means.square().sum(dim=1))
        self.dropout = nn.Dropout(0.2)
        self.rows = 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (R, 10) of rows (R, 1, 8, 8)."""
        self.rows += len(x)
        # a product summed along each row: no kernel sees two rows at once
        scores = (x.flatten(1)[:, None] * self.weight).sum(dim=-1) + self.bias
        found: Tensor = self.dropout(scores)
        return found


class SmallNet(nn.Module):
    """Network to train, with normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(32, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (R, 10) of rows (R, 1, 8, 8)."""
        found: Tensor = self.layers(x)
        return found


class LinearMeans(nn.Module):
    """The classifier of ``NearestMean`` as a linear layer, whose input could be features.

    It counts the rows that it is sent.
    """

    def __init__(self) -> None:
        super().__init__()
        means = NearestMean()
        self.flat = nn.Flatten()
        self.last = nn.Linear(64, 10)
        self.last.weight = means.weight
        self.last.bias = means.bias
        self.rows = 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (R, 10) of rows (R, 1, 8, 8)."""
        self.rows += len(x)
        found: Tensor = self.last(self.flat(x))
        return found
