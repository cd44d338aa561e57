"""Arguments of the loading of data, and the facts that a model gives for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from art_ext.data.classes import Classes
from art_ext.data.dataset import Dataset, dataset_from_arrays
from art_ext.data.lazy import LazyDataset
from art_ext.data.raw import Raw
from art_ext.data.transform import Transform


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a model that its data depend on.

    Attributes:
        ids: identifiers of its classes, such as ImageNet's synsets, in the order of its outputs.
            Empty if it has none.
        names: names of its classes. Empty if it has none.
        transform: resizing and cropping of its images. None if it has none.
    """

    ids: Sequence[str] = ()
    names: Sequence[str] = ()
    transform: Transform | None = None


@dataclass(frozen=True)
class Request:
    """The arguments of ``load_data``, see there.

    Attributes:
        split, root, class_order, classes, transform, data_args, download: as in ``load_data``.
        model: facts of the model.
    """

    split: str = "test"
    root: str | os.PathLike[str] | None = None
    class_order: str = "numeric"
    classes: Classes | None = None
    transform: Transform | None = None
    data_args: Mapping[str, Any] = field(default_factory=dict)
    download: bool = False
    model: ModelFacts = ModelFacts()

    @property
    def image_transform(self) -> Transform | None:
        """Resizing and cropping of image files: as given, or else the model's."""
        return self.transform or self.model.transform

    def folder(self, name: str, wanted: str, downloads: bool) -> Path:
        """Return the folder that holds a named data set.

        Args:
            name: of the data set.
            wanted: layouts that are looked for, for messages.
            downloads: True if the data set can be downloaded.

        Raises:
            ValueError: if no folder is given, or it does not exist.
        """
        chosen = self.root if self.root is not None else os.environ.get("ART_EXT_DATA")
        if not chosen:
            raise ValueError(
                f"the data set {name} is read from local files, {wanted}: pass root= or set the"
                " environment variable ART_EXT_DATA to the folder that holds it (--root FOLDER),"
                " or give the path of its files instead of the name"
                + (", and --download puts it there" if downloads else "")
            )
        folder = Path(chosen)
        if self.download and downloads:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            origin = "root" if self.root is not None else "the environment variable ART_EXT_DATA"
            raise ValueError(f"{origin} must name an existing folder, got {str(folder)!r}")
        return folder

    def data_set(self, name: str, raw: Raw) -> Dataset | LazyDataset:
        """Return arrays as a data set: in memory, or with a transform image by image."""
        if self.transform is None:
            return dataset_from_arrays(name, *raw)
        items = ArrayItems(raw.x, torch.from_numpy(raw.y.astype(np.int64).reshape(-1)))
        return LazyDataset(name, items, raw.class_names, transform=self.transform)


class ArrayItems:
    """Items of arrays in memory.

    Args:
        x: (N, *S).
        labels: (N,) int64.
    """

    colour: bool | None = None

    def __init__(self, x: npt.NDArray[Any], labels: Tensor) -> None:
        self.x = x
        self.labels: Tensor | None = labels
        self._labels = labels.tolist()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.x[place], self._labels[place]

    def describe(self, places: Sequence[int]) -> str:
        """Return a digest of the arrays at these places."""
        return hashlib.sha256(np.ascontiguousarray(self.x[list(places)]).tobytes()).hexdigest()
