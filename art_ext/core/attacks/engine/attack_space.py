"""The space in which a zeroth order attack moves: the coordinates of the input, or a smaller image
scaled up.

References:
    Chen, Zhang, Sharma, Yi, Hsieh, "ZOO: zeroth order optimization based black-box attacks", AISec
    2017.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


class Coordinates:
    """The input's own D coordinates.

    Attributes:
        size: how many coordinates the space has.
    """

    def __init__(self, features: int) -> None:
        self.size = features

    def scale_up(self, noise: Tensor) -> Tensor:
        """D(y): the change of the input (R, D) that a point (R, size) of the space stands for."""
        return noise

    def add_(self, rows: Tensor, coordinate: Tensor, amount: Tensor) -> Tensor:
        """Add ``amount (r,) D(e_i)`` for the coordinates i (r,) to rows (r, D), in place."""
        return rows.scatter_add_(1, coordinate.unsqueeze(1), amount.unsqueeze(1))

    def transposed(self, slope: Tensor) -> Tensor:
        """(R, size) the transpose of D applied to a gradient (R, D)."""
        return slope

    def transposed_squared(self, curvature: Tensor) -> Tensor:
        """(R, size) the same with every weight of D squared: what a diagonal second derivative
        (R, D) becomes.
        """
        return curvature

    def to_size(self, noise: Tensor, other: ScaledImage) -> Tensor:
        """Raise an error: nothing is larger than the input's own space."""
        raise RuntimeError("the input's own space does not grow")


class ScaledImage(Coordinates):
    """Images (C, s, s), scaled up bilinearly to (C, H, W): ``D(y) = A_H y A_W^T`` for each channel.

    Args:
        shape: (C, H, W) of the input.
        side: s.
        device: of the weights.
    """

    def __init__(self, shape: tuple[int, int, int], side: int, device: torch.device) -> None:
        self.channels, self.height, self.width = shape
        super().__init__(self.channels * side * side)
        self.side = side
        self.rows, self.columns = (
            self._weights(side, length, device) for length in (self.height, self.width)
        )
        self._row_taps, self._column_taps = _taps(self.rows), _taps(self.columns)

    @staticmethod
    def _weights(side: int, length: int, device: torch.device) -> Tensor:
        """(length, side) the matrix of linear interpolation."""
        basis = torch.eye(side, device=device).unsqueeze(0)
        return functional.interpolate(basis, size=length, mode="linear", align_corners=False)[
            0
        ].T.contiguous()

    def image(self, noise: Tensor) -> Tensor:
        """(R, C, s, s) the points (R, size) as images."""
        return noise.view(-1, self.channels, self.side, self.side)

    def scale_up(self, noise: Tensor) -> Tensor:
        """D(y)."""
        return (self.rows @ self.image(noise) @ self.columns.T).flatten(1)

    def add_(self, rows: Tensor, coordinate: Tensor, amount: Tensor) -> Tensor:
        """Add the bilinear bump of one small pixel to each row, in place."""
        area = self.side * self.side
        channel, place = coordinate // area, coordinate % area
        vertical = self.rows.T[place // self.side] * amount.unsqueeze(1)
        bump = vertical.unsqueeze(2) * self.columns.T[place % self.side].unsqueeze(1)
        images = rows.view(-1, self.channels, self.height, self.width)
        images[torch.arange(len(rows), device=rows.device), channel] += bump
        return rows

    def transposed(self, slope: Tensor) -> Tensor:
        """D^T applied to a gradient (R, D)."""
        return self._gather(slope, 1)

    def transposed_squared(self, curvature: Tensor) -> Tensor:
        """Return the same with squared weights."""
        return self._gather(curvature, 2)

    def _gather(self, values: Tensor, power: int) -> Tensor:
        # sums of taps, not products of matrices: their kernels round a sample differently among
        # others
        (rows, row_weights), (columns, column_weights) = self._row_taps, self._column_taps
        images = values.view(-1, self.channels, self.height, self.width)
        narrow = (images[..., columns] * column_weights**power).sum(dim=-1)
        small = (narrow.transpose(2, 3)[..., rows] * row_weights**power).sum(dim=-1)
        return small.transpose(2, 3).flatten(1)

    def to_size(self, noise: Tensor, other: ScaledImage) -> Tensor:
        """Scale the points (R, size) bilinearly to another space of such images."""
        larger = functional.interpolate(
            self.image(noise), size=other.side, mode="bilinear", align_corners=False
        )
        return larger.flatten(1)

    def importance(self, noise: Tensor, other: ScaledImage) -> Tensor:
        """(R, other.size) shares that sum to 1: the largest change in each of 8 x 8 regions, per
        channel.

        They are equal where nothing has changed yet.
        """
        regions = functional.adaptive_max_pool2d(self.image(noise).abs(), min(8, self.side))
        shares = functional.interpolate(regions, size=other.side, mode="nearest").flatten(1)
        total = shares.sum(dim=1, keepdim=True)
        return torch.where(total > 0, shares / total, 1 / other.size)


def _taps(weights: Tensor) -> tuple[Tensor, Tensor]:
    """(s, P) which pixels each small pixel reaches through a matrix (L, s), and with what
    weights; 0 fills up.
    """
    ordered = weights.T.sort(dim=1, descending=True, stable=True)
    reach = int((weights != 0).sum(dim=0).max())
    return ordered.indices[:, :reach], ordered.values[:, :reach]
