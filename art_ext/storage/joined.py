"""Joined records of a run: ``records.parquet``, all units in the order of the plan.

The file is written when the last unit has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from art_ext.storage.records import COLUMNS, RECORDS, damage_named, read_parquet, upgraded
from art_ext.storage.units import Units

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CHUNKS_A_PART = 64
PANEL = b"art-ext.panel"  # key of the panel in the metadata of the file


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
    """Join the records of all units in one file, and yield them part after part.

    The file is there when the last part has been yielded.

    Raises:
        ValueError: as ``ChunkFiles.tables``.
    """
    from pyarrow.parquet import ParquetWriter

    with folder.store.writing(RECORDS) as stream:
        writer = None
        for table in _tables(folder, range(len(folder.chunks))):
            writer = writer or ParquetWriter(stream, _with_panel(table.schema, folder.run))
            writer.write_table(table, row_group_size=len(table))
            yield table.to_pandas()
        if writer is not None:
            writer.close()


def _with_panel(schema: pa.Schema, run: Mapping[str, Any]) -> pa.Schema:
    """Return a schema whose metadata name the panel of a run, for a file without its folder."""
    panel = json.dumps(run["panel"]).encode()
    return schema.with_metadata({**(schema.metadata or {}), PANEL: panel})


def ended_records(folder: Units) -> pd.DataFrame:
    """Return the records of the units that have ended, in the order of the joined records."""
    import pandas as pd

    parts = list(record_parts_of(folder, sorted(folder.files.ended())))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def record_parts_of(folder: Units, numbers: Iterable[int]) -> Iterator[pd.DataFrame]:
    """Yield the records of the ended units of some chunks, in the order of the joined records."""
    for table in _tables(folder, numbers):
        yield table.to_pandas()


def _tables(folder: Units, numbers: Iterable[int]) -> Iterator[pa.Table]:
    """Yield the records of ended units: unit after unit of the plan, and chunk after chunk in each.

    Each file is read once. Chunks are joined, so that there are few parts.
    """
    import pyarrow as pa

    chunks = [folder.files.tables(number) for number in numbers]
    for place in range(len(folder.run["plan"]["searches"])):
        tables = [chunk.pop(place) for chunk in chunks if place in chunk]
        for start in range(0, len(tables), CHUNKS_A_PART):
            yield pa.concat_tables(tables[start : start + CHUNKS_A_PART]).combine_chunks()
