"""The command line: ``art-ext evaluate`` and its siblings.

Heavy packages are imported inside the commands, so that ``--help`` is quick. Exit codes: 0 done, 2
bad arguments or input, 3 a service that gives no further answers, 130 interrupted by Ctrl-C. 1
means that a check failed: ``--fail-under``, ``submit``, a problem that ``doctor`` found, or a cell
of ``sweep``.
"""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from art_ext import __version__
from art_ext.cli import (
    attacks,
    compare,
    craft,
    data,
    demo,
    detect,
    detectors,
    docs,
    doctor,
    evaluate,
    generator,
    limits,
    merge,
    models,
    papers,
    presets,
    recipes,
    report,
    submit,
    sweep,
    train,
    transfer,
)

app = typer.Typer(
    help=(
        "Measure how robust a classifier is: attacks, training and reports for ART, torchattacks"
        " and RobustBench."
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    # an evaluation shows its warnings itself: without a handler, Python would print those of each
    # attack as well
    logging.getLogger("art_ext").addHandler(logging.NullHandler())
    app()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"art-ext {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


for _module in (
    demo,
    evaluate,
    limits,
    transfer,
    merge,
    attacks,
    recipes,
    presets,
    detectors,
    detect,
    data,
    models,
    train,
    craft,
    report,
    compare,
    submit,
    docs,
    doctor,
):
    app.command()(getattr(_module, _module.__name__.rpartition(".")[2]))
app.command(context_settings=sweep.SETTINGS, options_metavar=sweep.USAGE)(sweep.sweep)
app.add_typer(generator.app, name="generator")
app.add_typer(papers.app, name="papers")
