"""Units of work of an evaluation, and the files that each writes when it ends.

A unit is one attack on one model over one chunk of samples, at one or several radii. Its files are
written atomically, in the folder ``chunks``. Any process may therefore work on any unit, a killed
run keeps its finished units, and folders of several machines can be merged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from art_ext.storage.records import COLUMNS, parquet_of, read_parquet, upgraded
from art_ext.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

CHUNKS = "chunks"
KINDS = ("safetensors", "json", "parquet")  # of files; records last: they say that a unit is there
OWN = re.compile(r"\d+-\d+\.|clean-\d+\.|\..*\.tmp$")


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


def unit_name(attack_run: int, chunk: int) -> str:
    """Name of the files of one attack run over one chunk."""
    return f"{attack_run:03d}-{chunk:05d}"


def chunk_name(number: int) -> str:
    """Name of the files with the clean results of a chunk."""
    return f"clean-{number:05d}"


def file_name(name: str, kind: str) -> str:
    """Name of a file of a unit, or of the clean pass of a chunk, in the run folder."""
    return f"{CHUNKS}/{name}.{kind}"


def is_unit_file(name: str) -> bool:
    """Return True for the name of a file of a unit, a clean pass, or a killed writer."""
    return OWN.match(name) is not None


class UnitFiles:
    """Files of units, and of the clean passes of chunks, by their names.

    Args:
        store: of the run folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def has(self, name: str, kind: str) -> bool:
        """Return True if a unit or a clean pass has written a file of this kind."""
        return self.store.exists(file_name(name, kind))

    def write(self, name: str, kind: str, content: bytes) -> None:
        """Write a file of a unit or a clean pass.

        Raises:
            OSError: for instance if the disk is full. The message says how to continue.
        """
        file = file_name(name, kind)
        try:
            self.store.write(file, content)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror or error}: cannot write {self.store.path / file}. Finished"
                " units are kept: run the same command again to continue",
            ) from error

    def facts(self, name: str) -> dict[str, Any]:
        """Return the facts that a unit or a clean pass has written."""
        facts: dict[str, Any] = json.loads(self.store.read(file_name(name, "json")).decode("utf-8"))
        return facts

    def images(self, name: str) -> dict[str, Tensor]:
        """Return the images that a unit or a clean pass has written. Empty if there are none.

        Raises:
            ValueError: if the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        if not self.has(name, "safetensors"):
            return {}
        file = file_name(name, "safetensors")
        try:
            return load(self.store.read(file))
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{self.store.path / file} is damaged ({error}). Nothing else is lost: remove it"
                " and the .parquet file of the same name, and run the same command again, which"
                " computes their content anew"
            ) from error

    def copy(self, other: UnitFiles, name: str) -> None:
        """Copy the files of a unit or a clean pass from another folder, records last."""
        for kind in KINDS:
            if other.has(name, kind):
                self.write(name, kind, other.store.read(file_name(name, kind)))


class Units:
    """Units of a run, in the order of its plan.

    Args:
        store: of the run folder.
        run: the content of ``run.json``, with the plan.
    """

    def __init__(self, store: Store, run: Mapping[str, Any]) -> None:
        self.store = store
        self.run: dict[str, Any] = dict(run)
        self.files = UnitFiles(store)

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
        written = set(self.store.names(CHUNKS))
        return sum(f"{unit.name}.parquet" not in written for unit in self.units())

    def holds(self, unit: Unit) -> bool:
        """Return True if the unit has ended. Its records are written last."""
        return self.files.has(unit.name, "parquet")

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
            self.files.write(unit.name, "safetensors", save(dict(images)))
        if facts:
            self.files.write(unit.name, "json", json.dumps(facts, allow_nan=False).encode("utf-8"))
        self.files.write(unit.name, "parquet", content)

    def write_chunk(
        self, number: int, facts: Mapping[str, Any], images: Mapping[str, Tensor]
    ) -> None:
        """Write the clean results of a chunk: facts as JSON, images of some samples."""
        from safetensors.torch import save

        if images:
            self.files.write(chunk_name(number), "safetensors", save(dict(images)))
        self.files.write(
            chunk_name(number), "json", json.dumps(facts, allow_nan=False).encode("utf-8")
        )

    def read_unit(self, unit: Unit) -> pd.DataFrame:
        """Return the records of a unit that has ended.

        Raises:
            ValueError: if its file is damaged, or holds other records.
        """
        name = file_name(unit.name, "parquet")
        rows = upgraded(read_parquet(self.store, name), self.run)
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
                f"{self.store.path / name} holds records of another run: wanted {unit.attack} on"
                f" {unit.model} for samples {first} to {end - 1}"
            )
        return rows
