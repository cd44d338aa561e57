"""``art-ext presets``: settings of papers that ``art-ext train --preset`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.recipes import rows_of
from art_ext.cli.shared import explained

if TYPE_CHECKING:
    from art_ext.training.runs import Configuration

COLUMNS = ("name", "data", "network", "length", "rows", "passes", "paper")


def presets(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with all options of each preset.")
    ] = False,
) -> None:
    """List the presets: their network, their length, and what a run costs.

    Rows are those forward + backward of a weight update, per sample. Passes are those of the whole
    run, forward and backward, per training sample of the paper's data set.
    """
    with explained():
        from art_ext.cli.listing import show
        from art_ext.training.presets import preset_names

        show(COLUMNS, map(described, preset_names()), as_json=as_json)


def described(name: str) -> dict[str, Any]:
    """Return the facts of a preset for a listing, in the types of JSON."""
    from art_ext.training import TrainingOptions
    from art_ext.training.presets import find_preset
    from art_ext.training.runs import resolve

    preset = find_preset(name)
    configuration = resolve({"preset": name, "data": preset.data})
    recipe = configuration.make_recipe()
    options = TrainingOptions(**configuration.options())
    batch = configuration.batch_size
    sizes = [batch] * -(-preset.samples // batch)
    updates = options.total(recipe, sizes, preset.samples)
    cost = options.cost(recipe)
    return {
        "name": name,
        "data": preset.data,
        "network": _network(configuration),
        "length": _length(configuration),
        "rows": rows_of(cost),
        "passes": round(updates / len(sizes) * sum(cost)),
        "paper": preset.paper,
        "options": preset.values,
    }


def _network(configuration: Configuration) -> str:
    arguments = [f"{name}={value}" for name, value in configuration.model_args.items()]
    return " ".join([configuration.model, *arguments])


def _length(configuration: Configuration) -> str:
    from art_ext.configuration.training import LENGTHS

    name = next(name for name in LENGTHS if getattr(configuration, name) is not None)
    return f"{getattr(configuration, name):,g} {name.replace('_', ' ')}"
