"""Loading of data sets by name or path."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from art_ext.core.checks import check_choice, listed, nearest, same_name
from art_ext.core.plugins import Plugins
from art_ext.data import imagenet, named
from art_ext.data.arrays import read_npy, read_npz
from art_ext.data.classes import CLASS_ORDERS, Classes
from art_ext.data.dataset import Dataset
from art_ext.data.folders import read_image_folder
from art_ext.data.lazy import LazyDataset
from art_ext.data.libraries import HF, TORCHVISION, load_hugging_face, load_torchvision
from art_ext.data.objects import as_dataset
from art_ext.data.raw import Raw
from art_ext.data.request import ModelFacts, Request
from art_ext.data.samples import Samples
from art_ext.data.transform import Transform
from art_ext.errors import UserCodeError, describe, is_plain


@dataclass(frozen=True)
class Source:
    """A named source of data.

    Attributes:
        summary: one sentence.
        load: function of a request.
        takes: the arguments of ``load_data`` besides the common ones that it takes.
    """

    summary: str
    load: Callable[[Request], Any]
    takes: tuple[str, ...] = ()


SOURCES: dict[str, Source] = {
    "digits": Source(
        "scikit-learn's handwritten digits, 8x8 grey, 500 for the test.", named.digits
    ),
    **{
        name: Source(one.summary, partial(one.load, name), ("download",))
        for name, one in named.NAMED.items()
    },
    "imagenet": Source(imagenet.SUMMARY, imagenet.load_imagenet, ("classes",)),
    "imagenet:robustbench": Source(imagenet.ROBUSTBENCH_SUMMARY, imagenet.load_robustbench),
}
DATA_NAMES = tuple(SOURCES)
LIBRARIES: dict[str, tuple[str, Callable[[str, Request], Samples], tuple[str, ...]]] = {
    HF: (
        "A Hugging Face data set from the hub, the cache or a folder: hf:NAME_OR_FOLDER[:SPLIT].",
        load_hugging_face,
        ("data_args",),
    ),
    TORCHVISION: (
        "A class of torchvision.datasets: torchvision:NAME.",
        load_torchvision,
        ("data_args", "download"),
    ),
}
PLUGINS = Plugins("art_ext.data", "data set", lambda: DATA_NAMES)


def load_data(
    name_or_path: str | os.PathLike[str],
    *,
    split: str = "test",
    root: str | os.PathLike[str] | None = None,
    class_order: str = "numeric",
    classes: Classes | None = None,
    transform: Transform | None = None,
    data_args: Mapping[str, Any] | None = None,
    download: bool = False,
    workers: int = 0,
    model: ModelFacts | None = None,
) -> Dataset | LazyDataset:
    """Load a data set by name, or from a file or folder.

    Images of folders, ImageNet, and data sets of other libraries are a ``LazyDataset``, which reads
    them when they are needed. Everything else is read into memory.

    Names, in any case (write ``./mnist`` for a folder of that name):

    * ``digits``: scikit-learn's 1,797 digits, (N, 1, 8, 8), pixel / 16. "test" is a fixed
      stratified draw of 500 (``train_test_split`` with seed 0), "train" the other 1,297, each in
      the order of that draw.
    * ``mnist``: idx files or ``mnist.npz`` in the root or its folders mnist, MNIST, MNIST/raw.
    * ``fashion-mnist``: the same files in fashion-mnist, FashionMNIST, FashionMNIST/raw, or
      ``fashion_mnist.npz``.
    * ``cifar10``: binary batches, Python batches, ``cifar10_test.npz`` / ``cifar10_train.npz`` or
      ``cifar10.npz`` in the root or its folders cifar10, cifar-10-batches-bin, cifar-10-batches-py.
    * ``cifar100``: the same of CIFAR-100, with its fine classes.
    * ``imagenet``: ``val/SYNSET/*.JPEG``, or the official flat folder with the development kit, in
      the root or its folder imagenet. ``imagenet:robustbench`` is RobustBench's list of 5,000.
    * ``hf:NAME_OR_FOLDER`` or ``hf:NAME_OR_FOLDER:SPLIT``: a Hugging Face data set.
    * ``torchvision:NAME``: a class of ``torchvision.datasets``.
    * the name of an entry point of the group ``art_ext.data``, or ``FILE.py:FUNCTION``: a function
      of ``split``, ``root`` (if it is given) and ``data_args`` that returns what ``as_dataset``
      takes.

    Paths:

    * a folder with MNIST's idx files or CIFAR's batches
    * a folder ``ROOT/class_name/*.png|jpg`` with images of one size, or of any sizes with a
      transform, or ``ROOT/train/class_name/*.png|jpg`` and ``ROOT/test/...`` (or ``ROOT/val/...``).
      ``class_order`` and ``classes`` map folders to classes.
    * an ``.npz`` file with x_test and y_test (x_train and y_train), x and y, or images and labels
    * ``NAME.npy`` with its labels in ``NAME_labels.npy``

    Bytes become float32 / 255, floats are kept. (N, H, W) and channels-last images become (N, C, H,
    W), see :func:`dataset_from_arrays`. Layouts that hold one set only (x and y, images and labels,
    .npy, class folders) are the "test" split.

    Args:
        name_or_path: one of ``DATA_NAMES``, another name, or a path.
        split: "test" or "train".
        root: folder that holds named data sets. Default: the folder in the environment variable
            ART_EXT_DATA.
        class_order: order of class folders. ``"numeric"``: by number if all names are whole
            numbers, else as text. ``"text"``: character by character, as torchvision sorts them
            ("10" before "2").
        classes: class index of each class folder: a mapping ``{folder: index}``, a list of folders,
            or a file. A file holds a JSON object or list, the ImageNet class-index JSON, one folder
            a line, or CSV ``folder,index``.
        transform: resizes and crops images.
        data_args: arguments of torchvision's class, of ``datasets.load_dataset``, or of your own
            function. ``image`` and ``label`` name the columns of a Hugging Face data set.
        download: True to let torchvision download files that are missing.
        workers: number of processes that read ahead in an evaluation.
        model: what the model tells of its data. Image files are resized and cropped by its
            transform, unless another one is given. Class folders whose names are all among its
            classes take its indices, unless ``classes`` says otherwise.

    Raises:
        ValueError: if nothing is found (the message lists the places and the layouts), or if the
            data are damaged, not finite, or not labelled with one class index in range for each
            row. Also for an invalid mapping, a mapping that lacks a folder, or one given with other
            data than class folders.
        ImportError: for a folder of images without Pillow, or a library that is not installed.
    """
    if split not in ("test", "train"):
        raise ValueError(f"split must be 'test' or 'train', got {split!r}")
    check_choice("class_order", class_order, CLASS_ORDERS)
    request = Request(
        split,
        root,
        class_order,
        classes,
        transform,
        dict(data_args or {}),
        download,
        model or ModelFacts(),
    )
    data = _load(name_or_path, request)
    return data.with_(workers=workers) if workers and isinstance(data, LazyDataset) else data


def data_name(name_or_path: str | os.PathLike[str]) -> str | None:
    """Return the name of a known data set, in any case, or None for a path.

    A text that is not exactly a name, but is an existing path, is a path.
    """
    given = os.fspath(name_or_path)
    if given not in DATA_NAMES and os.path.exists(given):
        return None
    return same_name(given, DATA_NAMES)


def _load(name_or_path: str | os.PathLike[str], request: Request) -> Any:
    given = os.fspath(name_or_path)
    name = data_name(given)
    if name is not None:
        _check_taken(given, request, SOURCES[name].takes)
        return SOURCES[name].load(request)
    for prefix, (_, load, takes) in LIBRARIES.items():
        if given.casefold().startswith(prefix) and given[len(prefix) :]:
            _check_taken(given, request, takes)
            return load(given[len(prefix) :], request)
    path = Path(given)
    if path.exists():
        _check_taken(given, request, ("classes",) if path.is_dir() else ())
        named_path = Path(os.path.abspath(path))  # "." gets its folder's name
        if path.is_dir():
            return _read_folder(named_path, request)
        return request.data_set(named_path.stem, _read_file(path, request.split))
    if ".py:" in given:
        _check_taken(given, request, ("data_args",))
        return _of_file(given, request)
    own = same_name(given, PLUGINS.names())
    if own is not None:
        _check_taken(given, request, ("data_args",))
        return _of_function(PLUGINS.load(own), own, request)
    every = [*DATA_NAMES, *PLUGINS.names()]
    raise ValueError(
        f"data must be {', '.join(every)}, hf:NAME, torchvision:NAME or an existing file or folder,"
        f" got {given!r}{nearest(given, [*every, *LIBRARIES])}"
    )


def _check_taken(given: str, request: Request, takes: tuple[str, ...]) -> None:
    """Raise ValueError for an argument that a source does not take."""
    if request.classes is not None and "classes" not in takes:
        raise ValueError(f"classes need a folder of class folders, got the data {given!r}")
    if request.data_args and "data_args" not in takes:
        raise ValueError(
            "data-args are for torchvision, Hugging Face and your own functions, got the data"
            f" {given!r} with {listed(request.data_args)}"
        )
    if request.download and "download" not in takes:
        able = [name for name, source in SOURCES.items() if "download" in source.takes]
        raise ValueError(
            f"{given} cannot be downloaded: torchvision downloads {', '.join(able)} and"
            " torchvision:NAME"
        )


def _of_file(given: str, request: Request) -> Samples:
    from art_ext.models.factory import resolve_object

    with resolve_object(given, "data set", "FUNCTION") as function:
        return _of_function(function, given.rpartition(":")[2], request)


def _of_function(function: Any, name: str, request: Request) -> Samples:
    """Return what a user's function returns, as a data set."""
    where = {} if request.root is None else {"root": request.root}
    try:
        found = function(split=request.split, **where, **request.data_args)
    except Exception as error:  # the function is the user's
        if is_plain(error):
            raise
        raise UserCodeError(f"the data set {name} cannot be loaded: {describe(error)}") from error
    return as_dataset(found, name=name, transform=request.image_transform)


def _read_folder(folder: Path, request: Request) -> Dataset | LazyDataset:
    split = request.split
    for read in named.FOLDER_LAYOUTS.values():
        raw = read(folder, split)
        if raw is not None:
            if request.classes is not None:
                raise ValueError(
                    f"classes need a folder of class folders, but {folder} holds labels of its own"
                )
            return request.data_set(folder.name, raw)
    images = read_image_folder(folder, request)
    if images is not None:
        return images
    if any(path.suffix.lower() in (".png", ".jpg", ".jpeg") for path in folder.iterdir()):
        raise ValueError(
            f"{folder} holds images without labels: put them into one folder for each class"
        )
    layouts = [
        *named.FOLDER_LAYOUTS,
        "class folders with .png or .jpg images (train/class_name/*.png and test/class_name/*.png)",
    ]
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
        f"a data file must be .npz or .npy, got {str(file)!r}; MNIST's idx files and CIFAR's"
        " batches are read from the folder that holds them"
    )
