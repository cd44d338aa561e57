"""MNIST's idx files, plain or gzipped, under their official names."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from art_ext.data.raw import Raw

_PREFIX = {"test": "t10k", "train": "train"}


def read_idx_folder(folder: Path, split: str) -> Raw | None:
    """Read a split of MNIST's layout, (N, H, W) uint8 and (N,) uint8.

    Returns:
        The arrays, or None if the folder does not contain the images.

    Raises:
        ValueError: for a missing label file, a wrong magic number, a truncated or an overlong file.
    """
    images = _plain_or_gz(folder / f"{_PREFIX[split]}-images-idx3-ubyte")
    labels = _plain_or_gz(folder / f"{_PREFIX[split]}-labels-idx1-ubyte")
    if images is None:
        return None
    if labels is None:
        raise ValueError(
            f"{images} must have its labels beside it, {_PREFIX[split]}-labels-idx1-ubyte or the"
            " same .gz"
        )
    return Raw(_read_idx(images, 3), _read_idx(labels, 1))


def _read_idx(file: Path, dimensions: int) -> npt.NDArray[Any]:
    """Read one idx file of unsigned bytes with the given number of dimensions.

    Raises:
        ValueError: for a damaged gzip file, a wrong magic number, a truncated or an overlong file.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"{file} cannot be read, it may be damaged or truncated: {error}"
        ) from error
    # magic number: two zero bytes, 8 for unsigned bytes, the number of dimensions; then each
    # dimension, big-endian
    magic = bytes((0, 0, 8, dimensions))
    if content[:4] != magic:
        raise ValueError(
            f"{file} must begin with the magic number {int.from_bytes(magic, 'big')} of an idx file"
            f" of bytes with {dimensions} dimension(s), got {int.from_bytes(content[:4], 'big')}"
        )
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise ValueError(
            f"{file} must be {start + math.prod(shape)} bytes long for the shape {shape} in its"
            f" header, got {len(content)}: truncated, or not an idx file"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _plain_or_gz(file: Path) -> Path | None:
    """Return the file or its .gz version, whichever exists, else None."""
    return next(
        (path for path in (file, file.with_name(f"{file.name}.gz")) if path.is_file()), None
    )
