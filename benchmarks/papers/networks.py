"""Networks that no command builds, for the runs of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from art_ext.models.activations import make_activation


def digits_bn(
    activation: str = "relu", activation_args: Mapping[str, Any] | None = None
) -> nn.Sequential:
    """Return two convolutions with BatchNorm and a linear layer, (N, 1, 8, 8) -> (N, 10).

    Args:
        activation: name of the activation.
        activation_args: its arguments. None: PyTorch's.
    """
    make = make_activation(activation, activation_args)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        make(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        make(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
