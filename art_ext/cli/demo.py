"""The command ``art-ext demo``."""

from __future__ import annotations

from typing import Annotated

import typer

from art_ext.cli.shared import Quiet, Seed, explained
from art_ext.cli.showing import show, watching


def demo(
    out: Annotated[
        str,
        typer.Option(metavar="FOLDER", help="Folder of the report. An earlier demo is replaced."),
    ] = "runs/demo",
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Train a natural and a robust network on real digits, attack both, and write a report."""
    with explained("run the same command again: the demo begins again"):
        from art_ext.evaluation.demo import run_demo

        with watching(quiet, brief=True) as watcher:
            outcome = run_demo(out, seed=seed, watcher=watcher)
        show(outcome, quiet)
