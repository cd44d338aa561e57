"""How the numbers of a report were made: protocol, arguments and versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from art_ext.evaluation.report.material import Material, Section
from art_ext.evaluation.report.rendering import told


def section(material: Material) -> Section:
    """Return the protocol, arguments and versions of each run."""
    content = {
        "arguments": {one.folder: told(one.run["arguments"]) for one in material.loaded},
        "facts": {one.folder: _facts(one.run) for one in material.loaded},
    }
    return Section("method", "Method and versions", content)


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    seconds = {} if run["seconds"] is None else {"seconds": run["seconds"]}
    return {**run["versions"], "started": run["started"], **seconds}
