"""Transforms of candidates in front of a model, for the loss of an attack only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_number, check_positive
from art_ext.core.streams import uniform

# from rows (r, *S), their identities (r,), the number of the step and the seed to rows
Transform = Callable[[Tensor, Tensor, int, int], Tensor]
MODES = ("nearest", "bilinear")
BLOCK = 1 << 52  # of the samples' streams: far from the draws of attacks


@dataclass(frozen=True)
class InputDiversity:
    """Resizing and zero-padding at random, see ``input_diversity``."""

    probability: float
    low: float
    mode: str

    def __call__(self, rows: Tensor, ids: Tensor, step: int, seed: int) -> Tensor:
        """Return the transforms of images (r, C, H, W), each by its own draws."""
        if rows.dim() != 4:
            raise ValueError(
                f"input_diversity needs images (N, C, H, W), got rows of shape {tuple(rows.shape)}"
            )
        if not self.probability:
            return rows
        drawn = uniform(seed, ids, BLOCK + step, (4,))
        chosen = drawn[:, 0] < self.probability
        for dim, start in ((2, drawn[:, 2]), (3, drawn[:, 3])):
            rows = self._resized(rows, dim, chosen, drawn[:, 1], start)
        return rows

    def _resized(
        self, rows: Tensor, dim: int, chosen: Tensor, drawn: Tensor, start: Tensor
    ) -> Tensor:
        """Return rows whose axis is resized, and padded to its new length.

        Args:
            rows: (r, C, H, W).
            dim: the axis.
            chosen: (r,) bool, rows to resize.
            drawn, start: (r,) in [0, 1), for the new side and for where it lies.
        """
        old = rows.shape[dim]
        bound = max(1, int(self.low * old))
        least, most = min(bound, old), max(bound, old)  # the largest one is excluded
        side = least + (drawn * (most - least)).to(torch.int64)
        side = torch.where(chosen, side, old).unsqueeze(1)
        offset = (start.unsqueeze(1) * (most - side + 1)).to(torch.int64)
        place = torch.arange(most, device=rows.device) - offset
        inside = (place >= 0) & (place < side)
        if self.mode == "nearest":
            found = _taken(rows, dim, place * old // side)
        else:
            source = ((place + 0.5) * (old / side) - 0.5).clamp(0, old - 1)
            before = source.floor()
            weight = _along(dim, (source - before).to(rows.dtype))
            first, second = (_taken(rows, dim, before.to(torch.int64) + one) for one in (0, 1))
            found = torch.lerp(first, second, weight)
        return torch.where(_along(dim, inside), found, 0.0)


def _along(dim: int, values: Tensor) -> Tensor:
    """Return values (r, L) in the shape of images whose axis ``dim`` has length L."""
    return values.view(len(values), 1, *((-1, 1) if dim == 2 else (1, -1)))


def _taken(rows: Tensor, dim: int, places: Tensor) -> Tensor:
    """Return the entries of rows (r, C, H, W) at places (r, L) of an axis."""
    shape = [*rows.shape]
    shape[dim] = places.shape[1]
    index = places.clamp(0, rows.shape[dim] - 1)
    return rows.gather(dim, _along(dim, index).expand(shape))


def input_diversity(
    probability: float = 0.5, low: float = 0.9, mode: str = "nearest"
) -> InputDiversity:
    """Return a transform that resizes each image at random and pads it with zeros at random.

    ``T(x) = pad(resize(x, r))`` with probability p, else x. The side r is uniform in
    ``[low W, W)``, and the image lies anywhere in the W columns. Height and width are resized by
    the same draw. Each sample has its own draws in each step, keyed by seed and identity.

    Args:
        probability: p, in [0, 1]. Default: 0.5.
        low: smallest side as a fraction of W. Above 1 it enlarges: sides from W up to ``low W``,
            padded to ``low W``, for networks that take any size. Images that are not chosen are
            padded then too. Default: 0.9.
        mode: of the resizing, ``"nearest"`` or ``"bilinear"``. Default: nearest.

    Returns:
        A callable for ``transform=`` of the attacks with gradients. It costs no query itself.

    Raises:
        ValueError: if an argument is out of range, and on a call with rows that are no images.

    References:
        Xie, Zhang, Zhou, Bai, Wang, Ren, Yuille, "Improving transferability of adversarial examples
        with input diversity", CVPR 2019.
    """
    check_number("probability", probability)
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability!r}")
    check_positive("low", low)
    if low == 1:
        raise ValueError("low must be below 1, to shrink, or above 1, to enlarge, got 1")
    check_choice("mode", mode, MODES)
    return InputDiversity(float(probability), float(low), mode)


NAMED: dict[str, Transform] = {"input-diversity": input_diversity()}


def named_transform(transform: str | Transform | None) -> Transform | None:
    """Return the transform of a name, or the given callable or None.

    Raises:
        ValueError: for an unknown name, or anything else.
    """
    if isinstance(transform, str) and transform in NAMED:
        return NAMED[transform]
    if transform is None or (callable(transform) and not isinstance(transform, str)):
        return transform
    raise ValueError(
        "transform must be a callable of rows, ids, step and seed, such as input_diversity(), or"
        f" one of {', '.join(map(repr, NAMED))}, got {transform!r}"
    )
