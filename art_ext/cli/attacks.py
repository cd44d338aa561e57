"""``art-ext attacks``: the attacks that an evaluation can run."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from art_ext.cli.shared import explained

ACCESS = "Only attacks that need labels, scores or gradients, or of unknown access."
FILES = "An attack of your own, FILE.py:FUNCTION, to list with the others. May be repeated."


def attacks(
    access: Annotated[str | None, typer.Option(help=ACCESS)] = None,
    norm: Annotated[
        str | None, typer.Option(help="Only attacks that support linf, l2 or l1.")
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Only fixed-radius or minimum-norm attacks.")
    ] = None,
    attack: Annotated[list[str] | None, typer.Option(help=FILES)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with the parameters of each attack.")
    ] = False,
) -> None:
    """List the attacks: what they need of the model, where they run, and their papers."""
    with explained():
        from art_ext.cli.listing import COLUMNS, described, text_table
        from art_ext.core.attacks import registry
        from art_ext.evaluation.panel.user_attacks import load_attack

        for source in attack or ():
            load_attack(source)
        for problem in registry.load_declared():
            typer.echo(f"warning: {problem}", err=True)
        found = registry.specs(registry.names(access=access, norm=norm, family=family))
        rows = [described(spec) for spec in found]
        if as_json:
            typer.echo(json.dumps(rows, indent=2, ensure_ascii=False, default=str))
        else:
            typer.echo(text_table(COLUMNS, rows))
