"""Folders of images: ``ROOT/class/*.png``, or ``ROOT/train/class/*.png`` and ``ROOT/test/...``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from art_ext.data.classes import Classes, assign_classes
from art_ext.data.raw import Raw

if TYPE_CHECKING:
    from PIL import Image

_ENDINGS = (".png", ".jpg", ".jpeg")
_GREY = ("1", "L", "LA")
_DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # more than 8 bits a pixel


def read_image_folder(
    folder: Path, split: str, order: str = "numeric", classes: Classes | None = None
) -> Raw | None:
    """Read the class folders ``folder/class_name/*.png|jpg|jpeg``, or return None without such
    folders.

    They are the "test" split. Class folders inside ``folder/train`` and ``folder/test`` (or
    ``folder/val``) are the split of that name. Files are in sorted order. Grey images give (N, 1,
    H, W), all others, and mixtures, (N, 3, H, W), uint8. Transparency is dropped. Hidden folders
    and files are skipped.

    Args:
        folder: the root.
        split: ``"test"`` or ``"train"``.
        order: of the class folders without a mapping, ``"numeric"`` or ``"text"``.
        classes: a mapping from class folder to class index, or a file that holds one.

    Raises:
        ImportError: if Pillow is not installed.
        ValueError: if a class has no image, an image cannot be read or has more than 8 bits a
            channel, the images have different sizes, the two splits differ in their class folders,
            or the mapping lacks a folder.
    """
    entries = _class_folders(folder, split)
    files = {entry.name: _images_in(entry) for entry in entries}
    if not any(files.values()):
        return None
    empty = [name for name, held in files.items() if not held]
    if empty:
        raise ValueError(
            f"every folder in {entries[0].parent} is a class and must hold .png or .jpg files, got"
            f" none in: {empty}"
        )
    index, names = assign_classes(list(files), order, classes)
    ordered = sorted(files, key=index.__getitem__)
    paths = [path for name in ordered for path in files[name]]
    images = [_read_image(path) for path in paths]
    _check_sizes(images, paths)
    if any(image.ndim == 3 for image in images):
        images = [
            image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
            for image in images
        ]
        x = np.stack(images).transpose(0, 3, 1, 2)
    else:
        x = np.stack(images)[:, None]
    y = np.repeat([index[name] for name in ordered], [len(files[name]) for name in ordered])
    return Raw(x, y, names)


def _class_folders(folder: Path, split: str) -> list[Path]:
    """Class folders of a split, sorted by name."""
    parts = {name: folder / name for name in ("train", "test", "val")}
    held = {name: _subfolders(part) for name, part in parts.items() if part.is_dir()}
    held = {name: entries for name, entries in held.items() if any(map(_images_in, entries))}
    if not held:
        return _subfolders(folder) if split == "test" else []
    chosen = held.get(split, held.get("val", []) if split == "test" else [])
    for name, entries in held.items():
        # each split alone would number its own folders, so that a missing one shifts all that
        # follow
        differ = {entry.name for entry in entries} ^ {entry.name for entry in chosen}
        if chosen and differ:
            raise ValueError(
                f"the folders {name} and {chosen[0].parent.name} of {folder} must hold the same"
                f" class folders, but {min(differ)!r} is in one of them only"
            )
    return chosen


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        f for f in folder.iterdir() if f.suffix.lower() in _ENDINGS and not f.name.startswith(".")
    )


def _read_image(file: Path) -> npt.NDArray[Any]:
    """Return (H, W) or (H, W, 3) uint8."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "image folders are read with Pillow: pip install 'art-ext[report]'"
        ) from error
    try:
        with Image.open(file) as image:
            return _pixels(image, file)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for a damaged PNG
        raise ValueError(
            f"{file} must be a PNG or JPEG image, but cannot be read: {error}"
        ) from error


def _pixels(image: Image.Image, file: Path) -> npt.NDArray[Any]:
    if image.mode in _DEEP:
        raise ValueError(f"{file} must have 8 bits per channel, got Pillow's mode {image.mode!r}")
    return np.asarray(image.convert("L" if image.mode in _GREY else "RGB"))


def _check_sizes(images: list[npt.NDArray[Any]], files: list[Path]) -> None:
    for image, file in zip(images, files, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            height, width = image.shape[:2]
            first_height, first_width = images[0].shape[:2]
            raise ValueError(
                "all images must have one size (resize them first), got"
                f" {first_width}x{first_height} in {files[0]} and {width}x{height} in {file}"
            )
