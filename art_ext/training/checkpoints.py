"""Atomic checkpoints: tensors in safetensors, everything else in JSON, no pickle.

A checkpoint is written to a temporary folder, synced to the disk and renamed. Only then are
older ones removed. A process that is killed at any moment leaves the last complete checkpoint, and
at most a temporary folder beside it. Accelerate's own ``save_state`` writes in place, and its
``load_state`` sets the global random streams.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from posixpath import join
from typing import Any

from torch import Tensor

from art_ext.storage.formats import CHECKPOINT
from art_ext.storage.store import Place, store_of
from art_ext.storage.training import CHECKPOINT_NAME

KEPT = 2
TENSORS = "tensors.safetensors"
STATE = "state.json"


def save_checkpoint(place: Place, update: int, state: Mapping[str, Any], folder: str = "") -> Path:
    """Write ``state`` as the checkpoint after ``update`` weight updates.

    The state is a tree of dicts, lists, numbers, texts and tensors.

    Args:
        place: of the run, or of the checkpoints.
        update: number of weight updates.
        state: to save.
        folder: of the checkpoints in the place.

    Raises:
        ValueError: if the state holds anything else, as that of some optimisers does.
        OSError: if the folder cannot be written. Earlier checkpoints are kept.
    """
    from safetensors.torch import save_file

    store = store_of(place)
    tensors: dict[str, Tensor] = {}
    tree = _pack(state, "", tensors)
    name = f"{CHECKPOINT_NAME}{update:09d}"
    # a run that was resumed from an older checkpoint may write this one again
    with store.folder(join(folder, name)) as temporary:
        save_file(tensors, temporary / TENSORS)  # needs less memory than one text of bytes
        (temporary / STATE).write_text(json.dumps({"format": CHECKPOINT.written, "state": tree}))
    for old in checkpoints(store, folder)[:-KEPT]:
        store.remove(join(folder, old.name))
    return store.path / folder / name


def load_checkpoint(place: Place, folder: str = "") -> dict[str, Any]:
    """Return the state that ``save_checkpoint`` was given, with tensors on the CPU.

    Args:
        place: of the run, or of the checkpoint.
        folder: of the checkpoint in the place.

    Raises:
        ValueError: if the files are damaged or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    store = store_of(place)
    named = store.path / folder
    try:
        content = json.loads(store.read(join(folder, STATE)))
        tensors = load(store.read(join(folder, TENSORS)))
        version = content["format"]
        state = _unpack(content["state"], tensors)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{named} must be a complete checkpoint of art-ext, but reading it fails: {error}. "
            "Delete it to resume from the one before it"
        ) from error
    if not CHECKPOINT.reads(version):
        raise ValueError(
            f"{named} is a checkpoint of format {version}, this version reads {CHECKPOINT.wanted}:"
            f" {CHECKPOINT.advice}"
        )
    found: dict[str, Any] = state
    return found


def checkpoints(place: Place, folder: str = "") -> list[Path]:
    """List the complete checkpoints in a folder, oldest first."""
    store = store_of(place)
    names = store.names(folder)
    return [store.path / folder / name for name in names if name.startswith(CHECKPOINT_NAME)]


def _pack(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Convert a tree to JSON. Its tensors are added to ``tensors`` under their places."""
    if isinstance(value, Tensor):
        # a clone, because safetensors refuses tensors that share memory, as tied weights do
        tensors[place] = value.detach().cpu().contiguous().clone()
        return {"tensor": place}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        # pairs, because JSON would turn the whole numbers among an optimiser's keys into text
        return {
            "pairs": [
                [_pack(key, "", {}), _pack(one, f"{place}/{key}", tensors)]
                for key, one in value.items()
            ]
        }
    if isinstance(value, (list, tuple)):
        return {"list": [_pack(one, f"{place}/{at}", tensors) for at, one in enumerate(value)]}
    raise ValueError(
        f"a checkpoint holds numbers, texts, tensors, lists and dicts, got {type(value).__name__}"
        f" at {place}: train without checkpoint_dir, or with an optimiser and a schedule whose"
        " state_dict holds these"
    )


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "pairs":
        return {key: _unpack(one, tensors) for key, one in content}
    return [_unpack(one, tensors) for one in content]
