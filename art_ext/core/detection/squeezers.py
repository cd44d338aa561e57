"""Squeezers: transformations that keep an image's class and destroy small perturbations."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_count, check_positive, nearest

MOST_BITS = 24  # float32 holds no more of them


@dataclass(frozen=True)
class Squeezer(ABC):
    """A transformation of images in [0, 1], row by row. Its gradient may be straight-through."""

    @abstractmethod
    def __call__(self, rows: Tensor) -> Tensor:
        """Return the squeezed rows, of the shape of rows (r, *S)."""

    def __str__(self) -> str:
        settings = ", ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))
        return f"{_NAMES[type(self)]}({settings})"


def straight_through(rows: Tensor, squeezed: Tensor) -> Tensor:
    """Return squeezed (r, *S), with the gradient of the identity with respect to rows (r, *S)."""
    return squeezed.detach() + (rows - rows.detach()) if rows.requires_grad else squeezed


@dataclass(frozen=True)
class BitDepth(Squeezer):
    """Round to 2^bits levels: round(x (2^bits - 1)) / (2^bits - 1), halves to even.

    The gradient is straight-through.

    Args:
        bits: number of bits, 1 to 24.

    Raises:
        ValueError: if bits is out of range.
    """

    bits: int

    def __post_init__(self) -> None:
        check_count("bits", self.bits)
        if self.bits > MOST_BITS:
            raise ValueError(f"bits must lie in [1, {MOST_BITS}], got {self.bits}")

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the rounded rows (r, *S)."""
        steps = 2**self.bits - 1
        return straight_through(rows, (rows.detach() * steps).round() / steps)


@dataclass(frozen=True)
class Median(Squeezer):
    """The median of each size x size window of the last two axes.

    The window of size 2 is {i-1, i} x {j-1, j}. Images are mirrored at their edges. Of an even
    number of values the upper middle one counts. This equals ``scipy.ndimage.median_filter`` with
    its default mode bit for bit.

    Args:
        size: side of the window in pixels.

    Raises:
        ValueError: if size is not an integer >= 1.
    """

    size: int = 2

    def __post_init__(self) -> None:
        check_count("size", self.size)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the medians of rows (r, *S).

        Raises:
            ValueError: unless the rows are images.
        """
        if rows.dim() < 3:
            raise ValueError(
                f"median must squeeze images (rows, ..., height, width), got {tuple(rows.shape)}"
            )
        padded = _mirrored(_mirrored(rows, -1, self.size), -2, self.size)
        height, width = rows.shape[-2:]
        shifts = [
            padded[..., i : i + height, j : j + width]
            for i in range(self.size)
            for j in range(self.size)
        ]
        if self.size == 2:  # the second largest of four, without a sort
            low, high = torch.minimum(shifts[0], shifts[1]), torch.maximum(shifts[0], shifts[1])
            low2, high2 = torch.minimum(shifts[2], shifts[3]), torch.maximum(shifts[2], shifts[3])
            return torch.maximum(torch.minimum(high, high2), torch.maximum(low, low2))
        return torch.stack(shifts, dim=-1).sort(dim=-1).values[..., len(shifts) // 2]


def _mirrored(rows: Tensor, axis: int, size: int) -> Tensor:
    """Pad an axis for windows of this size, each of which begins size // 2 before its place."""
    length = rows.shape[axis]
    places = torch.arange(-(size // 2), length + size - size // 2 - 1, device=rows.device)
    places = places.remainder(2 * length)
    places = torch.where(places < length, places, 2 * length - 1 - places)
    return rows.index_select(axis, places)


@dataclass(frozen=True)
class NonLocalMeans(Squeezer):
    """OpenCV's non-local means of colour images, in 8 bits.

    A pixel becomes the average of the pixels in its search window, weighted by the likeness of the
    patches around them. The gradient is straight-through.

    Args:
        search: side of the search window in pixels, odd.
        patch: side of a patch in pixels, odd.
        strength: of the filter, for brightness and colour.
        channels: order in which OpenCV gets the channels of RGB images. OpenCV expects ``"bgr"``.
            The authors of feature squeezing gave it ``"rgb"``.

    Raises:
        ValueError: if an argument is out of range.
    """

    search: int = 13
    patch: int = 3
    strength: float = 2
    channels: str = "rgb"

    def __post_init__(self) -> None:
        for name in ("search", "patch"):
            value = getattr(self, name)
            check_count(name, value)
            if value % 2 == 0:
                raise ValueError(f"{name} must be odd, got {value}")
        check_positive("strength", self.strength)
        check_choice("channels", self.channels, ("rgb", "bgr"))

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the filtered rows (r, 3, h, w).

        Raises:
            ValueError: unless the rows are images of three channels.
            ImportError: if OpenCV is missing. The extra ``detection`` installs it.
        """
        if rows.dim() != 4 or rows.shape[1] != 3:
            raise ValueError(
                "non_local_means must squeeze images (rows, 3, height, width), got"
                f" {tuple(rows.shape)}: take bit_depth and median for grey images"
            )
        if find_spec("cv2") is None:
            raise ImportError(
                "non_local_means needs OpenCV: pip install 'art-ext[detection]', or take other"
                " squeezers"
            )
        if not len(rows):
            return rows
        pixels = (rows.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
        pixels = pixels.flip(1) if self.channels == "bgr" else pixels
        # OpenCV takes one image at a time
        found = torch.stack([self._filtered(image) for image in pixels.permute(0, 2, 3, 1)])
        found = found.permute(0, 3, 1, 2)
        found = found.flip(1) if self.channels == "bgr" else found
        return straight_through(rows, found.to(rows.device, rows.dtype) / 255)

    def _filtered(self, image: Tensor) -> Tensor:
        """Return an image (h, w, 3) of bytes after the filter."""
        import cv2

        strength = float(self.strength)
        return torch.from_numpy(
            cv2.fastNlMeansDenoisingColored(
                image.contiguous().numpy(), None, strength, strength, self.patch, self.search
            )
        )


def bit_depth(bits: int) -> Squeezer:
    """Return the squeezer that rounds to 2^bits levels.

    Args:
        bits: number of bits, 1 to 24.

    Raises:
        ValueError: if bits is out of range.

    References:
        Xu, Evans, Qi. Feature squeezing: detecting adversarial examples in deep neural networks.
        NDSS 2018.
    """
    return BitDepth(bits)


def median(size: int = 2) -> Squeezer:
    """Return the squeezer that takes medians of size x size windows.

    Args:
        size: side of the window in pixels.

    Raises:
        ValueError: if size is not an integer >= 1.
    """
    return Median(size)


def non_local_means(
    search: int = 13, patch: int = 3, strength: float = 2, channels: str = "rgb"
) -> Squeezer:
    """Return the squeezer that applies OpenCV's non-local means to RGB images.

    Args:
        search: side of the search window in pixels, odd. Default: 13.
        patch: side of a patch in pixels, odd. Default: 3.
        strength: of the filter, for brightness and colour. Default: 2.
        channels: order in which OpenCV gets the channels. Default: ``"rgb"``, as the authors gave
            them. OpenCV expects ``"bgr"``.

    Raises:
        ValueError: if an argument is out of range.
    """
    return NonLocalMeans(search, patch, strength, channels)


SQUEEZERS: dict[str, Callable[..., Squeezer]] = {
    "bit_depth": bit_depth,
    "median": median,
    "non_local_means": non_local_means,
}
_NAMES: dict[type[Squeezer], str] = {
    BitDepth: "bit_depth",
    Median: "median",
    NonLocalMeans: "non_local_means",
}


def squeezer_of(text: str) -> Squeezer:
    """Return the squeezer that a text such as ``"bit_depth(5)"`` or ``"median(size=2)"`` names.

    Raises:
        ValueError: for an unknown name or argument.
    """
    found = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    name = found.group(1) if found else text
    if found is None or name not in SQUEEZERS:
        raise ValueError(
            f"a squeezer must be one of {', '.join(SQUEEZERS)}, with arguments as in bit_depth(5),"
            f" got {text!r}{nearest(name, SQUEEZERS)}"
        )
    known = inspect.signature(SQUEEZERS[name]).parameters
    arguments: list[Any] = []
    named: dict[str, Any] = {}
    for part in filter(None, (one.strip() for one in (found.group(2) or "").split(","))):
        key, equals, value = (one.strip() for one in part.rpartition("="))
        if equals and key not in known:
            raise ValueError(f"{name} has no argument {key!r}{nearest(key, known)}")
        read = _value(value)
        if equals:
            named[key] = read
        else:
            arguments.append(read)
    try:
        return SQUEEZERS[name](*arguments, **named)
    except TypeError as error:
        raise ValueError(
            f"the squeezer {text!r} must fit {name}{inspect.signature(SQUEEZERS[name])}"
        ) from error


def _value(text: str) -> int | float | str:
    """Return the number in a text, or the text without quotation marks."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip("'\"")
