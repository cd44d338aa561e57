"""The folder of a run: ownership, units of work, and atomic writes.

``run.json`` states the arguments and the units of work. A unit is one attack on one model over one
chunk of samples, at one or several radii. Each unit that ends writes its own files in ``chunks``,
atomically. Any process may therefore work on any unit, a killed run keeps its finished units, and
folders of several machines can be merged. ``records.parquet`` joins all units in the order of the
plan, one row per sample, model, attack and eps. It is written when the last unit has ended.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.core.geometry import DISTORTIONS
from art_ext.storage.differences import differences
from art_ext.storage.files import atomic, write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

TOOL = "art-ext"
# 2: the column target, attacks' arguments; 3: which can stop early; 4: units, panels, the column
# attacked; 5: nearest_distance for what distance held, distance and distortions of x_adv
FORMAT = 5
READABLE = (4, 5)
RUN = "run.json"
CONFIGURATION = "config.toml"  # of the command, which repeats the run
RECORDS = "records.parquet"
REPORT = "index.html"
WARNINGS = "warnings.json"
CHUNKS = "chunks"
PREVIOUS = ".previous-run"
TABLES = ("table.csv", "table.json")
PLOTS = ("robust_accuracy.png", "success_queries.png", "examples.png")
OWN = (RUN, CONFIGURATION, RECORDS, REPORT, WARNINGS, *TABLES, *PLOTS)
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
COLUMNS_OF_FORMAT_4 = tuple(
    name for name in COLUMNS if name not in ("nearest_distance", *DISTORTIONS)
)


def read_run(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Content of a run folder's ``run.json``, or None if the folder is not a run folder."""
    try:
        run = json.loads((Path(folder) / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(run, dict) or run.get("tool") != TOOL:
        return None
    settings = run.get("settings")
    if isinstance(settings, dict) and "early_stop" in settings:  # its name in earlier versions
        settings["stop_on_success"] = settings.pop("early_stop")
    return run


def open_run(folder: str | os.PathLike[str]) -> RunFolder:
    """Open an existing run folder, to read or to continue it.

    Raises:
        ValueError: if it is not a run folder, or has another format.
    """
    run = read_run(folder)
    if run is None:
        raise ValueError(f"{folder} is not a run folder: it holds no {RUN} of art-ext")
    if run.get("format") not in READABLE:
        wanted = " or ".join(map(str, READABLE))
        raise ValueError(
            f"{folder} holds a run of format {run.get('format')}, wanted {wanted}: evaluate it"
            " again in a new folder"
        )
    return RunFolder(folder, run)


@dataclass(frozen=True)
class Unit:
    """A unit of work: one attack on one model over one chunk of samples.

    Attributes:
        name: of its files.
        model, attack: names.
        radii: radii that the attack serves in one run, ascending.
        samples: first and one past the last position in the data.
    """

    name: str
    model: str
    attack: str
    radii: tuple[float, ...]
    samples: tuple[int, int]


def plan(
    samples: int, chunk_size: int, attack_runs: Sequence[tuple[str, str, tuple[float, ...]]]
) -> dict[str, Any]:
    """Return the units of a run in the form of ``run.json``.

    Args:
        samples: N.
        chunk_size: most samples in a unit.
        attack_runs: model, attack and radii, in the order in which they run.
    """
    return {
        "samples": samples,
        "chunk_size": chunk_size,
        "searches": [
            {"model": model, "attack": attack, "radii": list(radii)}
            for model, attack, radii in attack_runs
        ],
    }


def parquet_of(rows: pd.DataFrame) -> bytes:
    """Content of a Parquet file of these rows."""
    content = io.BytesIO()
    rows.to_parquet(content, engine="pyarrow", index=False)
    return content.getvalue()


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet file of a run folder.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged. The message names it.
    """
    import pandas as pd

    with damage_named(path):
        return pd.read_parquet(path, engine="pyarrow")


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn errors of a damaged file into a ValueError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise ValueError(
            f"{path} is damaged ({error}). Nothing else is lost: remove this file and run the same"
            " command again, which computes its content anew"
        ) from error


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


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder. It need not exist.
        run: the content of ``run.json``, with the plan.
    """

    def __init__(self, path: str | os.PathLike[str], run: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.run: dict[str, Any] = dict(run)

    def check(self, overwrite: bool = False) -> bool:
        """Raise ValueError unless the folder is free for this run. No file in it is changed.

        Args:
            overwrite: allow a folder with other files in it. Only files with our names are
                replaced.

        Returns:
            True if it holds the beginning, or all, of this very run.

        Raises:
            ValueError: if the path is not a folder, or if it holds anything but an earlier run of
                the same arguments. The message lists the differences.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"out must name a folder, got the file {self.path}")
        if overwrite or not self.path.exists():
            return False
        # another process of this run may be writing its run.json at this moment
        names = [entry.name for entry in self.path.iterdir() if not entry.name.endswith(".tmp")]
        if not names:
            return False
        earlier = read_run(self.path)
        if earlier is None:
            raise ValueError(
                f"out must be a new or empty folder, or a run folder, but {self.path} holds other"
                " files: choose another folder, or allow it with --overwrite"
            )
        if earlier.get("format") != self.run.get("format", FORMAT):
            raise ValueError(
                f"{self.path} holds a run of an earlier version of art-ext: "
                "choose another folder, or replace that run with --overwrite"
            )
        changed = differences(self._plain(), earlier)
        if changed:
            raise ValueError(
                f"{self.path} holds another run ({'; '.join(changed)}): "
                "choose another folder, or replace that run with --overwrite"
            )
        return True

    def begin(self, overwrite: bool = False) -> None:
        """Make the folder and its ``run.json``, or continue an earlier process of this run.

        With overwrite, an earlier run is kept in the hidden folder ``.previous-run`` until this one
        is complete.

        Raises:
            ValueError: as ``check``.
        """
        if self.check(overwrite):
            self.run = read_run(self.path) or self.run
        else:
            if overwrite and read_run(self.path) is not None:
                self._put_aside()
            self.path.mkdir(parents=True, exist_ok=True)
            self.run = {"tool": TOOL, "format": FORMAT, "state": "running", **self.run}
            # first of all, since it tells other processes of this run that the folder is theirs too
            self._write_run()
        (self.path / CHUNKS).mkdir(exist_ok=True)

    def finish(self, **facts: Any) -> None:
        """Mark the run as complete, add its final facts, and remove the run before it."""
        self.run = {**self.run, "state": "complete", **facts}
        self._write_run()
        # of processes that were killed while they wrote
        for leftover in (self.path / CHUNKS).glob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        if (self.path / PREVIOUS).is_dir():
            _clear(self.path / PREVIOUS)
            (self.path / PREVIOUS).rmdir()

    # ---- units

    @cached_property
    def chunks(self) -> list[tuple[int, int]]:
        """First and one past the last position of each chunk of samples."""
        samples = self.run["plan"]["samples"]
        size = self.run["plan"]["chunk_size"]
        return [(start, min(start + size, samples)) for start in range(0, samples, size)]

    def units(self) -> list[Unit]:
        """All units, in the order of the joined records."""
        chunks = [self.units_of(number) for number in range(len(self.chunks))]
        return [unit for units in zip(*chunks, strict=True) for unit in units]

    def units_of(self, number: int) -> list[Unit]:
        """Return the units of a chunk, in the order of the panel."""
        return [
            Unit(
                unit_name(place, number),
                one["model"],
                one["attack"],
                tuple(one["radii"]),
                self.chunks[number],
            )
            for place, one in enumerate(self.run["plan"]["searches"])
        ]

    def missing(self) -> int:
        """Return the number of units that have not ended."""
        number = len(self.run["plan"]["searches"]) * len(self.chunks)
        if not (self.path / CHUNKS).is_dir():
            return number
        written = {entry.name for entry in os.scandir(self.path / CHUNKS)}
        return sum(f"{unit.name}.parquet" not in written for unit in self.units())

    def file(self, name: str, kind: str) -> Path:
        """Path of a file of a unit, or of the clean facts of a chunk."""
        return self.path / CHUNKS / f"{name}.{kind}"

    def holds(self, unit: Unit) -> bool:
        """Return True if the unit has ended. Its records are written last."""
        return self.file(unit.name, "parquet").exists()

    def complete(self, number: int) -> bool:
        """Return True if all units of a chunk have ended."""
        return all(self.holds(unit) for unit in self.units_of(number))

    def write_unit(
        self,
        unit: Unit,
        rows: pd.DataFrame,
        images: Mapping[str, Tensor],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the results of a unit: images first, then facts as JSON, records last.

        Raises:
            OSError: for instance if the disk is full. Earlier units are kept.
        """
        from safetensors.torch import save

        content = parquet_of(rows[list(COLUMNS)])
        if images:
            self._keep(unit.name, "safetensors", save(dict(images)))
        if facts:
            self._keep(unit.name, "json", json.dumps(facts, allow_nan=False).encode("utf-8"))
        self._keep(unit.name, "parquet", content)

    def write_chunk(
        self, number: int, facts: Mapping[str, Any], images: Mapping[str, Tensor]
    ) -> None:
        """Write the clean results of a chunk: facts as JSON, images of some samples."""
        from safetensors.torch import save

        self._keep(chunk_name(number), "safetensors", save(dict(images)))
        self._keep(chunk_name(number), "json", json.dumps(facts, allow_nan=False).encode("utf-8"))

    def read_unit(self, unit: Unit) -> pd.DataFrame:
        """Return the records of a unit that has ended.

        Raises:
            ValueError: if its file is damaged, or holds other records.
        """
        path = self.file(unit.name, "parquet")
        rows = upgraded(read_parquet(path), self.run)
        first, end = unit.samples
        fits = (
            tuple(rows.columns) == COLUMNS
            and len(rows) == (end - first) * len(unit.radii)
            and bool((rows["model"] == unit.model).all() and (rows["attack"] == unit.attack).all())
            and set(rows["eps"].unique()) == set(unit.radii)
            and rows["index"].tolist() == [*range(first, end)] * len(unit.radii)
        )
        if not fits:
            raise ValueError(
                f"{path} holds records of another run: wanted {unit.attack} on {unit.model} for"
                f" samples {first} to {end - 1}"
            )
        return rows

    def records(self) -> pd.DataFrame:
        """Return the joined records of a complete run.

        Raises:
            FileNotFoundError: if they have not been joined yet.
            ValueError: if the file is damaged. The message names it.
        """
        return upgraded(read_parquet(self.path / RECORDS), self.run)

    def record_parts(self) -> Iterator[pd.DataFrame]:
        """Yield the joined records of a complete run, part after part.

        Raises:
            FileNotFoundError, ValueError: as ``records``.
        """
        from pyarrow.parquet import ParquetFile

        with damage_named(self.path / RECORDS), ParquetFile(self.path / RECORDS) as file:
            for number in range(file.num_row_groups):
                yield upgraded(file.read_row_group(number).to_pandas(), self.run)

    def write_records(self) -> Iterator[pd.DataFrame]:
        """Join the records of all units in one file, and yield those of each unit.

        The file is there when the last part has been yielded.

        Raises:
            ValueError: as ``read_unit``.
        """
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        with atomic(self.path / RECORDS) as target:
            writer = None
            for unit in self.units():
                rows = self.read_unit(unit)
                table = pa.Table.from_pandas(rows, preserve_index=False)
                writer = writer or ParquetWriter(target, table.schema)
                writer.write_table(table)
                yield rows
            if writer is not None:
                writer.close()

    def join(self, units: Sequence[Unit]) -> pd.DataFrame:
        """Return the records of these units, one after the other."""
        import pandas as pd

        if not units:
            return pd.DataFrame(columns=list(COLUMNS))
        return pd.concat([self.read_unit(unit) for unit in units], ignore_index=True)

    # ---- files

    def write(self, name: str, content: bytes | str) -> None:
        """Write a file into the folder, atomically."""
        write_atomically(
            self.path / name, content.encode("utf-8") if isinstance(content, str) else content
        )

    def _keep(self, name: str, kind: str, content: bytes) -> None:
        path = self.file(name, kind)
        try:
            write_atomically(path, content)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror or error}: cannot write {path}. Finished units are kept: run the"
                " same command again to continue",
            ) from error

    def _plain(self) -> dict[str, Any]:
        """``run.json`` in the types of JSON, with lists for tuples."""
        plain: dict[str, Any] = json.loads(json.dumps(self.run))
        return plain

    def _write_run(self) -> None:
        self.write(RUN, json.dumps(self.run, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def _put_aside(self) -> None:
        """Move an earlier run of ours out of the way. Of two, the complete one is kept."""
        earlier = read_run(self.path)
        if earlier is not None and earlier.get("state") == "complete":
            _clear(self.path / PREVIOUS)
            (self.path / PREVIOUS / CHUNKS).mkdir(parents=True)
            for name in OWN:
                if (self.path / name).exists():
                    os.replace(self.path / name, self.path / PREVIOUS / name)
            for kept in (self.path / CHUNKS).glob("*.*"):
                os.replace(kept, self.path / PREVIOUS / CHUNKS / kept.name)
        _clear(self.path)


def unit_name(attack_run: int, chunk: int) -> str:
    """Name of the files of one attack run over one chunk."""
    return f"{attack_run:03d}-{chunk:05d}"


def chunk_name(number: int) -> str:
    """Name of the files with the clean results of a chunk."""
    return f"clean-{number:05d}"


def _clear(folder: Path) -> None:
    """Remove our files from a folder, and no others."""
    for name in OWN:
        (folder / name).unlink(missing_ok=True)
    if (folder / CHUNKS).is_dir():
        for pattern in ("[0-9]*-[0-9]*.*", "clean-[0-9]*.*", ".*.tmp"):
            for path in (folder / CHUNKS).glob(pattern):
                path.unlink(missing_ok=True)
        if not any((folder / CHUNKS).iterdir()):
            (folder / CHUNKS).rmdir()
