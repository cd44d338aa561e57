"""Files that are whole at any moment, and those that say whose a folder is."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def write_atomically(target: Path, content: bytes) -> None:
    """Put a file in its place: written beside it, brought to the disk, then renamed.

    After a crash the old file is still there.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_state_dict(
    target: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Put tensors under their names, and texts, into a safetensors file, whole at any moment.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    from safetensors.torch import save

    write_atomically(target, save(plain_tensors(state), metadata))


def plain_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors on the CPU, each in memory of its own.

    safetensors refuses tensors that share memory, as tied weights do, and torch saves all of the
    memory that a view is a part of.
    """
    return {name: one.detach().cpu().contiguous().clone() for name, one in state.items()}


def check_configuration(
    file: Path, wanted: Mapping[str, Any], purpose: str = "hold the configuration of a run"
) -> None:
    """Refuse the folder of a run that differs, and say in what.

    Args:
        file: JSON, in the folder.
        wanted: what it must hold, of nothing but what JSON knows.
        purpose: what the file must do, for the message.

    Raises:
        ValueError: naming the file that cannot be read, or all that differs, by dotted names.
    """
    try:
        found = _flat(json.loads(file.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must {purpose}, but it cannot be read: {error}") from error
    asked = _flat(wanted)
    differences = [
        f"{name}: {found.get(name)!r} there, {asked.get(name)!r} here"
        for name in dict.fromkeys([*found, *asked])
        if found.get(name) != asked.get(name)
    ]
    if differences:
        raise ValueError(
            f"{file.parent} holds a run of another configuration ({'; '.join(differences)})"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts under dotted names."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for key, one in tree.items():
        leaves.update(_flat(one, f"{prefix}.{key}" if prefix else key))
    return leaves
