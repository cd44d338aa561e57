"""The commands ``art-ext report`` and ``art-ext compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from art_ext.cli_shared import FailUnder, explained, judge, parse_fail_under

Folders = Annotated[
    list[Path], typer.Argument(metavar="FOLDER...", help="Run folders of art-ext evaluate.")
]


def report(
    folders: Folders,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the report: new, empty, or of an earlier one. Several runs need it."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Allow a folder with other things in it.")
    ] = False,
    fail_under: FailUnder = None,
) -> None:
    """Write the report of a run anew, or one report that compares several runs."""
    with explained():
        from art_ext.evaluation.records import REPORT, load_run
        from art_ext.evaluation.report import write_report
        from art_ext.evaluation.table import verdicts
        from art_ext.evaluation.together import name_apart

        least = parse_fail_under(fail_under)

        if out is None and len(folders) > 1:
            raise ValueError(f"a report on {len(folders)} runs needs --out FOLDER")
        target = folders[0] if out is None else out
        if target not in folders:
            _check(target, overwrite)
        elif len(folders) > 1:
            raise ValueError(f"out must not be one of the runs, got {out}")
        loaded = [load_run(folder) for folder in folders]
        target.mkdir(parents=True, exist_ok=True)
        write_report(target, loaded)
        typer.echo(f"report: {target / REPORT}")
        judge(
            [verdict for one in name_apart(loaded) for verdict in verdicts(one.records, one.run)],
            least,
        )


def _check(out: Path, overwrite: bool) -> None:
    """Raise ValueError unless a folder is free for a report: new, empty, or of an earlier report.

    Raises:
        ValueError: if the folder holds anything else. The message names one entry.
    """
    from art_ext.evaluation.records import PLOTS, REPORT, RUN, TABLES, WARNINGS

    if out.exists() and not out.is_dir():
        raise ValueError(f"out must name a folder, got the file {out}")
    if overwrite or not out.exists():
        return
    if (out / RUN).exists():
        raise ValueError(f"out must not be another run's folder, got {out}: choose another folder")
    ours = {REPORT, *TABLES, WARNINGS}
    stems = tuple(Path(name).stem for name in PLOTS)
    other_files = sorted(
        path.name
        for path in out.iterdir()
        if path.name not in ours and not (path.suffix == ".png" and path.name.startswith(stems))
    )
    if other_files:
        raise ValueError(
            f"out must be a new or empty folder, or that of an earlier report, but {out} holds"
            f" {other_files[0]}: choose another folder, or allow it with --overwrite"
        )


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another on the same samples.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Keep the comparison: all disagreements as .csv, or everything as .json."
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", min=0, help="Print at most so many disagreements.")
    ] = 50,
) -> None:
    """List the samples on which two runs disagree."""
    with explained():
        from art_ext.evaluation import compare as comparing
        from art_ext.evaluation.records import load_run
        from art_ext.files import write_atomically

        writers = {".csv": comparing.to_csv, ".json": comparing.to_json}
        if out is not None and out.suffix not in writers:
            raise ValueError(f"out must end in .csv or .json, got {out}")
        found = comparing.compare(load_run(first), load_run(second))
        typer.echo(f"A: {first}\nB: {second}\n")
        typer.echo(comparing.to_text(found, most))
        if out is not None:
            write_atomically(out, writers[out.suffix](found).encode("utf-8"))
