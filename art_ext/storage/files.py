"""Atomic file writes, and the check that a folder belongs to a given run."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that becomes the target: after fsync, by a rename.

    After a crash the old file is still there.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file atomically, see ``atomic``.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    with atomic(target) as temporary:
        temporary.write_bytes(content)


def write_state_dict(
    target: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write named tensors and text metadata to a safetensors file, atomically.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    from safetensors.torch import save

    write_atomically(target, save(plain_tensors(state), metadata))


def plain_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of the tensors on the CPU, each in its own memory.

    safetensors does not accept tensors that share memory, as tied weights do. torch saves the whole
    storage that a view belongs to.
    """
    return {name: one.detach().cpu().contiguous().clone() for name, one in state.items()}


def check_configuration(
    file: Path, wanted: Mapping[str, Any], purpose: str = "hold the configuration of a run"
) -> None:
    """Raise ValueError unless a configuration file of a run holds the wanted values.

    Args:
        file: JSON file in the run folder.
        wanted: the values that it must hold, in types that JSON has.
        purpose: the purpose of the file, for the message.

    Raises:
        ValueError: if the file cannot be read, or if values differ. The message lists the
            differences by dotted names.
    """
    try:
        found = _flat(json.loads(file.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must {purpose}, but it cannot be read: {error}") from error
    expected = _flat(wanted)
    differences = [
        f"{name}: {found.get(name)!r} there, {expected.get(name)!r} here"
        for name in dict.fromkeys([*found, *expected])
        if found.get(name) != expected.get(name)
    ]
    if differences:
        raise ValueError(
            f"{file.parent} holds a run of another configuration ({'; '.join(differences)})"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Values of nested dicts under dotted names."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    values: dict[str, Any] = {}
    for key, one in tree.items():
        values.update(_flat(one, f"{prefix}.{key}" if prefix else key))
    return values
