"""The command ``art-ext merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from art_ext.cli.shared import FailUnder, Quiet, explained, parse_fail_under
from art_ext.cli.showing import show


def merge(
    folders: Annotated[list[Path], typer.Argument(help="Run folders of the shards.")],
    out: Annotated[Path, typer.Option(help="Folder of the whole run: new or empty.")],
    fail_under: FailUnder = None,
    quiet: Quiet = False,
) -> None:
    """Unite the folders of shards, and write the report if none is missing."""
    with explained():
        from art_ext.evaluation import merge as unite

        least = parse_fail_under(fail_under)
        show(unite(folders, out), quiet, least)
