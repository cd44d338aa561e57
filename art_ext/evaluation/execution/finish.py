"""Completion of a run from its folder alone: joined records, warnings, table, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.core.wording import counted
from art_ext.evaluation.analysis.blocks import Blocks, collect
from art_ext.evaluation.analysis.clouds import states_to_show
from art_ext.evaluation.analysis.findings import Finding, findings
from art_ext.evaluation.analysis.records import LoadedRun, load_examples, load_run, require_report
from art_ext.evaluation.analysis.table import Row, Verdict, plain_verdict, summarise, verdicts
from art_ext.evaluation.analysis.together import renamed
from art_ext.storage.chunks import CLEAN, name_of
from art_ext.storage.detectors import facts_of_run
from art_ext.storage.evaluation import TRANSFER, RunFolder, open_run
from art_ext.storage.joined import record_parts_of, write_records
from art_ext.storage.store import Place

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Outcome:
    """Result of an evaluation.

    Attributes:
        folder: folder of the report.
        rows: the table.
        warnings: the findings, warnings before infos.
        missing: number of units that other processes have not finished. If there are any, there is
            no report yet, and ``rows`` and ``records`` are empty.
        verdicts: the worst case of each model. Empty while units are missing.
        blocks: the records, by model, attack and eps.
        transfer: by model that is an ensemble, the mean success of examples of one member on
            another, or None where no sample counts. Empty unless it was requested.
    """

    folder: Path
    rows: list[Row]
    warnings: Sequence[Finding] = ()
    missing: int = 0
    verdicts: Sequence[Verdict] = ()
    blocks: Blocks = field(default_factory=lambda: Blocks({}, {}))
    transfer: Mapping[str, float | None] = field(default_factory=dict)

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row per sample, model, attack and eps."""
        return self.blocks.frame()


Writer = Callable[[Place, Sequence[LoadedRun]], None]


def finish(folder: RunFolder, write_report: Writer, seconds: float | None = None) -> Outcome:
    """Write joined records, table and report of a run if all its units have ended.

    Args:
        folder: of the run, begun.
        write_report: writes the report on runs into a folder.
        seconds: wall time of this process, recorded if the run was not complete before.

    Raises:
        ValueError: if a file is damaged or holds records of another run. The message names it.
    """
    missing = folder.missing()
    if missing:
        return Outcome(folder.path, [], missing=missing)
    with folder.locked():  # other processes of this run may find it complete at the same moment
        return _complete(folder, write_report, seconds)


def _complete(folder: RunFolder, write_report: Writer, seconds: float | None) -> Outcome:
    """Write joined records, table and report of a run whose units have all ended."""
    blocks = collect(write_records(folder))
    known = (
        {}
        if "seconds" in folder.run
        else {"seconds": None if seconds is None else round(seconds, 3)}
    )
    numbers = range(len(folder.chunks))
    further = further_facts(folder)
    told = {**folder.run, **known, **further}
    run, warnings = _judged(told, blocks, _facts(folder, numbers))
    rows = summarise(blocks, run)
    found = verdicts(blocks, run)
    run["verdict"] = [plain_verdict(verdict) for verdict in found]
    examples = load_examples(folder, blocks)
    states = states_to_show(folder)
    write_report(folder.place, [LoadedRun(folder.path, run, blocks, rows, examples, states)])
    folder.finish(
        **{
            name: run[name]
            for name in ("seconds", "records", "clean_accuracy", "warnings", "verdict", *further)
        }
    )
    matrices = run.get("transfer", {"models": {}})["models"]
    transfer = {name: matrix["off_diagonal"] for name, matrix in matrices.items()}
    return Outcome(folder.path, rows, warnings, verdicts=found, blocks=blocks, transfer=transfer)


def load_partial(folder: Place) -> LoadedRun:
    """Load the complete chunks of a run folder. The names of the models say how many samples.

    A complete run is loaded as ``load_run`` does.

    Raises:
        ImportError: without the extra ``report``.
        ValueError: if it is not a run folder, if it has no complete chunk, or if a file is damaged.
    """
    require_report()
    existing = open_run(folder)
    if existing.run.get("state") == "complete":
        return load_run(folder)
    numbers = existing.complete_chunks()
    if not numbers:
        raise ValueError(f"no chunk of the run in {existing.path} is complete yet")
    blocks = collect(record_parts_of(existing, numbers))
    samples = sum(end - start for start, end in map(existing.chunks.__getitem__, numbers))
    mark = f"partial: {samples:,} of {existing.run['data']['samples']:,} samples"
    unfinished = {
        **existing.run,
        **further_facts(existing),
        **_of_samples(existing.run, samples),
        "seconds": None,
        "partial": mark,
    }
    run, _ = _judged(unfinished, blocks, _facts(existing, numbers))
    examples = load_examples(existing, blocks, numbers)
    rows, states = summarise(blocks, run), states_to_show(existing)
    loaded = LoadedRun(existing.path, run, blocks, rows, examples, states)
    return renamed(loaded, {name: f"{name} ({mark})" for name in blocks.models})


def _of_samples(run: Mapping[str, Any], samples: int) -> dict[str, Any]:
    """Return the entries of ``run.json`` on data and protocol, for a part of the samples."""
    data, sentences = run["data"], list(run["protocol"])
    planned = data["samples"]
    sentences[0] = sentences[0].replace(
        f"The {counted(planned, 'sample')}", f"{samples:,} of the {counted(planned, 'sample')}", 1
    )
    whole = data.get("first_of", planned)
    return {"data": {**data, "samples": samples, "first_of": whole}, "protocol": sentences}


def further_facts(folder: RunFolder) -> dict[str, Any]:
    """Return the entries of ``run.json`` on fitted detectors and on the members of ensembles."""
    return {**_detectors(folder), **_transfer(folder)}


def _transfer(folder: RunFolder) -> dict[str, Any]:
    """Return the entry of ``run.json`` on transfer between members. Empty without any."""
    if not folder.store.exists(TRANSFER):
        return {}
    return {"transfer": json.loads(folder.store.read(TRANSFER).decode("utf-8"))}


def _detectors(folder: RunFolder) -> dict[str, Any]:
    """Return the entry of ``run.json`` on the fitted detectors. Empty without a detector."""
    planned = folder.run["plan"]["searches"]
    names = {one["model"]: one["detector"] for one in planned if "detector" in one}
    models = list(folder.run["identity"]["models"])
    return {"detectors": facts_of_run(folder.store, models, names)} if names else {}


def _judged(
    run: Mapping[str, Any], blocks: Blocks, facts: Mapping[str, list[dict[str, Any]]]
) -> tuple[dict[str, Any], Sequence[Finding]]:
    """Return ``run.json`` with what follows from the records, and the findings."""
    known = {**run, "records": len(blocks), "clean_accuracy": _clean_accuracy(blocks)}
    warnings = findings(blocks, known, facts)
    known["warnings"] = [asdict(finding) for finding in warnings]
    return known, warnings


def _clean_accuracy(blocks: Blocks) -> dict[str, float]:
    samples = {model: blocks.samples(model) for model in blocks.models}
    return {
        model: float((own["clean_prediction"] == own["label"]).mean())
        for model, own in samples.items()
    }


def _facts(folder: RunFolder, numbers: Sequence[int]) -> Mapping[str, list[dict[str, Any]]]:
    """By model, the facts of each chunk, and those of attacks that reported any on a chunk."""
    facts: dict[str, list[dict[str, Any]]] = {}
    of_units: dict[int, list[tuple[str, dict[str, Any]]]] = {}
    for number in numbers:
        kept = folder.files.facts(number)
        for model, found in kept[CLEAN].items():
            facts.setdefault(model, []).append(found)
        for unit in folder.units_of(number):
            if name_of(unit.place) in kept:
                of_units.setdefault(unit.place, []).append((unit.model, kept[name_of(unit.place)]))
    for _, found_by_chunk in sorted(of_units.items()):
        for model, found in found_by_chunk:
            facts[model].append(found)
    return facts
