"""The page ``docs/papers.md`` and the console tables, from committed results only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from art_ext.benchmarks.papers.results import RERUN, read_results
from art_ext.benchmarks.papers.schema import Column, Table
from art_ext.benchmarks.papers.tables import find_tables, read_tables
from art_ext.benchmarks.papers.verdicts import DIFFERS, HOLDS, NOT_RUN, ORDERED
from art_ext.core.wording import markdown

HEAD = """# The papers' tables

Each published table or figure of the five papers is a file, with its rows, our settings and its
claims. `art-ext papers run` measures them, and `art-ext papers page` writes this page from the
results. A file is committed before its result.

A **row** is *reproduced* if network and data are the paper's own, or of its kind as the section
says, and each published number lies within the tolerance of its column or within our 95 % interval.
It *differs* otherwise. Rows of *other setting* are not compared, and rows of *ours* are not in the
paper. A **claim** *holds* if the 95 % interval of the difference lies on the claimed side, and
*does not hold* if it lies on the other one. Otherwise it is *undecided*. Shares on the same samples
have a paired interval, means and medians a bootstrap over the samples that both rows have. A
**table** is *reproduced* if its rows are. Else its claims decide.

`art-ext papers show ID` prints one table, and `art-ext papers run --table ID` measures it again.
The names of the networks are those of the checkpoints below `ART_EXT_DATA`. Brackets hold 95 %
intervals. Columns of seconds are wall times, on two cores that other work shared.
"""
Result = Mapping[str, Any]
LISTED = ("id", "number", "what it shows", "tag", "n", "seconds")


def page(folder: Path | None = None) -> str:
    """Return the page.

    Args:
        folder: of the results. None: those that are committed.

    Raises:
        ValueError: for a result of another state of its table.
    """
    tables = read_tables()
    results = read_results(tables) if folder is None else read_results(tables, folder)
    found = [HEAD, "## All tables\n"]
    for source in dict.fromkeys(table.source for table in tables.values()):
        own = [table for table in tables.values() if table.source == source]
        found.append(f"### {source.title}\n\n{source.reference}.\n\n{_overview(own, results)}")
    found += [_section(table, results[name]) for name, table in tables.items() if name in results]
    return "\n".join(found)


def tag_of(table: Table, results: Mapping[str, Result]) -> str:
    """Return the tag of a table, measured or not, and how much of the table it is about."""
    if table.id not in results:
        return f"{NOT_RUN} ({table.not_run or 'time'})"
    result = results[table.id]
    parts = [str(result["tag"])]
    verdicts = [claim["verdict"] for claim in result["claims"]]
    if verdicts and not parts[0].startswith(ORDERED):
        parts.append(f"{verdicts.count(HOLDS)} of {len(verdicts)} claims hold")
    published = [row for row in result["rows"] if table.rows[row["row"]].published]
    run = [row for row in published if row["cells"]]
    if len(run) < len(published):
        parts.append(f"{len(run)} of {len(published)} published rows run")
    return ", ".join(parts if result["scale"] == "small" else [*parts, result["scale"]])


def listing(tables: Sequence[Table], results: Mapping[str, Result]) -> list[dict[str, str]]:
    """Return a line for each table, by the names of ``LISTED``."""
    return [
        dict(
            zip(
                LISTED,
                (
                    table.id,
                    table.number,
                    table.caption.rstrip("."),
                    tag_of(table, results),
                    _number_of_images(results.get(table.id)),
                    f"{results[table.id]['seconds']:.0f}" if table.id in results else "",
                ),
                strict=True,
            )
        )
        for table in tables
    ]


def _number_of_images(result: Result | None) -> str:
    counts = [] if result is None else sorted({str(one) for one in result["n"].values()})
    return ", ".join(counts)


def _overview(tables: Sequence[Table], results: Mapping[str, Result]) -> str:
    lines = []
    for one in listing(tables, results):
        number = one["number"]
        if one["id"] in results:
            number = f"[{number}](#{anchor(one['id'])})"
        lines.append((number, *(one[name] for name in LISTED[2:])))
    return markdown(("number", *LISTED[2:]), lines)


def anchor(name: str) -> str:
    """Return the anchor of the section of a table."""
    return re.sub(r"[^\w-]", "", name)


def _section(table: Table, result: Result) -> str:
    """Return the section of a table that was run."""
    scale = table.scales[result["scale"]]
    tags = f"Tag: **{tag_of(table, {table.id: result})}**"
    measured = ", ".join(
        f"{name} {result['versions'][name]}" for name in ("art-ext", "torch", "numpy")
    )
    seeds = ", ".join(map(str, result["seeds"])) or "none"
    parts = [
        f'<a id="{anchor(table.id)}"></a>\n\n## {table.title}\n',
        f"{table.caption} {tags}.\n",
        rows_table(table, result),
    ]
    if result["claims"]:
        parts.append(claims_table(result))
    if table.differences:
        parts.append(f"{table.differences}\n")
    where = f" Needs {scale.needs}." if scale.needs else ""
    parts.append(
        f"`art-ext papers run --table {table.id}`: {result['seconds']:.0f} s of one core, seeds"
        f" {seeds}, {measured}, commit {result['commit']}.{where}\n"
    )
    return "\n".join(parts)


def excerpt(name: str, prefix: str) -> str:
    """Return the rows of a measured table for another page, and a link to its section.

    Args:
        name: id of the table.
        prefix: path from that page to the folder of this one.

    Raises:
        ValueError: for an unknown table, and for one without a result.
    """
    tables = read_tables()
    results = read_results(tables)
    (table,) = find_tables([name], tables)
    if name not in results:
        raise ValueError(f"the table {name} has no result yet: {RERUN.format(name)}")
    link = f"[{table.title}]({prefix}papers.md#{anchor(name)})"
    return f"{rows_table(table, results[name])}\n{link}: {tag_of(table, results)}.\n"


def rows_table(table: Table, result: Result) -> str:
    """Return ours beside the published numbers, as Markdown."""
    heads = [
        f"{column.title}{f' ({column.unit})' if column.unit else ''}: paper, ours"
        for column in table.columns.values()
    ]
    lines = []
    for row in result["rows"]:
        own = table.rows[row["row"]]
        cells = [
            _cell(column, row["cells"].get(name), own.published.get(name))
            for name, column in table.columns.items()
        ]
        counts = [one["n"] for one in row["cells"].values()]
        tag = row["tag"]
        if tag == DIFFERS:
            tag = f"differs in {', '.join(table.columns[name].title for name in row['off'])}"
        lines.append((own.title, *cells, str(max(counts, default="")), tag))
    return markdown(("row", *heads, "n", "tag"), lines)


def _cell(column: Column, ours: Mapping[str, Any] | None, published: float | None) -> str:
    """Return the published number and ours with its interval."""
    first = "-" if published is None else f"{published:g}"
    if ours is None or ours["value"] is None:
        return f"{first}, -"
    second = f"{first}, **{short(ours['value'])}**"
    if ours["low"] is None or ours["low"] == ours["high"]:
        return second
    return f"{second} [{short(ours['low'])}, {short(ours['high'])}]"


def short(value: float) -> str:
    """Return a number with at most three digits after the point, or four in all."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def claims_table(result: Result) -> str:
    """Return the claims with their verdicts, as Markdown."""
    lines = []
    for claim in result["claims"]:
        numbers = "-"
        if claim.get("value") is not None:
            numbers = short(claim["value"])
            if claim["low"] is not None and claim["low"] != claim["high"]:
                numbers += f" [{short(claim['low'])}, {short(claim['high'])}]"
        lines.append((f"`{claim['claim']}`", claim["verdict"], numbers, str(claim.get("n", ""))))
    return markdown(("claim", "verdict", "difference in its favour", "n"), lines)
