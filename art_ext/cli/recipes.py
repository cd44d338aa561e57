"""``art-ext recipes``: the training methods that ``art-ext train`` knows."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.shared import explained

if TYPE_CHECKING:
    from art_ext.training import Cost, Recipe

COLUMNS = ("name", "rows", "needs", "origin", "summary")
CHECK = (
    "Check the contract of a recipe on a toy problem instead: FILE.py:CLASS, or a name. Exit with"
    " 1 if a check fails."
)
FILES = "A recipe of your own, FILE.py:CLASS, to list with the others. May be repeated."


def recipes(
    recipe: Annotated[list[str] | None, typer.Option(help=FILES)] = None,
    check: Annotated[str | None, typer.Option(help=CHECK)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with the arguments of each recipe.")
    ] = False,
) -> None:
    """List the training methods: their cost, what they need, and where they come from.

    Rows are those forward + backward of a weight update, per sample and by the default arguments.
    """
    with explained():
        from art_ext.cli.listing import OWN, plugin_rows, show, show_checks
        from art_ext.training import load_recipe, make_recipe
        from art_ext.training.recipes import registry

        if check is not None:
            from art_ext.testing.recipes import recipe_checks

            show_checks(recipe_checks(make_recipe(check)))
            return
        rows = [{**described(kind), "origin": OWN} for kind in registry.CATALOGUE]
        rows += [{**described(load_recipe(source)), "origin": source} for source in recipe or ()]
        rows += plugin_rows(registry.PLUGINS, lambda name: described(registry.load(name)))
        show(COLUMNS, rows, as_json=as_json)


def described(kind: type[Recipe]) -> dict[str, Any]:
    """Return the facts of a recipe for a listing, in the types of JSON.

    Cost and counts are those of the default arguments. They are None if an argument has no default.
    """
    fields = {one.name: one for one in dataclasses.fields(kind)}
    defaults = {
        name: None if one.default is dataclasses.MISSING else one.default
        for name, one in fields.items()
    }
    required = [
        name
        for name, one in fields.items()
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    ]
    counts = dict.fromkeys(("forwards", "backwards", "first_layer_rows", "updates", "epochs"))
    rows = ""
    if not required:
        usual = kind()
        cost = usual.cost()
        rows = rows_of(cost)
        counts |= {**cost._asdict(), "first_layer_rows": cost.first_layer_rows}
        counts |= {"updates": usual.replays, "epochs": usual.worth}
    return {
        "name": kind.name,
        "rows": rows,
        **counts,
        "needs": kind.needs,
        "paper": kind.paper,
        "summary": (inspect.getdoc(kind) or "").partition("\n")[0].replace("``", ""),
        "arguments": defaults,
    }


def rows_of(cost: Cost) -> str:
    """Return the rows of an update as text: forward + backward, and those of the first layer."""
    alone = cost.first_layer_rows
    return " + ".join(map(str, cost)) + (f", first layer {alone}" if alone else "")
