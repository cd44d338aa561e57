"""Worst-case robust accuracy of each model at each eps, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from art_ext.core.wording import counted, radius
from art_ext.evaluation.analysis.blocks import WORST_CASE
from art_ext.evaluation.analysis.table import Row, Verdict, csv_rows, percent, plain

ROUNDING = 1e-12
OWN_COLUMNS = ("attacks", "warnings", "infos")  # that only rows of the worst case fill


def lines(found: Sequence[Verdict]) -> list[str]:
    """One sentence for each model and eps. A single model is not named."""
    sentences = []
    for verdict in found:
        name = f"{verdict.model}: " if len(found) > 1 else ""
        attacks = counted(verdict.attacks, "attack")
        warnings = counted(verdict.warnings, "warning") if verdict.warnings else "no warnings"
        for worst in verdict.worst:
            interval = f"[{100 * worst.robust_low:.1f}, {100 * worst.robust_high:.1f}]"
            sentences.append(
                f"{name}robust accuracy {percent(worst.robust_accuracy)} {interval} at"
                f" {radius(worst.eps)}: worst case of {attacks}, {warnings}"
            )
    return sentences


def below(found: Sequence[Verdict], least: float) -> list[str]:
    """One sentence for each model whose worst case at the largest eps is below a fraction."""
    worst = [(verdict.model, verdict.worst[-1]) for verdict in found]
    return [
        f"robust accuracy of {model} at {radius(one.eps)} is {percent(one.robust_accuracy)}, wanted"
        f" at least {100 * least:.4g} %"
        for model, one in worst
        if one.robust_accuracy < least - ROUNDING
    ]


def columns() -> list[str]:
    """Columns of ``table.csv``: those of the attacks' rows, then those of the worst case only."""
    return [*(field.name for field in fields(Row)), *OWN_COLUMNS]


def table(rows: Sequence[Row], found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Rows of ``table.csv`` and ``table.json``: each model's attacks, then ``worst_case`` at each
    eps.

    None means unknown or not applicable to the row.
    """
    empty = dict.fromkeys(columns())
    joined = []
    for verdict in found:
        joined += [{**empty, **plain(row)} for row in rows if row.model == verdict.model]
        shared = asdict(verdict)
        del shared["worst"]
        joined += [
            {**empty, **shared, **asdict(worst), "attack": WORST_CASE} for worst in verdict.worst
        ]
    return joined


def to_json(rows: Sequence[Row], found: Sequence[Verdict]) -> str:
    """Return the table as a JSON list of objects, with null for unknown values."""
    return json.dumps(table(rows, found), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(rows: Sequence[Row], found: Sequence[Verdict]) -> str:
    """Return the table as CSV with a header, with empty fields for unknown values."""
    return csv_rows(columns(), table(rows, found))
