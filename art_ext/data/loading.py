"""Loading of data sets by name or path."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from art_ext.core.checks import check_choice, nearest, same_name
from art_ext.data.arrays import read_npy, read_npz
from art_ext.data.cifar import CIFAR10_CLASSES, read_binary_batches, read_python_batches
from art_ext.data.classes import CLASS_ORDERS, Classes
from art_ext.data.dataset import Dataset, dataset_from_arrays
from art_ext.data.folders import read_image_folder
from art_ext.data.idx import read_idx_folder
from art_ext.data.lazy import LazyDataset
from art_ext.data.raw import Raw

DATA_NAMES = ("digits", "mnist", "cifar10")
_TEN_DIGITS = tuple("0123456789")
_DIGITS_TEST_ROWS = 500

_FOLDER_LAYOUTS: tuple[tuple[str, Callable[[Path, str], Raw | None]], ...] = (
    ("MNIST idx files (t10k-images-idx3-ubyte[.gz] and labels, or train-...)", read_idx_folder),
    (
        "CIFAR-10 binary batches (test_batch.bin, or data_batch_1.bin to data_batch_5.bin)",
        read_binary_batches,
    ),
    ("CIFAR-10 Python batches (test_batch, or data_batch_1 to data_batch_5)", read_python_batches),
)


def load_data(
    name_or_path: str | os.PathLike[str],
    *,
    split: str = "test",
    root: str | os.PathLike[str] | None = None,
    class_order: str = "numeric",
    classes: Classes | None = None,
) -> Dataset | LazyDataset:
    """Load a data set by name, or from a file or folder.

    Class folders give a ``LazyDataset``, which reads images when they are needed. Everything else
    is read into memory.

    Names, in any case (write ``./mnist`` for a folder of that name):

    * ``digits``: scikit-learn's 1,797 digits, (N, 1, 8, 8), pixel / 16. "test" is a fixed
      stratified draw of 500 (``train_test_split`` with seed 0), "train" the other 1,297, each in
      the order of that draw.
    * ``mnist``: idx files or ``mnist.npz`` in the root or its folders mnist, MNIST, MNIST/raw.
    * ``cifar10``: binary batches, Python batches, ``cifar10_test.npz`` / ``cifar10_train.npz`` or
      ``cifar10.npz`` in the root or its folders cifar10, cifar-10-batches-bin, cifar-10-batches-py.

    Paths:

    * a folder with MNIST's idx files or CIFAR-10's batches
    * a folder ``ROOT/class_name/*.png|jpg`` with images of one size, or
      ``ROOT/train/class_name/*.png|jpg`` and ``ROOT/test/...`` (or ``ROOT/val/...``).
      ``class_order`` and ``classes`` map folders to classes.
    * an ``.npz`` file with x_test and y_test (x_train and y_train), x and y, or images and labels
    * ``NAME.npy`` with its labels in ``NAME_labels.npy``

    Bytes become float32 / 255, floats are kept. (N, H, W) and channels-last images become (N, C, H,
    W), see :func:`dataset_from_arrays`. Layouts that hold one set only (x and y, images and labels,
    .npy, class folders) are the "test" split.

    Args:
        name_or_path: one of ``DATA_NAMES``, or a path.
        split: "test" or "train".
        root: folder that holds mnist and cifar10. Default: the folder in the environment variable
            ART_EXT_DATA.
        class_order: order of class folders. ``"numeric"``: by number if all names are whole
            numbers, else as text. ``"text"``: character by character, as torchvision sorts them
            ("10" before "2").
        classes: class index of each class folder: a mapping ``{folder: index}``, a list of folders,
            or a file. A file holds a JSON object or list, the ImageNet class-index JSON, one folder
            a line, or CSV ``folder,index``.

    Raises:
        ValueError: if nothing is found (the message lists the places and the layouts), or if the
            data are damaged, not finite, or not labelled with one class index in range for each
            row. Also for an invalid mapping, a mapping that lacks a folder, or one given with other
            data than class folders.
        ImportError: for a folder of images without Pillow.
    """
    if split not in ("test", "train"):
        raise ValueError(f"split must be 'test' or 'train', got {split!r}")
    check_choice("class_order", class_order, CLASS_ORDERS)
    name = data_name(name_or_path)
    if classes is not None and (name is not None or not Path(name_or_path).is_dir()):
        raise ValueError(
            f"classes need a folder of class folders, got the data {str(name_or_path)!r}"
        )
    if name == "digits":
        return _digits(split)
    if name == "mnist":
        return _mnist(_root(root, "mnist"), split)
    if name == "cifar10":
        return _cifar10(_root(root, "cifar10"), split)
    path = Path(name_or_path)
    if not path.exists():
        raise ValueError(
            f"data must be {', '.join(DATA_NAMES)} or an existing file or folder, "
            f"got {str(path)!r}{nearest(str(path), DATA_NAMES)}"
        )
    named = Path(os.path.abspath(path))  # "." gets its folder's name, a symbolic link keeps its own
    if path.is_dir():
        return _read_folder(named, split, class_order, classes)
    return dataset_from_arrays(named.stem, *_read_file(path, split))


def data_name(name_or_path: str | os.PathLike[str]) -> str | None:
    """Return the name of a known data set, in any case, or None for a path.

    A text that is not exactly a name, but is an existing path, is a path.
    """
    given = os.fspath(name_or_path)
    if given not in DATA_NAMES and os.path.exists(given):
        return None
    return same_name(given, DATA_NAMES)


def _digits(split: str) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundle = load_digits()
    train, test = train_test_split(
        np.arange(len(bundle.target)),
        test_size=_DIGITS_TEST_ROWS,
        stratify=bundle.target,
        random_state=0,
    )
    rows = train if split == "train" else test
    pixels = bundle.images[rows] / 16.0
    return dataset_from_arrays("digits", pixels, bundle.target[rows], _TEN_DIGITS)


def _root(root: str | os.PathLike[str] | None, name: str) -> Path:
    """Return the folder that holds a named data set."""
    chosen = root if root is not None else os.environ.get("ART_EXT_DATA")
    if not chosen:
        raise ValueError(
            f"the data set {name} is read from local files: pass root= or set the environment"
            " variable ART_EXT_DATA to the folder that holds it, or give the path of its files"
            " instead of the name"
        )
    folder = Path(chosen)
    if not folder.is_dir():
        origin = "root" if root is not None else "the environment variable ART_EXT_DATA"
        raise ValueError(f"{origin} must name an existing folder, got {str(folder)!r}")
    return folder


def _mnist(root: Path, split: str) -> Dataset:
    for folder in (root / place for place in ("", "mnist", "MNIST", "MNIST/raw")):
        raw = read_idx_folder(folder, split)
        if raw is None and (folder / "mnist.npz").is_file():
            raw = read_npz(folder / "mnist.npz", split)
        if raw is not None:
            return _checked(dataset_from_arrays("mnist", raw.x, raw.y, _TEN_DIGITS), (1, 28, 28))
    raise ValueError(
        f"no {split} split of mnist in {root} or its folders mnist, MNIST, MNIST/raw: wanted "
        f"{_FOLDER_LAYOUTS[0][0]}, or mnist.npz with x_{split} and y_{split}"
    )


def _cifar10(root: Path, split: str) -> Dataset:
    for folder in (
        root / place for place in ("", "cifar10", "cifar-10-batches-bin", "cifar-10-batches-py")
    ):
        raw = read_binary_batches(folder, split) or read_python_batches(folder, split)
        archives = [
            folder / name
            for name in (f"cifar10_{split}.npz", "cifar10.npz")
            if (folder / name).is_file()
        ]
        if raw is None and archives:
            raw = read_npz(archives[0], split)
        if raw is not None:
            return _checked(
                dataset_from_arrays("cifar10", raw.x, raw.y, CIFAR10_CLASSES), (3, 32, 32)
            )
    raise ValueError(
        f"no {split} split of cifar10 in {root} or its folders cifar10, cifar-10-batches-bin,"
        f" cifar-10-batches-py: wanted {_FOLDER_LAYOUTS[1][0]}, {_FOLDER_LAYOUTS[2][0]}, or"
        f" cifar10_{split}.npz or cifar10.npz with x_{split} and y_{split}"
    )


def _checked(data: Dataset, shape: tuple[int, ...]) -> Dataset:
    if data.x.shape[1:] != shape:
        raise ValueError(
            f"images of {data.name} must have shape {shape}, got {tuple(data.x.shape[1:])}"
        )
    return data


def _read_folder(
    folder: Path, split: str, class_order: str, classes: Classes | None
) -> Dataset | LazyDataset:
    for _, read in _FOLDER_LAYOUTS:
        raw = read(folder, split)
        if raw is not None:
            if classes is not None:
                raise ValueError(
                    f"classes need a folder of class folders, but {folder} holds labels of its own"
                )
            return dataset_from_arrays(folder.name, *raw)
    images = read_image_folder(folder, split, class_order, classes)
    if images is not None:
        return images
    if any(path.suffix.lower() in (".png", ".jpg", ".jpeg") for path in folder.iterdir()):
        raise ValueError(
            f"{folder} holds images without labels: put them into one folder for each class"
        )
    layouts = [title for title, _ in _FOLDER_LAYOUTS]
    layouts.append(
        "class folders with .png or .jpg images (train/class_name/*.png and test/class_name/*.png)"
    )
    if split == "test":
        layouts.append("class folders by themselves (class_name/*.png)")
    raise ValueError(
        f"no {split} split in the folder {folder}: wanted {'; or '.join(layouts)}; or name an .npz"
        " file"
    )


def _read_file(file: Path, split: str) -> Raw:
    if file.suffix == ".npz":
        return read_npz(file, split)
    if file.suffix == ".npy":
        if split != "test":
            raise ValueError(f"{file} holds one set, the test split, but split='train' was given")
        return read_npy(file)
    raise ValueError(
        f"a data file must be .npz or .npy, got {str(file)!r}; MNIST's idx files and CIFAR-10's"
        " batches are read from the folder that holds them"
    )
