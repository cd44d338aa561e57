"""``art-ext detectors``: the detectors that an evaluation can attack."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from art_ext.cli.shared import explained

if TYPE_CHECKING:
    from art_ext.core.detection.registry import DetectorSpec

COLUMNS = ("name", "rows", "needs", "origin", "summary")
CHECK = (
    "Check the contract of a detector on a toy problem instead: FILE.py:CLASS, or a name. Exit with"
    " 1 if a check fails."
)
FILES = "A detector of your own, FILE.py:CLASS, to list with the others. May be repeated."


def detectors(
    detector: Annotated[list[str] | None, typer.Option(help=FILES)] = None,
    check: Annotated[str | None, typer.Option(help=CHECK)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with the options of each detector.")
    ] = False,
) -> None:
    """List the detectors: their cost, what they need, and where they come from.

    Rows are those through the model for one input, by the default options.
    """
    with explained():
        from art_ext.cli.listing import OWN, plugin_rows, show, show_checks
        from art_ext.core.detection import registry
        from art_ext.evaluation.panel.user_detectors import find_detector

        if check is not None:
            from art_ext.testing.detectors import detector_checks

            show_checks(detector_checks(find_detector(check)))
            return
        rows = [
            {**described(spec), "origin": OWN}
            for spec in registry.specs()
            if registry.is_built_in(spec)
        ]
        rows += [{**described(find_detector(one)), "origin": one} for one in detector or ()]
        rows += plugin_rows(registry.PLUGINS, lambda name: described(registry.load(name)))
        show(COLUMNS, rows, as_json=as_json)


def described(spec: DetectorSpec) -> dict[str, Any]:
    """Return the facts of a detector for a listing, in the types of JSON."""
    return {
        "name": spec.name,
        "rows": spec.rows,
        "needs": spec.needs,
        "differentiable": spec.kind.differentiable,
        "paper": spec.paper,
        "summary": spec.summary,
        "options": {
            name: None if default is inspect.Parameter.empty else default
            for name, default in spec.options.items()
        },
    }
