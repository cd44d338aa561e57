"""Lines of TOML files that errors are about."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from art_ext.configuration.parsing import read_toml
from art_ext.errors import UserCodeError

# a key of the file: names of tables, and numbers of tables in an array
Keys = tuple[str | int, ...]
_KEY = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"


def place_of(file: Path, *keys: str | int) -> str:
    """Return the file and the number of the line that sets a key, or the table that holds it.

    Args:
        file: the TOML file.
        *keys: names of tables and of the key. A number chooses a table of an array, from 0 on.
            Dashes in names count as underscores.
    """
    most = 0
    place = f"{file}"
    for number, path in _lines(file.read_text(encoding="utf-8")):
        common = min(len(path), len(keys))
        if common > most and path[:common] == keys[:common]:
            most = common
            place = f"{file}, line {number}"
    return place


@contextmanager
def placed(
    file: Path | None, within: Keys = (), given: Collection[str] = (), **names: str
) -> Iterator[None]:
    """Add file and line to a ValueError about a key of a TOML file.

    Messages of checks begin with the name of the option, or end in an unknown name. An error about
    no key of the file gets the line of the table, and stays as it is without one.

    Args:
        file: the file. None: errors stay as they are.
        within: the table to look in. Empty: the whole file.
        given: keys whose values come from elsewhere.
        **names: names of keys in messages that differ from those in the file.
    """
    try:
        yield
    except UserCodeError:
        raise
    except ValueError as error:
        message = str(error)
        if file is None or message.startswith(f"{file}"):
            raise
        table: Any = read_toml(file)
        for key in within:
            table = table[key]
        about = [
            path
            for path in _paths(table)
            if not {*path} & {*given} and _is_named(str(path[-1]), message, names)
        ]
        inside = {path[:depth] for path in about for depth in range(len(path))}
        innermost = [path for path in about if path not in inside]
        found = innermost[0] if len(innermost) == 1 else ()
        if not found and not within:
            raise
        raise ValueError(f"{place_of(file, *within, *found)}: {message}") from error


def _is_named(key: str, message: str, names: Mapping[str, str]) -> bool:
    """Return True if a message is about a key: ``eps must``, ``pgd: steps must``."""
    spelled = {key, *(other for other, own in names.items() if own == key)}
    pattern = "|".join(re.escape(one).replace("_", "[-_]") for one in sorted(spelled))
    return bool(re.match(rf"(\S+[:.]\s?)?({pattern})\b(?![-.])|.*got '({pattern})'", message))


def _paths(value: object, path: Keys = ()) -> Iterator[Keys]:
    """Yield the keys of a file at every depth."""
    parts: list[tuple[str | int, object]] = []
    if isinstance(value, Mapping):
        parts = [(str(key).replace("-", "_"), one) for key, one in value.items()]
    elif isinstance(value, list):
        parts = [(number, one) for number, one in enumerate(value) if isinstance(one, Mapping)]
    for key, one in parts:
        if isinstance(key, str):
            yield (*path, key)
        yield from _paths(one, (*path, key))


def _lines(text: str) -> Iterator[tuple[int, Keys]]:
    """Yield the lines that open a table or set a key: their numbers, and keys from the top."""
    table: Keys = ()
    arrays: dict[Keys, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(#.*)?$", line)
        key = re.match(rf"\s*({_DOTTED})\s*=", line)
        if header is not None:
            names = _names(header[2])
            table = ()
            for depth, name in enumerate(names, 1):
                table = (*table, name)
                if header[1] == "[[" and depth == len(names):
                    arrays[table] = arrays.get(table, -1) + 1
                if table in arrays:
                    table = (*table, arrays[table])
            yield number, table
        elif key is not None:
            yield number, (*table, *_names(key[1]))


def _names(dotted: str) -> list[str]:
    return [one.strip("\"'").replace("-", "_") for one in re.findall(_KEY, dotted)]
