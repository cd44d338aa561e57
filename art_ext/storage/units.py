"""Units of work of an evaluation.

A unit is one attack on one model over one chunk of samples, at one or several radii. Any process
may work on any unit, a killed run keeps its finished units, and folders of several machines can be
merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from art_ext.core.wording import radius
from art_ext.storage.chunks import ChunkFiles, ChunkWriter
from art_ext.storage.store import Store


@dataclass(frozen=True)
class Unit:
    """A unit of work: one attack on one model over one chunk of samples.

    Attributes:
        name: of its place in the plan and its chunk.
        place: in the plan.
        model, attack: names.
        radii: radii that the attack serves in one run, ascending.
        samples: first and one past the last position in the data.
    """

    name: str
    place: int
    model: str
    attack: str
    radii: tuple[float, ...]
    samples: tuple[int, int]

    @property
    def title(self) -> str:
        """Model, attack and largest radius, as a person reads them."""
        return f"{self.model}, {self.attack}, eps {radius(self.radii[-1])}"


def plan(
    samples: int,
    chunk_size: int,
    attack_runs: Sequence[tuple[str, str, tuple[float, ...]]],
    detectors: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the units of a run in the form of ``run.json``.

    Args:
        samples: N.
        chunk_size: most samples in a unit.
        attack_runs: model, attack and radii, in the order in which they run.
        detectors: by model, the name of its detector. None: there are none.
    """
    known = detectors or {}
    return {
        "samples": samples,
        "chunk_size": chunk_size,
        "searches": [
            {
                "model": model,
                "attack": attack,
                "radii": list(radii),
                **({"detector": known[model]} if model in known else {}),
            }
            for model, attack, radii in attack_runs
        ],
    }


class Units:
    """Units of a run, in the order of its plan.

    Args:
        store: of the run folder.
        run: the content of ``run.json``, with the plan.
    """

    def __init__(self, store: Store, run: Mapping[str, Any]) -> None:
        self.store = store
        self.run: dict[str, Any] = dict(run)
        self.files = ChunkFiles(store, self.run)

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
                f"{place:03d}-{number:05d}",
                place,
                one["model"],
                one["attack"],
                tuple(one["radii"]),
                self.chunks[number],
            )
            for place, one in enumerate(self.run["plan"]["searches"])
        ]

    def missing(self) -> int:
        """Return the number of units that have not ended, from one listing."""
        ended = self.files.ended()
        count = sum(len(ended.get(number, ())) for number in range(len(self.chunks)))
        return len(self.chunks) * len(self.run["plan"]["searches"]) - count

    def complete(self, number: int) -> bool:
        """Return True if all units of a chunk have ended."""
        return self.files.complete(number)

    def complete_chunks(self) -> list[int]:
        """Return the numbers of the complete chunks, from one listing."""
        count = len(self.run["plan"]["searches"])
        ended = self.files.ended()
        return [one for one in range(len(self.chunks)) if len(ended.get(one, ())) == count]

    def write_chunk(self, number: int) -> ChunkWriter:
        """Return the writer of a chunk, with the units that have ended."""
        return ChunkWriter(self.files, number, len(self.run["plan"]["searches"]))
