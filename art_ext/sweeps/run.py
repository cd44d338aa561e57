"""A sweep in its folder: which cells are missing, and the tables of those that are finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from art_ext import __version__
from art_ext.configuration.files import toml_value
from art_ext.evaluation.execution.engines import Workers
from art_ext.storage.locking import lock_of
from art_ext.storage.store import LocalStore
from art_ext.storage.sweeps import (
    CELLS,
    CELLS_TABLE,
    PAGE,
    TABLES,
    check_sweep,
    clear_temporary,
    write_sweep,
)
from art_ext.sweeps.plan import Cell, Sweep
from art_ext.sweeps.running import CellTask, Ended, Run, run_cells
from art_ext.sweeps.table import Group, cells_csv, groups_of, table_csv, table_markdown
from art_ext.sweeps.values import Value, check_values, default_values, unknown_value, values_of


@dataclass(eq=False)
class Results:
    """Values of the finished cells of a sweep, and errors of those that failed.

    Attributes:
        sweep: the sweep.
        names: of the values.
        values: of each cell by name. None: it is not finished. A value that it lacks is None.
        had: names of the values that some finished cell has.
        errors: messages of the cells that failed in this process, by their numbers.
        seconds: that cells took in this process, by their numbers.
    """

    sweep: Sweep
    names: Sequence[str]
    values: list[dict[str, Value] | None] = field(default_factory=list)
    had: set[str] = field(default_factory=set)
    errors: dict[int, str] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)

    def read(self, number: int) -> None:
        """Read the values of a finished cell."""
        cell = self.sweep.cells[number]
        found = values_of(self.sweep.command.name, cell.folder, self.names)
        self.had |= found.keys()
        self.values[number] = {name: found.get(name) for name in self.names}

    def check(self) -> None:
        """Raise ValueError for a value that no finished cell has. There may be none of them yet."""
        done = [number for number, values in enumerate(self.values) if values is not None]
        for name in self.names if done else ():
            if name not in self.had:
                folder = self.sweep.cells[done[0]].folder
                raise unknown_value(self.sweep.command.name, folder, name)

    @property
    def groups(self) -> list[Group]:
        """The cells over whose values the table averages."""
        return groups_of(self.sweep, self.names, self.values)

    def missing(self) -> list[int]:
        """Return the numbers of the cells that are not finished."""
        return [number for number, values in enumerate(self.values) if values is None]

    def plain(self) -> dict[str, Any]:
        """Return everything in the types of JSON."""
        sweep = self.sweep
        cells = []
        for number, cell in enumerate(sweep.cells):
            state = "finished" if self.values[number] is not None else "missing"
            one: dict[str, Any] = {
                "settings": {key: toml_value(value) for key, value in cell.settings.items()},
                "folder": f"{CELLS}/{cell.folder.name}",
                "state": "failed" if number in self.errors else state,
                "values": self.values[number],
            }
            if number in self.errors:
                one["error"] = self.errors[number]
            if number in self.seconds:
                one["seconds"] = self.seconds[number]
            cells.append(one)
        return {
            "version": __version__,
            "state": "running" if self.missing() and not self.errors else "complete",
            "command": sweep.command.name,
            "base": dict(sweep.base),
            "axes": [axis.plain() for axis in sweep.axes],
            "table": {"rows": sweep.rows, "columns": sweep.columns, "over": [*sweep.over]},
            "values": [*self.names],
            "cells": cells,
        }

    def write(self, store: LocalStore) -> None:
        """Write ``sweep.json`` and the tables."""
        groups = self.groups
        write_sweep(store, self.plain())
        store.write(CELLS_TABLE, cells_csv(self.sweep, self.names, self.values).encode())
        store.write(TABLES[0], table_csv(self.sweep, self.names, groups).encode())
        store.write(TABLES[1], table_markdown(self.sweep, self.names, groups).encode())


def begun_before(sweep: Sweep) -> Results:
    """Return the results of the cells that are finished.

    Raises:
        ValueError: for a value that the command does not have.
    """
    command = sweep.command
    names = sweep.values or default_values(command.name, [cell.config for cell in sweep.cells])
    for name in names:
        if name in sweep.keys:
            raise ValueError(f"values: {name} is a key of the grid, which the table shows anyway")
    check_values(command.name, names, [cell.config for cell in sweep.cells])
    results = Results(sweep, names, [None] * len(sweep.cells))
    for number, cell in enumerate(sweep.cells):
        if command.finished(cell.folder, cell.config):
            results.read(number)
    return results


def run_sweep(
    sweep: Sweep,
    out: Path,
    run: Run,
    workers: Workers | None = None,
    told: Callable[[Cell, Ended, Results], None] = lambda cell, ended, results: None,
) -> Results:
    """Run the cells of a sweep that are not finished, and write the tables and the page.

    A cell that fails is reported, and the others go on. Each cell is the run folder of its command,
    so that one that was killed goes on where it was.

    Args:
        sweep: the sweep.
        out: its folder. It is new, empty, or that of this sweep with the same or another grid.
        run: function of a module that runs the command with values in a folder.
        workers: that share the cells. None: this process runs one after the other.
        told: function that is called with each cell that has ended.

    Raises:
        ValueError: for a folder of another sweep or with other files, for one that another process
            writes into, and at the end for a value that no cell has.
    """
    from art_ext.sweeps.page import page

    store = LocalStore(out)
    check_sweep(store, sweep.command.name, sweep.base, sweep.keys)
    with lock_of(store):
        check_sweep(store, sweep.command.name, sweep.base, sweep.keys)  # it may have changed
        clear_temporary(store)
        results = begun_before(sweep)
        numbers = results.missing()
        results.write(store)

        def ended(place: int, one: Ended) -> None:
            number = numbers[place]
            results.seconds[number] = one.seconds
            if one.error is None:
                results.read(number)
            else:
                results.errors[number] = one.error
            results.write(store)
            told(sweep.cells[number], one, results)

        tasks = [CellTask(run, sweep.cells[one].values, sweep.cells[one].folder) for one in numbers]
        run_cells(tasks, workers, out, ended)
        store.write(PAGE, page(results).encode())
    results.check()
    return results
