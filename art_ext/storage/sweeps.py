"""The folder of a sweep: ``sweep.json``, tables, and a run folder for each cell in ``cells``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from art_ext.storage import formats
from art_ext.storage.differences import flat, value_differences
from art_ext.storage.ownership import check_place, is_free, read_manifest, sweep, write_json
from art_ext.storage.store import LocalStore

TOOL = "art-ext sweep"
SWEEP = "sweep.json"
CELLS = "cells"
CELLS_TABLE = "cells.csv"
TABLES = ("table.csv", "table.md")
PAGE = "index.html"
OWN = (SWEEP, CELLS_TABLE, *TABLES, PAGE)
LETTERS = 80  # of the settings in the name of a cell's folder


def read_sweep(store: LocalStore) -> dict[str, Any] | None:
    """Return the content of ``sweep.json``, or None if the folder is not that of a sweep.

    Raises:
        ValueError: for a sweep of another format.
    """
    found = read_manifest(store, SWEEP, TOOL)
    if found is not None:
        formats.SWEEP.check(store.path, found)
    return found


def check_sweep(
    store: LocalStore, command: str, base: Mapping[str, Any], keys: Collection[str]
) -> None:
    """Raise ValueError unless a folder is new, empty, or that of this sweep.

    The grid may differ. A larger one adds cells.

    Args:
        store: of the folder.
        command: of which the sweep makes a grid.
        base: options of all cells, in the types of JSON.
        keys: of the grid.
    """
    check_place(store, "out must name a folder")
    if is_free(store):
        return
    found = read_sweep(store)
    if found is None:
        strange = f"a {SWEEP} that cannot be read" if store.exists(SWEEP) else f"no {SWEEP}"
        raise ValueError(
            f"out must be a new or empty folder, or that of a sweep, but {store.path} holds other"
            f" files and {strange}: choose another folder"
        )
    own = {*keys, *(key for axis in found["axes"] for key in axis)}
    here, there = (
        {
            name: value
            for name, value in flat({"command": of[0], **of[1]}).items()
            if name not in own
        }
        for of in ((command, base), (found["command"], found["base"]))
    )
    changed = value_differences(here, there)
    if changed:
        raise ValueError(
            f"{store.path} holds another sweep ({'; '.join(changed)}): choose another folder"
        )


def write_sweep(store: LocalStore, content: Mapping[str, Any]) -> None:
    """Write ``sweep.json``, which says whose the folder is, before any other file."""
    write_json(store, SWEEP, {"tool": TOOL, "format": formats.SWEEP.written, **content})


def clear_temporary(store: LocalStore) -> None:
    """Remove temporary files that a killed sweep left."""
    sweep(store, OWN)


def folder_of_cell(existing: Collection[str], settings: str, digest: str) -> str:
    """Return the name of the folder of a cell: the one that has its digest, or a new one.

    Args:
        existing: names of the folders of cells.
        settings: of the cell, as text.
        digest: of everything that decides its result.
    """
    for name in existing:
        if name.endswith(f"-{digest}"):
            return name
    plain = re.sub(r"[^\w.=+-]+", "_", settings)[:LETTERS].strip("_.")
    return f"{plain}-{digest}"
