"""``art-ext data``: the data sets that ``--data`` knows by name."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from art_ext.cli.shared import explained

COLUMNS = ("name", "origin", "summary")


def data(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the data sets by name, and where they come from."""
    with explained():
        from art_ext.cli.listing import OWN, plugin_rows, show
        from art_ext.data.loading import LIBRARIES, PLUGINS, SOURCES

        rows: list[dict[str, Any]] = [
            {"name": name, "origin": OWN, "summary": source.summary}
            for name, source in SOURCES.items()
        ]
        rows += [
            {"name": f"{prefix}...", "origin": OWN, "summary": summary}
            for prefix, (summary, _, _) in LIBRARIES.items()
        ]
        rows += plugin_rows(PLUGINS, lambda name: _described(name, PLUGINS.load(name)))
        show(COLUMNS, rows, as_json=as_json)


def _described(name: str, function: Any) -> dict[str, str]:
    """Return the facts of another package's data set: the first line of its docstring."""
    from art_ext.cli.listing import summary_of

    if not callable(function):
        raise ValueError(f"wanted a function, got {type(function).__name__}")
    return {"name": name, "summary": summary_of(function)}
