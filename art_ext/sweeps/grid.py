"""The grid of a sweep: axes of options and their values, from the command line or a file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from art_ext.configuration.files import toml_value
from art_ext.configuration.parsing import split_outside_brackets

Settings = Mapping[str, Any]  # of a cell: values by the keys of the grid
_KEY = re.compile(r"\s*([A-Za-z_][\w:-]*(?:\.[\w:-]+)*)\s*=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Axis:
    """An option and its values, or several options whose values go together.

    Attributes:
        keys: names of options. A dot leads into a table, as in ``recipe_args.beta``.
        steps: values of the keys, at each step of the axis.
    """

    keys: tuple[str, ...]
    steps: tuple[tuple[Any, ...], ...]

    def plain(self) -> dict[str, list[Any]]:
        """Return the values by key, in the types of TOML."""
        columns = zip(*self.steps, strict=True)
        return {
            key: [toml_value(value) for value in column]
            for key, column in zip(self.keys, columns, strict=True)
        }


def axes_of(grid: Mapping[str, Any], together: Sequence[Mapping[str, Any]] = ()) -> list[Axis]:
    """Return the axes of a grid.

    Args:
        grid: lists of values by key. Tables may be nested.
        together: tables of lists of equal length, whose values go together.

    Raises:
        ValueError: for a grid without an axis, values that are no list, an empty list, a value or a
            key that occurs twice, or lists of unequal length.
    """
    axes = [_axis({key: values}) for key, values in _flat(grid)]
    axes += [_axis(dict(_flat(table))) for table in together]
    keys = [key for axis in axes for key in axis.keys]
    if not axes:
        raise ValueError("a sweep needs a grid, got none: give --grid KEY=VALUE,VALUE or [grid]")
    twice = [key for number, key in enumerate(keys) if key in keys[:number]]
    if twice:
        raise ValueError(f"grid: {twice[0]} is given twice")
    for inner in keys:
        if any(inner.startswith(f"{outer}.") for outer in keys):
            raise ValueError(f"grid: {inner} is part of another key of the grid")
    return axes


def settings_of(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Yield the settings of each cell. The last axis changes first."""
    for steps in itertools.product(*(axis.steps for axis in axes)):
        yield {
            key: value
            for axis, step in zip(axes, steps, strict=True)
            for key, value in zip(axis.keys, step, strict=True)
        }


def parse_axis(text: str, option: str) -> tuple[str, list[str]]:
    """Return the key and the values of ``--grid KEY=VALUE,VALUE``.

    Raises:
        ValueError: for any other form.
    """
    found = _KEY.fullmatch(text)
    if found is None:
        raise ValueError(f"{option} must be KEY=VALUE,VALUE, got {text!r}")
    values = [value.strip() for value in split_outside_brackets(found[2])]
    if not all(values):
        raise ValueError(f"{option} {found[1]} must have values between its commas, got {text!r}")
    return found[1], values


def shown(value: Any) -> str:
    """Return a value of the grid as text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"({','.join(map(shown, value))})"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{shown(one)}' for key, one in value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def label(settings: Settings) -> str:
    """Return the settings of a cell as text, such as ``beta=6, seed=0``."""
    names = short_names(settings)
    return ", ".join(f"{names[key]}={shown(value)}" for key, value in settings.items())


def short_names(keys: Mapping[str, Any] | Sequence[str]) -> dict[str, str]:
    """Return the last part of each key, or the whole key where two keys share it."""
    parts = [key.rpartition(".")[2] for key in keys]
    return {
        key: part if parts.count(part) == 1 else key for key, part in zip(keys, parts, strict=True)
    }


def _axis(table: Mapping[str, Any]) -> Axis:
    lengths = set()
    for key, values in table.items():
        if not isinstance(values, (list, tuple)):
            raise ValueError(f"grid: {key} must be a list of values, got {values!r}")
        if not values:
            raise ValueError(f"grid: {key} must have values, got an empty list")
        lengths.add(len(values))
    if len(lengths) > 1:
        told = ", ".join(f"{key} {len(values)}" for key, values in table.items())
        raise ValueError(f"zip: lists must have one length, got {told}")
    steps = tuple(zip(*table.values(), strict=True))
    if not steps:
        raise ValueError("zip: give at least one key with a list of values")
    for number, step in enumerate(steps):
        if step in steps[:number]:
            told = ", ".join(map(shown, step))
            raise ValueError(
                f"grid: {', '.join(table)} must have each value once, got {told} twice"
            )
    return Axis(tuple(table), steps)


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield values by dotted keys. Dashes in names of options count as underscores."""
    for name, value in table.items():
        first, dot, rest = f"{prefix}{name}".partition(".")
        key = f"{first.replace('-', '_')}{dot}{rest}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value
