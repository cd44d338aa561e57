"""Pages of runs with odd names, sizes and results, which must stay readable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from art_ext.evaluation.report.page import write_report
from tests.browser.measures import BROKEN_WORDS, CUT, SCROLLS, unfold, violations

LETTERS = "a" * 200
PIECES = "resnet_50-" * 20
HOSTILE = "</script><svg onload=alert(1)>\"'&"
BROKEN: dict[str, dict[float, set[int]]] = {"rays": {0.1: {1, 2}}, "pgd": {0.1: {3}}}
ODD: dict[str, dict[str, Any]] = {
    "names of 200 letters": {
        "broken": {LETTERS: {LETTERS: {0.1: {1}}, PIECES: {0.1: {2}}}, PIECES: BROKEN},
        "class_names": [LETTERS, PIECES],
        "labels": [0, 1] * 5,
        "data": LETTERS,
    },
    "hostile names": {
        "broken": {HOSTILE: {HOSTILE: {0.1: {1}}}},
        "class_names": [HOSTILE],
        "data": HOSTILE,
        "name": "a<b>&",
    },
    "a thousand classes": {
        "broken": {"m": BROKEN},
        "samples": 1000,
        "labels": list(range(1000)),
        "class_names": [f"class {number}" for number in range(1000)],
    },
    "one sample": {"broken": {"m": {"rays": {0.1: {0}}}}, "samples": 1, "nearest": ("rays",)},
    "nothing right": {"broken": {"m": BROKEN}, "wrong": {"m": set(range(10))}},
    "everything right": {"broken": {"m": {"rays": {0.1: set()}}}},
    "many eps": {"broken": {"m": {"rays": {number / 255: {number} for number in range(1, 9)}}}},
}


@pytest.fixture(params=ODD)
def odd(request: pytest.FixtureRequest, make_run: Callable[..., Any], tmp_path: Path) -> Path:
    """The page of an odd run, whose samples are no images."""
    facts = dict(ODD[request.param])
    one = make_run(facts.pop("broken"), **facts)
    one.run["data"]["shape"] = [7]
    long: dict[str, Any] = {
        "kind": "range",
        "attack": None,
        "eps": None,
        "indices": [],
        "ids": [],
        "count": 0,
    }
    message = f"{LETTERS} is what {PIECES} has of {HOSTILE}"
    long |= {"samples": 0, "interval": None, "model": "", "message": message, "level": "warning"}
    one.run["warnings"] = [long]
    write_report(tmp_path, [one])
    return tmp_path / "index.html"


@pytest.mark.parametrize("width", [1280, 320])
def test_stays_readable(odd: Path, opened: Callable[..., Any], width: int) -> None:
    page = opened(odd, viewport={"width": width, "height": 800})
    unfold(page)
    assert page.trouble == []
    assert page.locator("script").count() == 1
    assert not page.evaluate(SCROLLS)
    assert page.evaluate(BROKEN_WORDS) == []
    assert page.evaluate(CUT) == []
    assert violations(page) == []


@pytest.mark.parametrize("width", [1280, 320])
def test_long_names_are_short_in_captions(
    make_run: Callable[..., Any], opened: Callable[..., Any], tmp_path: Path, width: int
) -> None:
    models = {f"{letter}{LETTERS}": BROKEN for letter in "xy"}
    write_report(tmp_path, [make_run(models, nearest=("rays",))])
    page = opened(tmp_path / "index.html", viewport={"width": width, "height": 800})
    unfold(page)
    (name, _) = models
    groups = page.locator("#curve .numbers th[scope=rowgroup]")
    assert groups.first.inner_text() == f"{name[:20]}…{name[-19:]}, worst case"
    assert groups.first.locator("span").first.get_attribute("title") == name
    heads = page.locator("#comparison figcaption .numbers th").all_inner_texts()
    assert heads
    assert max(map(len, heads)) < 70
    for selector in (".pairs-up", ".pairs-across"):
        told = page.locator(selector).first
        assert len(told.inner_text()) < 60
        assert told.locator("span").first.get_attribute("title") in models
    page.locator("#curve .plot").first.focus()
    assert max(map(len, page.locator(".readout b").all_inner_texts())) < 60
    wide = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    assert page.locator("#curve .numbers .scroll").evaluate_all(wide) == 0, "a hidden column"
    assert page.trouble == []
