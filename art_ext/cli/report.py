"""The command ``art-ext report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from art_ext.cli.shared import FailUnder, explained, judge, parse_fail_under

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
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Take the complete chunks of runs that are not complete."),
    ] = False,
    fail_under: FailUnder = None,
) -> None:
    """Write the report of a run anew, or one report that compares several runs."""
    with explained():
        from art_ext.evaluation.analysis.records import REPORT, load_run
        from art_ext.evaluation.analysis.table import verdicts
        from art_ext.evaluation.analysis.together import name_apart
        from art_ext.evaluation.execution.finish import load_partial
        from art_ext.evaluation.report.page import write_report

        least = parse_fail_under(fail_under)

        if out is None and len(folders) > 1:
            raise ValueError(f"a report on {len(folders)} runs needs --out FOLDER")
        target = folders[0] if out is None else out
        if target not in folders:
            _check(target, overwrite)
        elif len(folders) > 1:
            raise ValueError(f"out must not be one of the runs, got {out}")
        load = load_partial if partial else load_run
        loaded = [load(folder) for folder in folders]
        write_report(target, loaded)
        for one in loaded:
            if "partial" in one.run:
                typer.echo(f"{one.folder}: {one.run['partial']}", err=True)
        typer.echo(f"report: {target / REPORT}")
        judge(
            [verdict for one in name_apart(loaded) for verdict in verdicts(one.blocks, one.run)],
            least,
        )


def _check(out: Path, overwrite: bool) -> None:
    """Raise ValueError unless a folder is free for a report: new, empty, or of an earlier report.

    Raises:
        ValueError: if the folder holds anything else. The message names one entry.
    """
    from art_ext.evaluation.analysis.records import PLOTS, REPORT, RUN, TABLES, WARNINGS
    from art_ext.storage.store import store_of

    if out.exists() and not out.is_dir():
        raise ValueError(f"out must name a folder, got the file {out}")
    if overwrite:
        return
    store = store_of(out)
    if store.exists(RUN):
        raise ValueError(f"out must not be another run's folder, got {out}: choose another folder")
    ours = {REPORT, *TABLES, WARNINGS}
    stems = tuple(Path(name).stem for name in PLOTS)
    other_files = sorted(
        name
        for name in store.names()
        if name not in ours and not (name.endswith(".png") and name.startswith(stems))
    )
    if other_files:
        raise ValueError(
            f"out must be a new or empty folder, or that of an earlier report, but {out} holds"
            f" {other_files[0]}: choose another folder, or allow it with --overwrite"
        )
