"""Parquet files of records: one row per sample, model, attack and eps."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.core.geometry import DISTORTIONS
from art_ext.storage.store import Store, StoreError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

RECORDS = "records.parquet"
COLUMNS = (
    "index",
    "id",
    "model",
    "attack",
    "eps",
    "label",
    "target",
    "clean_prediction",
    "attacked",
    "success",
    "already_adversarial",
    "distance",
    "nearest_distance",
    *DISTORTIONS,
    "queries",
    "queries_to_success",
    "gradients",
    "wasted_rows",
    "seconds",
)
STABLE = "stable"  # of runs with stability only
# of runs only in which an attack draws several states of a sample. Without states all are 0 or NaN
CHAIN = {
    "states": 0,
    "adversarial_states": 0,
    "transitions": 0,
    "accepted_transitions": 0,
    "diversity": math.nan,
    "diversity_l2": math.nan,
    "state_classes": 0,
}
DISTANCE_AT = "distance_at_"  # and a number of queries: of runs with a trace only
# of runs with a detector only
DETECTION = ("detector", "clean_score", "clean_accepted", "score", "accepted", "success_accepted")
COLUMNS_OF_FORMAT_4 = tuple(
    name for name in COLUMNS if name not in ("nearest_distance", *DISTORTIONS)
)


def table_of_rows(rows: pd.DataFrame) -> pa.Table:
    """Return records as a table with the columns of the present format."""
    import pyarrow as pa

    columns = _known_among(rows.columns)
    return pa.Table.from_pandas(rows[list(columns)], preserve_index=False)


def columns_of(
    detector: bool, *, stability: bool = False, marks: Sequence[int] = (), chains: bool = False
) -> tuple[str, ...]:
    """Return the columns of the records of a run.

    Args:
        detector: True for a model with a detector.
        stability: True for a run with the stability of predictions.
        marks: numbers of queries at which distances are kept, ascending.
        chains: True for a run in which an attack draws several states of a sample.
    """
    return (
        *COLUMNS,
        *((STABLE,) if stability else ()),
        *(f"{DISTANCE_AT}{mark}" for mark in marks),
        *(CHAIN if chains else ()),
        *(DETECTION if detector else ()),
    )


def columns_of_run(run: Mapping[str, Any], detector: bool) -> tuple[str, ...]:
    """Return the columns of the records of a run, from the content of ``run.json``."""
    return columns_of(
        detector, stability=has_stability(run), marks=marks_of(run), chains=has_chains(run)
    )


def has_stability(run: Mapping[str, Any]) -> bool:
    """Return True if a run measures the stability of predictions."""
    return bool(run.get("settings", {}).get("stability"))


def has_chains(run: Mapping[str, Any]) -> bool:
    """Return True if an attack of a run draws several states of a sample."""
    return any(attack.get("chain") for attack in run.get("attacks", {}).values())


def with_chains(table: pa.Table) -> pa.Table:
    """Return records of an earlier version with the columns of ``CHAIN``, which tell nothing."""
    import pyarrow as pa

    first = "states"
    if first in table.column_names:
        return table
    place = (
        table.column_names.index("detector")
        if "detector" in table.column_names
        else len(table.column_names)
    )
    for offset, (name, nothing) in enumerate(CHAIN.items()):
        kind = pa.int64() if isinstance(nothing, int) else pa.float64()
        values = pa.array([nothing] * len(table), kind, from_pandas=True)
        table = table.add_column(place + offset, name, values)
    return table


def marks_of(run: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the numbers of queries at which a run keeps distances, ascending."""
    return tuple(run.get("trace_at", ()))


def _known_among(names: Collection[str]) -> tuple[str, ...]:
    """Return the columns of records that have these columns, in their order."""
    marks = [int(name[len(DISTANCE_AT) :]) for name in names if name.startswith(DISTANCE_AT)]
    return columns_of(
        "detector" in names,
        stability=STABLE in names,
        marks=sorted(marks),
        chains="states" in names,
    )


def success_column(columns: Container[str]) -> str:
    """Return the column of the successes that count: with a detector, the accepted ones."""
    return "success_accepted" if "success_accepted" in columns else "success"


def table_of_columns(columns: Mapping[str, np.ndarray[Any, Any] | str]) -> pa.Table:
    """Return the table that ``table_of_rows`` makes of a frame with these columns.

    The frame, which costs more than the rest of a short unit, is not built.

    Args:
        columns: by name, (R,) numbers, or a text for all R rows.
    """
    import pyarrow as pa

    names = _known_among(columns)
    chosen = [columns[name] for name in names]
    kinds = ["" if isinstance(one, str) else one.dtype.str for one in chosen]
    schema = _schema(tuple(zip(names, kinds, strict=True)))
    rows = len(columns["index"])
    arrays = [
        pa.repeat(pa.scalar(one, field.type), rows)
        if isinstance(one, str)
        else pa.array(one, field.type, from_pandas=True)  # NaN is null, as in a frame
        for one, field in zip(chosen, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


@cache
def _schema(kinds: tuple[tuple[str, str], ...]) -> pa.Schema:
    """Return the schema of a frame, by name and type of its columns. Texts have no type."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame({name: np.zeros(1, kind) if kind else "text" for name, kind in kinds})
    return pa.Table.from_pandas(frame, preserve_index=False).schema


def parquet_of(tables: Sequence[pa.Table]) -> bytes:
    """Content of a Parquet file of these tables, one row group for each."""
    from pyarrow.parquet import ParquetWriter

    content = io.BytesIO()
    with ParquetWriter(content, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=max(1, len(table)))
    return content.getvalue()


def read_table(store: Store, name: str) -> tuple[pa.Table, list[int]]:
    """Read a Parquet file of a run folder.

    Returns:
        The table, and the number of rows of each of its row groups.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged. The message names it.
    """
    from pyarrow.parquet import ParquetFile

    with (
        damage_named(store.path / name),
        store.reading(name) as stream,
        ParquetFile(stream) as file,
    ):
        facts = file.metadata
        sizes = [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]
        return file.read(), sizes


def read_parquet(store: Store, name: str) -> pd.DataFrame:
    """Read a Parquet file of a run folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged. The message names it.
    """
    import pandas as pd

    with damage_named(store.path / name), store.reading(name) as stream:
        return pd.read_parquet(stream, engine="pyarrow")


def read_tensors(store: Store, name: str) -> dict[str, Tensor]:
    """Read a safetensors file of a run folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged. The message names it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    with damage_named(store.path / name):
        try:
            return load(store.read(name))
        except SafetensorError as error:
            raise ValueError(str(error)) from error


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn errors of a damaged file into a ValueError that names it."""
    try:
        yield
    except (FileNotFoundError, StoreError):
        raise
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise ValueError(
            f"{path} is damaged ({error}). Nothing else is lost: remove this file and run the same"
            " command again, which computes its content again"
        ) from error


def upgraded_table(table: pa.Table, run: Mapping[str, Any]) -> pa.Table:
    """Return records as ``upgraded``, as a table."""
    if tuple(table.column_names) != COLUMNS_OF_FORMAT_4:
        return table
    return table_of_rows(upgraded(table.to_pandas(), run))


def upgraded(rows: pd.DataFrame, run: Mapping[str, Any]) -> pd.DataFrame:
    """Return the records with the columns of the present format.

    In format 4 ``distance`` was that of the nearest adversarial for minimum-norm attacks and RayS.
    Their x_adv was not measured. Its distances are NaN, which means unknown.

    Args:
        rows: of this format or format 4.
        run: the content of ``run.json``.
    """
    if tuple(rows.columns) != COLUMNS_OF_FORMAT_4:
        return rows
    attacks = {name for name, attack in run["attacks"].items() if attack["nearest"]}
    nearest = rows["attack"].isin(attacks)
    unknown = rows["distance"] * math.nan
    columns = {
        "nearest_distance": rows["distance"].where(nearest, unknown),
        "distance": rows["distance"].where(~nearest, unknown),
        **dict.fromkeys(DISTORTIONS, unknown),
    }
    return rows.assign(**columns)[list(COLUMNS)]
