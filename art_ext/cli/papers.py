"""The commands ``art-ext papers list``, ``run``, ``show`` and ``page``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.shared import explained
from art_ext.cli.terminal import fitted_markdown, say

if TYPE_CHECKING:
    from art_ext.benchmarks.papers.schema import Table

app = typer.Typer(no_args_is_help=True)
FAILED = 1  # exit code where a table could not be run
Results = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder of the JSON files. By default benchmarks/papers/results in a checkout, and"
        " --out elsewhere.",
    ),
]
Choice = Annotated[
    str, typer.Option(metavar="ID,ID", help="Tables, separated by commas. By default all.")
]


@app.callback()
def papers() -> None:
    """Run the papers' published tables, and show what comes out beside what is printed."""


@app.command("list")
def list_tables(
    results: Results = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List all tables and figures with their tags."""
    with explained():
        import json

        from art_ext.benchmarks.papers.page import LISTED, listing
        from art_ext.core.wording import aligned

        tables, found = _read(results)
        lines = listing(list(tables.values()), found)
        if as_json:
            typer.echo(json.dumps(lines, indent=1))
            return
        text = aligned(LISTED, [tuple(line.values()) for line in lines], words=range(4))
        typer.echo(fitted_markdown(text, ("id", "tag")))


@app.command()
def run(
    table: Choice = "",
    scale: Annotated[
        str, typer.Option(help="small: minutes on two cores. full: the paper's own size.")
    ] = "small",
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the tables.")] = 1,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of the runs, which go on after a kill.")
    ] = Path("runs/papers"),
    results: Results = None,
    start: Annotated[
        bool, typer.Option("--start", help="With --scale full: run, and do not only print.")
    ] = False,
) -> None:
    """Measure tables, judge their claims, and write a JSON file for each."""
    with explained(f"run the same command again: what is finished lies in {out}"):
        from art_ext.benchmarks.papers.results import RESULTS, is_checkout
        from art_ext.benchmarks.papers.tables import SCALES, find_tables, read_tables
        from art_ext.core.checks import check_choice

        check_choice("scale", scale, SCALES)
        chosen = find_tables(_ids(table), read_tables())
        if not table:
            chosen = [one for one in chosen if scale in one.scales]
        if scale == "full" and not start:
            _print_commands(chosen)
            return
        folder = results or (RESULTS if is_checkout() else out)
        _check_writable(folder)
        failed = _run_all(chosen, scale, jobs, out, folder)
    if failed:
        raise typer.Exit(FAILED)


@app.command()
def show(
    table: Annotated[str, typer.Argument(metavar="ID", help="Name of the table.")],
    results: Results = None,
) -> None:
    """Print a table: published numbers, ours, claims and the differences from the paper."""
    with explained():
        from art_ext.benchmarks.papers.page import claims_list, rows_table, tag_of
        from art_ext.benchmarks.papers.tables import find_tables

        tables, found = _read(results)
        (one,) = find_tables([table], tables)
        say(f"{one.title}: {one.caption}")
        say(f"tag: {tag_of(one, found)}")
        if table in found:
            for text in (rows_table(one, found[table]), claims_list(one, found[table])):
                typer.echo(f"\n{text.rstrip()}")
            typer.echo("")
        if one.differences:
            say(f"differences: {one.differences}")
        for name, settings in one.scales.items():
            say(
                f"{name}: art-ext papers run --table {table} --scale {name}"
                f" (about {settings.minutes:g} minutes, needs {settings.needs or 'nothing else'})"
            )


@app.command()
def page(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page. By default docs/papers.md of the checkout."),
    ] = None,
    results: Results = None,
) -> None:
    """Write the page of all tables from the JSON files."""
    with explained():
        from art_ext.benchmarks.papers.page import page as text_of
        from art_ext.benchmarks.papers.results import ROOT, is_checkout
        from art_ext.storage.files import write_atomically

        if out is None and not is_checkout():
            raise ValueError("there is no checkout with docs/papers.md: give --out FILE")
        target = out or ROOT / "docs" / "papers.md"
        write_atomically(target, text_of(results).encode())
        typer.echo(f"page: {target}")


def _check_writable(folder: Path) -> None:
    """Raise ValueError unless results can be written, before the first of them is measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise ValueError(f"results cannot be written to {folder}: {error.strerror}") from error


def _ids(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def _read(results: Path | None) -> tuple[dict[str, Table], dict[str, dict[str, Any]]]:
    """Return the tables and the results, each by id."""
    from art_ext.benchmarks.papers.results import RESULTS, read_results
    from art_ext.benchmarks.papers.tables import read_tables

    tables = read_tables()
    return tables, read_results(tables, results or RESULTS)


def _print_commands(tables: list[Table]) -> None:
    """Print what starts the full tables, and what they need."""
    for one in tables:
        if "full" not in one.scales:
            say(f"# {one.id}: not run ({one.not_run or 'no part full'})")
            continue
        full = one.scales["full"]
        needs = f", needs {full.needs}" if full.needs else ""
        say(f"# {one.title}: about {full.minutes:g} minutes{needs}")
        say(f"art-ext papers run --table {one.id} --scale full --start")


def _run_all(tables: list[Table], scale: str, jobs: int, out: Path, folder: Path) -> int:
    """Run tables one by one or side by side, and return how many could not be run."""
    if jobs == 1 or len(tables) < 2:
        return sum(not _run_one(one.id, scale, out, folder) for one in tables)
    from concurrent.futures import ProcessPoolExecutor
    from functools import partial
    from multiprocessing import get_context

    work = partial(_run_one, scale=scale, out=out, folder=folder)
    with ProcessPoolExecutor(min(jobs, len(tables)), get_context("spawn")) as pool:
        return sum(not done for done in pool.map(work, [one.id for one in tables]))


def _run_one(name: str, scale: str, out: Path, folder: Path) -> bool:
    """Run a table, and return True unless the machine lacks what it needs."""
    from art_ext.benchmarks.papers.results import write_result
    from art_ext.benchmarks.papers.running import NotRunError, run_table
    from art_ext.benchmarks.papers.tables import read_tables

    try:
        result = run_table(read_tables()[name], scale, out)
    except NotRunError as error:
        say(f"{name}: not run: {error}", err=True)
        return False
    path = write_result(result, folder)
    say(f"{name}: {result['tag']}, {result['seconds']:.0f} s: {path}")
    return True
