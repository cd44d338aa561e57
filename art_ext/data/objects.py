"""Data sets of other libraries, by what they offer: torch, torchvision, Hugging Face, MAITE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, default_collate
from torch.utils.data import Dataset as TorchDataset

from art_ext.core.checks import listed
from art_ext.data.classes import names_in_order
from art_ext.data.dataset import dataset_from_arrays
from art_ext.data.lazy import PROBED, LazyDataset
from art_ext.data.samples import Samples
from art_ext.data.streams import streams_put_back
from art_ext.data.transform import Transform

Columns = tuple[str, str]


class Items(Protocol):
    """A map-style dataset, such as those of Hugging Face and MAITE."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


Values = Tensor | np.ndarray
# what as_dataset takes. A dataset of torch need not declare its length
Data = Samples | tuple[Values, Values] | TorchDataset[Any] | DataLoader[Any] | Items


def as_dataset(
    data: Data,
    *,
    name: str | None = None,
    class_names: Sequence[str] | None = None,
    columns: Columns | None = None,
    transform: Transform | None = None,
    workers: int | None = None,
) -> Samples:
    """Return data of any supported kind as a data set.

    * ``(x, y)``: a tuple of arrays or tensors, in memory.
    * a map-style dataset: an object with ``__len__`` whose ``[i]`` is a pair of an image and a
      label, or a longer tuple that begins with them. torch's, torchvision's and MAITE's datasets
      are of this kind. A label may be a vector with one entry per class, which is 1 for its class.
    * a ``DataLoader``: its dataset, in its order.
    * a Hugging Face dataset. The columns are found by their feature types.

    Images are Pillow images, or arrays of bytes or floats, (C, H, W) or (H, W, C). Bytes become
    float32 / 255, floats are kept. All but tuples are read when they are needed.

    Args:
        data: the data.
        name: name in reports. None: that of the source.
        class_names: one name per class. None: those of the source, if it has any.
        columns: names of the image and the label column of a Hugging Face dataset.
        transform: resizes and crops images.
        workers: number of processes that read ahead in an evaluation. None: as many as a
            ``DataLoader`` has, else 0.

    Raises:
        ValueError: for data of another kind, a loader that shuffles, columns that are not found,
            or samples that do not fit.
    """
    if isinstance(data, Samples):
        return data
    source: Any = data
    names = None if class_names is None else tuple(class_names)
    if _is_pair(source):
        x, y = (_array(part) for part in source)
        return dataset_from_arrays(name or "data", x, y, names)
    if isinstance(source, DataLoader):
        items: Any = _of_loader(source)
        workers = source.num_workers if workers is None else workers
        source = source.dataset
    elif _is_hugging_face(source):
        items = HuggingFaceItems(source, columns)
    else:
        items = MapItems(source)
    if columns is not None and not _is_hugging_face(source):
        raise ValueError(
            f"columns are those of a Hugging Face dataset, got {type(source).__name__}"
        )
    if not len(items):
        raise ValueError(f"{type(source).__name__} must hold at least one sample, got none")
    return LazyDataset(
        name or _name(source),
        items,
        names or _class_names(source, columns),
        transform=transform,
        workers=workers or 0,
    )


def is_dataset(data: object) -> TypeGuard[Data]:
    """Return True for data that are a data set by their type: of this package, of torch, of Hugging
    Face, or of MAITE. A list may hold minibatches instead.
    """
    of_torch = isinstance(data, TorchDataset) and not isinstance(data, IterableDataset)
    of_maite = hasattr(data, "__getitem__") and isinstance(getattr(data, "metadata", None), Mapping)
    return isinstance(data, Samples) or of_torch or of_maite or _is_hugging_face(data)


class MapItems:
    """Items of a map-style dataset.

    Args:
        dataset: an object with ``__len__`` and ``__getitem__``.
        order: places in the dataset. None: all.
        collate: a loader's own function of a list of items. None: items are taken as they are.

    Raises:
        ValueError: for an object of another kind.
    """

    colour: bool | None = None

    def __init__(
        self, dataset: Any, order: Sequence[int] | None = None, collate: Any = None
    ) -> None:
        _check_map_style(dataset)
        self.dataset = dataset
        self.order = range(len(dataset)) if order is None else order
        self.collate = collate
        known = None if collate is not None else _known_labels(dataset)
        self.labels: Tensor | None = None if known is None else known[list(self.order)]
        if self.labels is not None and self._contradicts(self.labels[:PROBED].tolist()):
            self.labels = None

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        item = self.dataset[self.order[place]]
        if self.collate is not None:
            item = self.collate([item])
            item = (item[0][0], item[1][0]) if isinstance(item, tuple | list) else item
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise ValueError(
                f"a dataset must give pairs of an image and a label, got {type(item).__name__}"
            )
        return item[0], class_index(item[1])

    def _contradicts(self, labels: Sequence[int]) -> bool:
        """Return True if the first items have other labels, as those of a subclass may."""
        with streams_put_back():
            return any(self[place][1] != label for place, label in enumerate(labels))

    def describe(self, places: Sequence[int]) -> str:
        """Return the places and the type of the dataset."""
        told = getattr(self.dataset, "metadata", None)
        identity = told.get("id", "") if isinstance(told, Mapping) else ""
        places = [self.order[place] for place in places]
        return f"{type(self.dataset).__name__} {identity} {_ranges(places)}"


class HuggingFaceItems:
    """Items of a Hugging Face dataset.

    Args:
        dataset: of the library ``datasets``.
        columns: names of the image and the label column. None: found by their feature types.

    Raises:
        ValueError: for a dataset of several splits, a stream, or columns that are not found.
    """

    colour: bool | None = None

    def __init__(self, dataset: Any, columns: Columns | None) -> None:
        if isinstance(dataset, Mapping):
            raise ValueError(
                f"choose one split of the Hugging Face dataset: {listed(map(str, dataset))}"
            )
        if not hasattr(dataset, "__len__"):
            raise ValueError("a Hugging Face dataset must be map-style, got one that streams")
        self.image, self.label = find_columns(dataset.features, columns)
        self.dataset = dataset.select_columns([self.image, self.label]).with_format(None)
        y = self.dataset.select_columns([self.label]).with_format("numpy")[:][self.label]
        self.labels: Tensor | None = torch.from_numpy(np.asarray(y).astype(np.int64))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        item = self.dataset[place]
        image = item[self.image]
        return np.array(image) if isinstance(image, list) else image, class_index(item[self.label])

    def describe(self, places: Sequence[int]) -> str:
        """Return the dataset's fingerprint, and the places."""
        return f"{getattr(self.dataset, '_fingerprint', '')} {_ranges(places)}"


def find_columns(features: Mapping[str, Any], columns: Columns | None) -> Columns:
    """Return the image and the label column of a Hugging Face dataset.

    Args:
        features: feature type of each column.
        columns: the wanted ones. None: the only ones of the types ``Image`` and ``ClassLabel``.

    Raises:
        ValueError: if a wanted column is missing, or not exactly one has the type.
    """
    if columns is not None:
        if isinstance(columns, str) or len(columns) != 2:
            raise ValueError(f"columns must be (image, label), got {columns!r}")
        missing = [one for one in columns if one not in features]
        if missing:
            raise ValueError(
                f"columns must be among {listed(features)}, got {', '.join(map(str, missing))}"
            )
        return columns
    found = {
        kind: [name for name, feature in features.items() if type(feature).__name__ == kind]
        for kind in ("Image", "ClassLabel")
    }
    for kind, names in found.items():
        if len(names) != 1:
            raise ValueError(
                f"wanted one column of the type {kind}, got {listed(names) or 'none'} among"
                f" {listed(features)}: give columns=(image, label)"
            )
    return found["Image"][0], found["ClassLabel"][0]


def class_index(label: Any) -> int:
    """Return the class index that a label means: an integer, or a vector with a 1 for its class.

    Raises:
        ValueError: for anything else.
    """
    array = label.detach().cpu().numpy() if isinstance(label, Tensor) else np.asarray(label)
    if array.size == 1 and array.dtype.kind in "iu":
        return int(array.reshape(()))
    vector = array.ndim == 1 and len(array) > 1 and array.dtype.kind in "iufb"
    if vector and array.max() == 1 and np.count_nonzero(array) == 1:
        return int(array.argmax())
    raise ValueError(
        f"a label must be one class index, or a vector with a 1 for its class, got {label!r}"
    )


def _is_pair(data: object) -> bool:
    return (
        isinstance(data, tuple | list)
        and len(data) == 2
        and all(isinstance(part, Tensor | np.ndarray) for part in data)
        and np.ndim(data[0]) > 1
    )


def _array(part: Tensor | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not isinstance(part, Tensor):
        return part
    part = part.detach().cpu()
    return (part.float() if part.dtype == torch.bfloat16 else part).numpy()


def _check_map_style(dataset: object) -> None:
    """Raise ValueError for a stream, and for objects of another kind."""
    if isinstance(dataset, IterableDataset) or not (
        hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    ):
        raise ValueError(
            "data must be a tuple (x, y), a map-style dataset with __len__ and __getitem__, a"
            f" DataLoader of one, or a Hugging Face dataset, got {type(dataset).__name__}"
        )


def _of_loader(loader: DataLoader[Any]) -> MapItems:
    """Return the items of a loader in its order.

    Raises:
        ValueError: if its order changes.
    """
    _check_map_style(loader.dataset)
    with torch.random.fork_rng(devices=[]):
        first, second = (_order(loader) for _ in range(2))
    if first != second:
        raise ValueError(
            "an evaluation needs a DataLoader in a fixed order, got one that shuffles: give"
            " shuffle=False"
        )
    own = None if loader.collate_fn in (default_collate, None) else loader.collate_fn
    return MapItems(loader.dataset, first, own)


def _order(loader: DataLoader[Any]) -> list[int]:
    if loader.batch_sampler is None:
        return list(loader.sampler)
    return [place for batch in loader.batch_sampler for place in batch]


def _is_hugging_face(data: object) -> bool:
    modules = {kind.__module__.partition(".")[0] for kind in type(data).__mro__}
    return "datasets" in modules or (hasattr(data, "features") and hasattr(data, "column_names"))


def _known_labels(dataset: Any) -> Tensor | None:
    """Return the labels that a dataset holds apart from its items, or None."""
    if isinstance(dataset, Subset):
        inner = _known_labels(dataset.dataset)
        return None if inner is None else inner[list(dataset.indices)]
    if getattr(dataset, "target_transform", None) is not None:
        return None
    held = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) > 1:
        held = dataset.tensors[1]
    try:
        labels = torch.as_tensor(held)
    except (TypeError, ValueError, RuntimeError):
        return None
    fits = labels.shape == (len(dataset),) and not labels.is_floating_point()
    return labels.to("cpu", torch.int64) if fits and labels.dtype != torch.bool else None


def _class_names(data: Any, columns: Columns | None) -> tuple[str, ...] | None:
    """Return the class names that a dataset holds, or None."""
    if isinstance(data, Subset):
        return _class_names(data.dataset, columns)
    if _is_hugging_face(data):
        feature = data.features[find_columns(data.features, columns)[1]]
        found: Any = getattr(feature, "names", None)
    else:
        found = getattr(data, "classes", None)
        told = getattr(data, "metadata", None)
        if isinstance(told, Mapping) and isinstance(told.get("index2label"), Mapping):
            found = names_in_order(told["index2label"])
    if not isinstance(found, Iterable) or isinstance(found, str):
        return None
    names = tuple(found)
    return names if names and all(isinstance(name, str) for name in names) else None


def _name(data: Any) -> str:
    """Return the name of a dataset in reports."""
    if isinstance(data, Subset):
        return _name(data.dataset)
    if _is_hugging_face(data):
        return str(getattr(data.info, "dataset_name", None) or "dataset")
    told = getattr(data, "metadata", None)
    identity = told.get("id") if isinstance(told, Mapping) else None
    return str(identity or type(data).__name__)


def _ranges(places: Sequence[int]) -> str:
    """Return places as text, consecutive ones as a range."""
    if list(places) == list(range(places[0], places[0] + len(places))):
        return f"{places[0]}-{places[-1]}"
    return " ".join(map(str, places))
