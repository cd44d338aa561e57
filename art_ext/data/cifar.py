"""CIFAR-10's and CIFAR-100's official layouts: binary batches and Python batches."""

from __future__ import annotations

import pickle  # only as the base of an unpickler that knows no callable but our own stand-in
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from art_ext.data.raw import Raw

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Cifar:
    """Layout of CIFAR-10 or CIFAR-100.

    Attributes:
        title: name in messages.
        batches: by split, the names of the batches.
        label_bytes: number of bytes before the pixels of a record. The last one is the class.
        label_key: name of the labels in a Python batch.
        classes: names of the classes.
        beside: a file that tells the folder of the Python batches. Empty if none is needed.
        beside_binary: the same for the binary batches.
    """

    title: str
    batches: dict[str, tuple[str, ...]]
    label_bytes: int
    label_key: str
    classes: tuple[str, ...]
    beside: str = ""
    beside_binary: str = ""

    def read_binary(self, folder: Path, split: str) -> Raw | None:
        """Read the binary batches of a split as (N, 3, 32, 32) uint8.

        Returns:
            The arrays, or None if no batch is there.

        Raises:
            ValueError: if some of the batches are missing, or a file does not consist of whole
                records.
        """
        files = self._files(folder, split, ".bin", self.beside_binary)
        if files is None:
            return None
        size = self.label_bytes + _PIXELS
        records = []
        for file in files:
            content = np.fromfile(file, np.uint8)
            if len(content) == 0 or len(content) % size:
                raise ValueError(
                    f"{file} must hold records of {size} bytes (label, then 32x32 pixels of red,"
                    f" green, blue), got {len(content)} bytes: truncated, or not a"
                    f" {self.title} batch"
                )
            records.append(content.reshape(-1, size))
        pixels = [part[:, self.label_bytes :] for part in records]
        return self._raw(pixels, [part[:, self.label_bytes - 1] for part in records])

    def read_python(self, folder: Path, split: str) -> Raw | None:
        """Read the Python batches of a split as (N, 3, 32, 32) uint8.

        These files are pickles. The unpickler maps every allowed name to one inert class of ours,
        so that no function of NumPy or of another package is called. Other names raise an error.

        Returns:
            The arrays, or None if no batch is there.

        Raises:
            ValueError: if some of the batches are missing, or a file is not such a batch.
        """
        files = self._files(folder, split, "", self.beside)
        if files is None:
            return None
        parts = [_read_python_batch(file, self) for file in files]
        return self._raw([pixels for pixels, _ in parts], [labels for _, labels in parts])

    def _raw(self, pixels: list[npt.NDArray[Any]], labels: list[npt.NDArray[Any]]) -> Raw:
        return Raw(
            np.concatenate(pixels).reshape(-1, 3, 32, 32), np.concatenate(labels), self.classes
        )

    def _files(self, folder: Path, split: str, ending: str, beside: str) -> list[Path] | None:
        """Return the files of a split, or None if none is there. Raise ValueError if only some
        are.
        """
        files = [folder / f"{name}{ending}" for name in self.batches[split]]
        missing = [file.name for file in files if not file.is_file()]
        if len(missing) == len(files) or (beside and not (folder / beside).is_file()):
            return None
        if missing:
            raise ValueError(
                f"{folder} must hold all {self.title} batches of the {split} split, missing:"
                f" {', '.join(missing)}"
            )
        return files


_FINE_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum
rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR10 = Cifar(
    "CIFAR-10",
    {"test": ("test_batch",), "train": tuple(f"data_batch_{number}" for number in range(1, 6))},
    1,
    "labels",
    ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
CIFAR100 = Cifar(
    "CIFAR-100",
    {"test": ("test",), "train": ("train",)},
    2,  # the coarse class, then the fine one
    "fine_labels",
    tuple(_FINE_CLASSES.split()),
    "meta",
    "fine_label_names.txt",
)


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
    """Unpickler for a CIFAR batch. Besides plain data it creates only :class:`_Inert`."""

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
                f"it names {module}.{name}, which no CIFAR batch needs; nothing was run"
            )
        return _Inert


def _read_python_batch(file: Path, layout: Cifar) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the (n, 3072) uint8 pixels and the (n,) labels of one batch."""
    try:
        with file.open("rb") as stream:
            content = _BatchUnpickler(stream, encoding="bytes").load()
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        raise ValueError(
            f"{file} must be a {layout.title} Python batch: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{file} must hold a dictionary with data and labels, got {type(content).__name__}"
        )
    pixels = _pixels(content.get(b"data", content.get("data")))
    key = layout.label_key
    labels = content.get(key.encode(), content.get(key))
    if pixels is None:
        raise ValueError(f"{file} must hold under 'data' an array of bytes of shape (n, {_PIXELS})")
    classes = len(layout.classes)
    if not isinstance(labels, list) or not all(
        type(label) is int and 0 <= label < classes for label in labels
    ):
        raise ValueError(
            f"{file} must hold under {key!r} a list of integers from 0 to {classes - 1}"
        )
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
