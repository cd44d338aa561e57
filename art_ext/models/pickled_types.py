"""Names of the types in a torch.save file that torch does not unpickle. The file is only read."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch.serialization import get_unsafe_globals_in_checkpoint

_OLD_FILE_PICKLES = 4  # magic number, version, machine, and then the content
# how NumPy pickles itself
_SCALAR = "multiarray.scalar"
_ARRAY = "multiarray._reconstruct"
_HELPERS = ("numpy.dtype", "numpy.ndarray", "_codecs.encode")  # of the two


def unsupported_types(file: Path, error: str) -> list[str]:
    """Names of the types, such as ``numpy.float64``. Empty if loading failed for another reason.

    Args:
        file: a file of ``torch.save`` that ``torch.load(weights_only=True)`` does not load.
        error: the message of torch.load, which names the first type.
    """
    first = re.search(r"Unsupported global: GLOBAL (\S+)", error)
    if first is None:
        return []
    try:
        names = sorted(get_unsafe_globals_in_checkpoint(str(file)))
    except Exception:  # a file of the older format
        names = []
    names = [first[1], *(name for name in names if name != first[1])]
    found: dict[str, None] = {}
    for name in names:
        if name.endswith(_SCALAR):
            found.update(dict.fromkeys(_numpy_scalars(file)))
        elif name.endswith(_ARRAY):
            found["numpy.ndarray"] = None
        elif name not in _HELPERS:
            found[name] = None
    return list(found)


def _numpy_scalars(file: Path) -> list[str]:
    """Names of the NumPy types whose codes stand in the file."""
    found: dict[str, None] = {}
    places: set[Any] = set()  # where the class numpy.dtype is remembered
    code_follows = False  # the code comes after the class
    before = ""
    for operation, argument, _ in _operations(file):
        name = operation.name
        if name == "GLOBAL":
            code_follows = argument == "numpy dtype"
        elif name in ("BINPUT", "LONG_BINPUT") and code_follows and before == "GLOBAL":
            places.add(argument)
        elif name in ("BINGET", "LONG_BINGET") and argument in places:
            code_follows = True
        elif code_follows and isinstance(argument, str):
            found[_name_of(argument)] = None
            code_follows = False
        before = name
    return list(found) or ["numpy.generic"]


def _name_of(code: str) -> str:
    try:
        return f"numpy.{np.dtype(code).name}"
    except TypeError:
        return "numpy.generic"


def _operations(file: Path) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """Return the pickle operations of a torch.save file. None of them is executed."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    yield from pickletools.genops(archive.read(name))
        return
    with file.open("rb") as stream:
        for _ in range(_OLD_FILE_PICKLES):
            yield from pickletools.genops(stream)
