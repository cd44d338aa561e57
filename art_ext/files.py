"""Files that are whole at any moment."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


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
