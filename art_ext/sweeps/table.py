"""The table of a sweep: mean and spread of each value over the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from art_ext.configuration.files import toml_value
from art_ext.core.wording import aligned
from art_ext.evaluation.analysis.table import UNKNOWN, csv_rows
from art_ext.sweeps.grid import short_names, shown
from art_ext.sweeps.plan import Sweep
from art_ext.sweeps.values import Value, is_share

Found = Sequence[Mapping[str, Value] | None]  # values of each cell. None: it is not finished


@dataclass(frozen=True)
class Summary:
    """A value over several cells.

    Attributes:
        mean: of the numbers. A text if it is the same in all cells. None: there is none.
        spread: standard deviation of the numbers. None for fewer than two.
        count: number of cells that have the value.
    """

    mean: Value
    spread: float | None
    count: int

    def text(self, share: bool) -> str:
        """Return mean and spread as text. Fractions are in percent."""
        if self.mean is None or isinstance(self.mean, str):
            return self.mean or UNKNOWN
        if share:
            spread = "" if self.spread is None else f" ± {100 * self.spread:.1f}"
            return f"{100 * self.mean:.1f}{spread} %"
        spread = "" if self.spread is None else f" ± {self.spread:.2g}"
        return f"{self.mean:.4g}{spread}"


@dataclass(frozen=True)
class Group:
    """Cells that differ in the seed only.

    Attributes:
        settings: what they share, by key.
        cells: their number, and how many of them are finished.
        values: by name.
    """

    settings: Mapping[str, Any]
    cells: tuple[int, int]
    values: Mapping[str, Summary]


def groups_of(sweep: Sweep, names: Sequence[str], found: Found) -> list[Group]:
    """Return the groups of cells over whose values the table averages, in their order."""
    members: dict[tuple[str, ...], list[int]] = {}
    for number, cell in enumerate(sweep.cells):
        own = tuple(shown(value) for key, value in cell.settings.items() if key not in sweep.over)
        members.setdefault(own, []).append(number)
    groups = []
    for numbers in members.values():
        settings = sweep.cells[numbers[0]].settings
        done = [one for number in numbers if (one := found[number]) is not None]
        groups.append(
            Group(
                {key: value for key, value in settings.items() if key not in sweep.over},
                (len(numbers), len(done)),
                {name: summary([one[name] for one in done]) for name in names},
            )
        )
    return groups


def summary(values: Sequence[Value]) -> Summary:
    """Return the mean of values, and their spread."""
    numbers = [float(one) for one in values if one is not None and not isinstance(one, str)]
    numbers = [one for one in numbers if not math.isnan(one)]
    texts = {one for one in values if isinstance(one, str)}
    if not numbers:
        return Summary(texts.pop() if len(texts) == 1 else None, None, 0)
    return Summary(fmean(numbers), stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def cells_csv(sweep: Sweep, names: Sequence[str], found: Found) -> str:
    """Return one line for each cell: its settings, values, and folder."""
    rows = [
        {
            **{key: _plain(value) for key, value in cell.settings.items()},
            **(values or dict.fromkeys(names)),
            "folder": cell.folder.name if values is not None else None,
        }
        for cell, values in zip(sweep.cells, found, strict=True)
    ]
    return csv_rows([*sweep.keys, *names, "folder"], rows)


def table_csv(sweep: Sweep, names: Sequence[str], groups: Sequence[Group]) -> str:
    """Return one line for each group: settings, number of runs, mean and spread of each value."""
    rows = []
    for group in groups:
        row = {key: _plain(value) for key, value in group.settings.items()}
        row["runs"] = group.cells[1]
        for name, one in group.values.items():
            row |= {name: one.mean, f"{name}_spread": one.spread}
        rows.append(row)
    columns = [column for name in names for column in (name, f"{name}_spread")]
    return csv_rows([*sweep.free, "runs", *columns], rows)


def _plain(value: Any) -> Any:
    return shown(toml_value(value))


def table_markdown(sweep: Sweep, names: Sequence[str], groups: Sequence[Group]) -> str:
    """Return the tables as Markdown: all groups, then each value by rows and columns."""
    parts = [long_table(sweep, names, groups)]
    if sweep.rows and sweep.columns:
        short = short_names(sweep.keys)
        for name in names:
            for settings, text in crossed(sweep, name, groups):
                rest = "".join(f", {short[key]} {shown(one)}" for key, one in settings.items())
                parts.append(f"{name}{rest}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def long_table(sweep: Sweep, names: Sequence[str], groups: Sequence[Group]) -> str:
    """Return a table with one line for each group."""
    short = short_names(sweep.keys)
    lines = [
        [
            *(shown(group.settings[key]) for key in sweep.free),
            counted_cells(group),
            *(group.values[name].text(is_share(name)) for name in names),
        ]
        for group in groups
    ]
    return aligned(
        [*(short[key] for key in sweep.free), "runs", *names], lines, range(len(sweep.free))
    )


def counted_cells(group: Group) -> str:
    """Return the number of finished cells of a group, and of all if some are missing."""
    whole, done = group.cells
    return str(whole) if done == whole else f"{done} of {whole}"


def crossed(sweep: Sweep, name: str, groups: Sequence[Group]) -> list[tuple[dict[str, Any], str]]:
    """Return tables of a value by rows and columns: one for each setting of the other keys."""
    found = []
    for settings, grid in grids(sweep, groups):
        columns = list(dict.fromkeys(column for _, column in grid))
        rows = list(dict.fromkeys(row for row, _ in grid))
        lines = [
            [
                row,
                *(
                    grid[row, column].values[name].text(is_share(name))
                    if (row, column) in grid
                    else UNKNOWN
                    for column in columns
                ),
            ]
            for row in rows
        ]
        head = f"{title(sweep, sweep.rows)} \\ {title(sweep, sweep.columns)}"
        found.append((settings, aligned([head, *columns], lines, (0,))))
    return found


def title(sweep: Sweep, key: str) -> str:
    """Return the short name of a key, with those whose values go along with it."""
    short = short_names(sweep.keys)
    return ", ".join(short[one] for one in sweep.beside(key))


def grids(
    sweep: Sweep, groups: Sequence[Group]
) -> list[tuple[dict[str, Any], dict[tuple[str, str], Group]]]:
    """Return the groups by the texts of row and column, for each setting of the other keys."""
    found: dict[tuple[str, ...], tuple[dict[str, Any], dict[tuple[str, str], Group]]] = {}
    rows, columns = sweep.beside(sweep.rows), sweep.beside(sweep.columns)
    for group in groups:
        rest = {key: value for key, value in group.settings.items() if key not in (*rows, *columns)}
        place = tuple(map(shown, rest.values()))
        row, column = (
            ", ".join(shown(group.settings[key]) for key in of) for of in (rows, columns)
        )
        found.setdefault(place, (rest, {}))[1][row, column] = group
    return list(found.values())
