"""Outputs of an attack outside the ball or the box, which count as failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core.geometry import Box, distances, within_ball


@dataclass(frozen=True, eq=False)
class Outside:
    """Outputs of an attack outside the ball or the box. They count as failures.

    Attributes:
        ball: (N,) largest distance beyond eps of an output of the sample, in the attack's norm.
        box: (N,) largest distance of a value beyond the box.
        invalid: (N,) bool, samples with NaN or infinity in an output.
        attacked: (N,) bool, samples with an output.
    """

    ball: Tensor
    box: Tensor
    invalid: Tensor
    attacked: Tensor

    @staticmethod
    def none(count: int, device: torch.device) -> Outside:
        """Return the record of ``count`` samples before any output. ``enter`` fills it."""
        no = torch.zeros(count, dtype=torch.bool, device=device)
        zero = torch.zeros(count, device=device)
        return Outside(zero, zero.clone(), no, no.clone())

    def enter(
        self, outputs: Tensor, x: Tensor, index: Tensor, *, box: Box, norm: str, eps: float | None
    ) -> None:
        """Enter outputs (M, *S) of the samples in index (M,), whose inputs are x (M, *S)."""
        finite = outputs.isfinite().flatten(1).all(dim=1)
        length = distances(outputs, x, norm)
        beyond_ball = torch.where(within_ball(length, eps), 0.0, length - (eps or 0.0))
        beyond_box = torch.maximum(box.lower - outputs, outputs - box.upper).flatten(1).amax(dim=1)
        self.attacked[index] = True
        self.invalid[index] |= ~finite
        for kept, beyond in ((self.ball, beyond_ball), (self.box, beyond_box)):
            kept[index] = kept[index].maximum(torch.where(finite, beyond, 0.0).to(kept.dtype))

    @property
    def rows(self) -> Tensor:
        """(N,) bool on the CPU, the samples with an output outside."""
        return (self.invalid | (self.ball > 0) | (self.box > 0)).cpu()

    @property
    def numbers(self) -> dict[str, Any]:
        """The sums and maxima over the samples, for JSON."""
        return {
            "samples": int(self.attacked.sum()),
            "ball": float(self.ball.max()),
            "box": float(self.box.max()),
            "invalid": int(self.invalid.sum()),
        }

    def to(self, device: torch.device) -> Outside:
        """Return a copy on a device."""
        return Outside(
            self.ball.to(device),
            self.box.to(device),
            self.invalid.to(device),
            self.attacked.to(device),
        )

    def of_samples(self, owner: Tensor, count: int) -> Outside:
        """Return the maxima of the rows of each of ``count`` samples. Row i belongs to owner[i]."""
        zero = self.ball.new_zeros(count)

        def largest(values: Tensor) -> Tensor:
            return zero.index_reduce(0, owner, values.to(zero.dtype), "amax")

        return Outside(
            largest(self.ball),
            largest(self.box),
            largest(self.invalid) > 0,
            largest(self.attacked) > 0,
        )

    @staticmethod
    def cat(parts: Sequence[Outside | None], lengths: Sequence[int]) -> Outside | None:
        """Join the parts of one data set, of so many samples each. None if all parts are None."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        device = known[0].ball.device
        every = [
            Outside.none(length, device) if part is None else part
            for part, length in zip(parts, lengths, strict=True)
        ]
        return Outside(
            *(
                torch.cat([getattr(part, name) for part in every])
                for name in ("ball", "box", "invalid", "attacked")
            )
        )


def describe_outside(count: int, samples: int, ball: float, box: float, invalid: int) -> str:
    """Describe outputs outside the ball or the box.

    Args:
        count: number of samples with such an output.
        samples, ball, box, invalid: the ``numbers`` of ``Outside``.
    """
    reasons = [
        *([f"by up to {ball:.2g} beyond eps"] if ball else []),
        *([f"by up to {box:.2g} beyond the box"] if box else []),
        *([f"{invalid} with NaN or infinity"] if invalid else []),
    ]
    return (
        f"{count} of {samples} outputs lie outside the ball or the box ({', '.join(reasons)}) and"
        " count as failures"
    )
