"""Class indices of class folders: numeric or text order, or a mapping from a file."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from art_ext.core.checks import check_choice

logger = logging.getLogger("art_ext")

CLASS_ORDERS = ("numeric", "text")
Classes = Mapping[str, int] | Sequence[str] | str | os.PathLike[str]
_WANTED = (
    "a JSON object {folder: index}, a JSON list of folders, the ImageNet class-index JSON, "
    "a text file with one folder a line, or a CSV file with the columns folder,index"
)


def sort_folders(names: Sequence[str], order: str) -> list[str]:
    """Class folders in the order of their class indices.

    Args:
        names: of the folders.
        order: ``"numeric"``: by number if all names are whole numbers, else as text. ``"text"``:
            character by character, as torchvision's ``ImageFolder`` sorts them.

    Raises:
        ValueError: for another order.
    """
    check_choice("class_order", order, CLASS_ORDERS)
    if order == "text" or not _all_numbers(names):
        return sorted(names)
    ordered = sorted(names, key=lambda name: (int(name), name))
    first = int(ordered[0]) if ordered else 0
    for index, name in enumerate(ordered):
        if int(name) != first + index:
            logger.warning(
                "the numbers of the class folders are not consecutive: folder %r becomes class %d;"
                " pass classes= (--classes FILE) if the model numbers them otherwise",
                name,
                index,
            )
            break
    return ordered


def assign_classes(
    names: Sequence[str], order: str = "numeric", classes: Classes | None = None
) -> tuple[dict[str, int], tuple[str, ...] | None]:
    """Class index of each folder, and the names of all classes.

    Args:
        names: of the folders.
        order: of the folders if there is no mapping, see :func:`sort_folders`.
        classes: a mapping from folder to index, a list of folders, or a file that holds one.

    Returns:
        The index of each folder, and one name per class. The names are None for a mapping that
        lacks an index below its largest, because the number of classes is then unknown.

    Raises:
        ValueError: for an unknown order, an invalid mapping, or a folder that the mapping lacks.
    """
    check_choice("class_order", order, CLASS_ORDERS)
    if classes is None:
        ordered = sort_folders(names, order)
        return {name: index for index, name in enumerate(ordered)}, tuple(ordered)
    where, mapping = read_classes(classes)
    missing = sorted(set(names) - set(mapping))
    if missing:
        shown = ", ".join(map(repr, missing[:5])) + (" and others" if len(missing) > 5 else "")
        raise ValueError(
            f"{where} must give an index to every class folder, but lacks {shown} "
            f"({len(missing)} of {len(names)} folders)"
        )
    by_index = {index: name for name, index in mapping.items()}
    return mapping, names_in_order(by_index)


def names_in_order(by_index: Mapping[int, str]) -> tuple[str, ...] | None:
    """Return the names of all classes, or None if an index below the largest has none."""
    if sorted(by_index) != list(range(len(by_index))):
        return None
    return tuple(by_index[index] for index in range(len(by_index)))


def read_classes(classes: Classes) -> tuple[str, dict[str, int]]:
    """Source of a mapping, for messages, and the mapping from folder to class index.

    Raises:
        ValueError: for a missing file, other content, an index that is not an integer >= 0, or two
            folders of one class.
    """
    if isinstance(classes, (str, os.PathLike)):
        where = str(classes)
        content = _read_file(Path(classes))
    else:
        where = "classes"
        content = classes
    if isinstance(content, Mapping):
        pairs = _imagenet_pairs(content) or list(content.items())
    elif isinstance(content, Sequence):
        pairs = [(name, index) for index, name in enumerate(content)]
    else:
        raise ValueError(f"{where} must hold {_WANTED}, got {type(content).__name__}")
    return where, _checked(where, pairs)


def _all_numbers(names: Sequence[str]) -> bool:
    return all(name.isascii() and name.isdecimal() for name in names)


def _read_file(file: Path) -> object:
    if not file.is_file():
        raise ValueError(
            f"classes must name a file with {_WANTED}, got {str(file)!r}, which is not a file"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=lambda pairs: _unique(file, pairs))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} must hold {_WANTED}, but cannot be read: {error}") from error
    if file.suffix.lower() == ".csv":
        return _unique(file, _csv_pairs(file, text))
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise ValueError(
            f"{file} must name one class folder a line, but line {lines.index('') + 1} is empty"
        )
    return lines


def _csv_pairs(file: Path, text: str) -> list[tuple[str, int]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    if rows and rows[0] == ["folder", "index"]:
        rows = rows[1:]
    pairs = []
    for row in rows:
        if len(row) != 2 or not _all_numbers(row[1:]) or not row[1]:
            raise ValueError(
                f"{file} must have rows folder,index with an integer >= 0, got {','.join(row)!r}"
            )
        pairs.append((row[0], int(row[1])))
    return pairs


def _unique(file: Path, pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Return a dict of pairs. A repeated name raises ValueError, since it would replace the first
    silently.
    """
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{file} must name each class folder once, got {name!r} twice")
        found[name] = value
    return found


def _imagenet_pairs(content: Mapping[object, object]) -> list[tuple[object, object]] | None:
    """Pairs (folder, index) of ``{"0": ["n01440764", "tench"], ...}``. None for another object."""
    values = list(content.values())
    if not values or not all(isinstance(value, list) and value for value in values):
        return None
    if not all(isinstance(key, str) and key and _all_numbers([key]) for key in content):
        return None
    return [(value[0], int(str(key))) for key, value in content.items() if isinstance(value, list)]


def _checked(where: str, pairs: Sequence[tuple[object, object]]) -> dict[str, int]:
    if not pairs:
        raise ValueError(f"{where} must hold {_WANTED}, got nothing")
    mapping: dict[str, int] = {}
    owner: dict[int, str] = {}
    for name, index in pairs:
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where} must name class folders, got {name!r}; wanted {_WANTED}")
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise ValueError(
                f"{where} must give each folder an integer >= 0, got {index!r} for {name!r}"
            )
        if name in mapping:
            raise ValueError(f"{where} must name each class folder once, got {name!r} twice")
        if index in owner:
            raise ValueError(
                f"{where} gives class {index} to two folders, {owner[index]!r} and {name!r}"
            )
        mapping[name] = index
        owner[index] = name
    return mapping
