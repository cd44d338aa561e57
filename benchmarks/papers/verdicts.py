"""Verdicts by fixed rules: of each claim, of each row, and the one tag of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from art_ext.benchmarks.papers.cells import Cell, Estimate, estimate, margin
from art_ext.benchmarks.papers.claims import Comparison
from art_ext.benchmarks.papers.measures import is_timed
from art_ext.benchmarks.papers.schema import Column, Row, Scale, Table

HOLDS = "holds"
FAILS = "does not hold"
OPEN = "undecided"
NOT_RUN = "not run"
ORDERED = "ordering holds"
REPRODUCED = "reproduced"
DIFFERS = "differs"
OTHER = "other setting"  # numbers of another network or other data are not comparable
OURS = "ours"  # a row that the paper does not have
Cells = Mapping[tuple[str, str], Cell]


def verdict(difference: Estimate, *, strict: bool) -> str:
    """Return the verdict on one comparison.

    Args:
        difference: by which the side that is claimed to be larger exceeds the other one.
        strict: False if both may be equal.
    """
    if difference.low > 0 or (not strict and difference.low >= 0):
        return HOLDS
    if difference.high < 0 or (strict and difference.low == difference.high == 0):
        return FAILS
    return OPEN


def judge_claim(table: Table, claim: str, cells: Cells) -> dict[str, Any]:
    """Return a claim with its verdict, and the numbers of the comparison that decides it.

    A trend holds if all pairs of neighbours do, and does not hold if one of them does not.
    """
    found = [
        (verdict(one, strict=comparison.strict), one)
        for comparison in table.comparisons(claim)
        if _is_measured(comparison, cells)
        for one in [margin(comparison, cells)]
    ]
    if len(found) < len(table.comparisons(claim)):
        return {"claim": claim, "verdict": NOT_RUN}
    order = (FAILS, OPEN, HOLDS)
    worst = min(found, key=lambda one: (order.index(one[0]), one[1].low))
    return {"claim": claim, "verdict": worst[0], "comparisons": len(found), **rounded(worst[1])}


def _is_measured(comparison: Comparison, cells: Cells) -> bool:
    return all((side.row, side.column) in cells for side in comparison.sides if side.row)


def judge_row(table: Table, scale: Scale, row: Row, cells: Cells, reason: str) -> dict[str, Any]:
    """Return a row with its numbers, their intervals, and its tag.

    Args:
        table: that holds it.
        scale: of the measurement.
        row: the row.
        cells: that were measured.
        reason: why the row was not run. Empty: it was.
    """
    found = {
        name: estimate(cells[row.name, name]) for name in table.columns if (row.name, name) in cells
    }
    numbers = {
        name: {**rounded(one), **({"paper": row.published[name]} if name in row.published else {})}
        for name, one in found.items()
    }
    tag, off = _tag(table, scale, row, found, reason)
    return {"row": row.name, "tag": tag, **({"off": off} if off else {}), "cells": numbers}


def _tag(
    table: Table, scale: Scale, row: Row, found: Mapping[str, Estimate], reason: str
) -> tuple[str, list[str]]:
    """Return the tag of a row, and the columns that are off."""
    if reason:
        return f"{NOT_RUN} ({reason})", []
    compared = [name for name in row.published if not is_timed(table.columns[name])]
    if not compared:
        return OURS, []
    if not scale.own:
        return OTHER, []
    off = [
        name
        for name in compared
        if name not in found or not _agrees(table.columns[name], row.published[name], found[name])
    ]
    return (DIFFERS if off else REPRODUCED), off


def _agrees(column: Column, published: float, ours: Estimate) -> bool:
    """Return True if a published number lies within the tolerance or our interval."""
    within = abs(ours.value - published) <= column.allowed(published) + 1e-9
    return within or ours.low <= published <= ours.high


def judge_table(rows: list[dict[str, Any]], claims: list[dict[str, Any]]) -> str:
    """Return the one tag of a table that was run.

    It is reproduced if at least one row is, and no row differs. Otherwise its claims decide.
    """
    tags = {row["tag"] for row in rows}
    if REPRODUCED in tags and not tags & {DIFFERS, OTHER}:
        return REPRODUCED
    verdicts = [claim["verdict"] for claim in claims]
    holding = verdicts.count(HOLDS)
    if verdicts and holding == len(claims):
        return ORDERED
    if holding:
        return f"{ORDERED} (in part: {holding} of {len(claims)} claims)"
    return FAILS if FAILS in verdicts else OPEN


def rounded(one: Estimate) -> dict[str, float | int | None]:
    """Return an estimate for JSON: six digits, None for NaN."""
    return {
        name: value if isinstance(value, int) else _six_digits(value)
        for name, value in asdict(one).items()
    }


def _six_digits(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
