"""Folders of images: ``ROOT/class_name/*.png``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from art_ext.data.raw import Raw

if TYPE_CHECKING:
    from PIL import Image

_ENDINGS = (".png", ".jpg", ".jpeg")
_GREY = ("1", "L", "LA")
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # more than 8 bits a pixel


def read_image_folder(folder: Path) -> Raw | None:
    """Read ``folder/class_name/*.png|jpg|jpeg``, classes and files in sorted order; None without such subfolders.

    Grey images give (N, 1, H, W), all others, and mixtures, (N, 3, H, W), uint8; transparency is dropped.
    Hidden folders and files are passed over.

    Raises:
        ImportError: if Pillow is not installed.
        ValueError: if a class has no image, an image cannot be read or has more than 8 bits a channel, or if the
            images are not all of one size.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [_images_in(entry) for entry in classes]
    if not any(files):
        return None
    empty = [entry.name for entry, held in zip(classes, files, strict=True) if not held]
    if empty:
        raise ValueError(f"every folder in {folder} is a class and must hold .png or .jpg files, got none in: {empty}")
    images = [_read_image(file) for held in files for file in held]
    _check_sizes(images, [file for held in files for file in held])
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2) for image in images]
        x = np.stack(images).transpose(0, 3, 1, 2)
    else:
        x = np.stack(images)[:, None]
    y = np.repeat(np.arange(len(classes)), [len(held) for held in files])
    return Raw(x, y, tuple(entry.name for entry in classes))


def _images_in(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in _ENDINGS and not f.name.startswith("."))


def _read_image(file: Path) -> npt.NDArray[Any]:
    """Return (H, W) or (H, W, 3) uint8."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("image folders are read with Pillow: pip install 'art-ext[report]'") from error
    try:
        with Image.open(file) as image:
            return _pixels(image, file)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # SyntaxError: Pillow's word for a broken PNG
        raise ValueError(f"{file} must be a PNG or JPEG image, but cannot be read: {error}") from error


def _pixels(image: Image.Image, file: Path) -> npt.NDArray[Any]:
    if image.mode in _DEEP:
        raise ValueError(f"{file} must have 8 bits per channel, got Pillow's mode {image.mode!r}")
    return np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))


def _check_sizes(images: list[npt.NDArray[Any]], files: list[Path]) -> None:
    for image, file in zip(images, files, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            (height, width), (first_height, first_width) = image.shape[:2], images[0].shape[:2]
            raise ValueError(
                f"all images must have one size (resize them first), got {first_width}x{first_height} in {files[0]} "
                f"and {width}x{height} in {file}"
            )
