"""The command ``art-ext sweep``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from art_ext.cli.shared import explained, given_values, with_options
from art_ext.cli.terminal import fitted_markdown, say
from art_ext.configuration.parsing import parse_arguments, parse_value
from art_ext.configuration.sweep import SweepConfig

if TYPE_CHECKING:
    from art_ext.evaluation.execution.engines import Workers
    from art_ext.sweeps.plan import Cell, Sweep
    from art_ext.sweeps.run import Results
    from art_ext.sweeps.running import Ended

SETTINGS = {"allow_extra_args": True}
USAGE = "[OPTIONS] -- train|evaluate [OPTIONS]"
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]  # of click, which later versions of Typer hold
FAILED = 1  # exit code where a cell failed


@with_options(SweepConfig)
def sweep(context: typer.Context, **options: Any) -> None:
    """Run a grid of trainings or evaluations, and write a table of their results.

    The command of the cells follows after --, without --out. A sweep that was killed goes on when
    the same command is given again. A larger grid adds cells.
    """
    out = options["out"]
    with explained(f"run the same command again: finished cells lie in {out}"):
        config = SweepConfig(**_converted(options))
        command, given, file = _command_of(context)
        from art_ext.evaluation.analysis.records import require_report
        from art_ext.evaluation.execution.engines import workers_of
        from art_ext.storage.store import LocalStore, local_folder
        from art_ext.storage.sweeps import check_sweep
        from art_ext.sweeps.plan import read_sweep_plan
        from art_ext.sweeps.run import run_sweep

        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        require_report()
        folder = local_folder(out, "sweep")
        plan = read_sweep_plan(config, command, given, file)
        workers = workers_of(
            config.engine,
            config.workers,
            config.gpus_per_worker,
            config.threads_per_worker,
            {
                name: parse_value(text)
                for name, text in parse_arguments(config.engine_args or "", "engine-args").items()
            },
        )
        check_sweep(LocalStore(folder), plan.command.name, plan.base, plan.keys)
        if config.dry_run:
            _show_plan(plan, workers)
            return
        told = _Told(len(plan.cells), config.quiet)
        results = run_sweep(plan, folder, RUNS[plan.command.name], workers, told)
        _show(results, folder, config.quiet)
    if results.errors:
        raise typer.Exit(FAILED)


def _converted(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the options in the types of their class."""
    found = {one.name: options[one.name] for one in fields(SweepConfig)}
    for name in ("grid", "zip"):
        found[name] = tuple(found[name] or ())
    return found


def _command_of(context: typer.Context) -> tuple[str | None, dict[str, Any], Path | None]:
    """Return the command after ``--``, its options, and the file that they name.

    Raises:
        ValueError: for another command, an option that it does not have, or one that is the
            sweep's.
    """
    from art_ext.core.checks import check_choice
    from art_ext.sweeps.commands import COMMANDS

    if not context.args:
        return None, {}, None
    name, *arguments = context.args
    check_choice("command", name, tuple(COMMANDS))
    parent: Any = context.parent
    inner = parent.command.get_command(parent, name)
    try:
        # the folder of a cell is the sweep's, but the command wants one
        own = inner.make_context(name, ["--out", "-", *arguments], parent=parent)
    except USAGE_ERROR as error:
        raise ValueError(f"{name}: {getattr(error, 'message', error)}") from error
    given = given_values(own, COMMANDS[name].config)
    for option in own.params:
        source = own.get_parameter_source(option)
        beside = source is not None and source.name != "DEFAULT" and option not in given
        if (
            beside
            and option not in ("config", "quiet")
            and (option, own.params["out"]) != ("out", "-")
        ):
            raise ValueError(
                f"{name}: --{option.replace('_', '-')} is not for cells: give it to art-ext sweep,"
                " or leave it out"
            )
    return name, given, own.params["config"]


class _Told:
    """A line on stderr for each cell that has ended.

    Args:
        cells: number of cells.
        quiet: lines on failures only.
    """

    def __init__(self, cells: int, quiet: bool) -> None:
        self._cells = cells
        self._quiet = quiet

    def __call__(self, cell: Cell, ended: Ended, results: Results) -> None:
        from art_ext.core.wording import duration
        from art_ext.sweeps.table import summary
        from art_ext.sweeps.values import is_share

        done = self._cells - len(results.missing()) + len(results.errors)
        if ended.error is not None:
            say(f"[{done}/{self._cells}] {cell.label}: failed: {ended.error}", err=True)
        elif not self._quiet:
            values = results.values[results.sweep.cells.index(cell)] or {}
            told = [
                f"{name} {summary([value]).text(is_share(name))}" for name, value in values.items()
            ]
            spent = duration(ended.seconds)
            say(f"[{done}/{self._cells}] {cell.label}: {', '.join(told)}, {spent}", err=True)


def _show_plan(plan: Sweep, workers: Workers | None) -> None:
    """Print the cells with their rows and times, and the time of all."""
    from art_ext.core.wording import counted, duration
    from art_ext.sweeps.estimate import estimates
    from art_ext.sweeps.run import begun_before

    missing = set(begun_before(plan).missing())
    left = [cell for number, cell in enumerate(plan.cells) if number in missing]
    found = dict(zip(map(id, left), estimates(plan, left), strict=True))
    for cell in plan.cells:
        say(f"{cell.label}: {found[id(cell)].text if id(cell) in found else 'finished'}")
    share = 1 if workers is None else workers.number
    seconds = [one.seconds for one in found.values() if one.seconds is not None]
    unknown = len(found) - len(seconds)
    without = f", without {counted(unknown, 'cell')} of unknown time" if unknown else ""
    shared = f", shared by {counted(share, 'worker')}" if share > 1 else ""
    done = (
        f", {len(plan.cells) - len(left)} of them finished" if len(left) < len(plan.cells) else ""
    )
    total = duration(sum(seconds) / share) if seconds else "time unknown"
    say(f"{counted(len(plan.cells), 'cell')}{done}: about {total}{shared}{without}")


def _show(results: Results, folder: Path, quiet: bool) -> None:
    """Print the table, and the cells that failed."""
    from art_ext.core.wording import counted
    from art_ext.sweeps.table import long_table

    table = long_table(results.sweep, results.names, results.groups)
    typer.echo(fitted_markdown(table, results.names))
    if results.errors:
        cells = counted(len(results.errors), "cell")
        say(f"{cells} failed. The same command tries them again", err=True)
    if not quiet:
        say(f"sweep: {folder}")


# --- the cells: functions of a module, which workers import ---


def run_training_cell(values: Mapping[str, Any], folder: Path) -> None:
    """Train, or continue the training of a cell."""
    from art_ext.training.runs import resolve, run_training

    run_training(resolve(values), folder, resume=True)


def run_evaluation_cell(values: Mapping[str, Any], folder: Path) -> None:
    """Evaluate, or continue the evaluation of a cell."""
    from art_ext.cli.evaluate import run_evaluation
    from art_ext.evaluation import Watcher
    from art_ext.sweeps.commands import COMMANDS

    run_evaluation(COMMANDS["evaluate"].resolve(values, folder), Watcher())


RUNS = {"train": run_training_cell, "evaluate": run_evaluation_cell}
