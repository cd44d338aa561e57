"""Entry points of other packages, which are imported when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any


def declared(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, which are not imported yet."""
    return list(entry_points(group=group))


def imported(point: EntryPoint, kind: str) -> Any:
    """Import the object that an entry point names.

    Args:
        point: the entry point.
        kind: kind of the object, for the message, such as ``"attack"``.

    Raises:
        ValueError: if the import fails.
    """
    try:
        return point.load()
    except Exception as error:  # the code of another package may fail in any way
        raise ValueError(
            f"the {kind} {point.name!r} ({point.value}) cannot be imported:"
            f" {type(error).__name__}: {error}"
        ) from error


def problems(points: Iterable[EntryPoint], load: Callable[[EntryPoint], Any]) -> list[str]:
    """Load the objects of entry points, and return a message for each that fails."""
    found = []
    for point in points:
        try:
            load(point)
        except ValueError as error:
            found.append(str(error))
    return found
