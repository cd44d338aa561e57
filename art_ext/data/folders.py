"""Folders of images: ``ROOT/class/*.png``, or ``ROOT/train/class/*.png`` and ``ROOT/test/...``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.data.classes import assign_classes
from art_ext.data.images import is_grey
from art_ext.data.lazy import LazyDataset
from art_ext.data.request import Request
from art_ext.data.transform import Transform

if TYPE_CHECKING:
    from PIL import Image

_ENDINGS = (".png", ".jpg", ".jpeg")


class ImageFiles:
    """Images of files.

    Args:
        paths: of the images.
        labels: (N,) int64 class index of each.
        root: folder to which paths are relative in the identity.
        colour: True to give grey images three channels. None: only if an image has colours.

    Raises:
        ImportError: if Pillow is not installed.
        ValueError: if an image cannot be read or has more than 8 bits a channel.
    """

    def __init__(
        self, paths: Sequence[Path], labels: Tensor, root: Path, colour: bool | None = None
    ) -> None:
        self.paths = paths
        self.labels: Tensor | None = labels
        self.root = root
        self.colour: bool | None = colour
        if colour is None:
            self.colour = not all(self._header(path)[1] for path in paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        with opened(self.paths[place]) as image:
            image.load()
        return image, int(self.labels[place]) if self.labels is not None else 0

    def describe(self, places: Sequence[int]) -> str:
        """Return the relative paths and the sizes of the files."""
        return "\n".join(
            f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}"
            for path in (self.paths[place] for place in places)
        )

    def check_sizes(self, transform: Transform | None) -> None:
        """Raise ValueError unless all images have one size after a transform.

        Only their headers are read.
        """
        if transform is not None and transform.shape is not None:
            return
        sizes: dict[tuple[int, int], tuple[tuple[int, int], Path]] = {}
        for path in self.paths:
            size = self._header(path)[0]
            sizes.setdefault(size if transform is None else transform.size(*size), (size, path))
            if len(sizes) > 1:
                shown = [f"{width}x{height} in {path}" for (width, height), path in sizes.values()]
                raise ValueError(
                    "all images must have one size (give resize and crop: --resize 256 --crop 224),"
                    f" got {' and '.join(shown)}"
                )

    @staticmethod
    def _header(path: Path) -> tuple[tuple[int, int], bool]:
        """Width and height of an image, and True if it has no colours."""
        with opened(path) as image:
            return image.size, is_grey(image)


def files_of_classes(
    files: Mapping[str, Sequence[Path]],
    index: Mapping[str, int],
    root: Path,
    transform: Transform | None,
    colour: bool | None = None,
) -> ImageFiles:
    """Return the images of class folders in the order of the classes.

    Args:
        files: by folder, its images.
        index: by folder, its class index.
        root, colour: as of ``ImageFiles``.
        transform: after which all images must have one size.

    Raises:
        ImportError, ValueError: as ``ImageFiles`` and its ``check_sizes``.
    """
    ordered = sorted(files, key=index.__getitem__)
    paths = [path for name in ordered for path in files[name]]
    labels = torch.tensor([index[name] for name in ordered for _ in files[name]])
    items = ImageFiles(paths, labels, root, colour)
    items.check_sizes(transform)
    return items


def read_image_folder(folder: Path, request: Request) -> LazyDataset | None:
    """Return the class folders ``folder/class_name/*.png|jpg|jpeg`` as a data set that reads images
    when they are needed, or None without such folders.

    They are the "test" split. Class folders inside ``folder/train`` and ``folder/test`` (or
    ``folder/val``) are the split of that name. Files are in sorted order. Grey images give (N, 1,
    H, W), all others, and mixtures, (N, 3, H, W). Transparency is dropped. Hidden folders and files
    are skipped.

    Args:
        folder: the root.
        request: split, order of the classes, mapping, transform, and the model's classes.

    Raises:
        ImportError: if Pillow is not installed.
        ValueError: if a class has no image, an image cannot be read or has more than 8 bits a
            channel, the images have different sizes and the transform leaves them, the two splits
            differ in their class folders, or the mapping lacks a folder.
    """
    entries = class_folders(folder, request.split)
    files = {entry.name: images_in(entry) for entry in entries}
    if not any(files.values()):
        return None
    empty = [name for name, held in files.items() if not held]
    if empty:
        raise ValueError(
            f"every folder in {entries[0].parent} is a class and must hold .png or .jpg files, got"
            f" none in: {empty}"
        )
    note = ""
    known = known_classes(list(files), request)
    if known is None:
        index, names = assign_classes(list(files), request.class_order, request.classes)
    else:
        index, names = known
        note = f"class folders take the indices of the model's classes of these names: {folder}"
    items = files_of_classes(files, index, folder, request.image_transform)
    return LazyDataset(folder.name, items, names, transform=request.image_transform, note=note)


def known_classes(
    folders: Sequence[str], request: Request
) -> tuple[dict[str, int], tuple[str, ...]] | None:
    """Class index of each folder and the names of all classes, as the model knows them.

    None if the request has a mapping, or the model knows no folder.

    Raises:
        ValueError: if the model knows some folders only, or has two classes of a folder's name.
    """
    if request.classes is not None:
        return None
    for own in (list(request.model.ids), list(request.model.names)):
        found = [name for name in folders if name in own]
        if not found:
            continue
        unknown = [name for name in folders if name not in own]
        twice = [name for name in found if own.count(name) > 1]
        if unknown or twice:
            reason = f"has no class {unknown[0]!r}" if unknown else f"has two classes {twice[0]!r}"
            raise ValueError(
                f"the model knows {len(found)} of the {len(folders)} class folders by name, and"
                f" {reason}: give their indices (--classes FILE)"
            )
        names = tuple(request.model.names or own)
        return {name: own.index(name) for name in found}, names
    return None


def class_folders(folder: Path, split: str) -> list[Path]:
    """Class folders of a split, sorted by name."""
    parts = {name: folder / name for name in ("train", "test", "val")}
    held = {name: _subfolders(part) for name, part in parts.items() if part.is_dir()}
    held = {name: entries for name, entries in held.items() if any(map(images_in, entries))}
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


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, sorted by name."""
    return sorted(
        f for f in folder.iterdir() if f.suffix.lower() in _ENDINGS and not f.name.startswith(".")
    )


@contextmanager
def opened(file: Path) -> Iterator[Image.Image]:
    """Open an image, of which only the header is read at first.

    Raises:
        ImportError: if Pillow is not installed.
        ValueError: if it cannot be read or has more than 8 bits a channel.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "image folders are read with Pillow: pip install 'art-ext[report]'"
        ) from error
    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for a damaged PNG
        raise ValueError(
            f"{file} must be a PNG or JPEG image, but cannot be read: {error}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
