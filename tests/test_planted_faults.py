"""Faults that are planted in real pages, notebooks and docstrings turn the checks of these red."""

from __future__ import annotations

import functools
import shutil

import pytest

from art_ext import tables
from art_ext.core.attacks import rays
from tests import code_blocks, test_docs, test_notebooks
from tests.prose import ROOT
from tools import docs_api

RAYS = "attacks/rays.md"


@pytest.fixture
def plant(tmp_path):
    """Copy the pages, replace a text of one, and return its path."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")

    def replace(page, old, new):
        path = tmp_path / "docs" / page
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path

    return replace


@pytest.mark.slow
def test_a_renamed_argument(plant, tmp_path):
    page = plant(RAYS, "eps=0.1, max_queries=", "eps=0.1, maximum_queries=")
    with pytest.raises(AssertionError, match=r"rays\.md, line \d+: .*maximum_queries"):
        code_blocks.run(page, tmp_path)


def test_a_removed_option(plant, tmp_path):
    page = plant(RAYS, "--max-queries", "--query-limit")
    with pytest.raises(AssertionError, match=r"rays\.md, line \d+: .*No such option"):
        code_blocks.run(page, tmp_path, execute=False)


def test_a_dead_anchor(plant):
    page = plant(RAYS, "(#targets)", "(#aims)")
    with pytest.raises(AssertionError, match="#aims"):
        test_docs.test_links(page)
    test_docs.test_links(plant(RAYS, "(#aims)", "(#targets)"))


def test_a_stale_table(plant):
    page = plant(RAYS, "| linf, l2, l1 |", "| linf, l2 |")
    text = page.read_text(encoding="utf-8")
    assert tables.with_tables(text, ROOT / "docs" / RAYS) != text


def test_a_stale_notebook(tmp_path):
    source = test_notebooks.SOURCES[0]
    for path in (source, source.with_suffix(".ipynb")):
        shutil.copy(path, tmp_path)
    planted = tmp_path / source.name
    check = test_notebooks.test_a_notebook_has_the_cells_of_its_source_and_their_outputs
    check(planted)
    planted.write_text(planted.read_text("utf-8") + "\n# %%\nassert True\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="make notebooks"):
        check(planted)


def test_an_undocumented_parameter():
    @functools.wraps(rays)
    def planted(*arguments, **keywords):
        return rays(*arguments, **keywords)

    assert docs_api.undocumented(planted) == []
    planted.__doc__ = rays.__doc__.replace("    tol: ", "    tolerance: ")
    assert docs_api.undocumented(planted) == ["tol"]
    assert docs_api.unknown(planted) == ["tolerance"]
