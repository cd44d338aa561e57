"""Numbers that a column of a table may show, from the records of an evaluation or a transfer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from art_ext.benchmarks.papers.cells import Cell
from art_ext.benchmarks.papers.schema import Column

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Measure:
    """A number that records give.

    Attributes:
        kind: of the cell.
        rows: which samples count: ``"success"`` those with a success, ``"attacked"`` those that
            were attacked, ``"all"`` every sample, ``"reached"`` those that are misclassified or
            have an adversarial at some distance.
        values: function of the records of these samples that returns a value of each.
        timed: True for times, which no claim and no published number is compared with.
    """

    kind: str
    rows: str
    values: Callable[[pd.DataFrame], pd.Series]
    timed: bool = False


def _column(name: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda records: records[name]


def _right(records: pd.DataFrame) -> pd.Series:
    return records["label"] == records["clean_prediction"]


def _queries_or_inf(records: pd.DataFrame) -> pd.Series:
    return records["queries_to_success"].where(records["success"], np.inf)


def _nearest(records: pd.DataFrame) -> pd.Series:
    """Return the distance of the nearest adversarial, 0 for misclassified samples.

    It is NaN of attacks that do not search it.
    """
    nearest = records["nearest_distance"]
    return nearest.mask(nearest.notna() & ~_right(records), 0.0)


MEASURES = {
    "success": Measure("share", "attacked", _column("success")),
    "authors": Measure("share", "all", lambda records: records["authors"].eq(True)),
    "clean": Measure("share", "all", _right),
    "robust": Measure("share", "all", lambda records: _right(records) & ~records["success"]),
    "gradients": Measure("mean", "success", _column("gradients")),
    "gradients_all": Measure("mean", "attacked", _column("gradients")),
    "queries": Measure("mean", "success", _column("queries_to_success")),
    "queries_all": Measure("mean", "attacked", _column("queries")),
    "median_queries": Measure("median", "success", _column("queries_to_success")),
    "first_queries": Measure("first", "attacked", _queries_or_inf),
    "adbd": Measure("mean", "reached", _nearest),
    "l0": Measure("mean", "success", _column("l0")),
    "l1": Measure("mean", "success", _column("l1")),
    "l2": Measure("mean", "success", _column("l2")),
    "linf": Measure("mean", "success", _column("linf")),
    "linf_255": Measure("mean", "success", lambda records: 255 * records["linf"]),
    "seconds": Measure("mean", "attacked", _column("seconds"), timed=True),
}


TIMES = ("minutes", "seconds")  # values of trainings that are times


def is_timed(column: Column) -> bool:
    """Return True for times, which no published number is compared with."""
    timed = column.measure in MEASURES and MEASURES[column.measure].timed
    return timed or column.value in TIMES


def cell_of(column: Column, records: pd.DataFrame) -> Cell:
    """Return the cell of a column.

    Args:
        column: names the measure.
        records: one row for each sample, of one attack at one radius.
    """
    measure = MEASURES[column.measure]
    kept = records
    if column.within:
        early = kept["queries_to_success"] <= column.within
        kept = kept.assign(success=kept["success"] & early)
    if measure.rows == "reached":
        kept = kept[np.isfinite(_nearest(kept))]
    elif measure.rows != "all":
        kept = kept[kept["attacked"] & ~kept["already_adversarial"]]
    if measure.rows == "success":
        kept = kept[kept["success"]]
    kept = kept.sort_values("index")
    values = measure.values(kept).to_numpy(np.float64)
    return Cell(measure.kind, kept["index"].to_numpy(np.int64), values)
