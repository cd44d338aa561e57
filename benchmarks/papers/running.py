"""Measurement of a table: runs of ``evaluate`` or ``transfer``, with one member for each row."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.benchmarks.papers.cells import Cell, exact
from art_ext.benchmarks.papers.measures import MEASURES, cell_of
from art_ext.benchmarks.papers.results import Measured, result_of
from art_ext.benchmarks.papers.scales import function_of
from art_ext.benchmarks.papers.schema import Check, Column, Run, Scale, Setting, Table
from art_ext.benchmarks.papers.trainings import panel_of, trained
from art_ext.models.factory import digest_of_file
from art_ext.storage.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd


class NotRunError(ValueError):
    """A machine does not have what a table needs."""


def run_table(table: Table, scale: str, out: Path) -> dict[str, Any]:
    """Measure a table and judge its rows and claims.

    A table that was killed goes on from its units of work.

    Args:
        table: to measure.
        scale: ``"small"`` or ``"full"``.
        out: folder of the runs. Each state of the file has folders of its own.

    Returns:
        The result, as its JSON file holds it.

    Raises:
        NotRunError: if the table has no such setting, or the machine lacks what it needs.
        ValueError: for settings that ``evaluate`` does not take.
    """
    if scale not in table.scales:
        raise NotRunError(table.not_run or f"it has no part [{scale}]")
    settings = table.scales[scale]
    _check_files(settings)
    reasons = {
        name: f"needs {missing}"
        for name, one in settings.rows.items()
        if (missing := ", ".join(need for need in one.needs if find_spec(need) is None))
    }
    folder = out / f"{table.id}.{scale}-{table.digest[:8]}"
    found: dict[tuple[str, str], Cell] = {}
    seconds = 0.0
    for name, run in settings.runs.items():
        rows = {
            row: one for row, one in settings.rows.items() if one.run == name and row not in reasons
        }
        if rows:
            begun = time.process_time()
            found |= _run(table, folder / name, run, rows)
            seconds += _spent(folder / f"{name}.seconds", time.process_time() - begun)
    if settings.check is not None:
        begun = time.process_time()
        found |= _checked(settings.check)
        seconds += time.process_time() - begun
    return result_of(table, settings, Measured(found, reasons, seconds))


def _checked(check: Check) -> dict[tuple[str, str], Cell]:
    """Return the cells that a check measures."""
    try:
        measured = function_of(check)()
    except ModuleNotFoundError as error:
        raise NotRunError(f"needs {error.name}") from error
    return {
        (row, column): value if isinstance(value, Cell) else exact(value)
        for row, numbers in measured.items()
        for column, value in numbers.items()
    }


def _run(
    table: Table, folder: Path, run: Run, rows: Mapping[str, Setting]
) -> dict[tuple[str, str], Cell]:
    """Return the cells of the rows of one run."""
    if run.kind == "train":
        return trained(table, folder, run, rows)
    folder.mkdir(parents=True, exist_ok=True)
    panel = folder.parent / f"{folder.name}.toml"
    write_atomically(panel, _panel(rows).encode())
    given = {**run.options, "panel": str(panel)}
    transfers = run.kind == "transfer"
    records = (_transferred if transfers else _evaluated)(given, folder)
    found = {}
    for row, setting in rows.items():
        own = records[records["attack"] == _label(row)]
        source = setting.source or (next(iter(records["source"])) if transfers else "")
        measured = {name: one for name, one in table.columns.items() if one.measure in MEASURES}
        for name, column in measured.items():
            counted = _on_target(own, column, source) if transfers else own
            if len(counted):  # else the run has no such target
                found[row, name] = cell_of(column, counted)
    return found


def _on_target(records: pd.DataFrame, column: Column, source: str) -> pd.DataFrame:
    """Return the records of transfers to the target of a column as those of an evaluation.

    The examples are those of the source of the column, or else of the given one.

    A success is one of the strict metric: among the samples that both models classify right.
    Without a target it is white-box, among those that the source does.
    """
    records = records[records["at"] == column.at]
    records = records[records["source"] == (column.source or source)]
    if column.target:
        own = records[records["target"] == column.target]
        attacked, success = own["strict"].notna(), own["strict"].eq(True)
        prediction = own["target_prediction"]
    else:
        own = records[records["target"] == next(iter(records["target"]), None)]
        prediction = own["source_prediction"]
        attacked = prediction.eq(own["label"]) & own["target_class"].ne(own["label"])
        success = own["whitebox"]
    return own.assign(
        attacked=attacked,
        success=success,
        already_adversarial=False,
        clean_prediction=prediction,
        queries_to_success=own["queries"],
    )


def _evaluated(given: dict[str, Any], folder: Path) -> pd.DataFrame:
    """Run ``art-ext evaluate``, or go on with it, and return its records."""
    from art_ext.cli.evaluate import run_evaluation
    from art_ext.configuration.evaluation import resolve_evaluation
    from art_ext.evaluation import Watcher, read_records

    if "weights" in given:
        given["weights"] = tuple(str(_in_data(one)) for one in given["weights"])
    run_evaluation(resolve_evaluation(given, out=str(folder)), Watcher())
    return read_records(folder)


def _transferred(given: dict[str, Any], folder: Path) -> pd.DataFrame:
    """Run ``art-ext transfer``, or go on with it, and return its records."""
    from art_ext.cli.transfer import run_transfer
    from art_ext.configuration.transfer import resolve_transfer
    from art_ext.evaluation import Watcher

    for name in ("source", "target"):
        texts = [text.rpartition("@") for text in given.get(name, ())]
        given[name] = tuple(
            f"{model}@{_in_data(weights)}" if model else weights for model, _, weights in texts
        )
    return run_transfer(resolve_transfer(given, out=str(folder)), Watcher()).records


def _spent(file: Path, seconds: float) -> float:
    """Return the processor time of a run, which the process that completes it notes in a file."""
    if not file.is_file():
        write_atomically(file, f"{seconds}".encode())
    return float(file.read_text(encoding="utf-8"))


def _label(row: str) -> str:
    """Return the name of the member of a row, which is no attack's name."""
    return f"row {row}"


def _panel(rows: Mapping[str, Setting]) -> str:
    """Return the TOML text of the panel of some rows."""
    return panel_of(
        [
            {"name": _label(name), "attack": one.attack, "arguments": one.arguments}
            for name, one in rows.items()
        ]
    )


def _in_data(name: str) -> Path:
    """Return the path of a file in the folder of the data."""
    return Path(os.environ.get("ART_EXT_DATA", "")) / name


def _check_files(scale: Scale) -> None:
    """Raise NotRunError unless the files that a scale needs are there with their digests."""
    if scale.digests and not os.environ.get("ART_EXT_DATA"):
        raise NotRunError(f"ART_EXT_DATA names no folder with {', '.join(scale.digests)}")
    for name, digest in scale.digests.items():
        file = _in_data(name)
        if not file.is_file():
            raise NotRunError(f"the folder of ART_EXT_DATA holds no {name}")
        found = digest_of_file(file)
        if found != digest:
            raise NotRunError(f"{name} has the digest {found[:12]}, wanted {digest[:12]}")
