"""Boxes, norms and the checks of an input against them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core.checks import check_number

NORMS = ("linf", "l2", "l1")
BOX_TOLERANCE = 1e-4
BALL_TOLERANCE = 1e-6

Bound = float | Tensor | Sequence[float] | Any
ClipValues = tuple[Bound, Bound]


@dataclass(frozen=True, eq=False)
class Box:
    """The set of legal inputs ``lower <= x <= upper``; both bounds broadcast against one sample's shape S."""

    lower: Tensor
    upper: Tensor

    @staticmethod
    def of(clip_values: ClipValues | None, sample_shape: torch.Size, device: torch.device) -> Box:
        """Build the box of ``clip_values`` = (lower, upper), each a number or one value per feature.

        Raises:
            ValueError: if there is no box, a bound does not fit the samples, or lower < upper fails somewhere.
        """
        if clip_values is None or len(clip_values) != 2:
            raise ValueError(f"clip_values must be a pair (lower, upper) such as (0, 1), got {clip_values!r}")
        bounds = []
        for name, bound in zip(("lower", "upper"), clip_values, strict=True):
            bound = torch.as_tensor(bound, dtype=torch.float32, device=device)
            try:
                bound.expand(sample_shape)
            except RuntimeError as error:
                raise ValueError(
                    f"the {name} clip value must be a number or broadcast to a sample's shape {tuple(sample_shape)}, "
                    f"got shape {tuple(bound.shape)}"
                ) from error
            bounds.append(bound)
        lower, upper = bounds
        if not bool((lower < upper).all() & lower.isfinite().all() & upper.isfinite().all()):
            raise ValueError(f"clip_values must be finite with lower < upper everywhere, got {clip_values!r}")
        return Box(lower, upper)

    @property
    def width(self) -> float:
        """The widest side."""
        return float((self.upper - self.lower).max())

    def clamp(self, x: Tensor) -> Tensor:
        """The nearest point of the box."""
        return torch.clamp(x, self.lower, self.upper)

    def flat_bounds(self, sample_shape: torch.Size) -> tuple[float | Tensor, float | Tensor]:
        """Both bounds for samples flattened to vectors (D,); plain numbers if these serve all coordinates.

        Clamping to numbers is many times faster than clamping to tensors.
        """
        if self.lower.dim() == self.upper.dim() == 0:
            return float(self.lower), float(self.upper)
        return self.lower.expand(sample_shape).flatten(), self.upper.expand(sample_shape).flatten()

    def admit(self, x: Tensor, name: str = "x") -> Tensor:
        """A float32 copy of x inside the box: small rounding outside is clamped, anything more is refused.

        Raises:
            TypeError: for integer images, with the hint to divide by 255.
            ValueError: if x holds NaN or infinity (naming the first sample), or leaves the box by more than 1e-4.
        """
        if not x.is_floating_point():
            raise TypeError(
                f"{name} must be floating point, got {x.dtype}; "
                "for 8-bit images pass x.float() / 255 with clip_values=(0, 1)"
            )
        x = x.detach().to(torch.float32)
        if not x.numel():
            return x.clone()
        broken = ~x.isfinite().flatten(1).all(dim=1)
        if bool(broken.any()):
            raise ValueError(f"{name} must be finite, got NaN or infinity first in sample {int(broken.nonzero()[0])}")
        clamped = self.clamp(x)
        if float((clamped - x).abs().max()) > BOX_TOLERANCE:
            raise ValueError(
                f"{name} must lie in [{float(self.lower.min()):g}, {float(self.upper.max()):g}]; "
                f"got min={float(x.min()):.4g}, max={float(x.max()):.4g}. "
                "Put normalisation inside the model or set clip_values."
            )
        return clamped


def free_coordinates(mask: Tensor, x: Tensor) -> Tensor:
    """(N or 1, D) bool, the coordinates of x (N, *S) that an attack may change: those where the mask is not zero.

    Raises:
        ValueError: if the mask does not broadcast to x, or holds a negative value or NaN.
    """
    mask = torch.as_tensor(mask, device=x.device)
    if not bool((mask >= 0).all()):
        raise ValueError(f"mask must hold no negative value and no NaN, got min={float(mask.min())}")
    try:
        mask.expand(x.shape)
    except RuntimeError as error:
        raise ValueError(f"mask must broadcast to x's shape {tuple(x.shape)}, got {tuple(mask.shape)}") from error
    shared = mask.dim() < x.dim() or len(mask) == 1
    return mask.expand(1 if shared else len(x), *x.shape[1:]).flatten(1) != 0


def check_ball(norm: str, eps: float | None, box: Box) -> None:
    """Refuse a ball that cannot be meant.

    Raises:
        ValueError: for an unknown norm, eps <= 0, or an L-inf radius above the width of the box.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(map(repr, NORMS))}, got {norm!r}")
    if eps is None:
        return
    check_number("eps", eps)
    if not eps > 0:
        raise ValueError(f"eps must be > 0, got {eps!r}")
    if norm == "linf" and eps > box.width:
        raise ValueError(
            f"eps must not exceed the box width {box.width:g} for norm='linf', got {eps!r}; "
            "eps is in the units of x: 8/255 for images in [0, 1]"
        )


def exact_dtype(device: torch.device) -> torch.dtype:
    """The widest float of the device: float64, but for Apple's GPUs, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def row_norms(delta: Tensor, norm: str) -> Tensor:
    """(N,) norms of the rows of delta (N, *S), in delta's own precision."""
    flat = delta.flatten(1)
    if not flat.shape[1]:
        return flat.new_zeros(len(flat))
    return torch.linalg.vector_norm(flat, ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1)


def distances(x_adv: Tensor, x: Tensor, norm: str) -> Tensor:
    """(N,) distances ``||x_adv - x||`` measured in float64, so that the ball can be checked to 1e-6."""
    exact = exact_dtype(x.device)
    return row_norms(x_adv.to(exact) - x, norm)  # the difference is taken in the wider type


def within_ball(distance: Tensor, eps: float | None) -> Tensor:
    """Whether a distance counts as inside the ball, ``distance <= eps + 1e-6``; eps=None takes any finite one."""
    return distance.isfinite() if eps is None else distance <= eps + BALL_TOLERANCE
