"""Lock of a run folder, so that two processes do not write into it at the same time.

The operating system holds the lock and drops it when the process ends, however it ends.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from art_ext.storage.store import LocalStore, Store

LOCK = ".art-ext.lock"
HOLDER = ".art-ext.holder.json"
OWN_FILES = (LOCK, HOLDER)
AT_ONCE = 1.0  # seconds, in which a run that is ending lets go
PATIENCE = 600.0  # for processes that share a folder, of which one may be writing the report


def is_main_process() -> bool:
    """Return True unless this is one of the other processes that torchrun started.

    Accelerate sets the same variable, once its state is there.
    """
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def locked(folder: Path, patience: float = AT_ONCE) -> Iterator[None]:
    """Hold the lock of a folder. A thread that holds it may take it again.

    The folder is made if there is none, and removed again if nothing was written into it.

    Args:
        folder: of the run.
        patience: seconds to wait for another process.

    Raises:
        ValueError: if another process holds the lock. The message names that process.
        OSError: if the folder cannot be written.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.resolve() / LOCK, is_singleton=True)
    try:
        _acquire(lock, folder, patience)
    except Timeout as error:
        raise ValueError(
            f"{folder} is in use by {_holder(folder)}: wait until that run ends, or choose another"
            " folder"
        ) from error
    outermost = lock.lock_counter == 1
    try:
        if outermost:
            holder = {"pid": os.getpid(), "host": socket.gethostname()}
            (folder / HOLDER).write_text(json.dumps(holder), encoding="utf-8")
        yield
    finally:
        if outermost:
            with suppress(OSError):  # some systems do not remove an open file
                (folder / HOLDER).unlink(missing_ok=True)
                (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        with suppress(OSError):  # not empty
            for place in missing if outermost else ():
                place.rmdir()


def lock_of(store: Store, patience: float = AT_ONCE) -> AbstractContextManager[None]:
    """Return the lock of the folder of a store, see ``locked``. Only a local folder has one."""
    return locked(store.path, patience) if isinstance(store, LocalStore) else nullcontext()


def check_unlocked(folder: Path) -> None:
    """Raise ValueError if another process holds the lock of a folder."""
    if (folder / LOCK).exists():
        with locked(folder):
            pass


def _acquire(lock: FileLock, folder: Path, patience: float) -> None:
    """Acquire a lock. That of a dead process is dropped, also if a child of it still holds it.

    Raises:
        Timeout: if another process holds the lock.
    """
    try:
        lock.acquire(timeout=patience, poll_interval=0.02)
    except Timeout:
        if not _is_dead(*_read_holder(folder)):
            raise
        (folder / LOCK).unlink(missing_ok=True)
        lock.acquire(timeout=AT_ONCE, poll_interval=0.02)


def _is_dead(pid: int | None, host: str) -> bool:
    """Return True if it is known that a process does not run any more."""
    if pid is None or host != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _read_holder(folder: Path) -> tuple[int | None, str]:
    """Return process id and host of the process that holds the lock, as far as it is known."""
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return int(holder["pid"]), str(holder["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""


def _holder(folder: Path) -> str:
    """Describe the process that holds the lock, as far as it is known."""
    pid, host = _read_holder(folder)
    return "another process" if pid is None else f"process {pid} on host {host}"
