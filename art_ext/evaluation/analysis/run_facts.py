"""Facts of a run that its ``run.json`` tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NORMS = {"linf": "L-infinity", "l2": "L2", "l1": "L1"}
# stands for an attack in the rows that sum up a panel, so no attack may have this name
WORST_CASE = "worst_case"


def in_cascade(run: Mapping[str, Any]) -> bool:
    """Return True if each attack was given only the samples without an earlier success."""
    return bool(run["panel"]["mode"] == "cascade")


def stopped_early(run: Mapping[str, Any], attack: str) -> bool:
    """Return True if the attack stopped on each sample at its first success."""
    return bool(run["attacks"][attack]["stops_early"] and run["settings"]["stop_on_success"])


def minimises(run: Mapping[str, Any], attack: str) -> bool:
    """Return True for a minimum-norm attack that minimises a distortion of its own."""
    entry = run["attacks"][attack]
    # format 4 does not say it
    return bool(entry.get("minimises", entry["nearest"] and not entry["stops_early"]))
