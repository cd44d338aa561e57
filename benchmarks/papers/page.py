"""The page ``docs/papers.md`` and the console tables, from committed results only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from art_ext.benchmarks.papers.claims import CELL, TREND
from art_ext.benchmarks.papers.results import RERUN, read_results
from art_ext.benchmarks.papers.schema import Scale, Table
from art_ext.benchmarks.papers.tables import find_tables, read_tables
from art_ext.benchmarks.papers.verdicts import DIFFERS, FAILS, HOLDS, NOT_RUN, OPEN, ORDERED
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
have a paired interval, means and medians a bootstrap over the samples that both rows have, and
trainings the t-interval over the seeds. A **table** is *reproduced* if its rows are. Else its
claims decide.

In a table the paper's number comes first. **Ours** is bold, and its 95 % interval stands in
brackets. A claim names its column and its rows. Behind its verdict is by how much the claimed side
is ahead on the samples that both rows have, of a trend that of the worst pair of neighbours. The
names of networks are those of the checkpoints below `ART_EXT_DATA`, and commands that name weights
are run in their folder. Queries and distances without a further word are means over the successes.
Columns of seconds are wall times, on two cores that other work shared.
"""
Result = Mapping[str, Any]
LISTED = ("id", "number", "what it shows", "tag", "n", "minutes")


def page(folder: Path | None = None) -> str:
    """Return the page.

    Args:
        folder: of the results. None: those that are committed.

    Raises:
        ValueError: for a result of another state of its table.
    """
    tables = read_tables()
    results = read_results(tables) if folder is None else read_results(tables, folder)
    found = [HEAD]
    papers = {
        source: [table for table in tables.values() if table.source == source]
        for source in dict.fromkeys(table.source for table in tables.values())
    }
    found.append("## All tables\n")
    for source, own in papers.items():
        found.append(f"**{source.title}** ({source.reference})\n\n{_overview(own, results)}")
    for source, own in papers.items():
        sections = [_section(one, results[one.id]) for one in own if one.id in results]
        if sections:
            found += [f"## {source.title}\n", *sections]
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
    if OPEN in verdicts:
        parts.append(f"{verdicts.count(OPEN)} undecided")
    if FAILS in verdicts:
        failed = verdicts.count(FAILS)
        parts.append(f"{failed} {'does' if failed == 1 else 'do'} not hold")
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
                    _minutes(results.get(table.id)),
                ),
                strict=True,
            )
        )
        for table in tables
    ]


def _number_of_images(result: Result | None) -> str:
    counts = [] if result is None else [one or "all" for one in result["n"].values()]
    return ", ".join(sorted(set(map(str, counts))))


def _minutes(result: Result | None) -> str:
    if result is None:
        return ""
    minutes = result["seconds"] / 60
    return f"{minutes:.1f}" if minutes >= 0.1 else "< 0.1"


def _overview(tables: Sequence[Table], results: Mapping[str, Result]) -> str:
    lines = []
    for table, one in zip(tables, listing(tables, results), strict=True):
        number = one["number"]
        if one["id"] in results:
            number = f"[{number}](#{anchor(table.title)})"
        lines.append((number, *(one[name] for name in LISTED[2:])))
    return markdown(("number", *LISTED[2:]), lines, (3, 4))


def anchor(title: str) -> str:
    """Return the anchor that sites give to a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _section(table: Table, result: Result) -> str:
    """Return the section of a table that was run."""
    scale = table.scales[result["scale"]]
    parts = [
        f"### {table.title}\n",
        f"{table.caption} Tag: **{tag_of(table, {table.id: result})}**.\n",
        rows_table(table, result),
        *([claims_list(table, result)] if result["claims"] else []),
        *([f"{table.differences}\n"] if table.differences else []),
    ]
    return "\n".join([*parts, _measurement(table, scale, result)])


def _measurement(table: Table, scale: Scale, result: Result) -> str:
    """Return the command of a table, and on what and by what it was measured."""
    facts = [
        f"{'all' if run.count is None else f'first {run.count:,}'} of {run.options['data']}"
        for run in scale.runs.values()
        if "data" in run.options
    ]
    counts = {count for count in _counts(result) if count}
    if len(counts) == 1 and counts != {1}:
        facts.append(f"n = {counts.pop():,}")
    if result["seeds"]:
        plural = "s" if len(result["seeds"]) > 1 else ""
        facts.append(f"seed{plural} {', '.join(map(str, result['seeds']))}")
    facts.append(f"{result['seconds']:.0f} s of one core")
    facts += [f"{name} {result['versions'][name]}" for name in ("art-ext", "torch")]
    facts.append(f"commit {result['commit']}")
    where = f" Needs {scale.needs}." if scale.needs else ""
    command = f"`art-ext papers run --table {table.id}`"
    return f"{command}: {', '.join(dict.fromkeys(facts))}.{where}\n"


def _counts(result: Result) -> list[int]:
    """Return the largest number of samples in the cells of each row, 0 without a cell."""
    return [max((one["n"] for one in row["cells"].values()), default=0) for row in result["rows"]]


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
    link = f"[{table.title}]({prefix}papers.md#{anchor(table.title)})"
    legend = "The paper's number comes first, **ours** is bold, with its 95 % interval."
    return f"{rows_table(table, results[name])}\n{legend} {link}: {tag_of(table, results)}.\n"


def rows_table(table: Table, result: Result) -> str:
    """Return ours beside the published numbers, as Markdown.

    The number of samples is in the rows if it is not the same everywhere.
    """
    counts = _counts(result)
    shared = len({*counts} - {0}) <= 1
    lines = []
    for row, count in zip(result["rows"], counts, strict=True):
        own = table.rows[row["row"]]
        cells = [_cell(row["cells"].get(name), own.published.get(name)) for name in table.columns]
        tag = row["tag"]
        if tag == DIFFERS:
            tag = f"differs in {', '.join(table.columns[name].title for name in row['off'])}"
        lines.append((own.title, *cells, *([] if shared else [f"{count or ''}"]), tag))
    heads = [
        f"{column.title}{f' ({column.unit})' if column.unit else ''}"
        for column in table.columns.values()
    ]
    return markdown(("row", *heads, *([] if shared else ["n"]), "tag"), lines)


def _cell(ours: Mapping[str, Any] | None, published: float | None) -> str:
    """Return the published number and ours with its interval."""
    parts = [] if published is None else [f"{published:g}"]
    if ours is not None and ours["value"] is not None:
        parts.append(f"**{short(ours['value'])}**{_interval(ours)}")
    return ", ".join(parts)


def _interval(one: Mapping[str, Any]) -> str:
    """Return the ends of an interval, nothing for an exact number."""
    if one["low"] is None or one["low"] == one["high"]:
        return ""
    return f" [{short(one['low'], 3)}, {short(one['high'], 3)}]"


def short(value: float, digits: int = 4) -> str:
    """Return a number of so many digits, or all those before the point."""
    return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def claim_text(table: Table, claim: str) -> str:
    """Return a claim with the titles of its rows and columns in place of their names."""
    trend = TREND.fullmatch(claim.strip())
    if trend is not None:
        return f"{table.columns[trend['column']].title} {trend['trend']} over {trend['key']}"
    columns = {column for _, column in CELL.findall(claim)}
    shared = len(columns) == 1

    def cell(found: re.Match[str]) -> str:
        row, column = table.rows[found[1]].title, table.columns[found[2]].title
        return f'"{row}"' if shared else f'"{row}" {column}'

    text = CELL.sub(cell, claim).replace(" * ", " x ")
    return f"{table.columns[columns.pop()].title}: {text}" if shared else text


def claims_list(table: Table, result: Result) -> str:
    """Return the claims with their verdicts, as a list in Markdown."""
    lines = []
    for claim in result["claims"]:
        ahead = ""
        if claim.get("value") is not None:
            sign = "+" if claim["value"] > 0 else ""
            count = f", n = {claim['n']:,}" if claim["n"] > 1 else ""
            ahead = f" ({sign}{short(claim['value'], 3)}{_interval(claim)}{count})"
        elif claim["verdict"] == OPEN:
            ahead = " (no sample that both rows have)"
        text = claim_text(table, claim["claim"])
        lines.append(f"* {text}: **{claim['verdict']}**{ahead}\n")
    return "".join(lines)
