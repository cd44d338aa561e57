"""Joined records of a run: ``records.parquet``, all units in the order of the plan.

The file is written when the last unit has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from art_ext.storage.records import COLUMNS, RECORDS, damage_named, read_parquet, upgraded
from art_ext.storage.units import Unit, Units

if TYPE_CHECKING:
    import pandas as pd


def joined_records(folder: Units) -> pd.DataFrame:
    """Return the joined records of a complete run.

    Raises:
        FileNotFoundError: if they have not been joined yet.
        ValueError: if the file is damaged. The message names it.
    """
    return upgraded(read_parquet(folder.store, RECORDS), folder.run)


def record_parts(folder: Units) -> Iterator[pd.DataFrame]:
    """Yield the joined records of a complete run, part after part.

    Raises:
        FileNotFoundError, ValueError: as ``joined_records``.
    """
    from pyarrow.parquet import ParquetFile

    with (
        damage_named(folder.store.path / RECORDS),
        folder.store.reading(RECORDS) as stream,
        ParquetFile(stream) as file,
    ):
        for number in range(file.num_row_groups):
            yield upgraded(file.read_row_group(number).to_pandas(), folder.run)


def write_records(folder: Units) -> Iterator[pd.DataFrame]:
    """Join the records of all units in one file, and yield those of each unit.

    The file is there when the last part has been yielded.

    Raises:
        ValueError: as ``Units.read_unit``.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    with folder.store.writing(RECORDS) as stream:
        writer = None
        for unit in folder.units():
            rows = folder.read_unit(unit)
            table = pa.Table.from_pandas(rows, preserve_index=False)
            writer = writer or ParquetWriter(stream, table.schema)
            writer.write_table(table)
            yield rows
        if writer is not None:
            writer.close()


def join(folder: Units, units: Sequence[Unit]) -> pd.DataFrame:
    """Return the records of these units, one after the other."""
    import pandas as pd

    if not units:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat([folder.read_unit(unit) for unit in units], ignore_index=True)
