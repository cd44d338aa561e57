"""Each cell of the table of features has evidence that holds in what is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from art_ext.adapters.robustbench.importing import autoattack_bridge
from art_ext.configuration.parsing import read_toml
from art_ext.tables import ROOT

TABLE = read_toml(ROOT / "docs" / "features.toml")
CELLS = [
    pytest.param(one[toolkit], id=f"{one['title']}-{toolkit}")
    for one in TABLE["feature"]
    for toolkit in TABLE["toolkits"]
]


@pytest.fixture(scope="module", autouse=True)
def _bridge() -> Iterator[None]:
    """RobustBench imports AutoAttack under its old name."""
    with autoattack_bridge():
        yield


def has(name: str) -> bool:
    """Whether a module that is installed has a name, or a module below it."""
    module, _, attribute = name.partition(":")
    try:
        parent = importlib.import_module(module)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    if hasattr(parent, attribute):
        return True
    try:
        importlib.import_module(f"{module}.{attribute}")
    except ImportError:
        return False
    return True


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", CELLS)
def test_evidence(cell: dict[str, Any]) -> None:
    assert cell["answer"] in ("yes", "partly", "no")
    (kind,) = set(cell) - {"answer"}
    if kind == "name":
        assert cell["answer"] != "no"
        assert has(cell["name"])
    elif kind == "lacks":
        assert cell["answer"] == "no"
        assert not has(cell["lacks"])
    else:
        version, date, _ = cell["source"].replace(": ", ", ").split(", ", 2)
        assert version.split()[-1]
        assert date.startswith("2026-")


def test_the_table_is_honest() -> None:
    """At least sixteen features, five of which another toolkit has and we do not, or not fully."""
    others = [toolkit for toolkit in TABLE["toolkits"] if toolkit != "art-ext"]
    behind = [
        one["title"]
        for one in TABLE["feature"]
        if one["art-ext"]["answer"] != "yes"
        and any(one[other]["answer"] == "yes" for other in others)
    ]
    assert len(TABLE["feature"]) >= 16
    assert len(behind) >= 5
