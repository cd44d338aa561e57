"""Objects of other packages, which declare them as entry points.

A package declares an attack in its ``pyproject.toml``, and its other objects alike:

    [project.entry-points."art_ext.attacks"]
    corner = "my_package.attacks:corner"

It is imported when its name is used, or when a command lists all names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from art_ext.core.checks import same_name


@dataclass(frozen=True)
class Plugins:
    """The entry points of one group. Names are equal in any case.

    Attributes:
        group: name of the group, such as ``"art_ext.attacks"``.
        kind: word for one object in messages, such as ``"attack"``.
        own: returns the names of art-ext, which no other package may take.
    """

    group: str
    kind: str
    own: Callable[[], Iterable[str]]

    def names(self) -> list[str]:
        """Return the names that other packages declare. Nothing is imported."""
        return list({point.name.casefold(): point.name for point in self._points()}.values())

    def origin(self, name: str) -> str:
        """Return package and version that declare a name, several if a name is taken twice."""
        return ", ".join(map(_package, self._named(name)))

    def load(self, name: str) -> Any:
        """Import the object that a package declares.

        Args:
            name: one of ``names()``, in any case.

        Raises:
            ValueError: if the name belongs to art-ext or to several packages, or if the import
                fails. The message names the packages.
        """
        points = self._named(name)
        taken = same_name(name, self.own())
        if taken is not None:
            raise ValueError(
                f"art-ext has the {self.kind} {taken!r}: {self.origin(name)} must choose another"
                " name"
            )
        if len(points) > 1:
            raise ValueError(
                f"several packages declare the {self.kind} {name!r}: {self.origin(name)}. Uninstall"
                " all but one"
            )
        (point,) = points
        try:
            return point.load()
        except (Exception, SystemExit) as error:  # another package's code may fail in any way
            raise ValueError(
                f"the {self.kind} {point.name!r} ({point.value}) of {_package(point)} cannot be"
                f" imported: {type(error).__name__}: {error}"
            ) from error

    def _points(self) -> list[EntryPoint]:
        return list(entry_points(group=self.group))

    def _named(self, name: str) -> list[EntryPoint]:
        return [point for point in self._points() if point.name.casefold() == name.casefold()]


def _package(point: EntryPoint) -> str:
    """Return package and version of an entry point."""
    if point.dist is None:
        return "an unknown package"
    return f"{point.dist.name} {point.dist.version}"
