"""Data sets of torchvision and of Hugging Face, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from art_ext.core.checks import listed, nearest
from art_ext.data.objects import Columns, as_dataset
from art_ext.data.request import Request
from art_ext.data.samples import Samples
from art_ext.data.servers import failure
from art_ext.errors import UserCodeError, describe

HF = "hf:"
TORCHVISION = "torchvision:"
_TEST_SPLITS = ("test", "validation", "valid", "val")


def load_torchvision(name: str, request: Request) -> Samples:
    """Load one of torchvision's data sets.

    Args:
        name: of a class of ``torchvision.datasets``.
        request: its ``data_args`` are arguments of the class. ``split`` or ``train`` is the split
            unless they say otherwise.

    Raises:
        ImportError: if torchvision is not installed.
        ValueError: for an unknown name or argument, if files are missing, or for a download that
            the data set does not have or that fails.
    """
    kind = _vision_class(name)
    known = inspect.signature(kind).parameters
    unknown = [one for one in request.data_args if one not in known]
    if unknown and not any(one.kind is one.VAR_KEYWORD for one in known.values()):
        raise ValueError(
            f"torchvision's {name} takes {listed(known, 12)}, got"
            f" {unknown[0]!r}{nearest(unknown[0], known)}"
        )
    arguments: dict[str, Any] = {}
    if "root" in known:
        arguments["root"] = str(request.folder(f"{TORCHVISION}{name}", "its own layout", True))
    if "train" in known:
        arguments["train"] = request.split == "train"
    elif "split" in known:
        arguments["split"] = request.split
    if request.download:
        if "download" not in known:
            raise ValueError(f"torchvision cannot download {name}: put its files into --root")
        arguments["download"] = True
    source = _called(
        f"torchvision's {name}",
        lambda: kind(**{**arguments, **request.data_args}),
        "give the folder that holds its files (--root, ART_EXT_DATA), or --download",
    )
    return as_dataset(source, name=name, transform=request.image_transform)


def download(name: str, root: Path, **arguments: Any) -> None:
    """Download a data set by torchvision into the root, unless it is there.

    Raises:
        ImportError: if torchvision is not installed.
        ValueError: if the download fails.
    """
    kind = _vision_class(name)
    _called(
        f"the download of {name}",
        lambda: kind(root=str(root), download=True, **arguments),
        "put the files there by other means",
    )


def load_hugging_face(name: str, request: Request) -> Samples:
    """Load a Hugging Face data set from the hub, the cache or a folder.

    Args:
        name: ``NAME_OR_FOLDER`` or ``NAME_OR_FOLDER:SPLIT``. A folder is one of ``save_to_disk``
            or one that ``datasets.load_dataset`` reads.
        request: its ``data_args`` are arguments of ``load_dataset``, but for ``image`` and
            ``label``, the columns.

    Raises:
        ImportError: if ``datasets`` is not installed.
        ValueError: if there is no such data set or split.
    """
    try:
        import datasets
    except ImportError as error:
        raise ImportError("Hugging Face data need: pip install 'art-ext[hf]'") from error
    if request.download:
        raise ValueError("--download is for torchvision's data; datasets downloads by itself")
    source, colon, split = name.rpartition(":")
    if not colon or not source:
        source, split = name, ""
    arguments = dict(request.data_args)
    pair = [arguments.pop(one, None) for one in ("image", "label")]
    columns: Columns | None = None if pair == [None, None] else (str(pair[0]), str(pair[1]))
    if None in pair and columns is not None:
        raise ValueError("data-args must name both columns, image=NAME,label=NAME")
    folder = Path(source)
    saved = folder.is_dir() and any(
        (folder / file).is_file() for file in ("state.json", "dataset_dict.json")
    )
    read = datasets.load_from_disk if saved else datasets.load_dataset
    with _without_retries(datasets, needed=not folder.is_dir()):
        found = _called(
            f"the Hugging Face data set {source!r}",
            lambda: read(source, **arguments),
            "give a local folder (save_to_disk), or load it once with a network to fill the cache",
        )
    if isinstance(found, Mapping):
        found = _split_of(found, split, request.split, source)
    elif split and str(found.split) != split:
        raise ValueError(f"{source} holds the split {found.split}, got {split!r}")
    return as_dataset(
        found, name=folder.name or source, columns=columns, transform=request.image_transform
    )


@contextmanager
def _without_retries(datasets: Any, needed: bool) -> Iterator[None]:
    """Let Hugging Face look into its cache only, if its hub does not answer.

    It would try for half a minute otherwise.
    """
    from huggingface_hub import constants

    if not needed or failure(constants.ENDPOINT) is None:
        yield
        return
    places: tuple[Any, ...] = (constants, datasets.config)
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _split_of(found: Mapping[str, Any], given: str, wanted: str, source: str) -> Any:
    """Return the named split or, without a name, the one for ``"test"`` or ``"train"``."""
    names = list(found)
    if not given:
        choices = _TEST_SPLITS if wanted == "test" else ("train",)
        given = next((one for one in choices if one in found), "")
    if given not in found:
        raise ValueError(
            f"{source} has the splits {listed(names)}, got {given or wanted!r}"
            f"{nearest(given or wanted, names)}: name one, hf:{source}:SPLIT"
        )
    return found[given]


def _vision_class(name: str) -> Any:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise ImportError("torchvision's data need: pip install 'art-ext[vision]'") from error
    if name not in datasets.__all__ or not inspect.isclass(getattr(datasets, name)):
        raise ValueError(
            f"unknown data set of torchvision {name!r}{nearest(name, datasets.__all__)}"
        )
    return getattr(datasets, name)


def _called(what: str, call: Callable[[], Any], remedy: str) -> Any:
    """Return the result of a library's function, whose errors become one line."""
    try:
        return call()
    except Exception as error:  # files, the network, or the library's own checks
        raise UserCodeError(f"{what} cannot be loaded ({describe(error)}): {remedy}") from error
