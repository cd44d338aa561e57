"""The command ``art-ext compare``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from art_ext.cli.shared import explained


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A run folder.")],
    second: Annotated[
        str, typer.Argument(metavar="B", help="Another run folder with the same samples.")
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Keep the comparison: all disagreements as .csv, or everything as .json.",
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("--most", min=0, help="Print at most so many disagreements.")
    ] = 50,
    ids: Annotated[
        bool, typer.Option("--ids", help="Print the ids of the samples beside their positions.")
    ] = False,
) -> None:
    """List the samples on which two runs disagree."""
    with explained():
        from art_ext.evaluation.analysis import compare as comparing
        from art_ext.evaluation.analysis.records import load_run
        from art_ext.storage.store import LocalStore, store_of

        writers = {".csv": comparing.to_csv, ".json": comparing.to_json}
        suffix = os.path.splitext(out or "")[1]
        if out is not None and suffix not in writers:
            raise ValueError(f"out must end in .csv or .json, got {out}")
        folder, name = os.path.split(out or "")  # of a URL too
        target = store_of(folder)
        if isinstance(target, LocalStore) and not target.path.is_dir():
            raise ValueError(f"out needs a folder that exists, but there is no {target.path}")
        runs = [load_run(folder) for folder in (first, second)]
        found = comparing.compare(*runs)
        names = next((own for one in runs if (own := one.run["data"]["class_names"])), None)
        if out is not None:
            target.write(name, writers[suffix](found).encode("utf-8"))
        typer.echo(f"A: {first}\nB: {second}\n")
        typer.echo(comparing.to_text(found, most, ids=ids, names=names, kept=out))
