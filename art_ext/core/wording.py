"""Numbers and nouns in messages and tables."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Container, Iterable, Sequence


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as 1 sample and 1,000 samples."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def with_article(noun: str) -> str:
    """Return a noun with its article, such as a model and an attack."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def duration(seconds: float) -> str:
    """Return a time as text, of at least 0.1 s: 0.4 s, 12 s, 3.5 min or 40 h."""
    unit, length = "h", 3600.0
    if seconds < 100 * 60:
        unit, length = ("s", 1.0) if seconds < 100 else ("min", 60.0)
    value = max(seconds, 0.1) / length
    short = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")
    return f"{short} {unit}"


def radius(eps: float) -> str:
    """Return a radius as text: 8/255 for a whole number of grey levels, a decimal otherwise."""
    levels = round(eps * 255)
    short = f"{eps:.3g}"
    if float(short) != eps and math.isclose(levels / 255, eps, rel_tol=1e-9):
        return f"{levels}/255"
    return short if float(short) == eps else f"{eps:.4g}"


def one_line(text: str) -> str:
    """Return a text with spaces in place of control characters and ends of lines."""
    if text.isprintable():
        return text
    return "".join(
        " " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in text
    )


def shortened(name: str, letters: int) -> str:
    """Return a name in one line of at most so many letters. An ellipsis is in the middle."""
    name = one_line(name)
    if len(name) <= letters:
        return name
    half = letters // 2
    return f"{name[:half]}…{name[half + 1 - letters :]}"


def markdown(
    heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Container[int] = ()
) -> str:
    """Return a Markdown table for a page.

    Args:
        heads: of the columns.
        rows: of cells.
        numbers: the columns of numbers, aligned right. Words are aligned left.
    """
    rules = ["---:" if column in numbers else "---" for column in range(len(heads))]
    return _table(heads, rules, rows) + "\n"


def aligned(heads: Sequence[str], rows: Iterable[Sequence[str]], words: Container[int]) -> str:
    """Return an aligned Markdown table, readable as plain text too.

    Args:
        heads: of the columns.
        rows: of cells, each of which becomes one line without a bar.
        words: the columns of words, aligned left. Numbers are aligned right.
    """
    lines = [heads, *([one_line(cell).replace("|", "/") for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head, *padded = [
        [
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    rules = [
        "-" * (width + 1) + ("-" if column in words else ":") for column, width in enumerate(widths)
    ]
    return _table(head, rules, padded)


def _table(heads: Sequence[str], rules: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head, *lines = [f"| {' | '.join(line)} |" for line in (heads, *rows)]
    return "\n".join([head, f"|{'|'.join(rules)}|", *lines])


def class_name(label: int, names: Sequence[str] | None) -> str:
    """Name of a class, or its number if it has no name."""
    return names[label] if names and 0 <= label < len(names) else str(label)
