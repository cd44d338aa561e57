"""Rows that are trainings: one run folder for each row and seed, and the values of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from art_ext.benchmarks.papers.cells import Cell
from art_ext.benchmarks.papers.schema import Run, Setting, Table
from art_ext.configuration.files import toml_value
from art_ext.storage.files import write_atomically
from art_ext.sweeps.values import Value, is_share, values_of


def trained(
    table: Table, folder: Path, run: Run, rows: Mapping[str, Setting]
) -> dict[tuple[str, str], Cell]:
    """Train the rows of a run, or go on with them, and return their cells.

    Args:
        table: whose columns name values.
        folder: of the trainings.
        run: with the seeds.
        rows: with their options.
    """
    columns = {name: one.value for name, one in table.columns.items() if one.value}
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row, setting in rows.items():
        for seed in run.seeds:
            options = {**setting.options, "seed": seed}
            values = _values(folder / row / str(seed), options, run, [*columns.values()])
            for name, value in columns.items():
                one = values.get(value)
                if isinstance(one, (int, float)):
                    share = 100.0 if is_share(value) else 1.0
                    found.setdefault((row, name), {})[seed] = share * one
    return {
        place: Cell("seeds", np.array([*numbers], np.int64), np.array([*numbers.values()], float))
        for place, numbers in found.items()
    }


def _values(
    folder: Path, options: Mapping[str, Any], run: Run, names: Sequence[str]
) -> dict[str, Value]:
    """Return the values of one training and of its evaluation."""
    from art_ext.training.runs import resolve, run_training

    run_training(resolve(options), folder / "run", resume=True)
    found = values_of("train", folder / "run", names)
    if run.evaluate or run.attacks:
        found |= values_of("evaluate", _evaluated(folder, run), names)
    return found


def panel_of(members: Sequence[Mapping[str, Any]]) -> str:
    """Return the TOML text of a panel, whose members all get all samples."""
    import tomli_w

    return tomli_w.dumps({"mode": "independent", "attack": [toml_value(one) for one in members]})


def _evaluated(folder: Path, run: Run) -> Path:
    """Evaluate trained weights, or go on with it, and return the folder."""
    from art_ext.cli.evaluate import run_evaluation
    from art_ext.cli.sources import training_defaults
    from art_ext.configuration.evaluation import resolve_evaluation
    from art_ext.evaluation import Watcher

    out = folder / "evaluation"
    given = {**run.evaluate, "model": str(folder / "run")}
    if run.attacks:
        panel = folder / "panel.toml"
        write_atomically(panel, panel_of(run.attacks).encode())
        given["panel"] = str(panel)
    config = resolve_evaluation(given, defaults=training_defaults, out=str(out))
    run_evaluation(config, Watcher())
    return out
