"""Rules that every run folder follows: free or taken, by whom, and what becomes of earlier runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from art_ext.storage.locking import OWN_FILES
from art_ext.storage.store import LocalStore, Store, StoreError

PREVIOUS = ".previous-run"
LOGS = "art_ext"  # folder of TensorBoard, in the folder of any run
OVERWRITE = "--overwrite (overwrite=True in Python)"  # in messages on a taken folder
TRACKERS = "trackers.json"  # their runs and last steps


def check_place(store: Store, demand: str) -> None:
    """Raise ValueError if the path of a local store is not that of a folder, existing or new.

    Args:
        store: of the folder.
        demand: beginning of the message, such as ``"out must name a folder"``.
    """
    if isinstance(store, LocalStore) and store.path.exists() and not store.path.is_dir():
        raise ValueError(f"{demand}, got {store.path}, which is a file")


def is_temporary(name: str) -> bool:
    """Return True for the name of a file, or folder, that a process has not completed."""
    return name.startswith(".") and name.endswith(".tmp")


def is_free(store: Store) -> bool:
    """Return True for a folder that is new or empty.

    Temporary files, locks and an earlier run that was put aside do not count. Another process of
    the same run may be writing its manifest, or a start may have been killed.
    """
    return all(is_temporary(name) or name in (*OWN_FILES, PREVIOUS) for name in store.names())


def read_manifest(store: Store, name: str, tool: str) -> dict[str, Any] | None:
    """Return the content of the file that says whose a folder is.

    None if there is none, if it cannot be read, or if another tool wrote it.

    Raises:
        StoreError: if an object store does not answer.
    """
    try:
        content = json.loads(store.read(name).decode("utf-8"))
    except StoreError:
        raise
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("tool") == tool else None


def read_json(store: Store, name: str, purpose: str) -> dict[str, Any]:
    """Return the content of a JSON file of a run.

    Args:
        store: of the folder.
        name: of the file, which exists.
        purpose: of the file, for the message.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        content = json.loads(store.read(name).decode("utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
    except ValueError as error:
        raise ValueError(
            f"{store.path / name} must {purpose}, but it cannot be read: {error}"
        ) from error
    return content


def write_json(
    store: Store, name: str, content: Mapping[str, Any], allow_nan: bool = False
) -> None:
    """Write a JSON file, such as a manifest, which is written before any other file of a run."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=allow_nan) + "\n"
    store.write(name, text.encode("utf-8"))


@contextmanager
def units_kept(store: Store, name: str) -> Iterator[None]:
    """Let an error of writing a file tell that the run goes on from what it has written.

    Args:
        store: of the folder.
        name: of the file.
    """
    try:
        yield
    except OSError as error:
        go_on = "Finished units that were written are kept: run the same command again to continue"
        if isinstance(error, StoreError):  # which names the file
            raise StoreError(f"{error}. {go_on}") from error
        raise OSError(
            error.errno, f"{error.strerror or error}: cannot write {store.path / name}. {go_on}"
        ) from error


def put_aside(store: Store, names: Sequence[str], complete: bool) -> None:
    """Move an earlier run into ``.previous-run`` if it is complete, else remove it.

    A run that was kept before gives way to it. Other files stay.

    Args:
        store: of the folder.
        names: everything that the run may consist of, its manifest last. A process that is killed
            meanwhile leaves a folder that still says whose it is, and the next one goes on. Files
            in folders exist, others need not.
        complete: whether the run is complete.
    """
    entries = store.names()
    kept = store.exists(f"{PREVIOUS}/{names[-1]}")
    keep = complete or (PREVIOUS in entries and not kept)  # the latter after a killed process
    if keep and kept:
        store.remove(PREVIOUS)
    for name in names:
        if "/" not in name and name not in entries:
            continue
        if keep:
            store.rename(name, f"{PREVIOUS}/{name}")
        else:
            store.remove(name)


def drop_previous(store: Store) -> None:
    """Remove the run that ``put_aside`` kept, when the new one is complete."""
    store.remove(PREVIOUS)
    sweep(store, [PREVIOUS.removeprefix(".")])  # of processes that were killed while they did so


def sweep(store: Store, names: Sequence[str] = (), folder: str = "") -> None:
    """Remove temporary files that killed processes left.

    Args:
        store: of the folder.
        names: beginnings of the names of files whose temporary files are removed. Default: all.
        folder: folder that holds them.
    """
    for entry in store.names(folder):
        ours = not names or any(entry.startswith(f".{name}") for name in names)
        if ours and is_temporary(entry):
            store.remove(f"{folder}/{entry}" if folder else entry)
