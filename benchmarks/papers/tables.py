"""Files of published tables: their schema, and the list of all tables of the papers.

::

    id = "frank-wolfe-2.1"
    source = "frank-wolfe"              # a key of sources.toml
    number = "Table 2.1"
    caption = "Targeted white-box attacks on MNIST."
    differences = "How our setting differs from the paper's."
    claims = ["fw.iterations < pgd.iterations"]
    [columns.iterations]
    measure = "gradients"               # see measures.py. Default: the name of the column
    unit = "gradients"
    tolerance = "10 %"                  # of the published number, or a number in its unit
    target = "r20"                      # of transfers. Default: white-box
    [rows.pgd]
    title = "PGD"
    published = {success = 100.0, iterations = 6.2}
    at = {step = 0.05}                  # place along the keys of trends
    not_run = "method"                  # reason of a row without a setting
    [small]
    minutes = 2
    own = true                          # network and data are the paper's own
    [small.digests]                     # SHA-256 of files below ART_EXT_DATA
    [small.runs.mnist]                  # options of art-ext evaluate or, with source, of transfer
    [small.rows.pgd]
    run = "mnist"                       # may be left out if there is one
    attack = "i_fgsm"
    arguments = {num_steps = 200}
    source = "r32"                      # of transfers. May be left out if there is one
    [full]                              # what differs from [small]

A scale may hold ``check`` instead, a function of ``formulas`` that returns exact numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from art_ext.benchmarks.papers.measures import MEASURES
from art_ext.benchmarks.papers.schema import Column, Row, Scale, Setting, Source, Table
from art_ext.configuration.evaluation import EvaluationConfig
from art_ext.configuration.files import read_values
from art_ext.configuration.parsing import read_toml, read_value
from art_ext.configuration.places import place_of
from art_ext.configuration.transfer import TransferConfig
from art_ext.core.checks import nearest

FOLDER = Path(__file__).parent
SOURCES = "sources.toml"
SCALES = ("small", "full")
KINDS = ("Table", "Figure")  # the order of a paper's lists
# options of a run that the runner sets itself, or that need more than one model
RUNNERS = ("attacks", "attack_args", "panel", "models", "name", "detectors", "detector_files")


def read_tables(folder: Path = FOLDER) -> dict[str, Table]:
    """Return all tables of the papers by id: by paper, and by number.

    Raises:
        ValueError: for a file that breaks the schema. The message names the line.
    """
    sources, found = _read_sources(folder)
    for file in sorted(folder.glob("*.toml")):
        if file.name == SOURCES:
            continue
        table = read_table(file, sources)
        if table.id in found:
            raise ValueError(f"{file}: the table {table.id!r} stands in {found[table.id].file} too")
        found[table.id] = table
    places = {key: place for place, key in enumerate(sources)}

    def order(table: Table) -> tuple[Any, ...]:
        numbers = [int(one) if one.isdigit() else one for one in re.findall(r"\d+", table.number)]
        kind = table.number.partition(" ")[0]
        later = KINDS.index(kind) if kind in KINDS else len(KINDS)
        return places[table.source.key], later, kind, numbers, table.number

    return {table.id: table for table in sorted(found.values(), key=order)}


def find_tables(ids: Collection[str], tables: Mapping[str, Table]) -> list[Table]:
    """Return the tables of these ids, all without any.

    Raises:
        ValueError: for an unknown id. The message names the nearest one.
    """
    for one in ids:
        if one not in tables:
            raise ValueError(
                f"unknown table {one!r}{nearest(one, tables)}. art-ext papers list shows all"
            )
    return [tables[one] for one in ids] if ids else list(tables.values())


# --- the schema ---


class _Part:
    """A table of a file, whose keys are taken one by one.

    Args:
        file: of the table.
        keys: its place in the file.
        values: its content.
    """

    def __init__(self, file: Path, keys: tuple[str, ...], values: Mapping[str, Any]) -> None:
        self.file = file
        self.keys = keys
        self.values = values

    def error(self, key: str, text: str) -> ValueError:
        """Return an error about a key, with the line."""
        return ValueError(f"{place_of(self.file, *self.keys, key)}: {text}")

    def check(self, known: Sequence[str]) -> None:
        """Raise ValueError for a key that is not known."""
        for key in self.values:
            if key not in known:
                raise self.error(
                    key, f"unknown key {key!r}{nearest(key, known)}. Known keys: {', '.join(known)}"
                )

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Return a value of a type. Without a default it must be there."""
        if key not in self.values:
            if default is None:
                raise self.error("", f"{'.'.join((*self.keys, key))} must be given")
            return default
        value = self.values[key]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, kind):
            wanted = {"str": "a text", "float": "a number", "bool": "true or false"}
            name = wanted.get(kind.__name__, "a table" if kind is dict else "a list")
            raise self.error(key, f"{key} must be {name}, got {value!r}")
        return value

    def parts(self, key: str, default: Mapping[str, Any] | None = None) -> dict[str, _Part]:
        """Return the tables in a table, by name."""
        inner = self.get(key, dict, default)
        return {
            name: _Part(
                self.file,
                (*self.keys, key, name),
                _Part(self.file, (*self.keys, key), inner).get(name, dict),
            )
            for name in inner
        }

    def numbers(self, key: str) -> dict[str, float]:
        """Return a table of numbers. Empty if it is not there."""
        inner = _Part(self.file, (*self.keys, key), self.get(key, dict, {}))
        return {name: inner.get(name, float) for name in inner.values}


def read_table(file: Path, sources: Mapping[str, Source]) -> Table:
    """Read the file of a table.

    Args:
        file: of the table.
        sources: papers by key.

    Raises:
        ValueError: for a file that breaks the schema. The message names the line.
    """
    top = _Part(file, (), read_toml(file))
    top.check(
        (
            *("id", "source", "number", "caption", "differences", "claims", "columns", "rows"),
            *(*SCALES, "not_run"),
        )
    )
    key = top.get("source", str)
    if key not in sources:
        raise top.error("source", f"unknown source {key!r}{nearest(key, sources)}")
    columns = {name: _column(part) for name, part in top.parts("columns").items()}
    rows = {name: _row(part, columns) for name, part in top.parts("rows").items()}
    table = Table(
        top.get("id", str),
        sources[key],
        top.get("number", str),
        top.get("caption", str),
        top.get("differences", str, ""),
        columns,
        rows,
        tuple(top.get("claims", list, [])),
        _scales(top, rows),
        top.get("not_run", str, ""),
        file,
    )
    _check(table, top)
    return table


def _check(table: Table, top: _Part) -> None:
    """Raise ValueError unless claims name cells of the table, and each row has a setting."""
    if table.id != table.file.stem:
        raise top.error("id", f"id must be the name of the file, got {table.id!r}")
    if bool(table.scales) == bool(table.not_run):
        raise top.error("not_run", "a table has a part small or full, or not_run with the reason")
    for claim in table.claims:
        try:
            table.comparisons(claim)
        except ValueError as error:
            raise top.error("claims", str(error)) from error
    for name, row in table.rows.items():
        settings = [scale for scale in table.scales.values() if name in scale.rows or scale.check]
        if table.scales and bool(settings) == bool(row.not_run):
            part = _Part(table.file, ("rows",), {})
            raise part.error(name, f"the row {name!r} has a setting, or not_run with the reason")


def _column(part: _Part) -> Column:
    part.check(("title", "unit", "measure", "tolerance", "target"))
    name = part.keys[-1]
    measure = part.get("measure", str, name)
    if measure not in MEASURES and measure != "exact":
        raise part.error(
            "measure",
            f"unknown measure {measure!r}{nearest(measure, MEASURES)}. Known measures:"
            f" {', '.join(MEASURES)}, exact",
        )
    given = part.values.get("tolerance", math.nan)
    relative = isinstance(given, str)
    percent = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", given) if relative else None
    if relative and percent is None:
        raise part.error("tolerance", f"tolerance must be a number or '10 %', got {given!r}")
    tolerance = float(percent[1]) / 100 if percent else part.get("tolerance", float, math.nan)
    return Column(
        name,
        part.get("title", str, name.replace("_", " ")),
        part.get("unit", str, ""),
        measure,
        tolerance,
        relative,
        part.get("target", str, ""),
    )


def _row(part: _Part, columns: Mapping[str, Column]) -> Row:
    part.check(("title", "published", "at", "not_run"))
    published = part.numbers("published")
    _Part(part.file, (*part.keys, "published"), published).check(tuple(columns))
    for name in published:
        if math.isnan(columns[name].tolerance) and columns[name].measure != "seconds":
            raise part.error("published", f"the column {name!r} needs a tolerance")
    return Row(
        part.keys[-1],
        part.get("title", str, part.keys[-1]),
        published,
        part.numbers("at"),
        part.get("not_run", str, ""),
    )


def _scales(top: _Part, rows: Mapping[str, Row]) -> dict[str, Scale]:
    found: dict[str, Scale] = {}
    before: Mapping[str, Any] = {}
    for name in SCALES:
        if name in top.values:
            part = _Part(top.file, (name,), merged(before, top.get(name, dict)))
            found[name] = _scale(part, rows)
            before = part.values
    return found


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested tables with the values of another one over them."""
    found = {**base, **over}
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            found[key] = merged(base[key], value)
    return found


def _scale(part: _Part, rows: Mapping[str, Row]) -> Scale:
    from art_ext.benchmarks.papers.formulas import CHECKS

    part.check(("minutes", "own", "needs", "runs", "digests", "rows", "check"))
    check = part.get("check", str, "")
    if check and check not in CHECKS:
        raise part.error("check", f"unknown check {check!r}{nearest(check, CHECKS)}")
    runs = {name: _run(one) for name, one in part.parts("runs", {}).items()}
    settings = part.parts("rows", {})
    _Part(part.file, (*part.keys, "rows"), settings).check(tuple(rows))
    digests = _Part(part.file, (*part.keys, "digests"), part.get("digests", dict, {}))
    return Scale(
        part.keys[-1],
        part.get("minutes", float),
        part.get("own", bool, False),
        part.get("needs", str, ""),
        runs,
        {name: digests.get(name, str) for name in digests.values},
        {name: _setting(one, runs) for name, one in settings.items()},
        check,
    )


def _run(part: _Part) -> dict[str, Any]:
    """Return the options of a run, converted."""
    for name in RUNNERS:
        if name in part.values:
            raise part.error(name, f"{name} is not of a run: rows name their attacks")
    config = TransferConfig if "source" in part.values else EvaluationConfig
    return read_values(config, part.values, lambda name: place_of(part.file, *part.keys, name))


def _setting(part: _Part, runs: Mapping[str, Any]) -> Setting:
    part.check(("run", "attack", "arguments", "needs", "source"))
    run = part.get("run", str, next(iter(runs)) if len(runs) == 1 else None)
    if run not in runs:
        raise part.error("run", f"unknown run {run!r}{nearest(run, runs)}")
    arguments = {name: read_value(value) for name, value in part.get("arguments", dict, {}).items()}
    return Setting(
        run,
        part.get("attack", str),
        arguments,
        tuple(part.get("needs", list, [])),
        part.get("source", str, ""),
    )


def _read_sources(folder: Path) -> tuple[dict[str, Source], dict[str, Table]]:
    """Return the papers by key, and the tables without a file."""
    file = folder / SOURCES
    top = _Part(file, (), read_toml(file))
    top.check(("papers", "not_run"))
    sources = {}
    for key, part in top.parts("papers").items():
        part.check(("title", "reference"))
        sources[key] = Source(key, part.get("title", str), part.get("reference", str))
    tables = {}
    for key, listed in top.get("not_run", dict).items():
        if key not in sources:
            raise top.error("not_run", f"unknown paper {key!r}{nearest(key, sources)}")
        for number, content in _Part(file, ("not_run", key), listed).values.items():
            caption, reason = content
            name = f"{key}-{number.replace('Table ', '').replace('Figure ', 'figure-')}"
            tables[name] = Table(
                name, sources[key], number, caption, "", {}, {}, (), {}, reason, file
            )
    return sources, tables
