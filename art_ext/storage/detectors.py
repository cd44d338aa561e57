"""Fitted detectors of an evaluation: one folder for each model, in the run folder.

A folder is written once, so that all processes of a run use the same detector.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from art_ext.storage.store import LocalStore, Store

DETECTORS = "detectors"
FACTS = "facts.json"


def folder_of(number: int) -> str:
    """Return the folder of the detector of a model, by its number among the models."""
    return f"{DETECTORS}/{number:03d}"


def has_detector(store: Store, number: int) -> bool:
    """Return True if the fitted detector of a model is stored."""
    return store.exists(f"{folder_of(number)}/{FACTS}")


def write_detector(
    store: Store, number: int, facts: Mapping[str, Any], save: Callable[[Path], None]
) -> None:
    """Write the fitted detector of a model, unless another process has.

    Args:
        store: of the run folder.
        number: of the model.
        facts: in the types of JSON, for ``read_facts``.
        save: function that writes the detector into a local folder.
    """
    if has_detector(store, number):
        return
    with store.folder(folder_of(number)) as folder:
        save(folder)
        text = json.dumps(facts, indent=2, allow_nan=False) + "\n"
        (folder / FACTS).write_text(text, encoding="utf-8")


def read_facts(store: Store, number: int) -> dict[str, Any]:
    """Return the facts of the stored detector of a model.

    Raises:
        FileNotFoundError: if there is none.
    """
    found: dict[str, Any] = json.loads(store.read(f"{folder_of(number)}/{FACTS}").decode("utf-8"))
    return found


@contextmanager
def reading_detector(store: Store, number: int) -> Iterator[Path]:
    """Yield a local folder with the files of the stored detector of a model."""
    folder = folder_of(number)
    if isinstance(store, LocalStore):
        yield store.path / folder
        return
    with TemporaryDirectory() as temporary:
        for name in store.names(folder):
            (Path(temporary) / name).write_bytes(store.read(f"{folder}/{name}"))
        yield Path(temporary)


def contents(store: Store) -> dict[str, bytes]:
    """Return the content of each file of the stored detectors."""
    return {
        f"{DETECTORS}/{number}/{name}": store.read(f"{DETECTORS}/{number}/{name}")
        for number in store.names(DETECTORS)
        for name in store.names(f"{DETECTORS}/{number}")
    }


def facts_of_run(
    store: Store, models: Iterable[str], detectors: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the facts of the stored detectors of a run, with the name of the model."""
    return [
        {"model": model, **read_facts(store, number)}
        for number, model in enumerate(models)
        if model in detectors and has_detector(store, number)
    ]
