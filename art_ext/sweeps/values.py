"""Values of a finished cell: figures of a training, or columns of an evaluation."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from art_ext.core.checks import nearest
from art_ext.evaluation.analysis.blocks import WORST_CASE
from art_ext.evaluation.analysis.table import Row
from art_ext.storage import evaluation, training
from art_ext.storage.differences import flat
from art_ext.storage.store import LocalStore

Value = float | str | None
_SHARE = re.compile(
    r"(^|[._])(clean|robust|pgd\d*|stability|\w*accuracy|\w*(_low|_high|_rate)|share)$"
)


def default_values(command: str, configs: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of the values that a table shows by default."""
    if command == "evaluate":
        return ("clean_accuracy", "robust_accuracy")
    steps = {config.pgd_steps for config in configs}
    return ("clean", f"pgd{steps.pop()}" if len(steps) == 1 else "pgd")


def is_share(name: str) -> bool:
    """Return True for the name of a fraction, which tables show in percent."""
    plain = name.lower().replace("-", "")
    # hessian_clean is an eigenvalue at clean points
    return _SHARE.search(plain) is not None and not plain.startswith("hessian")


def check_values(command: str, names: Sequence[str], configs: Sequence[Any]) -> None:
    """Raise ValueError for a name that no run of the command can have, as far as that is known.

    The columns of a history are those of its recipe. Nobody knows them before a run.

    Args:
        command: of the cells.
        names: of the values.
        configs: of the cells.
    """
    if command == "train":
        figures = sorted({f"pgd{config.pgd_steps}" for config in configs})
        for name in names:
            figure = _plain(name).rpartition(".")[2]
            if re.fullmatch(r"pgd\d+", figure) and figure not in figures:
                raise ValueError(f"unknown value {name!r}: the cells have {', '.join(figures)}")
    if command == "evaluate":
        known = [*(one.name for one in fields(Row)), "minutes"]
        for name in names:
            column = name.rpartition(".")[2]
            if column not in known:
                raise ValueError(f"unknown value {name!r}{nearest(column, known)}")


def values_of(command: str, folder: Path, names: Sequence[str]) -> dict[str, Value]:
    """Return the values of a finished run. One that it does not have is left out.

    Args:
        command: of the run.
        folder: of the run.
        names: of the values.
    """
    plain = {_plain(name): value for name, value in _known(command, folder).items()}
    return {name: plain[_plain(name)] for name in names if _plain(name) in plain}


def unknown_value(command: str, folder: Path, name: str) -> ValueError:
    """Return the error for a value that no run has, with the nearest one of a finished run."""
    return ValueError(f"unknown value {name!r}{nearest(name, _known(command, folder))} of {folder}")


def _known(command: str, folder: Path) -> dict[str, Value]:
    return _of_evaluation(folder) if command == "evaluate" else _of_training(folder)


def _plain(name: str) -> str:
    """Return a name in small letters without signs, so that PGD-20 is pgd20."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def _of_training(folder: Path) -> dict[str, Value]:
    """Return everything that a training tells, by name: first the figures of the final weights."""
    store = LocalStore(folder)
    run = training.read_run(store) or {}
    whole = {
        name: one
        for name, one in flat(run).items()
        if one is None or isinstance(one, (float, int, str))
    }
    final = {
        name.removeprefix("final."): one for name, one in whole.items() if name.startswith("final.")
    }
    figures = {"minutes": run["seconds"] / 60, "pgd": final[f"pgd{run['pgd']['steps']}"]}
    return {**_history(store), **whole, **final, **figures}


def _history(store: LocalStore) -> dict[str, Value]:
    """Return the numbers of the last row of the history."""
    text = store.read(training.HISTORY_TABLE).decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    last = rows[-1] if rows else {}
    return {name: _number(value) for name, value in last.items()}


def _number(text: str) -> Value:
    try:
        return float(text)
    except ValueError:
        return text or None


def _of_evaluation(folder: Path) -> dict[str, Value]:
    """Return the columns of the table of an evaluation.

    A column alone is that of the worst case, or of the only attack. ``ATTACK.COLUMN`` is that of an
    attack.
    """
    rows: list[Mapping[str, Any]] = json.loads(
        LocalStore(folder).read(evaluation.TABLES[1]).decode("utf-8")
    )
    attacks = [row for row in rows if row["attack"] != WORST_CASE]
    worst = [row for row in rows if row["attack"] == WORST_CASE]
    found: dict[str, Value] = {
        f"{row['attack']}.{name}": value for row in attacks for name, value in row.items()
    }
    for row in (*(attacks if len(attacks) == 1 else ()), *worst):
        found.update({name: value for name, value in row.items() if value is not None})
    found["minutes"] = sum(row["seconds"] or 0.0 for row in attacks) / 60
    return found
