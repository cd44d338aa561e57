"""Worst-case robust accuracy of each model at each eps, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from art_ext.core.wording import counted, radius
from art_ext.evaluation.analysis.blocks import WORST_CASE
from art_ext.evaluation.analysis.table import (
    Row,
    Verdict,
    Worst,
    csv_rows,
    decisive,
    percent,
    plain,
    plain_verdict,
)

ROUNDING = 1e-12
OWN_COLUMNS = ("panel", "attacks", "warnings", "infos")  # that only rows of the worst case fill
# the same of a model with a detector
DETECTED = (
    "fpr",
    "clean_rejected",
    "clean_rejected_low",
    "clean_rejected_high",
    "correct_rejected",
    "correct_rejected_low",
    "correct_rejected_high",
)


def lines(found: Sequence[Verdict]) -> list[str]:
    """One sentence for each model and eps. A single model is not named."""
    sentences = []
    for verdict in found:
        name = f"{verdict.model}: " if len(found) > 1 else ""
        attacks = counted(verdict.attacks, "attack")
        panel = f" ({verdict.panel})" if verdict.panel else ""
        warnings = counted(verdict.warnings, "warning") if verdict.warnings else "no warnings"
        kind = "robust accuracy" if verdict.detector is None else "robust accuracy with rejection"
        for worst in verdict.worst:
            share, low, high = decisive(worst)
            sentences.append(
                f"{name}{kind} {percent(share)} [{100 * low:.1f}, {100 * high:.1f}] at"
                f" {radius(worst.eps)}{_stability(worst)}: worst case of {attacks}{panel},"
                f" {warnings}"
                f"{_beside(verdict, worst)}"
            )
    return sentences


def _stability(worst: Worst) -> str:
    """Return stability and its interval. Empty in runs without it."""
    share, low, high = worst.stability, worst.stability_low, worst.stability_high
    if share is None or low is None or high is None:
        return ""
    return f", stability {percent(share)} [{100 * low:.1f}, {100 * high:.1f}]"


def _beside(verdict: Verdict, worst: Worst) -> str:
    """Return the numbers that belong beside a robust accuracy with rejection."""
    if verdict.detector is None:
        return ""
    low, high = percent(verdict.clean_rejected_low), percent(verdict.clean_rejected_high)
    return (
        f"; detector {verdict.detector}: clean correct and accepted"
        f" {percent(verdict.clean_accepted)}, clean rejected {percent(verdict.clean_rejected)}"
        f" [{low}, {high}] (wanted {percent(verdict.fpr)}), of the correct ones"
        f" {percent(verdict.correct_rejected)}; without the detector"
        f" {percent(worst.robust_accuracy)}; oblivious successes rejected"
        f" {percent(worst.rejected_successes)}"
    )


def below(found: Sequence[Verdict], least: float) -> list[str]:
    """One sentence for each model whose worst case at the largest eps is below a fraction."""
    worst = [(verdict, verdict.worst[-1]) for verdict in found]
    return [
        f"robust accuracy{' with rejection' if verdict.detector else ''} of {verdict.model} at"
        f" {radius(one.eps)} is {percent(decisive(one)[0])}, wanted at least {100 * least:.4g} %"
        for verdict, one in worst
        if decisive(one)[0] < least - ROUNDING
    ]


def columns(rows: Sequence[Row], found: Sequence[Verdict] = ()) -> list[str]:
    """Columns of ``table.csv``: those of the attacks' rows, then those of the worst case only.

    Columns on detectors and adaptive attacks are there if one was run.
    """
    unknown = {
        field.name
        for field in fields(Row)
        if field.default is None and all(getattr(row, field.name) is None for row in rows)
    }
    own = [*OWN_COLUMNS, *(DETECTED if any(one.detector for one in found) else ())]
    return [*(field.name for field in fields(Row) if field.name not in unknown), *own]


def table(rows: Sequence[Row], found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Rows of ``table.csv`` and ``table.json``: each model's attacks, then ``worst_case`` at each
    eps.

    None means unknown or not applicable to the row.
    """
    names = columns(rows, found)
    joined = []
    for verdict in found:
        own = [plain(row) for row in rows if row.model == verdict.model]
        shared = plain_verdict(verdict)
        own += [{**shared, **worst, "attack": WORST_CASE} for worst in shared.pop("worst")]
        joined += [{name: one.get(name) for name in names} for one in own]
    return joined


def to_json(rows: Sequence[Row], found: Sequence[Verdict]) -> str:
    """Return the table as a JSON list of objects, with null for unknown values."""
    return json.dumps(table(rows, found), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(rows: Sequence[Row], found: Sequence[Verdict]) -> str:
    """Return the table as CSV with a header, with empty fields for unknown values."""
    return csv_rows(columns(rows, found), table(rows, found))
