"""CIFAR-10's official layouts: binary batches and Python batches."""

from __future__ import annotations

import pickle  # only as the base of an unpickler that knows no callable but our own stand-in
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from art_ext.data.raw import Raw

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_BATCHES = {
    "test": ("test_batch",),
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
}
_PIXELS = 3 * 32 * 32


def read_binary_batches(folder: Path, split: str) -> Raw | None:
    """Read test_batch.bin, or data_batch_1.bin to data_batch_5.bin, as (N, 3, 32, 32) uint8.

    Returns:
        The arrays, or None if no batch is there.

    Raises:
        ValueError: if some of the batches are missing, or a file does not consist of records of 1 +
            3072 bytes.
    """
    files = _batch_files(folder, split, ".bin")
    if files is None:
        return None
    records = []
    for file in files:
        content = np.fromfile(file, np.uint8)
        if len(content) == 0 or len(content) % (1 + _PIXELS):
            raise ValueError(
                f"{file} must hold records of {1 + _PIXELS} bytes (label, then 32x32 pixels of red,"
                f" green, blue), got {len(content)} bytes: truncated, or not a CIFAR-10 batch"
            )
        records.append(content.reshape(-1, 1 + _PIXELS))
    return _raw([part[:, 1:] for part in records], [part[:, 0] for part in records])


def read_python_batches(folder: Path, split: str) -> Raw | None:
    """Read test_batch, or data_batch_1 to data_batch_5, as (N, 3, 32, 32) uint8.

    These files are pickles. The unpickler maps every allowed name to one inert class of ours, so
    that no function of NumPy or of another package is called. Other names raise an error.

    Returns:
        The arrays, or None if no batch is there.

    Raises:
        ValueError: if some of the batches are missing, or a file is not such a batch.
    """
    files = _batch_files(folder, split, "")
    if files is None:
        return None
    parts = [_read_python_batch(file) for file in files]
    return _raw([pixels for pixels, _ in parts], [labels for _, labels in parts])


def _raw(pixels: list[npt.NDArray[Any]], labels: list[npt.NDArray[Any]]) -> Raw:
    return Raw(
        np.concatenate(pixels).reshape(-1, 3, 32, 32), np.concatenate(labels), CIFAR10_CLASSES
    )


def _batch_files(folder: Path, split: str, ending: str) -> list[Path] | None:
    """Return the files of a split, or None if none is there. Raise ValueError if only some are."""
    files = [folder / f"{name}{ending}" for name in _BATCHES[split]]
    missing = [file.name for file in files if not file.is_file()]
    if len(missing) == len(files):
        return None
    if missing:
        raise ValueError(
            f"{folder} must hold all CIFAR-10 batches of the {split} split, missing:"
            f" {', '.join(missing)}"
        )
    return files


class _Inert:
    """Replacement of NumPy's array, data type and array constructor in a pickle.

    It keeps the arguments of the constructor.
    """

    arguments: tuple[object, ...] = ()  # a file may make one without calling __init__
    state: object = None

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        # the unpickler hands every state to this method, so it never sets an attribute itself
        self.state = state


class _BatchUnpickler(pickle.Unpickler):
    """Unpickler for a CIFAR-10 batch. Besides plain data it creates only :class:`_Inert`."""

    _stand_ins = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),  # files written again with NumPy 2
        }
    )

    def find_class(self, module: str, name: str) -> type[_Inert]:
        if (module, name) not in self._stand_ins:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no CIFAR-10 batch needs; nothing was run"
            )
        return _Inert


def _read_python_batch(file: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the (n, 3072) uint8 pixels and the (n,) labels of one batch."""
    try:
        with file.open("rb") as stream:
            content = _BatchUnpickler(stream, encoding="bytes").load()
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        raise ValueError(
            f"{file} must be a CIFAR-10 Python batch: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{file} must hold a dictionary with data and labels, got {type(content).__name__}"
        )
    pixels = _pixels(content.get(b"data", content.get("data")))
    labels = content.get(b"labels", content.get("labels"))
    if pixels is None:
        raise ValueError(f"{file} must hold under 'data' an array of bytes of shape (n, {_PIXELS})")
    if not isinstance(labels, list) or not all(
        type(label) is int and 0 <= label <= 9 for label in labels
    ):
        raise ValueError(f"{file} must hold under 'labels' a list of integers from 0 to 9")
    if len(labels) != len(pixels):
        raise ValueError(
            f"{file} must have one label for each row, got {len(pixels)} rows and {len(labels)}"
            " labels"
        )
    return pixels, np.array(labels, np.int64)


def _pixels(stand_in: object) -> npt.NDArray[Any] | None:
    """Build the array from the state that NumPy pickles, or return None if the state is invalid.

    The state is (version, shape, data type, Fortran order, bytes).
    """
    if (
        not isinstance(stand_in, _Inert)
        or not isinstance(stand_in.state, tuple)
        or len(stand_in.state) != 5
    ):
        return None
    _, shape, dtype, fortran_order, content = stand_in.state
    is_bytes = isinstance(dtype, _Inert) and dtype.arguments[:1] in ((b"u1",), ("u1",))
    if not (is_bytes and isinstance(shape, tuple) and isinstance(content, bytes)):
        return None
    if shape != (len(content) // _PIXELS, _PIXELS) or len(content) % _PIXELS:
        return None
    return np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran_order else "C")
