"""Data sets by name that are read into memory from local files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from art_ext.data.arrays import read_npz
from art_ext.data.cifar import CIFAR10, CIFAR100
from art_ext.data.dataset import Dataset
from art_ext.data.idx import read_idx_folder
from art_ext.data.lazy import LazyDataset
from art_ext.data.libraries import download
from art_ext.data.raw import Raw
from art_ext.data.request import Request

_TEN_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_DIGITS_TEST_ROWS = 500
Reader = Callable[[Path, str], Raw | None]

IDX = "MNIST idx files (t10k-images-idx3-ubyte[.gz] and labels, or train-...)"
# layouts that are found in any folder, by their titles
FOLDER_LAYOUTS: dict[str, Reader] = {
    IDX: read_idx_folder,
    "CIFAR-10 binary batches (test_batch.bin, or data_batch_1.bin to data_batch_5.bin)": (
        CIFAR10.read_binary
    ),
    "CIFAR-10 Python batches (test_batch, or data_batch_1 to data_batch_5)": CIFAR10.read_python,
    "CIFAR-100 binary batches (test.bin or train.bin, with fine_label_names.txt)": (
        CIFAR100.read_binary
    ),
    "CIFAR-100 Python batches (test or train, with meta)": CIFAR100.read_python,
}


@dataclass(frozen=True)
class Named:
    """A data set in local files.

    Attributes:
        summary: one sentence.
        places: folders of the root that may hold it.
        layout: beginning of the titles of its layouts.
        archives: names of ``.npz`` files that may hold it.
        class_names: names of the classes.
        shape: shape of a sample.
        vision: name of torchvision's class that downloads it.
    """

    summary: str
    places: tuple[str, ...]
    layout: str
    archives: tuple[str, ...]
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    vision: str

    def load(self, name: str, request: Request) -> Dataset | LazyDataset:
        """Load the data set.

        Raises:
            ValueError: if it is not found, or holds samples of another shape.
        """
        split = request.split
        layouts = {
            title: read for title, read in FOLDER_LAYOUTS.items() if title.startswith(self.layout)
        }
        archives = [one.format(split=split) for one in self.archives]
        wanted = ", ".join([*layouts, f"or {' or '.join(archives)} with x_{split} and y_{split}"])
        root = request.folder(name, wanted, downloads=True)
        if request.download:
            download(self.vision, root, train=split == "train")
        for folder in (root / place for place in self.places):
            raw = next(filter(None, (read(folder, split) for read in layouts.values())), None)
            held = [folder / archive for archive in archives if (folder / archive).is_file()]
            if raw is None and held:
                raw = read_npz(held[0], split)
            if raw is not None:
                return self._checked(name, request, raw)
        places = ", ".join(place for place in self.places if place)
        raise ValueError(
            f"no {split} split of {name} in {root} or its folders {places}: wanted {wanted}. Give"
            " another folder (--root, ART_EXT_DATA), or download it (--download)"
        )

    def _checked(self, name: str, request: Request, raw: Raw) -> Dataset | LazyDataset:
        data = request.data_set(name, Raw(raw.x, raw.y, self.class_names))
        if request.transform is None and data.shape != self.shape:
            raise ValueError(
                f"images of {name} must have shape {self.shape}, got {tuple(data.shape)}"
            )
        return data


NAMED = {
    "mnist": Named(
        "Handwritten digits, 28x28 grey, 10,000 test images.",
        ("", "mnist", "MNIST", "MNIST/raw"),
        "MNIST",
        ("mnist.npz",),
        _TEN_DIGITS,
        (1, 28, 28),
        "MNIST",
    ),
    "fashion-mnist": Named(
        "Pictures of clothes, 28x28 grey, 10,000 test images.",
        ("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
        "MNIST",
        ("fashion_mnist.npz", "fashion-mnist.npz"),
        _CLOTHES,
        (1, 28, 28),
        "FashionMNIST",
    ),
    "cifar10": Named(
        "Photos of 10 classes, 32x32 colour, 10,000 test images.",
        ("", "cifar10", "cifar-10-batches-bin", "cifar-10-batches-py"),
        "CIFAR-10 ",
        ("cifar10_{split}.npz", "cifar10.npz"),
        CIFAR10.classes,
        (3, 32, 32),
        "CIFAR10",
    ),
    "cifar100": Named(
        "Photos of 100 classes, 32x32 colour, 10,000 test images.",
        ("", "cifar100", "cifar-100-binary", "cifar-100-python"),
        "CIFAR-100 ",
        ("cifar100_{split}.npz", "cifar100.npz"),
        CIFAR100.classes,
        (3, 32, 32),
        "CIFAR100",
    ),
}


def digits(request: Request) -> Dataset | LazyDataset:
    """Return scikit-learn's digits, a fixed stratified draw of 500 for the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bundle = load_digits()
    train, test = train_test_split(
        np.arange(len(bundle.target)),
        test_size=_DIGITS_TEST_ROWS,
        stratify=bundle.target,
        random_state=0,
    )
    rows = train if request.split == "train" else test
    raw = Raw(bundle.images[rows] / 16.0, bundle.target[rows], _TEN_DIGITS)
    return request.data_set("digits", raw)
