"""The interface by which run folders read and write, and its implementation for local folders."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from art_ext.storage.files import atomic, write_atomically


class Store(Protocol):
    """Place of a run folder. Names are relative, with ``/`` between folder and file."""

    path: Path

    def read(self, name: str) -> bytes:
        """Return the content of a file. FileNotFoundError if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically, and the folders above it."""

    def reading(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file, to read parts of it."""

    def writing(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a stream that becomes the named file when it ends, for long content."""

    def exists(self, name: str) -> bool:
        """Return True if there is such a file or folder."""

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the entries of a folder. Empty if there is no such folder."""

    def rename(self, name: str, target: str) -> None:
        """Give a file or folder another name, and replace a file of that name."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it, at once. Do nothing without one."""


class LocalStore:
    """A folder of this machine, or of a disk that it shares.

    Attributes:
        path: the folder. It need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a file: to a temporary one, which is then renamed."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)

    def reading(self, name: str) -> BinaryIO:
        """Open a file."""
        return (self.path / name).open("rb")

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open a temporary file that is then renamed."""
        with atomic(self.path / name) as temporary, temporary.open("wb") as stream:
            yield stream

    def exists(self, name: str) -> bool:
        """Return True if there is such a file or folder."""
        return (self.path / name).exists()

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the entries of a folder."""
        try:
            return sorted(os.listdir(self.path / folder))
        except FileNotFoundError:
            return []

    def rename(self, name: str, target: str) -> None:
        """Rename a file or folder, and make the folders above its new name."""
        (self.path / target).parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path / name, self.path / target)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder after a rename to a temporary name."""
        place = self.path / name
        if not place.is_dir() or place.is_symlink():
            place.unlink(missing_ok=True)
            return
        # so that a killed process leaves no half of a folder
        doomed = place.with_name(f".{place.name.lstrip('.')}.{uuid.uuid4().hex}.tmp")
        os.replace(place, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
