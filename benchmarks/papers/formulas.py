"""Tables that are formulas: functions that return exact numbers by row and column."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Numbers = Mapping[str, Mapping[str, float]]

CHECKS: dict[str, Callable[[], Numbers]] = {}
