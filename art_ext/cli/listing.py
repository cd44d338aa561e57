"""Listings of attacks, recipes, models and data: one row each, with plug-ins of other packages.

A row is a mapping with ``name``, ``origin`` and ``summary``, and what else a listing shows. A row
with ``error`` stands for a plug-in that fails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from art_ext import __version__
from art_ext.cli.terminal import fitted, terminal_width
from art_ext.core.plugins import Plugins
from art_ext.errors import describe

if TYPE_CHECKING:
    from art_ext.testing import Check

Row = Mapping[str, Any]
OWN = f"art-ext {__version__}"  # origin of what is not of another package
SHORTEST = 20  # letters of a sentence that are worth a column


def plugin_rows(plugins: Plugins, described: Callable[[str], Row]) -> list[dict[str, Any]]:
    """Return a row for each plug-in of a group. One that fails has its error in the row.

    Args:
        plugins: the group.
        described: loads the plug-in of a name, and returns its row without the origin. It may
            raise.
    """
    rows = []
    for name in plugins.names():
        row: dict[str, Any] = {"name": name, "origin": plugins.origin(name)}
        try:
            row |= described(name)
        except Exception as error:  # the code of another package may fail in any way
            row |= {"error": describe(error)}
        rows.append(row)
    return rows


def summary_of(found: object) -> str:
    """Return the first line of a docstring."""
    return (getattr(found, "__doc__", None) or "").strip().partition("\n")[0]


def show(columns: Sequence[str], rows: Iterable[Row], *, as_json: bool = False) -> None:
    """Print a listing.

    Args:
        columns: keys of the rows that the table shows. The last one, a sentence, is cut to the
            width of the terminal, and holds the error of a plug-in that fails.
        rows: the rows.
        as_json: print all keys of the rows as JSON instead.
    """
    if as_json:
        typer.echo(json.dumps(list(rows), indent=2, ensure_ascii=False, default=str))
    else:
        typer.echo(text_table(columns, rows))


def show_checks(checks: Iterable[Check]) -> None:
    """Print a line for each check when it is done, and exit with 1 if one failed."""
    failed = 0
    for check in checks:
        typer.echo(str(check))
        failed += not check.passed
    if failed:
        raise typer.Exit(1)


def text_table(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Return rows as aligned text, one line each, no wider than the terminal."""
    cells = [list(columns), *(_cells(columns, row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    width = terminal_width()
    left = 0 if width is None else width - sum(widths[:-1]) - 2 * (len(columns) - 1)
    if left >= SHORTEST:
        widths[-1] = left
        cells = [[*line[:-1], _cut(line[-1], left)] for line in cells]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells
    ]
    return fitted(padded, columns[:1], "  ".join)


def _cells(columns: Sequence[str], row: Row) -> list[str]:
    cells = [_cell(row.get(column, "")) for column in columns]
    return [*cells[:-1], f"error: {row['error']}"] if "error" in row else cells


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{key}:{one}" for key, one in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value)) or "-"
    return " ".join(str(value).split()) or "-"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3].rstrip()}..."
