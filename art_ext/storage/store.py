"""The interface by which run folders read and write, for local folders and object stores."""

from __future__ import annotations

import io
import os
import posixpath
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Protocol, cast, runtime_checkable

from art_ext.core.checks import nearest
from art_ext.errors import describe
from art_ext.storage.files import atomic, temporary_beside, to_disk, write_atomically


class Store(Protocol):
    """Place of a run folder. Names are relative, with ``/`` between folder and file.

    A store derives from this class and implements ``read``, ``write``, ``exists``, ``names`` and
    ``remove``. The other methods build on these. ``rename`` and ``folder`` are then not atomic: a
    killed process may leave a part. An evaluation uses ``rename`` only to replace an earlier run,
    and a training and a submission use ``folder``.

    Attributes:
        path: the place, as messages name it.
        shared: True if other processes can open the place.
    """

    path: Path
    shared: bool = True

    def read(self, name: str) -> bytes:
        """Return the content of a file. FileNotFoundError if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically, and the folders above it."""

    def exists(self, name: str) -> bool:
        """Return True if there is such a file."""

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
        """Return True if there is such a file."""
        return (self.path / name).is_file()

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


class StoreError(OSError):
    """Failure of an object store, such as no bucket, no rights or no network, in one line."""


class ObjectStore(Store):
    """A folder of an object store, through universal-pathlib and fsspec.

    One PUT writes a file, which is therefore whole or not there. Nothing that the store has
    answered is kept, because other processes write too.

    Args:
        path: the folder, of any class of universal-pathlib.
    """

    def __init__(self, path: RemotePath) -> None:
        from upath import UPath

        # s3fs would not see what other processes have written
        place = UPath(cast(Any, path), use_listings_cache=False)
        self.path = cast(Path, place)  # it has the methods of Path
        self.shared = place.protocol != "memory"
        self._root = place.path.rstrip("/")
        if not self._root.strip("/"):
            raise ValueError(f"{place} names no bucket or folder: wanted SCHEME://BUCKET/FOLDER")
        self._files = place.fs

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return self._get(name)

    def write(self, name: str, content: bytes) -> None:
        """Write a file in one PUT."""
        with self._named("written", name):
            try:
                self._files.pipe_file(self._key(name), content)
            except FileNotFoundError as error:  # the bucket
                raise StoreError(*error.args) from error

    def exists(self, name: str) -> bool:
        """Return True if there is such a file."""
        try:
            self._get(name, end=1)
        except FileNotFoundError:
            return False
        return True

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names of the entries of a folder, listed again."""
        key = self._key(folder)
        with self._named("listed", folder):
            try:
                found = self._files.ls(key, detail=False)
            except FileNotFoundError as error:
                if error.__cause__ is not None:  # the store's own answer: there is no bucket
                    raise StoreError(*error.args) from error
                return []
        # a file lists itself, and a folder that a web page made lists an empty name
        places = {one.rstrip("/") for one in found} - {key}
        return sorted(posixpath.basename(one) for one in places)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with everything in it."""
        with suppress(FileNotFoundError), self._named("removed", name):
            self._files.rm(self._key(name), recursive=True)

    def _get(self, name: str, end: int | None = None) -> bytes:
        """Return the content of a file, or its beginning, by one GET.

        Without a range, s3fs requests the size before, and lists the folder of a missing file. No
        file of ours is empty, which has no range.
        """
        with self._named("read", name):
            content: bytes = self._files.cat_file(self._key(name), start=0, end=end)
        return content

    def _key(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _named(self, act: str, name: str) -> Iterator[None]:
        """Turn errors of the store, of any class, into a StoreError that names the place."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            plain = error.strerror or error if isinstance(error, OSError) else None
            cause = plain or describe(error)
            raise StoreError(f"{self.path / name} cannot be {act}: {cause}") from error


@runtime_checkable
class RemotePath(Protocol):
    """A path of universal-pathlib."""

    @property
    def path(self) -> str:
        """Bucket and folder."""

    @property
    def protocol(self) -> str:
        """The scheme of the URL."""

    @property
    def storage_options(self) -> Mapping[str, Any]:
        """Arguments of the file system, such as an endpoint."""


Place = str | os.PathLike[str] | Store | RemotePath
LIBRARIES = {"s3": "s3fs", "gs": "gcsfs", "memory": "upath"}  # by scheme, what reads and writes
REMEDIES = {"s3": "'art-ext[s3]'", "gs": "'art-ext[gcs]'", "memory": "universal-pathlib"}
_FILE = "file://"


def store_of(place: Place) -> Store:
    """Return the store of a place: of a local folder, of a URL, or the given one.

    Raises:
        ValueError: for a URL of an unknown scheme, without a bucket, or without its library.
    """
    if isinstance(place, (str, os.PathLike)):
        text = os.fspath(place)
        scheme = _scheme(text)
        if scheme is None:
            return LocalStore(text.removeprefix(_FILE))
        if any(find_spec(name) is None for name in ("upath", LIBRARIES[scheme])):
            raise ValueError(
                f"{text} needs universal-pathlib and its library for {scheme}: pip install"
                f" {REMEDIES[scheme]}"
            )
        from upath import UPath

        return ObjectStore(UPath(text))
    return ObjectStore(place) if isinstance(place, RemotePath) else place


def local_folder(place: str | os.PathLike[str], command: str) -> Path:
    """Return the path of a place that must be a local folder.

    Args:
        place: the folder.
        command: that writes the folder, for the message.

    Raises:
        ValueError: for a URL.
    """
    text = os.fspath(place)
    if _scheme(text) is not None:
        raise ValueError(
            f"{command} writes into a local folder only, got {text}: give a folder, and copy it"
            " when it is complete"
        )
    return Path(text.removeprefix(_FILE))


def _scheme(place: str) -> str | None:
    """Return the scheme of the URL of an object store. None for a local folder.

    Raises:
        ValueError: for an unknown scheme, or a URL that has lost a slash.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(//?)", place)  # C:/ is a drive
    if found is None or place.startswith(_FILE):
        return None
    scheme = found[1]
    if found[2] == "/" and scheme in ("file", *LIBRARIES):
        raise ValueError(
            f"{place} lacks a slash: write {scheme}://BUCKET/FOLDER, as text. Path drops a slash"
        )
    if found[2] == "/":
        return None
    if scheme not in LIBRARIES:
        known = ("file", *LIBRARIES)
        raise ValueError(
            f"unknown scheme {scheme!r} in {place}{nearest(scheme, known)}: wanted a folder, or a"
            f" URL of {', '.join(known)}"
        )
    return scheme
