"""Files that are whole at any moment."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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


def write_state_dict(target: Path, state: Mapping[str, Tensor]) -> None:
    """Put tensors under their names into a safetensors file, whole at any moment.

    Raises:
        OSError: if the folder does not exist or cannot be written.
    """
    from safetensors.torch import save

    # a clone, because safetensors refuses tensors that share memory, as tied weights do
    write_atomically(target, save({name: one.detach().cpu().contiguous().clone() for name, one in state.items()}))
