"""ImageNet's validation and training images, in the layouts that are in use."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from art_ext.data.classes import names_in_order, read_classes
from art_ext.data.folders import ImageFiles, files_of_classes, images_in
from art_ext.data.lazy import LazyDataset
from art_ext.data.request import Request

_PLACES = ("", "imagenet", "ImageNet", "ILSVRC2012", "imagenet/ILSVRC/Data/CLS-LOC")
_SYNSET = re.compile(r"n\d{8}")
_DEVKIT = "ILSVRC2012_devkit_t12/data"
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_CLASSES = 1000
WANTED = (
    "val/SYNSET/*.JPEG (train/SYNSET/*.JPEG), or val/ILSVRC2012_val_*.JPEG beside"
    f" {_DEVKIT}/{_TRUTH} and meta.mat"
)
SUMMARY = "ImageNet's 50,000 validation images of 1,000 classes."
ROBUSTBENCH_SUMMARY = "The 5,000 validation images of ImageNet that RobustBench evaluates."


def load_imagenet(request: Request) -> LazyDataset:
    """Load ImageNet from folders of synsets, or from the official flat folder.

    Classes are numbered in the order of the synsets.

    Raises:
        ValueError: if no layout is found, or the class of a folder is not known.
    """
    part = "train" if request.split == "train" else "val"
    root = request.folder("imagenet", WANTED, downloads=False)
    for base in (root / place for place in _PLACES):
        folder = base / part
        synsets = _synset_folders(folder)
        if synsets:
            return _of_synsets(folder, synsets, request)
        flat = images_in(folder) if part == "val" and folder.is_dir() else []
        if flat and (base / _DEVKIT / _TRUTH).is_file():
            return _of_devkit(folder, flat, base / _DEVKIT, request)
    raise ValueError(_missing(root, request))


def load_robustbench(request: Request) -> LazyDataset:
    """Load RobustBench's list of ImageNet's validation images, in its order.

    Raises:
        ImportError: if RobustBench is not installed.
        ValueError: if there is no folder of synsets.
    """
    if request.split == "train":
        raise ValueError("imagenet:robustbench is a test set, but split='train' was given")
    helpers = _package_file("robustbench", "helper_files")
    if helpers is None:
        raise ImportError(
            "imagenet:robustbench needs the list of RobustBench: pip install 'art-ext[robustbench]'"
        )
    lines = (helpers / "imagenet_test_image_ids.txt").read_text(encoding="utf-8").split()
    index: dict[str, int] = json.loads(
        (helpers / "imagenet_class_to_id_map.json").read_text(encoding="utf-8")
    )
    root = request.folder("imagenet:robustbench", WANTED, downloads=False)
    for folder in (root / place / "val" for place in _PLACES):
        if _synset_folders(folder):
            labels = torch.tensor([index[line.partition("/")[0]] for line in lines])
            files = ImageFiles([folder / line for line in lines], labels, folder, colour=True)
            names = tuple(sorted(index, key=index.__getitem__))
            return _data("imagenet-robustbench", files, names, request)
    raise ValueError(_missing(root, request))


def _of_synsets(folder: Path, synsets: Sequence[Path], request: Request) -> LazyDataset:
    held = [one.name for one in synsets]
    index, names = _indices(folder, held, request)
    files = {one.name: images_in(one) for one in synsets}
    items = files_of_classes(files, index, folder.parent, request.image_transform, colour=True)
    return _data("imagenet", items, names, request)


def _indices(
    folder: Path, held: Sequence[str], request: Request
) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Class index of each synset, and the names of all classes if they are known.

    The given classes win. Otherwise a list of all synsets is taken: the folders themselves, the
    model's, or that of an installed package.
    """
    if request.classes is not None:
        where, index = read_classes(request.classes)
    elif len(held) == _CLASSES:
        where, index = str(folder), {name: place for place, name in enumerate(sorted(held))}
    else:
        where, names = _all_synsets(request)
        index = {name: place for place, name in enumerate(names)}
        if not index:
            raise ValueError(
                f"{folder} holds {len(held)} of ImageNet's {_CLASSES:,} class folders, and no list"
                " of all of them is known: give the class-index JSON (--classes FILE), or install"
                " timm or robustbench"
            )
    unknown = sorted(set(held) - set(index))
    if unknown:
        raise ValueError(
            f"{where} must give an index to every class folder, but lacks {unknown[0]}"
        )
    by_index = {place: name for name, place in index.items()}
    return index, names_in_order(by_index)


def _all_synsets(request: Request) -> tuple[str, list[str]]:
    """Return the synsets in the order of the classes, and where they are from."""
    ids = list(request.model.ids)
    if len(ids) == _CLASSES and all(map(_SYNSET.fullmatch, ids)):
        return "the model", ids
    file = _package_file("timm", "data/_info/imagenet_synsets.txt")
    if file is not None:
        return str(file), file.read_text(encoding="utf-8").split()
    file = _package_file("robustbench", "helper_files/imagenet_class_to_id_map.json")
    return ("", []) if file is None else (str(file), sorted(json.loads(file.read_text())))


def _of_devkit(folder: Path, paths: Sequence[Path], devkit: Path, request: Request) -> LazyDataset:
    """Return the flat folder, whose labels are in the development kit under its own numbers."""
    names, words = _read_meta(devkit / "meta.mat")
    synsets = sorted(names.values())
    truth = [int(line) for line in (devkit / _TRUTH).read_text(encoding="utf-8").split()]
    labels = []
    for path in paths:
        number = re.search(r"(\d{8})$", path.stem)
        if number is None or not 1 <= int(number[1]) <= len(truth):
            raise ValueError(
                f"{path} must be named ILSVRC2012_val_ and a number from 1 to {len(truth)}"
            )
        labels.append(synsets.index(names[truth[int(number[1]) - 1]]))
    items = ImageFiles(paths, torch.tensor(labels), folder.parent, colour=True)
    items.check_sizes(request.image_transform)
    return _data("imagenet", items, tuple(words[name] for name in synsets), request)


def _read_meta(file: Path) -> tuple[dict[int, str], dict[str, str]]:
    """Return the synset of each number of the development kit, and the words of each synset.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    from scipy.io import loadmat

    try:
        rows = loadmat(file, squeeze_me=True)["synsets"]
        classes = [row for row in rows if int(row["num_children"]) == 0]
        numbers = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in classes}
        words = {str(row["WNID"]): str(row["words"]).partition(",")[0] for row in classes}
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"{file} must be the meta.mat of ImageNet's devkit: {error}") from error
    return numbers, words


def _data(
    name: str, items: ImageFiles, names: tuple[str, ...] | None, request: Request
) -> LazyDataset:
    if names is not None and len(request.model.names) == len(names):
        names = tuple(request.model.names)
    return LazyDataset(name, items, names, transform=request.image_transform)


def _synset_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(one for one in folder.iterdir() if _SYNSET.fullmatch(one.name) and one.is_dir())


def _package_file(package: str, name: str) -> Path | None:
    """Return a file of an installed package, which is not imported. None if there is none."""
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (Path(place) / name).exists():
            return Path(place) / name
    return None


def _missing(root: Path, request: Request) -> str:
    places = ", ".join(place for place in _PLACES if place)
    return (
        f"no {request.split} split of imagenet in {root} or its folders {places}: wanted {WANTED}."
        " Give another folder (--root, ART_EXT_DATA). It cannot be downloaded"
    )
