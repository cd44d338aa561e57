"""The interface by which run folders read and write, and its implementation for local folders."""

from __future__ import annotations

import io
import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, Protocol

from art_ext.storage.files import atomic, temporary_beside, to_disk, write_atomically


class Store(Protocol):
    """Place of a run folder. Names are relative, with ``/`` between folder and file.

    A store derives from this class and implements ``read``, ``write``, ``exists``, ``names`` and
    ``remove``. The other methods build on these. ``rename`` and ``folder`` are then not atomic: a
    killed process may leave a part. An evaluation uses ``rename`` only to replace an earlier run,
    and a training and a submission use ``folder``.

    Attributes:
        path: the place, as messages name it.
    """

    path: Path

    def read(self, name: str) -> bytes:
        """Return the content of a file. FileNotFoundError if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically, and the folders above it."""

    def exists(self, name: str) -> bool:
        """Return True if there is such a file or folder."""

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the entries of a folder. Empty if there is no such folder."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it, at once. Do nothing without one."""

    def reading(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file, to read parts of it."""
        return io.BytesIO(self.read(name))

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open a stream that becomes the named file when it ends without an error."""
        stream = io.BytesIO()
        yield stream
        self.write(name, stream.getvalue())

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """Yield a local folder whose files become the named folder when it ends without an error.

        A folder of that name is replaced. The empty name is the whole store.
        """
        with TemporaryDirectory() as temporary:
            place = Path(temporary)
            yield place
            self.remove(name)
            for file in sorted(path for path in place.rglob("*") if path.is_file()):
                inside = file.relative_to(place).as_posix()
                self.write(posixpath.join(name, inside), file.read_bytes())

    def rename(self, name: str, target: str) -> None:
        """Give a file or folder another name, and replace a file of that name."""
        entries = self.names(name)
        for entry in entries:
            self.rename(f"{name}/{entry}", f"{target}/{entry}")
        if not entries:
            self.write(target, self.read(name))
        self.remove(name)


class LocalStore(Store):
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
        write_atomically(self._target(name), content)

    def exists(self, name: str) -> bool:
        """Return True if there is such a file or folder."""
        return (self.path / name).exists()

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the entries of a folder."""
        try:
            return sorted(os.listdir(self.path / folder))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """Remove a file, or a folder after a move into a temporary folder."""
        place = (self.path / name).absolute()
        if not place.is_dir() or place.is_symlink():
            place.unlink(missing_ok=True)
            return
        # so that a killed process leaves no half of a folder under this name
        temporary = temporary_beside(place)
        temporary.mkdir()
        os.replace(place, temporary / place.name)
        shutil.rmtree(temporary / place.name, ignore_errors=True)
        with suppress(OSError):  # some files could not be removed
            temporary.rmdir()

    def reading(self, name: str) -> BinaryIO:
        """Open a file."""
        return (self.path / name).open("rb")

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Open a temporary file that is then renamed."""
        with atomic(self._target(name)) as temporary, temporary.open("wb") as stream:
            yield stream

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """Yield a temporary folder that is then synced to the disk and renamed."""
        target = self._target(name).absolute()
        temporary = temporary_beside(target)
        temporary.mkdir()
        try:
            yield temporary
            for place in (*temporary.rglob("*"), temporary):
                to_disk(place)
            self.remove(name)
            os.replace(temporary, target)
            to_disk(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def rename(self, name: str, target: str) -> None:
        """Rename a file or folder, and make the folders above its new name."""
        os.replace(self.path / name, self._target(target))

    def _target(self, name: str) -> Path:
        """Return the path of a file or folder to write. The folders above it exist then."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


Place = str | os.PathLike[str] | Store


def store_of(place: Place) -> Store:
    """Return the store of a place: that of a local folder, or the given one."""
    return LocalStore(place) if isinstance(place, (str, os.PathLike)) else place
