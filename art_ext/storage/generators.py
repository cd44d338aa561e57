"""The folder of a training of a generator: layout and ownership.

``config.toml`` is written first, then ``generator.json``, which states everything that decides the
weights. ``quality.json`` is written last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from art_ext.storage.ownership import read_manifest
from art_ext.storage.store import LocalStore, Store

TOOL = "art-ext generator train"
MANIFEST = "generator.json"
GENERATOR = "generator.safetensors"
QUALITY = "quality.json"
SHEET = "samples.png"


def read_quality(store: Store) -> dict[str, Any] | None:
    """Return the content of the ``quality.json`` of a finished training, or None."""
    return read_manifest(store, QUALITY, TOOL)


def check_finished(folder: Path) -> None:
    """Raise ValueError unless a folder holds a finished training of a generator."""
    store = LocalStore(folder)
    if read_manifest(store, MANIFEST, TOOL) is None:
        raise ValueError(
            f"{folder} must be the folder of a finished {TOOL}, but it holds no {MANIFEST} of one"
        )
    if read_quality(store) is None or not store.exists(GENERATOR):
        raise ValueError(
            f"{folder} holds a generator whose training is not finished: go on with {TOOL}"
            f" --resume --out {folder}"
        )
