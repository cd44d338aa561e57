"""NumPy files: ``.npz`` archives with images and labels, and pairs of ``.npy`` files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from art_ext.data.raw import Raw

_NPZ_KEYS = {
    "test": (("x_test", "y_test"), ("x", "y"), ("images", "labels")),
    "train": (("x_train", "y_train"),),
    # samples that are trained on as well, among them those of art-ext craft
    "append": (("x_train", "y_train"), ("x", "y"), ("images", "labels")),
}
# keys of the latents from which a generator made the images of a key, z for others
_LATENTS = {"x_test": "z_test", "x_train": "z_train"}
# what NumPy raises for damaged files, and ValueError for objects in them
DAMAGE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def read_npz(file: Path, split: str) -> Raw:
    """Read the arrays of a split from an ``.npz`` file. Pickled objects in it raise an error.

    Raises:
        ValueError: if the file is damaged, its latents (z, z_test or z_train) are not one row for
            each image, or it has no pair of keys for the split. Test keys are x_test and y_test, x
            and y, or images and labels. Train keys are x_train and y_train or, beside a test split,
            x and y. Keys of samples to append are those of training, x and y, or images and labels.
    """
    try:
        # opened here: NumPy leaves a file open that turns out to be no archive
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is an .npy file under that name")
            for x, y in _keys(split, archive):
                if x in archive and y in archive:
                    key = _LATENTS.get(x, "z")
                    z = archive.get(key)
                    found = Raw(archive[x], archive[y])
                    break
            else:
                found = None
            held = ", ".join(archive.files) or "nothing"
    except DAMAGE as error:
        raise ValueError(
            f"{file} must be an .npz file of plain arrays: {damage_of(error)}"
        ) from error
    if found is not None:
        return found._replace(latents=_checked_latents(file, key, z, len(found.x)))
    wanted = " or ".join(f"{x} and {y}" for x, y in _NPZ_KEYS[split])
    purpose = "to be appended" if split == "append" else f"for the {split} split"
    raise ValueError(f"{file} must hold {wanted} {purpose}, got {held}")


def _keys(split: str, archive: Any) -> tuple[tuple[str, str], ...]:
    """Return the keys that may hold a split. x and y are a test split that stands alone."""
    own = _NPZ_KEYS[split]
    return (*own, ("x", "y")) if split == "train" and "x_test" in archive else own


def _checked_latents(
    file: Path, key: str, z: npt.NDArray[Any] | None, samples: int
) -> npt.NDArray[Any] | None:
    """Return the latents (N, d) from which a generator made the samples, or None.

    An array of another type, or without two axes, is something else.

    Args:
        file, key: of the array, for the message.
        z: the array. None: there is none.
        samples: N.

    Raises:
        ValueError: if they are not one row for each sample.
    """
    if z is None or z.ndim != 2 or not np.issubdtype(z.dtype, np.floating):
        return None
    if len(z) != samples:
        raise ValueError(
            f"{file}: {key} must have one row for each of {samples} images, got {len(z)}"
        )
    return z


def read_npy(file: Path) -> Raw:
    """Read ``NAME.npy`` and its labels ``NAME_labels.npy`` from the same folder.

    Pickled objects raise an error.

    Raises:
        ValueError: if the labels are missing or a file is damaged.
    """
    labels = file.with_name(f"{file.stem}_labels.npy")
    if not labels.is_file():
        raise ValueError(
            f"{file} must have its labels beside it in {labels.name}, which does not exist"
        )
    return Raw(_read_array(file), _read_array(labels))


def _read_array(file: Path) -> npt.NDArray[Any]:
    try:
        with file.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
        if not isinstance(content, np.ndarray):
            raise ValueError("it is an .npz archive under that name")
    except DAMAGE as error:
        raise ValueError(
            f"{file} must be an .npy file of a plain array: {damage_of(error)}"
        ) from error
    return content


def damage_of(error: Exception) -> str:
    """Return what is wrong with a NumPy file, without NumPy's advice to unpickle it."""
    said = str(error)
    return "it is damaged, of another format, or holds objects" if "pickle" in said else said
