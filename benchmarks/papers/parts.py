"""Tables of a TOML file, whose keys are taken one by one. Errors name the line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from art_ext.configuration.places import place_of
from art_ext.core.checks import nearest


class Part:
    """A table of a file.

    Args:
        file: of the table.
        keys: its place in the file.
        values: its content.
    """

    def __init__(self, file: Path, keys: tuple[str, ...], values: Mapping[str, Any]) -> None:
        self.file = file
        self.keys = keys
        self.values = values

    def error(self, key: str, text: str) -> ValueError:
        """Return an error about a key, with the line."""
        return ValueError(f"{place_of(self.file, *self.keys, key)}: {text}")

    def check(self, known: Sequence[str]) -> None:
        """Raise ValueError for a key that is not known."""
        for key in self.values:
            if key not in known:
                raise self.error(
                    key, f"unknown key {key!r}{nearest(key, known)}. Known keys: {', '.join(known)}"
                )

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Return a value of a type. Without a default it must be there."""
        if key not in self.values:
            if default is None:
                raise self.error("", f"{'.'.join((*self.keys, key))} must be given")
            return default
        value = self.values[key]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, kind):
            wanted = {"str": "a text", "float": "a number", "bool": "true or false"}
            name = wanted.get(kind.__name__, "a table" if kind is dict else "a list")
            raise self.error(key, f"{key} must be {name}, got {value!r}")
        return value

    def parts(self, key: str, default: Mapping[str, Any] | None = None) -> dict[str, Part]:
        """Return the tables in a table, by name."""
        inner = self.get(key, dict, default)
        return {
            name: Part(
                self.file,
                (*self.keys, key, name),
                Part(self.file, (*self.keys, key), inner).get(name, dict),
            )
            for name in inner
        }

    def alike(self, key: str) -> dict[str, Part]:
        """Return the tables in a table, by name, each over the one that its key ``like`` names."""
        found = self.parts(key, {})

        def whole(name: str, behind: tuple[str, ...]) -> dict[str, Any]:
            values = dict(found[name].values)
            if "like" not in values:
                return values
            other = found[name].get("like", str)
            if other not in found or other in behind:
                raise found[name].error("like", f"unknown name {other!r}{nearest(other, found)}")
            del values["like"]
            return merged(whole(other, (*behind, name)), values)

        return {name: Part(one.file, one.keys, whole(name, ())) for name, one in found.items()}

    def numbers(self, key: str) -> dict[str, float]:
        """Return a table of numbers. Empty if it is not there."""
        inner = Part(self.file, (*self.keys, key), self.get(key, dict, {}))
        return {name: inner.get(name, float) for name in inner.values}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested tables with the values of another one over them."""
    found = {**base, **over}
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            found[key] = merged(base[key], value)
    return found
