"""The history of a run: a row per epoch, in memory and as JSON lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from art_ext.storage.store import Store
from art_ext.storage.training import HISTORY, HISTORY_TABLE, VALIDATIONS

Row = dict[str, float]


@dataclass(frozen=True, eq=False)
class EpochEnd:
    """Argument of a callback at the end of an epoch.

    Attributes:
        model: the network in its current state, with the recipe's head: the averaged weights if
            there is an average.
        epoch: epochs done so far.
        row: the epoch's row of the history so far. Read-only.
    """

    model: nn.Module
    epoch: int
    row: Row


def write_history(store: Store, rows: Sequence[Row], validations: Sequence[Row] = ()) -> None:
    """Write ``history.jsonl``, ``history.csv`` and, if there are any, ``validation.jsonl``.

    Each file is written atomically.

    Args:
        store: of the folder.
        rows: of the epochs.
        validations: rows of the validations between the ends of the epochs.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    store.write(HISTORY, _lines(rows))
    if validations:
        store.write(VALIDATIONS, _lines(validations))
    store.write(HISTORY_TABLE, table.getvalue().encode())


def _lines(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
