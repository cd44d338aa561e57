"""A sweep, read from the command line and a file, with every cell checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from art_ext.configuration.files import laid_over, layered, read_values, toml_value
from art_ext.configuration.parsing import read_toml
from art_ext.configuration.places import place_of, placed
from art_ext.configuration.sweep import SweepConfig
from art_ext.core.checks import check_choice, nearest
from art_ext.storage.store import LocalStore
from art_ext.storage.sweeps import CELLS, folder_of_cell
from art_ext.sweeps.commands import COMMANDS, Command
from art_ext.sweeps.grid import Axis, axes_of, label, parse_axis, settings_of

EXAMPLES = Path(__file__).parent / "examples"
PARTS = ("command", "base", "grid", "zip", "table")
OF_TABLE = ("rows", "columns", "values", "over")
MOST = 1000  # cells without --yes


@dataclass(frozen=True, eq=False)
class Cell:
    """A run of a sweep.

    Attributes:
        settings: values by the keys of the grid.
        values: of the options of the command.
        config: the configuration.
        folder: of the run.
    """

    settings: Mapping[str, Any]
    values: Mapping[str, Any]
    config: Any
    folder: Path

    @property
    def label(self) -> str:
        """The settings as text."""
        return label(self.settings)


@dataclass(frozen=True, eq=False)
class Sweep:
    """A grid of runs of a command.

    Attributes:
        command: of the cells.
        base: options of all cells, in the types of TOML.
        axes: of the grid.
        cells: with every setting of the axes.
        rows, columns: keys of the axes of the table. Empty: there is none.
        values: names of the values of the table. Empty: those of the command.
        over: keys over which the table averages.
    """

    command: Command
    base: Mapping[str, Any]
    axes: Sequence[Axis]
    cells: Sequence[Cell]
    rows: str
    columns: str
    values: Sequence[str]
    over: Sequence[str]

    @property
    def keys(self) -> list[str]:
        """Keys of the grid."""
        return [key for axis in self.axes for key in axis.keys]

    @property
    def free(self) -> list[str]:
        """Keys over which the table does not average."""
        return [key for key in self.keys if key not in self.over]

    def beside(self, key: str) -> list[str]:
        """Return a key and those whose values go along with it. Empty for no key."""
        found = [axis.keys for axis in self.axes if key in axis.keys]
        return [one for keys in found for one in keys if one in self.free]


def read_sweep_plan(
    config: SweepConfig,
    command: str | None = None,
    given: Mapping[str, Any] | None = None,
    beside: Path | None = None,
) -> Sweep:
    """Return the sweep of a command line.

    Args:
        config: the options of the sweep.
        command: after ``--``. None: the one of the file.
        given: options after it. They win over the base of the file.
        beside: file of options that the command names, between these two. None: no file.

    Raises:
        ValueError: for a command, a key or a value that does not exist, an empty grid, cells that
            the command does not accept, two cells of one configuration, or more than 1,000 cells
            without ``yes``. Nothing is written.
    """
    file = None if config.config is None else find_file(config.config)
    content = {} if file is None else _content(file)
    name = command or content.get("command")
    if name is None:
        raise ValueError("a sweep needs a command: give -- train OPTIONS or -- evaluate OPTIONS")
    check_choice("command", name, tuple(COMMANDS))
    known = COMMANDS[name]
    if content and content.get("command", name) != name:
        raise ValueError(f"{file} is a sweep of {content['command']}, got the command {name}")
    own = layered(known.config, given or {}, beside, known.exclusive, known.other)
    base = laid_over(known.config, own, _base(known, content, file), known.exclusive)
    axes = _axes(config, content, file)
    count = 1
    for axis in axes:
        count *= len(axis.steps)
    if count > MOST and not config.yes:
        raise ValueError(f"the grid has {count:,} cells: give --yes for more than {MOST:,}")
    keys = [key for axis in axes for key in axis.keys]
    for key in keys:
        if key in base:
            raise ValueError(f"{key} is given twice: in the grid, and as an option of all cells")
    table = _table(config, content.get("table", {}))
    over = table["over"]
    for key in over:
        if key not in (*keys, SweepConfig.over):  # the default need not be in the grid
            raise ValueError(f"over must name keys of the grid, got {key!r}{nearest(key, keys)}")
    first = [axis.keys[0] for axis in axes if not {*axis.keys} & {*over}]
    rows, columns = _places(table, first, keys)
    cells = _cells(known, base, axes, Path(config.out))
    plain = {name: toml_value(value) for name, value in base.items()}
    return Sweep(known, plain, axes, cells, rows, columns, table["values"], over)


def find_file(file: Path) -> Path:
    """Return the file of a sweep, or the example of this name.

    Raises:
        ValueError: if there is none. The message names the nearest example.
    """
    if file.is_file():
        return file
    examples = {one.stem: one for one in sorted(EXAMPLES.glob("*.toml"))}
    if str(file) in examples:
        return examples[str(file)]
    raise ValueError(
        f"config must name a TOML file or an example, got {str(file)!r}"
        f"{nearest(str(file), examples)}. Examples: {', '.join(examples)}"
    )


def _content(file: Path) -> dict[str, Any]:
    """Return the content of the file of a sweep."""
    content = read_toml(file)
    for part in content:
        if part not in PARTS:
            raise ValueError(
                f"{place_of(file, part)}: unknown key {part!r}{nearest(part, PARTS)}. Known keys:"
                f" {', '.join(PARTS)}"
            )
    if not content:
        raise ValueError(f"{file} must hold a sweep, got an empty file")
    for part in ("base", "grid", "table"):
        if not isinstance(content.get(part, {}), Mapping):
            raise ValueError(f"{place_of(file, part)}: {part} must be a table")
    for key in content.get("table", {}):
        if key not in OF_TABLE:
            where = place_of(file, "table", key)
            raise ValueError(f"{where}: unknown key {key!r} of the table{nearest(key, OF_TABLE)}")
    return content


def _base(command: Command, content: Mapping[str, Any], file: Path | None) -> dict[str, Any]:
    """Return the options of all cells that a file gives."""
    if file is None:
        return {}
    table = {key.replace("-", "_"): value for key, value in content.get("base", {}).items()}
    return read_values(command.config, table, partial(place_of, file, "base"), command.other)


def _axes(config: SweepConfig, content: Mapping[str, Any], file: Path | None) -> list[Axis]:
    """Return the axes of the file. Those of the command line take the place of their keys."""
    own: dict[str, Any] = {}
    together: dict[str, Any] = {}
    for option, found in (("grid", own), ("zip", together)):
        for text in getattr(config, option):
            key, values = parse_axis(text, option)
            if key in found:
                raise ValueError(f"{option}: {key} is given twice")
            found[key] = values
    zipped = content.get("zip", [])
    tables = [zipped] if isinstance(zipped, Mapping) else list(zipped)
    with placed(file, ()):
        behind = axes_of(content.get("grid", {}), tables) if content.get("grid") or tables else []
    axes = list(behind)
    for axis in axes_of(own, [together] if together else []) if own or together else []:
        old = [number for number, one in enumerate(axes) if {*one.keys} & {*axis.keys}]
        place = old[0] if old else len(axes)
        axes = [one for number, one in enumerate(axes) if number not in old]
        axes.insert(place, axis)
    return axes or axes_of({})


def _table(config: SweepConfig, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the table: those of the command line over those of the file."""
    given = {name: getattr(config, name) for name in OF_TABLE}
    if "over" in content and given["over"] == SweepConfig.over:
        given.pop("over")
    found = {**content, **{name: value for name, value in given.items() if value is not None}}
    for name in ("values", "over"):
        parts = found.get(name, ())
        found[name] = [
            part.strip() for part in (parts.split(",") if isinstance(parts, str) else parts)
        ]
    return found


def _places(table: Mapping[str, Any], free: Sequence[str], keys: Sequence[str]) -> tuple[str, str]:
    """Return the keys of rows and columns: the given ones, or else the first of the grid."""
    found = []
    for place in ("rows", "columns"):
        name = table.get(place)
        if name is not None and name not in keys:
            raise ValueError(
                f"{place} must be a key of the grid ({', '.join(keys)}), got {name!r}"
                f"{nearest(name, keys)}"
            )
        found.append(name)
    rest = [key for key in free if key not in found]
    rows, columns = (name or (rest.pop(0) if rest else "") for name in found)
    if rows and rows == columns:
        raise ValueError(f"rows and columns must be two keys of the grid, got {rows} twice")
    return rows, columns


def _cells(
    command: Command, base: Mapping[str, Any], axes: Sequence[Axis], out: Path
) -> list[Cell]:
    """Return the cells of a grid, each with the configuration that the command accepts."""
    existing = LocalStore(out).names(CELLS)
    cells: dict[str, Cell] = {}
    for settings in settings_of(axes):
        values = command.values_of(base, settings)
        try:
            config = command.resolve(values, out / CELLS)
        except ValueError as error:
            raise ValueError(f"{error} (in the cell {label(settings)})") from error
        digest = command.digest(config)
        if digest in cells:
            raise ValueError(
                f"two cells are the same run: {cells[digest].label} and {label(settings)}"
            )
        folder = out / CELLS / folder_of_cell(existing, label(settings), digest)
        cells[digest] = Cell(settings, values, config, folder)
    return list(cells.values())
