"""Normalisation as the first layer of a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """``(x - mean) / std`` for each channel of (N, C, H, W) images.

    The two buffers are not in the state dict. Published checkpoints contain only the layers after
    the normalisation.

    Args:
        mean: one number for all channels, or C numbers, in the units of x.
        std: as mean. Every number > 0.

    Raises:
        ValueError: if the two differ in length, or std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        means, stds = (
            torch.as_tensor(value, dtype=torch.float32).reshape(-1) for value in (mean, std)
        )
        if len(means) != len(stds) or len(means) == 0:
            raise ValueError(
                f"mean and std must have one number per channel each, got mean={mean} and std={std}"
            )
        if not bool((stds > 0).all()):
            raise ValueError(f"std must be > 0 in every channel, got {std}")
        self.register_buffer("mean", means.view(-1, 1, 1), persistent=False)
        self.register_buffer("std", stds.view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x of shape (N, C, H, W)."""
        return (x - self.mean) / self.std

    def extra_repr(self) -> str:
        """Show the numbers in ``print(model)``."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def normalized(
    layers: Sequence[nn.Module], mean: float | Sequence[float], std: float | Sequence[float]
) -> nn.Sequential:
    """Put a normalisation in front of layers that keep the names "0", "1", ... .

    A state dict of ``nn.Sequential(*layers)`` therefore loads unchanged.

    Raises:
        ValueError: as :class:`Normalize`.
    """
    named: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(mean, std))
    named.update((str(place), layer) for place, layer in enumerate(layers))
    return nn.Sequential(named)
