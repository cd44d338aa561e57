"""The page of a run of transfers in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from art_ext.evaluation.report.transfer import render_transfer
from tests._transfer import make_material
from tests.browser.measures import BROKEN_WORDS, CUT, SCROLLS, unfold, violations

LONG = "resnet_50-" * 20
HOSTILE = "</script><svg onload=alert(1)>\"'&"
NAMES = {"plain": ("a", "b", "c"), "odd": (LONG, HOSTILE, "c" * 200)}


@pytest.fixture(params=NAMES)
def page_of(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The page of a targeted run with iterations, three confidences, strips and classes."""
    material = make_material(True, 60, names=NAMES[request.param], at=(1, 10, 100))
    file = tmp_path / "index.html"
    file.write_text(render_transfer(material), encoding="utf-8")
    return file


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
def test_it_is_readable(page_of: Path, opened: Callable[..., Any], width: int, scheme: str) -> None:
    page = opened(page_of, viewport={"width": width, "height": 800}, color_scheme=scheme)
    unfold(page)
    assert page.trouble == []
    assert page.requests == [page_of.as_uri()]
    assert not page.evaluate(SCROLLS)
    assert page.evaluate(BROKEN_WORDS) == []
    assert page.evaluate(CUT) == []
    assert violations(page) == []


def test_the_table_sorts_and_filters(page_of: Path, opened: Callable[..., Any]) -> None:
    page = opened(page_of, viewport={"width": 1280, "height": 800})
    unfold(page)
    rows = page.locator("#rows tbody tr:not(.out)")
    every = rows.count()
    page.locator("select[name=attack]").select_option("ead")
    assert 0 < rows.count() < every
    page.locator("select[name=at]").select_option("0")
    page.locator("#rows th button", has_text="Strict").click()
    strict = page.locator("#rows tbody tr:not(.out) td[data-title=Strict]")
    values = [float(one) for one in strict.evaluate_all("all => all.map(one => one.dataset.sort)")]
    assert values == sorted(values)
    assert page.trouble == []


def test_white_box_cells_have_a_frame(page_of: Path, opened: Callable[..., Any]) -> None:
    page = opened(page_of, viewport={"width": 1280, "height": 800})
    frames = "all => all.map(one => getComputedStyle(one).outlineStyle)"
    first = page.locator("#transfer_maps table.heat").first
    assert set(first.locator(".framed").evaluate_all(frames)) == {"solid"}
    assert first.locator(".framed").count() == 3
    assert set(first.locator("td:not(.framed)").evaluate_all(frames)) == {"none"}
