"""The change of variable that removes a box: ``x = low + (high - low) (1 + tanh u) / 2``.

References:
    Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHRINK = 0.9999995  # x is drawn so far to the centre of the box first: its edges lie at infinity


class TanhSpace:
    """Maps between the box and the whole space, for samples flattened to vectors (D,).

    Args:
        low, high: bounds, numbers or (D,).
    """

    def __init__(self, low: float | Tensor, high: float | Tensor) -> None:
        self.low, self.high = low, high
        self.centre, self.half = (high + low) / 2, (high - low) / 2

    def inverse(self, x: Tensor) -> Tensor:
        """u of points x (R, D) of the box."""
        return torch.atanh((x - self.centre) / self.half * SHRINK)

    def image(self, u: Tensor) -> Tensor:
        """Return the points of the box (R, D) that u stands for."""
        # the clip takes back what rounding adds
        return torch.clamp(self.centre + self.half * torch.tanh(u), self.low, self.high)  # type: ignore[arg-type]

    def slope(self, u: Tensor) -> Tensor:
        """(R, D) the derivative of ``image``."""
        return self.half * (1 - torch.tanh(u).square())

    def curvature(self, u: Tensor) -> Tensor:
        """(R, D) the second derivative of ``image``."""
        t = torch.tanh(u)
        return -2 * self.half * t * (1 - t.square())
