"""Conversion of images and arrays of any origin to float32 tensors, channels first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image

    from art_ext.data.transform import Transform

_GREY = ("1", "L", "LA")
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # more than 8 bits a pixel


def to_tensor(value: Any, transform: Transform | None = None, colour: bool = False) -> Tensor:
    """Convert an image or array to a tensor (C, H, W), or (*S) for other shapes.

    Bytes become float32 / 255, floats keep their values. Transparency is dropped.

    Args:
        value: a Pillow image, or an array or tensor of bytes or floats. Images may have their
            channels last, and (H, W) becomes (1, H, W).
        transform: resizes and crops an image or an array of bytes.
        colour: True to give grey Pillow images three channels.

    Raises:
        ValueError: for another type, more than 8 bits a channel, values that are not finite, or a
            transform of floats.
    """
    if is_pillow(value):
        return _of_pillow(value, transform, colour)
    pixels = value.detach().cpu() if isinstance(value, Tensor) else _tensor(value)
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.shape[0] not in (1, 3):
        pixels = pixels.permute(2, 0, 1)
    if transform is not None:
        pixels = _transformed(pixels, transform)
    if pixels.dtype == torch.uint8:
        return pixels.contiguous().to(torch.float32).div_(255)
    if not pixels.is_floating_point():
        raise ValueError(
            f"x must be uint8 (0 to 255) or floating (kept as it is), got {pixels.dtype}"
        )
    pixels = pixels.to(torch.float32).contiguous()
    if not bool(torch.isfinite(pixels).all()):
        raise ValueError("x must be finite, got NaN or infinity")
    return pixels


def is_pillow(value: object) -> bool:
    """Return True for an image of Pillow, which is not imported for that."""
    return any(
        kind.__module__.startswith("PIL.") and kind.__name__ == "Image"
        for kind in type(value).__mro__
    )


def is_grey(image: Image.Image) -> bool:
    """Return True for an image without colours.

    Raises:
        ValueError: for more than 8 bits a channel.
    """
    if image.mode in _DEEP:
        raise ValueError(f"an image must have 8 bits per channel, got Pillow's mode {image.mode!r}")
    return image.mode in _GREY


def _of_pillow(image: Image.Image, transform: Transform | None, colour: bool) -> Tensor:
    grey = is_grey(image) and not colour
    image = image.convert("L" if grey else "RGB")
    if transform is not None:
        image = transform.apply(image)
    pixels = torch.from_numpy(np.array(image))
    pixels = pixels[None] if grey else pixels.permute(2, 0, 1)
    return pixels.contiguous().to(torch.float32).div_(255)


def _tensor(value: Any) -> Tensor:
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind not in "uif":
        raise ValueError(
            f"x must be a Pillow image or an array of bytes or floats, got {type(value).__name__}"
        )
    # a copy, since arrays of files are often read-only
    return torch.from_numpy(np.array(array, order="C"))


def _transformed(pixels: Tensor, transform: Transform) -> Tensor:
    """Return bytes (C, H, W) after a transform."""
    from PIL import Image

    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise ValueError(
            f"resize and crop need images of bytes, got {pixels.dtype} of shape"
            f" {tuple(pixels.shape)}"
        )
    grey = pixels.shape[0] == 1
    array = pixels[0].numpy() if grey else pixels.permute(1, 2, 0).contiguous().numpy()
    done = torch.from_numpy(np.array(transform.apply(Image.fromarray(array))))
    return done[None] if grey else done.permute(2, 0, 1)
