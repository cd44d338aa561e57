"""Atomic checkpoints: tensors in safetensors, everything else in JSON, no pickle.

A checkpoint is written to a temporary folder, synced to the disk and renamed. Only then are
older ones removed. A process that is killed at any moment leaves the last complete checkpoint, and
at most a temporary folder beside it. Accelerate's own ``save_state`` writes in place, and its
``load_state`` sets the global random streams.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from art_ext.storage.formats import CHECKPOINT
from art_ext.storage.training import CHECKPOINT_NAME

KEPT = 2


def save_checkpoint(root: Path, update: int, state: Mapping[str, Any]) -> Path:
    """Write ``state`` as the checkpoint after ``update`` weight updates.

    The state is a tree of dicts, lists, numbers, texts and tensors.

    Raises:
        ValueError: if the state holds anything else, as that of some optimisers does.
        OSError: if the folder cannot be written. Earlier checkpoints are kept.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    tree = _pack(state, "", tensors)
    temporary = root / f".{CHECKPOINT_NAME}{update:09d}.partial"
    target = root / f"{CHECKPOINT_NAME}{update:09d}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(tensors, temporary / "tensors.safetensors")
    (temporary / "state.json").write_text(json.dumps({"format": CHECKPOINT.written, "state": tree}))
    for file in temporary.iterdir():
        _to_disk(file)
    _to_disk(temporary)
    if target.exists():  # a run that was resumed from an older checkpoint writes this one again
        shutil.rmtree(target)
    os.replace(temporary, target)
    _to_disk(root)
    for old in checkpoints(root)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Return the state that ``save_checkpoint`` was given, with tensors on the CPU.

    Raises:
        ValueError: if the files are damaged or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "tensors.safetensors")
        version = content["format"]
        state = _unpack(content["state"], tensors)
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder} must be a complete checkpoint of art-ext, but reading it fails: {error}. "
            "Delete it to resume from the one before it"
        ) from error
    if not CHECKPOINT.reads(version):
        raise ValueError(
            f"{folder} is a checkpoint of format {version}, this version reads {CHECKPOINT.wanted}:"
            f" {CHECKPOINT.advice}"
        )
    found: dict[str, Any] = state
    return found


def checkpoints(root: Path) -> list[Path]:
    """List the complete checkpoints in a folder, oldest first."""
    return sorted(path for path in root.glob(f"{CHECKPOINT_NAME}*") if path.is_dir())


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


def _to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some systems have no such call for folders
        if not path.is_dir():
            raise
    finally:
        os.close(handle)
