"""Files of a chunk of samples: the records of its units, facts and images.

Units of a chunk are written together, so that a large run has few files. A chunk N has at most
three: ``N.parquet`` with the records, ``N.json`` with facts of the clean pass and of units, and
``N.safetensors`` with images. While units are missing, the records are in ``N.part.parquet``. Each
unit that keeps the states it draws has a further file, ``N-states-U.safetensors``.
Records are written last: they say which units there are.

Up to format 5 every unit and every clean pass had files of its own. They are still read.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from art_ext.storage.ownership import units_kept
from art_ext.storage.records import (
    columns_of_run,
    has_chains,
    parquet_of,
    read_table,
    upgraded_table,
    with_chains,
)
from art_ext.storage.store import Store, StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

CHUNKS = "chunks"
CLEAN = "clean"  # name of the facts and images of the clean pass
FIRST = 6  # format of a run in which units of a chunk are written together
PAUSE = 30.0  # seconds after which finished units of a chunk in work are written
_OWN = re.compile(
    r"(?P<number>\d+)(?P<part>\.part)?\.(?P<kind>parquet|json|safetensors)$"
    r"|\d+-states-\d+\.|\d+-\d+\.|clean-\d+\.|\..*\.tmp$"
)
_OLD = re.compile(r"(?P<place>\d+)-(?P<number>\d+)\.parquet$")

Images = dict[str, "Tensor"]


def states_of(place: int, number: int) -> str:
    """Return the name of the file of the states of a unit, by its places in plan and data."""
    return f"{number:05d}-states-{place:03d}"


def is_chunk_file(name: str) -> bool:
    """Return True for the name of a file of a chunk, of any format, or of a killed writer."""
    return _OWN.match(name) is not None


def name_of(place: int) -> str:
    """Return the name of the facts and images of a unit, by its place in the plan."""
    return f"{place:03d}"


class ChunkFiles:
    """Files of the chunks of a run, read.

    Args:
        store: of the run folder.
        run: the content of ``run.json``, with the plan.
    """

    def __init__(self, store: Store, run: Mapping[str, Any]) -> None:
        self.store = store
        self.run = run
        self._old = run.get("format", FIRST) < FIRST

    @property
    def _plan(self) -> Sequence[Mapping[str, Any]]:
        plan: Sequence[Mapping[str, Any]] = self.run["plan"]["searches"]
        return plan

    def ended(self) -> dict[int, set[int]]:
        """Return the places of the units that have ended, by chunk, from one listing."""
        found: dict[int, set[int]] = {}
        for name in self.store.names(CHUNKS):
            new, old = _OWN.match(name), _OLD.match(name)
            if new is not None and new["kind"] == "parquet":
                number = int(new["number"])
                places = range(len(self._plan)) if not new["part"] else self.tables(number)
                found.setdefault(number, set()).update(places)
            elif old is not None:
                found.setdefault(int(old["number"]), set()).add(int(old["place"]))
        return found

    def complete(self, number: int) -> bool:
        """Return True if all units of a chunk have ended."""
        if self.store.exists(f"{CHUNKS}/{number:05d}.parquet"):
            return True
        return len(self.tables(number)) == len(self._plan)

    def tables(self, number: int) -> dict[int, pa.Table]:
        """Return the records of the units of a chunk that have ended, by their place in the plan.

        Raises:
            ValueError: if a file is damaged, or holds other records. The message names it.
        """
        for name in (f"{CHUNKS}/{number:05d}.parquet", f"{CHUNKS}/{number:05d}.part.parquet"):
            with suppress(FileNotFoundError):
                found = self._split(name, number)
                if ".part." not in name and len(found) < len(self._plan):
                    raise ValueError(
                        f"{self.store.path / name} lacks records: remove this file and run the same"
                        " command again, which computes its content again"
                    )
                return found
        found = {}
        for place in range(len(self._plan)) if self._old else ():
            name = f"{CHUNKS}/{place:03d}-{number:05d}.parquet"
            with suppress(FileNotFoundError):
                table, _ = read_table(self.store, name)
                table = upgraded_table(table, self.run)
                self._check(name, number, place, table)
                found[place] = table
        return found

    def facts(self, number: int) -> dict[str, Any]:
        """Return the facts of a chunk: those of ``CLEAN`` by model, and those of units."""
        with suppress(FileNotFoundError):
            return self._json(f"{number:05d}")
        found = {}
        for name, old in self._old_names(number).items():
            with suppress(FileNotFoundError):
                found[name] = self._json(old)
        return found

    def images(self, number: int) -> dict[str, Images]:
        """Return the images of a chunk: those of ``CLEAN``, and those of units.

        Raises:
            ValueError: if a file is damaged. The message names it.
        """
        with suppress(FileNotFoundError):
            found: dict[str, Images] = {}
            for key, tensor in self._tensors(f"{number:05d}").items():
                name, _, own = key.partition("/")
                found.setdefault(name, {})[own] = tensor
            return found
        for name, old in self._old_names(number).items():
            with suppress(FileNotFoundError):
                found[name] = self._tensors(old)
        return found

    def states(self, place: int, number: int) -> Images:
        """Return the states that a unit kept: ``index`` (M,) and ``samples`` (S, M, *S).

        Raises:
            FileNotFoundError: if it kept none.
            ValueError: if the file is damaged. The message names it.
        """
        return self._tensors(states_of(place, number))

    def _json(self, name: str) -> dict[str, Any]:
        file = f"{CHUNKS}/{name}.json"
        found: dict[str, Any] = json.loads(self.store.read(file).decode("utf-8"))
        return found

    def _tensors(self, name: str) -> Images:
        from safetensors import SafetensorError
        from safetensors.torch import load

        file = f"{CHUNKS}/{name}.safetensors"
        try:
            return load(self.store.read(file))
        except (FileNotFoundError, StoreError):
            raise
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{self.store.path / file} is damaged ({error}). Nothing else is lost: remove it"
                " and the .parquet file of the same name, and run the same command again, which"
                " computes their content again"
            ) from error

    def _old_names(self, number: int) -> dict[str, str]:
        """Return the names of files up to format 5, by those of facts and images."""
        if not self._old:
            return {}
        places = range(len(self._plan))
        units = {name_of(place): f"{place:03d}-{number:05d}" for place in places}
        return {CLEAN: f"clean-{number:05d}", **units}

    def _split(self, name: str, number: int) -> dict[int, pa.Table]:
        """Return the units of a file of records, one for each of its row groups."""
        table, sizes = read_table(self.store, name)
        if has_chains(self.run):
            table = with_chains(table)
        places = {
            (one["model"], one["attack"], one["radii"][0]): place
            for place, one in enumerate(self._plan)
        }
        found: dict[int, pa.Table] = {}
        start = 0
        for size in sizes:
            unit = table.slice(start, size)
            start += size
            key = tuple(unit[column][0].as_py() for column in ("model", "attack", "eps"))
            place = places.get(key)
            if place is None:
                raise ValueError(
                    f"{self.store.path / name} holds records of another run: there is no such unit"
                )
            self._check(name, number, place, unit)
            found[place] = unit
        return found

    def _check(self, name: str, number: int, place: int, table: pa.Table) -> None:
        """Raise ValueError unless a table holds the records of a unit."""
        import numpy as np
        import pyarrow.compute as pc

        one = self._plan[place]
        size = self.run["plan"]["chunk_size"]
        first, end = number * size, min((number + 1) * size, self.run["plan"]["samples"])
        radii = one["radii"]
        index = np.tile(np.arange(first, end), len(radii))
        fits = (
            tuple(table.column_names) == columns_of_run(self.run, "detector" in one)
            and len(table) == len(index)
            and all(
                pc.all(pc.equal(table[column], one[column])).as_py()
                for column in ("model", "attack")
            )
            and set(pc.unique(table["eps"]).to_pylist()) == set(radii)
            and np.array_equal(table["index"].to_numpy(), index)
        )
        if not fits:
            raise ValueError(
                f"{self.store.path / name} holds records of another run: wanted {one['attack']} on"
                f" {one['model']} for samples {first} to {end - 1}"
            )


class ChunkWriter:
    """Content of a chunk in work.

    It is written by ``write`` and, with a unit that is added, when ``PAUSE`` seconds have passed
    since the last write.

    Args:
        files: of the run.
        number: of the chunk.
        units: number of units of the chunk.
    """

    def __init__(self, files: ChunkFiles, number: int, units: int) -> None:
        self.files = files
        self.number = number
        self.units = units
        self.tables = files.tables(number)
        # a killed writer may have left more than the records tell
        names = {CLEAN, *map(name_of, self.tables)}
        found = (files.facts(number), files.images(number)) if self.tables else ({}, {})
        self.facts, self.images = (
            {name: one for name, one in part.items() if name in names} for part in found
        )
        self._in_part = 0 < len(self.tables) < units
        self._changed = False
        self._written = time.monotonic()

    def clean(self, facts: Mapping[str, Any], images: Mapping[str, Tensor]) -> None:
        """Take in the clean pass of the chunk: facts by model, images of some samples."""
        self.facts[CLEAN] = dict(facts)
        if images:
            self.images[CLEAN] = dict(images)

    def add(
        self,
        place: int,
        table: pa.Table,
        images: Mapping[str, Tensor],
        facts: Mapping[str, Any] | None = None,
        states: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take in a unit that has ended, by its place in the plan.

        Its states, which may be large, are written at once to a file of their own.

        Raises:
            OSError: as ``write``.
        """
        if states:
            from safetensors.torch import save

            content = save(dict(states))
            self._put(f"{CHUNKS}/{states_of(place, self.number)}.safetensors", content)
        self.tables[place] = table
        if images:
            self.images[name_of(place)] = dict(images)
        if facts:
            self.facts[name_of(place)] = dict(facts)
        self._changed = True
        if time.monotonic() - self._written >= PAUSE:
            self.write()

    def of_units(self) -> list[Images]:
        """Return the images of the units that have ended and kept any."""
        return [dict(images) for name, images in self.images.items() if name != CLEAN]

    def take(self, other: ChunkFiles) -> None:
        """Take in the units of this chunk that have ended in another folder."""
        tables = other.tables(self.number)
        if not tables:
            return
        facts = other.facts(self.number)
        images = other.images(self.number)
        if CLEAN in facts:
            self.clean(facts[CLEAN], images.get(CLEAN, {}))
        for place, table in tables.items():
            name = name_of(place)
            states = None
            with suppress(FileNotFoundError):
                states = other.states(place, self.number)
            self.add(place, table, images.get(name, {}), facts.get(name), states)

    def write(self) -> None:
        """Write what is new: images first, then facts, records last.

        Raises:
            OSError: for instance if the disk is full. What was written before is kept.
        """
        from safetensors.torch import save

        if not self._changed:
            return
        name = f"{CHUNKS}/{self.number:05d}"
        part = f"{name}.part.parquet"
        tensors = {
            f"{one}/{key}": tensor
            for one, images in sorted(self.images.items())
            for key, tensor in images.items()
        }
        if tensors:
            self._put(f"{name}.safetensors", save(tensors))
        facts = json.dumps(dict(sorted(self.facts.items())), allow_nan=False)
        self._put(f"{name}.json", facts.encode("utf-8"))
        records = parquet_of([table for _, table in sorted(self.tables.items())])
        if len(self.tables) < self.units:
            self._put(part, records)
            self._in_part = True
        else:
            self._put(f"{name}.parquet", records)
            if self._in_part:
                self.files.store.remove(part)
        self._changed = False
        self._written = time.monotonic()

    def _put(self, name: str, content: bytes) -> None:
        with units_kept(self.files.store, name):
            self.files.store.write(name, content)
