"""Processes of a session: those that a driver of a test has started, and that outlive it."""

from __future__ import annotations

import time
from pathlib import Path


def in_session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found


def wait_until_gone(leader: int, seconds: float = 120) -> list[int]:
    """Wait until a session has no process, and return those that are left."""
    deadline = time.monotonic() + seconds
    while in_session(leader) and time.monotonic() < deadline:
        time.sleep(0.2)
    return in_session(leader)
