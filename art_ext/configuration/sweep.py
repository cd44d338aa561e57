"""The options of ``art-ext sweep``, and the content of its file.

The grid is read by ``art_ext.sweeps.grid``.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path

from art_ext.configuration import shared
from art_ext.configuration.evaluation import EvaluationConfig
from art_ext.configuration.options import COMMAND, option, same_option

Texts = tuple[str, ...]  # of an option that may be given several times
_option = partial(option, hosts=COMMAND)
_same = partial(same_option, EvaluationConfig)
_table = partial(option, hosts=COMMAND, panel="Table")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """All options of a sweep from the command line."""

    out: str = _option(
        MISSING, "Folder of the sweep: new or empty, or that of this sweep.", metavar="FOLDER"
    )
    grid: Texts = _option(
        (),
        "An option of the command and its values, such as recipe_args.beta=6,9,12. Values with"
        " commas stand in brackets: model_args.channels=(4,8),(16,32). May be repeated.",
        metavar="KEY=VALUE,...",
    )
    zip: Texts = _option(
        (),
        "An option whose values go along with those of the other options of --zip. May be"
        " repeated.",
        metavar="KEY=VALUE,...",
    )
    config: Path | None = _option(
        None,
        "TOML file with command and the tables base, grid, zip and table, or the name of an example"
        " that ships. The command line wins over it.",
        metavar="FILE.toml",
    )
    rows: str | None = _table(
        None, "Option whose values are the rows. By default that of the first --grid."
    )
    columns: str | None = _table(
        None, "Option whose values are the columns. By default that of the second --grid."
    )
    values: str | None = _table(
        None,
        "Values that the table shows, separated by commas: any key of run.json, such as clean,"
        " pgd20 or minutes, a column of the history, or a column of an evaluation. By default clean"
        " and robust accuracy.",
    )
    over: str = _table("seed", "Options over whose values the table averages, separated by commas.")
    engine: str | None = _same("engine")
    workers: int | None = _same("workers")
    gpus_per_worker: float = _same("gpus_per_worker")
    threads_per_worker: int | None = _same("threads_per_worker")
    engine_args: str | None = _same("engine_args")
    dry_run: bool = _option(
        False, "Print the cells with their rows and an estimate of their time, and stop."
    )
    yes: bool = _option(False, "Allow more than 1,000 cells.")
    quiet: bool = _option(False, shared.QUIET)
