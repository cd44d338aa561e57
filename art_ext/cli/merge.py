"""The command ``art-ext merge``."""

from __future__ import annotations

from typing import Annotated

import typer

from art_ext.cli.shared import FailUnder, Quiet, explained, parse_fail_under
from art_ext.cli.showing import show
from art_ext.cli.terminal import say


def merge(
    folders: Annotated[list[str], typer.Argument(help="Run folders of the shards.")],
    out: Annotated[
        str, typer.Option(metavar="FOLDER", help="Folder of the whole run: new or empty.")
    ],
    fail_under: FailUnder = None,
    quiet: Quiet = False,
) -> None:
    """Unite the folders of shards, and write the report if none is missing.

    The folders of art-ext transfer are completed by the same command again.
    """
    with explained():
        from art_ext.evaluation import merge as unite
        from art_ext.storage.evaluation import CONFIGURATION
        from art_ext.storage.store import store_of
        from art_ext.storage.transfer import TransferFolder, merge_transfers

        least = parse_fail_under(fail_under)
        transfers = all(TransferFolder(folder).is_ours() for folder in folders)
        outcome = None if transfers else unite(folders, out)
        if transfers:
            merge_transfers(folders, out)
        first = store_of(folders[0])
        if first.exists(CONFIGURATION):  # that of the whole run: no file holds --shard
            store_of(out).write(CONFIGURATION, first.read(CONFIGURATION))
        if outcome is None:
            say(f"to complete it: art-ext transfer --config {out}/{CONFIGURATION} --out {out}")
        else:
            show(outcome, quiet, least)
