"""Tables of a run on limits as Markdown, for the terminal and for documents."""

from __future__ import annotations

from collections.abc import Sequence

from art_ext.core.wording import aligned
from art_ext.evaluation.analysis.limits import LOWER_ESTIMATE, Limits
from art_ext.evaluation.report.limits_tables import (
    Table,
    bounds_table,
    constants_table,
    expansion_table,
    robustness_table,
)
from art_ext.evaluation.report.rendering import Cell


def to_markdown(limits: Limits, models: Sequence[str] | None = None) -> dict[str, str]:
    """Return the tables as aligned Markdown, by their headings.

    Args:
        limits: the results.
        models: those whose bounds and errors are shown. Default: None, all.
    """
    chosen = limits.models if models is None else models
    tables: dict[str, Table] = {
        "Local Lipschitz constants of the classes": constants_table(limits),
        "Robustness": robustness_table(limits),
        f"Bounds. {LOWER_ESTIMATE}": bounds_table(limits, chosen),
    }
    if limits.expansions:
        tables["Latents near an error, a lower estimate"] = expansion_table(limits, chosen)
    return {heading: _text(table) for heading, table in tables.items()}


def _text(table: Table) -> str:
    columns, lines = table
    words = [number for number, column in enumerate(columns) if not column.numeric]
    cells = [[_cell(cell) for cell in line.cells] for line in lines]
    return aligned([column.title for column in columns], cells, words)


def _cell(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text
