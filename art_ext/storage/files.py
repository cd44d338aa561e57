"""Atomic file writes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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
