"""Merging of the folders of shards that ran on separate machines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from art_ext.evaluation.analysis.records import require_report
from art_ext.evaluation.execution.finish import Outcome, finish
from art_ext.evaluation.report import page
from art_ext.storage.differences import differences
from art_ext.storage.evaluation import RunFolder, open_run
from art_ext.storage.units import CHUNKS, Unit, chunk_name


def merge(folders: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str]) -> Outcome:
    """Put the units of several folders of one run into one folder, with the report if it is
    complete.

    A folder that lacks units can be completed by the command of the run with ``--out`` naming it.
    The merged folders are not changed.

    Args:
        folders: at least one run folder.
        out: a new or empty folder, or one that an interrupted ``merge`` of the same folders left.

    Raises:
        ValueError: if a folder is not a run folder, holds another run (the message lists the
            differences), records of another run, or units that another folder holds too, or if a
            file is damaged. out is not changed then.
        ImportError: without the extra ``report``.
    """
    require_report()
    if not folders:
        raise ValueError("wanted at least one run folder to merge, got none")
    parts = [open_run(folder) for folder in folders]
    first = parts[0]
    for part in parts[1:]:
        changed = differences(first.run, part.run)
        if changed:
            raise ValueError(
                f"{part.path} holds another run than {first.path} ({'; '.join(changed)})"
            )
    if Path(out).resolve() in {part.path.resolve() for part in parts}:
        raise ValueError(f"out must be another folder than those to merge, got {out}")
    owners = _owners(parts)
    target = RunFolder(out, {**first.run, "state": "running"})
    target.begin()
    for unit, part in owners.items():
        for name in (chunk_name(target.chunks.index(unit.samples)), unit.name):
            target.files.copy(part.files, name)
    return finish(target, page.write_report)


def _owners(parts: Sequence[RunFolder]) -> dict[Unit, RunFolder]:
    """Return the folder that holds each unit, after reading every unit for damage."""
    owners: dict[Unit, RunFolder] = {}
    known = {unit.name: unit for unit in parts[0].units()}
    ids: dict[int, int] = {}
    for part in parts:
        for path in sorted((part.path / CHUNKS).glob("[0-9]*-[0-9]*.parquet")):
            unit = known.get(path.stem)
            if unit is None:
                raise ValueError(f"{path} holds records of another run: there is no such unit")
            rows = part.read_unit(unit)
            for position, fingerprint in zip(
                rows["index"].tolist(), rows["id"].tolist(), strict=True
            ):
                if ids.setdefault(position, fingerprint) != fingerprint:
                    raise ValueError(
                        f"{path} holds records of another run: sample {position} is another one"
                        " than elsewhere"
                    )
            if unit in owners:
                first, end = unit.samples
                raise ValueError(
                    f"{owners[unit].path} and {part.path} overlap: both hold {unit.attack} on"
                    f" {unit.model} for samples {first} to {end - 1}. Were both run with the same"
                    " --shard?"
                )
            owners[unit] = part
    return owners
