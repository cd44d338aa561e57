"""Atomic file writes."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary file that becomes the target: after fsync, by a rename.

    After a crash the old file is still there.

    Raises:
        OSError: if the folder does not exist or cannot be written. It names the target.
    """
    temporary = temporary_beside(target)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.errno is None or error.filename not in (None, temporary, os.fspath(temporary)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(target)) from error
    finally:
        with suppress(OSError):  # where it could not even be made
            temporary.unlink()


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file atomically, see ``atomic``.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    with atomic(target) as temporary:
        temporary.write_bytes(content)


def temporary_beside(target: Path) -> Path:
    """Return a new path in the folder of a target, for what becomes the target by a rename."""
    return target.with_name(f".{target.name.lstrip('.')}.{uuid.uuid4().hex}.tmp")


def to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some systems have no such call for folders
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


def safetensors_of(state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return the content of a safetensors file of named tensors and text metadata."""
    from safetensors.torch import save

    return save(plain_tensors(state), metadata)


def header_of(file: Path) -> dict[str, Any]:
    """Return the JSON header of a safetensors file, without reading its tensors.

    Raises:
        ValueError: for a file of another format.
        OSError: for a file that cannot be read.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > file.stat().st_size:
            raise ValueError(f"{file} must be a safetensors file")
        found: dict[str, Any] = json.loads(stream.read(length))
    return found


def metadata_of(content: bytes) -> dict[str, str]:
    """Return the text metadata in the content of a safetensors file."""
    # eight bytes with the length of a JSON header, then the header
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    found: dict[str, str] = header.get("__metadata__", {})
    return found


def write_state_dict(
    target: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write named tensors and text metadata to a safetensors file, atomically.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    write_atomically(target, safetensors_of(state, metadata))


def plain_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of the tensors on the CPU, each in its own memory.

    safetensors does not accept tensors that share memory, as tied weights do. torch saves the whole
    storage that a view belongs to.
    """
    return {name: one.detach().cpu().contiguous().clone() for name, one in state.items()}
