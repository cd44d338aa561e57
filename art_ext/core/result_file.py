"""Attack results as files: tensors in safetensors, everything else as JSON in the metadata."""

from __future__ import annotations

import json
import os
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from art_ext.core.result import AttackResult

KEY = "art_ext.AttackResult"  # key of the metadata, where safetensors holds texts only


def write_result(result: AttackResult, path: str | os.PathLike[str]) -> None:
    """Write every field of a result. The write is atomic.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    from art_ext.storage.files import write_state_dict

    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    named: dict[str, list[str]] = {}
    for name in (field.name for field in fields(result)):
        value = getattr(result, name)
        if name == "outside" and value is not None:
            value = vars(value)
        if isinstance(value, Tensor):
            tensors[name] = value
        elif (
            isinstance(value, dict)
            and value
            and all(isinstance(one, Tensor) for one in value.values())
        ):
            named[name] = list(value)
            tensors |= {f"{name}.{key}": one for key, one in value.items()}
        else:
            plain[name] = value
    content = json.dumps({"plain": plain, "named": named}, default=_plain)
    write_state_dict(Path(path), tensors, {KEY: content})


def read_fields(path: str | os.PathLike[str], kind: type[AttackResult]) -> dict[str, Any]:
    """Read the fields of a result class from a file, on the CPU. Nothing is unpickled.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if ``write_result`` did not write it, or a field is missing.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(path)}")
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        content = json.loads(metadata[KEY])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"path must name a file that AttackResult.save wrote, got {os.fspath(path)}"
        ) from error
    found: dict[str, Any] = dict(content["plain"])
    for name, keys in content["named"].items():
        found[name] = {key: tensors.pop(f"{name}.{key}") for key in keys}
    found |= tensors
    known = {field.name for field in fields(kind)}
    # an older version wrote no field that was added since
    added = {one.name: one.default for one in fields(kind) if one.default is not MISSING}
    found = added | found
    missing = sorted(known - found.keys())
    if missing:
        raise ValueError(
            f"{os.fspath(path)} holds no {', '.join(missing)}, which {kind.__name__} needs"
        )
    return {name: value for name, value in found.items() if name in known}


def _plain(value: object) -> object:
    """Convert a dataclass to a dict for JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"a result must hold tensors and plain values, got {type(value).__name__}")
