"""The folder of a training: layout and ownership.

``training.json`` states everything that decides the weights. ``art-ext train`` adds its own files:
``config.toml``, written first, ``run.json``, and the page of the training with its plot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from art_ext.storage import formats
from art_ext.storage.differences import check_configuration, flat
from art_ext.storage.locking import is_main_process, lock_of
from art_ext.storage.ownership import (
    LOGS,
    TRACKERS,
    check_place,
    put_aside,
    read_json,
    read_manifest,
    sweep,
    write_json,
)
from art_ext.storage.store import Place, Store, store_of

TOOL = "art-ext train"
TRAINING = "training.json"
NETWORK_FILE = "model_file"
FILES = ("recipe_file", NETWORK_FILE)  # digests of the files of the user
CHECKPOINTS = "checkpoints"
CHECKPOINT_NAME = "update-"  # and the number of weight updates
HISTORY = "history.jsonl"
HISTORY_TABLE = "history.csv"
VALIDATIONS = "validation.jsonl"  # those between the ends of the epochs
WEIGHTS = "model.safetensors"
BEST = "best.safetensors"
TEACHER = "teacher.safetensors"  # weights of the network whose answers a student learns
TARGETS = "soft_labels.safetensors"  # these answers, for the training samples
RESULTS = (CHECKPOINTS, HISTORY, HISTORY_TABLE, VALIDATIONS, WEIGHTS, BEST, TEACHER, TARGETS)
CONFIGURATION = "config.toml"
RUN = "run.json"
PAGE = "index.html"
PLOT = "curves.png"


def is_training(store: Store) -> bool:
    """Return True if a folder holds a training of ours, finished or not."""
    return any(read_manifest(store, name, TOOL) is not None for name in (TRAINING, RUN))


def has_checkpoints(store: Store) -> bool:
    """Return True if the folder of a training holds a complete checkpoint."""
    return any(name.startswith(CHECKPOINT_NAME) for name in store.names(CHECKPOINTS))


@contextmanager
def locked_training(place: Place | None) -> Iterator[None]:
    """Hold the lock of the folder of a training, if there is one.

    Of the processes of one training, the main one holds it.

    Raises:
        ValueError: if another training holds it, or if the path is not that of a folder.
    """
    if place is None or not is_main_process():
        yield
        return
    store = store_of(place)
    _check_place(store)
    with lock_of(store):
        yield


def _check_place(store: Store) -> None:
    check_place(store, "checkpoint_dir must be a folder")


def recorded_files(store: Store) -> dict[str, str]:
    """Return the digests of the user's files that the run of a folder records, by name."""
    if not store.exists(TRAINING):
        return {}
    found = read_json(store, TRAINING, "hold the configuration of a run")
    return {name: found[name] for name in FILES if name in found}


def configuration_of(store: Store) -> dict[str, Any]:
    """Return everything that decides the weights of the training of a folder.

    Raises:
        ValueError: if ``training.json`` cannot be read.
    """
    found = read_json(store, TRAINING, "hold the configuration of a run")
    return {name: value for name, value in found.items() if name not in ("tool", "format")}


def begin_training(
    store: Store,
    configuration: Mapping[str, Any],
    resume: bool,
    usual: Mapping[str, Any] | None = None,
) -> None:
    """Write ``training.json`` into the folder of a training, or check that it is the same.

    Only the main process of the training writes.

    Args:
        store: of the folder.
        configuration: everything that decides the weights, in the types of JSON.
        resume: whether an earlier process of this training may have been here.
        usual: parts of the configuration with the values of what an earlier version did not record.

    Raises:
        ValueError: if the folder holds an earlier run that is not to be resumed, a run of another
            configuration (the differences are named) or format, or other files with our names.
            Nothing is written then.
    """
    _check_place(store)
    entries = store.names()
    results = [name for name in RESULTS if name in entries]
    if not store.exists(TRAINING):
        _check_strange(store, results, "art-ext")
        if is_main_process():
            content = {"tool": TOOL, "format": formats.TRAINING.written, **configuration}
            write_json(store, TRAINING, content, allow_nan=True)
        return
    found = read_json(store, TRAINING, "hold the configuration of a run")
    if found.get("tool") != TOOL:
        _check_strange(store, [TRAINING], "art-ext")
    formats.TRAINING.check(store.path, found)
    facts = configuration_of(store)
    given = dict(configuration)
    if NETWORK_FILE not in given or NETWORK_FILE not in facts:  # earlier versions record none
        given.pop(NETWORK_FILE, None)
        facts.pop(NETWORK_FILE, None)
    for part, values in (usual or {}).items():
        facts[part] = {**values, **facts.get(part, {})}
    check_configuration(store.path, flat(given), flat(facts))
    if resume:
        if is_main_process():
            sweep(store, (TRAINING, *RESULTS))
            sweep(store, folder=CHECKPOINTS)
    # training.json alone does not count: another process of this run may just have written it
    elif has_checkpoints(store) or results not in ([], [CHECKPOINTS]):
        raise ValueError(
            f"{store.path} holds checkpoints of an earlier run: resume it, or choose another folder"
        )


def check_origin(store: Store) -> None:
    """Raise ValueError if files have our names, but no record of a training of ours is there."""
    if read_manifest(store, TRAINING, TOOL) is None:
        entries = store.names()
        strange = [name for name in (TRAINING, *RESULTS) if name in entries]
        _check_strange(store, strange, "art-ext train")


def _check_strange(store: Store, names: list[str], command: str) -> None:
    """Raise ValueError if there are files with our names that are not ours."""
    if names:
        raise ValueError(
            f"{store.path} holds {', '.join(names)}, but not of a run of {command}: choose another"
            " folder"
        )


def read_run(store: Store) -> dict[str, Any] | None:
    """Return the content of the ``run.json`` of a finished ``art-ext train``, or None.

    Raises:
        ValueError: if it, or the training, is of another format.
    """
    run = read_manifest(store, RUN, TOOL)
    for manifest in (read_manifest(store, TRAINING, TOOL), run):
        if manifest is not None:
            formats.TRAINING.check(store.path, manifest)
    return run


def put_training_aside(store: Store) -> None:
    """Move the training of a folder into ``.previous-run``. Of two, the complete one is kept."""
    names = [*RESULTS, PAGE, PLOT, LOGS, TRACKERS, RUN, TRAINING, CONFIGURATION]
    put_aside(store, names, complete=read_manifest(store, RUN, TOOL) is not None)
