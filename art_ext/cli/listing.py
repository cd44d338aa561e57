"""The facts of the attacks as rows of tables, for the command line and the documentation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from art_ext.cli.terminal import fitted
from art_ext.core.attacks.registry import AttackSpec

COLUMNS = ("name", "access", "family", "norms", "targets", "hosts", "paper")


def described(spec: AttackSpec) -> dict[str, Any]:
    """Return the facts of an attack for a listing, in the types of JSON."""
    return {
        "name": spec.name,
        "access": spec.access,
        "family": spec.family,
        "norms": list(spec.norms),
        "targets": not spec.no_targets,
        "hosts": dict(hosts_of(spec)),
        "paper": spec.paper,
        "summary": spec.summary,
        "random": spec.random,
        "budget": spec.budget,
        "parameters": {
            name: None if default is inspect.Parameter.empty else default
            for name, default in spec.parameters.items()
        },
    }


def hosts_of(spec: AttackSpec) -> dict[str, str]:
    """Return the class of an attack in each host that has one."""
    return {host: shell.name for host, shell in spec.hosts.items() if shell.name}


def text_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as aligned text, one line each, no wider than the terminal."""
    cells = [list(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells
    ]
    return fitted(padded, columns[:1], "  ".join)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return " ".join(f"{key}:{one}" for key, one in value.items()) or "-"
    if isinstance(value, list):
        return ",".join(value)
    return str(value) or "-"
