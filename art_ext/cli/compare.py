"""The command ``art-ext compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from art_ext.cli.shared import explained


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
        from art_ext.evaluation.analysis import compare as comparing
        from art_ext.evaluation.analysis.records import load_run
        from art_ext.storage.files import write_atomically

        writers = {".csv": comparing.to_csv, ".json": comparing.to_json}
        if out is not None and out.suffix not in writers:
            raise ValueError(f"out must end in .csv or .json, got {out}")
        found = comparing.compare(load_run(first), load_run(second))
        typer.echo(f"A: {first}\nB: {second}\n")
        typer.echo(comparing.to_text(found, most))
        if out is not None:
            write_atomically(out, writers[out.suffix](found).encode("utf-8"))
