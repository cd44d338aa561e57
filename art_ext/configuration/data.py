"""Options of the data, which ``art-ext evaluate`` and ``art-ext train`` share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from art_ext.configuration import shared
from art_ext.configuration.options import option

if TYPE_CHECKING:
    from art_ext.data import Transform


PANEL = "Data"
_data = partial(option, panel=PANEL)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Places of data, and how they are read."""

    root: str | None = _data(
        None,
        "Folder that holds the named data. By default the environment variable ART_EXT_DATA.",
        metavar="FOLDER",
        decides="",
    )
    data_args: Mapping[str, Any] = _data(
        dict,
        "Arguments of torchvision's class, of Hugging Face's load_dataset (image=NAME,label=NAME"
        " are its columns), or of your own function: key=value,key=value.",
        of=("data",),
    )
    download: bool = _data(
        False, "Let torchvision download the files of the data that are missing.", decides=""
    )
    data_workers: int = _data(
        0,
        "Processes that read samples ahead. 0 reads them in the process that works on them.",
        range=">= 0",
        decides="",
    )
    resize: str | int | None = _data(
        None,
        "Resize images: length of the shorter side, or HEIGHTxWIDTH. By default as the model asks.",
    )
    crop: str | int | None = _data(
        None,
        "Crop of the centre after that: a side, or HEIGHTxWIDTH. By default as the model asks.",
    )
    interpolation: str | None = _data(
        None,
        "Filter of the resizing: nearest, box, bilinear, hamming, bicubic or lanczos. By default"
        " bilinear.",
    )
    class_order: str = _data("numeric", replace(shared.CLASS_ORDER, panel=PANEL))
    classes: str | None = _data(None, replace(shared.CLASSES, panel=PANEL))


def data_keywords(config: DataOptions) -> dict[str, Any]:
    """Return the keywords of ``load_data`` for a configuration.

    Raises:
        ValueError: for an invalid transform.
    """
    return {
        "root": config.root,
        "data_args": dict(config.data_args),
        "download": config.download,
        "workers": config.data_workers,
        "transform": transform_of(config),
        "class_order": config.class_order,
        "classes": config.classes,
    }


def recorded(config: DataOptions) -> dict[str, Any]:
    """Return the options that a run records to find its samples again. Unused ones are left out."""
    names = ("root", "data_args", "resize", "crop", "interpolation")
    return {name: getattr(config, name) for name in names if getattr(config, name)}


def transform_of(config: DataOptions) -> Transform | None:
    """Return the resizing and cropping that the options name, or None.

    Raises:
        ValueError: for an invalid size or filter, or a filter without a size.
    """
    from art_ext.data import Transform

    if config.resize is None and config.crop is None:
        if config.interpolation is not None:
            raise ValueError("interpolation needs --resize, got none")
        return None
    sizes = {name: _size(name, getattr(config, name)) for name in ("resize", "crop")}
    return Transform(**sizes, interpolation=config.interpolation or "bilinear")


def samples_wanted(n: str | int) -> int | None:
    """Return a number of samples, or None for ``"all"``.

    Raises:
        ValueError: for another text.
    """
    if n == "all":
        return None
    if isinstance(n, str):
        raise ValueError(f"n must be a number of samples, or all, got {n!r}")
    return n


def _size(name: str, value: str | int | None) -> Any:
    """Return a size of ``Transform``: a side, or (height, width)."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+)[x,](\d+)", value)
    if found is None:
        raise ValueError(f"{name} must be a side such as 224, or HEIGHTxWIDTH, got {value!r}")
    return int(found[1]), int(found[2])
