"""Resizing and cropping of images, by Pillow alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from art_ext.core.checks import check_choice, check_count
from art_ext.data.images import to_tensor

if TYPE_CHECKING:
    from PIL import Image

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
Size = int | tuple[int, int]


@dataclass(frozen=True)
class Transform:
    """Resize an image, cut out its centre, and scale its bytes to [0, 1].

    The result equals torchvision's ``Resize``, ``CenterCrop`` and ``ToTensor`` on PIL images bit
    for bit. An image that is smaller than the crop is padded with black.

    Attributes:
        resize: length of the shorter side, whose ratio to the longer one is kept, or (height,
            width). None keeps the size.
        crop: side of the centre square, or (height, width). None keeps all.
        interpolation: filter of the resizing, one of ``INTERPOLATIONS``.
        floor_crop: crop at the lower of two middle positions, as transformers does. False rounds to
            the even one, as torchvision does.
    """

    resize: Size | None = None
    crop: Size | None = None
    interpolation: str = "bilinear"
    floor_crop: bool = False

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                if len(value) != 2:
                    raise ValueError(f"{name} must be an integer or (height, width), got {value!r}")
                object.__setattr__(self, name, tuple(value))  # equal and hashable after JSON
            for side in getattr(self, name) if isinstance(value, list | tuple) else (value,):
                if side is not None:
                    check_count(name, side)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the image as RGB, a (3, H, W) float32 tensor in [0, 1]."""
        return to_tensor(image.convert("RGB"), self)

    def apply(self, image: Image.Image) -> Image.Image:
        """Return the resized and cropped image, in the mode of the image."""
        from PIL import Image

        if self.resize is not None:
            width, height = self._resized(*image.size)
            if (width, height) != image.size:
                image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        if self.crop is not None:
            image = _centre(image, *_pair(self.crop), self.floor_crop)
        return image

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of every result, or None if they depend on the image."""
        if self.crop is not None:
            return _pair(self.crop)
        return self.resize if isinstance(self.resize, tuple) else None

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result for an image of this size."""
        if self.crop is not None:
            return _pair(self.crop)[::-1]
        return self._resized(width, height)

    def __str__(self) -> str:
        """Describe the steps, such as ``resize 256 (bilinear), centre crop 224``."""
        steps = []
        if self.resize is not None:
            steps.append(f"resize {_text(self.resize)} ({self.interpolation})")
        if self.crop is not None:
            steps.append(f"centre crop {_text(self.crop)}")
        return ", ".join(steps) or "none"

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        short = self.resize
        if short is None:
            return width, height
        if width <= height:
            return short, int(short * height / width)
        return int(short * width / height), short


def _pair(size: Size) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


def _text(size: Size) -> str:
    return str(size) if isinstance(size, int) else "x".join(map(str, size))


def _centre(image: Image.Image, height: int, width: int, floor: bool) -> Image.Image:
    """Cut out the centre of an image, padded with black where it is too small."""
    from PIL import ImageOps

    wide, high = max(0, width - image.width), max(0, height - image.height)
    if wide or high:
        border = (wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2)
        image = ImageOps.expand(image, border)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    left, top = (int(left), int(top)) if floor else (round(left), round(top))
    return image.crop((left, top, left + width, top + height))
