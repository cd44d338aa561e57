"""A picture of generated images, a row per class."""

from __future__ import annotations

import io
from importlib.util import find_spec

import torch
from torch import Tensor

COLUMNS = 10
LEAST = 32  # pixels of a side, to which small images are enlarged


def can_draw() -> bool:
    """Return True if Pillow, which encodes the picture, is installed."""
    return find_spec("PIL") is not None


def sheet(x: Tensor, classes: int) -> bytes:
    """Return the content of a PNG file.

    Args:
        x: (COLUMNS * K, C, H, W) images in [0, 1] of all classes in turn. C is 1 or 3, of other
            images the first channel is shown.
        classes: K, the number of rows.
    """
    from PIL import Image

    images = x if x.shape[1] in (1, 3) else x[:, :1]
    scale = -(-LEAST // min(images.shape[2:]))
    images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    # from (column, class) to rows of classes, with a white line around each image
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), value=1.0)
    grid = padded.unflatten(0, (COLUMNS, classes)).permute(1, 3, 0, 4, 2)
    pixels = (grid.flatten(2, 3).flatten(0, 1) * 255).round().to(torch.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels.squeeze(2).numpy()).save(content, "png")
    return content.getvalue()
