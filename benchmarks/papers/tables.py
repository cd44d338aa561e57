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
    source = "all but r20"              # of transfers. Default: that of the row
    at = 5                              # of transfers: success after this iteration
    within = 500                        # success within this number of queries
    value = "pgd20"                     # of trainings, instead of a measure, as sweeps name values
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
    like = "other"                      # the settings of another run or row, below these
    [small.rows.pgd]
    run = "mnist"                       # may be left out if there is one
    attack = "i_fgsm"
    arguments = {num_steps = 200}
    source = "r32"                      # of transfers. May be left out if there is one
    [small.runs.digits]                 # with recipe or preset: options of art-ext train
    recipe = "pgd"
    seeds = [0, 1, 2]
    evaluate = {panel = "standard"}     # options of art-ext evaluate on the trained weights
    [[small.runs.digits.evaluate.attack]]   # instead of panel: its members, as in a panel's file
    name = "margin"
    attack = "pgd"
    arguments = {loss = "margin"}
    [small.rows.fast]
    run = "digits"
    options = {recipe = "fast"}         # of trainings, over those of the run
    [small.check]                       # measures the rows without a run
    function = "hmcam:family"           # of the modules of checks
    steps = 6                           # its arguments
    [full]                              # what differs from [small]

A function of ``checks`` returns a number or a cell by row and column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from art_ext.benchmarks.papers.measures import MEASURES, is_timed
from art_ext.benchmarks.papers.parts import Part
from art_ext.benchmarks.papers.scales import SCALES, read_scales
from art_ext.benchmarks.papers.schema import Column, Row, Source, Table
from art_ext.configuration.parsing import read_toml
from art_ext.core.checks import nearest

FOLDER = Path(__file__).resolve().parent  # in a checkout, a link leads to it
SOURCES = "sources.toml"
KINDS = ("Table", "Figure")  # the order of a paper's lists


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


def read_table(file: Path, sources: Mapping[str, Source]) -> Table:
    """Read the file of a table.

    Args:
        file: of the table.
        sources: papers by key.

    Raises:
        ValueError: for a file that breaks the schema. The message names the line.
    """
    top = Part(file, (), read_toml(file))
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
        read_scales(top, rows),
        top.get("not_run", str, ""),
        file,
    )
    _check(table, top)
    return table


def _check(table: Table, top: Part) -> None:
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
        scales = table.scales.values()
        named = any(name in scale.rows for scale in scales)
        checked = any(scale.check for scale in scales)  # a check may leave rows out
        if table.scales and (named if row.not_run else not (named or checked)):
            part = Part(table.file, ("rows",), {})
            raise part.error(name, f"the row {name!r} has a setting, or not_run with the reason")


def _column(part: Part) -> Column:
    part.check(
        (*("title", "unit", "measure", "tolerance", "target", "source"), *("value", "within", "at"))
    )
    name = part.keys[-1]
    value = part.get("value", str, "")
    measure = part.get("measure", str, "exact" if value else name)
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
        part.get("source", str, ""),
        value,
        part.get("within", int, 0),
        part.get("at", int, 0),
    )


def _row(part: Part, columns: Mapping[str, Column]) -> Row:
    part.check(("title", "published", "at", "not_run"))
    published = part.numbers("published")
    Part(part.file, (*part.keys, "published"), published).check(tuple(columns))
    for name in published:
        if math.isnan(columns[name].tolerance) and not is_timed(columns[name]):
            raise part.error("published", f"the column {name!r} needs a tolerance")
    return Row(
        part.keys[-1],
        part.get("title", str, part.keys[-1]),
        published,
        part.numbers("at"),
        part.get("not_run", str, ""),
    )


def _read_sources(folder: Path) -> tuple[dict[str, Source], dict[str, Table]]:
    """Return the papers by key, and the tables without a file."""
    file = folder / SOURCES
    top = Part(file, (), read_toml(file))
    top.check(("papers", "not_run"))
    sources = {}
    for key, part in top.parts("papers").items():
        part.check(("title", "reference"))
        sources[key] = Source(key, part.get("title", str), part.get("reference", str))
    tables = {}
    for key, listed in top.get("not_run", dict).items():
        if key not in sources:
            raise top.error("not_run", f"unknown paper {key!r}{nearest(key, sources)}")
        for number, content in Part(file, ("not_run", key), listed).values.items():
            caption, reason = content
            name = f"{key}-{number.replace('Table ', '').replace('Figure ', 'figure-')}"
            tables[name] = Table(
                name, sources[key], number, caption, "", {}, {}, (), {}, reason, file
            )
    return sources, tables
