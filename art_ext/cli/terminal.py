"""Tables that fit the terminal: columns from the right go first, then the table becomes a list."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence

Line = Sequence[str]


def terminal_width() -> int | None:
    """Return the columns of the terminal, None if the output goes elsewhere.

    ``COLUMNS`` in the environment counts for any output.
    """
    if not os.environ.get("COLUMNS", "").isdigit() and not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def say(text: str, err: bool = False) -> None:
    """Print a text as one line, whatever the names in it hold."""
    import typer

    from art_ext.core.wording import one_line

    typer.echo(one_line(text), err=err)


def fitted(lines: Sequence[Line], keep: Collection[str], join: Callable[[Line], str]) -> str:
    """Return a table of which no line is wider than the terminal.

    Args:
        lines: cells of the head and the rows, padded alike.
        keep: heads of the columns that stay.
        join: function that makes a line of cells.
    """
    width = terminal_width()
    left = list(range(len(lines[0])))
    droppable = [column for column in left if lines[0][column].strip() not in keep]
    while True:
        text = [join([line[column] for column in left]).rstrip() for line in lines]
        if width is None or max(map(len, text)) <= width:
            return "\n".join(text)
        if not droppable:
            return _listed(lines, width)
        left.remove(droppable.pop())


def fitted_markdown(text: str, keep: Collection[str]) -> str:
    """Return a Markdown table of which no line is wider than the terminal.

    Args:
        text: the table.
        keep: heads of the columns that stay.
    """
    lines = [line.strip().strip("|").split("|") for line in text.splitlines()]
    if len({len(line) for line in lines}) > 1:  # a cell holds the separator
        return text
    return fitted(lines, keep, lambda line: f"|{'|'.join(line)}|")


def _listed(lines: Sequence[Line], width: int) -> str:
    """Return the rows as a list: a line for each cell, a blank line between rows."""
    heads, *rows = ([cell.strip() for cell in line] for line in lines)
    blocks = []
    for row in rows:
        if all(set(cell) <= set("-:") for cell in row):  # the rule of Markdown
            continue
        pairs = [f"{head}: {cell}" for head, cell in zip(heads, row, strict=True) if cell]
        wrapped = [textwrap.fill(pair, width, subsequent_indent="  ") for pair in pairs]
        blocks.append("\n".join(wrapped))
    return "\n\n".join(blocks)
