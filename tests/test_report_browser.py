"""The report in a real browser, opened from disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.data import Dataset
from art_ext.evaluation import evaluate

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=\"document.title='broken in'\">"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on three models that differ in robustness, one of them with a hostile name."""

    class Brightness(nn.Module):
        """Two classes, told apart by the mean pixel against a threshold."""

        def __init__(self, threshold: float) -> None:
            super().__init__()
            self.threshold = threshold

        def forward(self, x: Tensor) -> Tensor:
            mean = x.flatten(1).mean(dim=1)
            return torch.stack([self.threshold - mean, mean - self.threshold], dim=1)

    x = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = Dataset("squares", x, (x.flatten(1).mean(dim=1) > 0.5).long())
    models = {"b": Brightness(0.5), HOSTILE: Brightness(0.45), "a": Brightness(0.55)}
    out = tmp_path_factory.mktemp("report") / "run"
    evaluate(models, data, out, eps=(0.02, 0.05), max_queries=40)
    return out / "index.html"


@pytest.fixture
def page(report: Path) -> Iterator[Any]:
    """The report in Chromium; whatever it complains of or fetches is collected in ``page.trouble``."""
    chromium = shutil.which("chromium")
    if chromium is None:
        reason = "Chromium is not installed (the system's package `chromium`)"
        if os.environ.get("ART_EXT_REQUIRE_CHROMIUM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view: Any = browser.new_page()
        view.trouble = []
        view.on("console", lambda message: view.trouble.append(message.text))
        view.on("pageerror", lambda error: view.trouble.append(str(error)))
        view.on("requestfailed", lambda request: view.trouble.append(request.url))
        view.on("dialog", lambda dialog: view.trouble.append(dialog.message))
        view.goto(report.as_uri())
        view.wait_for_load_state("networkidle")
        yield view
        browser.close()


def column(page: Any, number: int) -> list[str]:
    return [cell.inner_text() for cell in page.locator(f"#results tbody td:nth-child({number})").all()]


def test_opens_from_disk_without_complaint(page: Any) -> None:
    assert page.trouble == []
    sizes = page.eval_on_selector_all("figure img", "images => images.map((image) => image.naturalWidth)")
    assert len(sizes) == 3
    assert min(sizes) > 500


def test_a_heading_sorts_up_and_then_down(page: Any) -> None:
    assert column(page, 1) == ["b", "b", HOSTILE, HOSTILE, "a", "a"], "the order in which they ran"
    heading = page.get_by_role("button", name="Robust accuracy")
    heading.click()
    rising = [float(text.split()[0]) for text in column(page, 5)]
    assert rising == sorted(rising)
    assert len(set(rising)) > 2
    heading.click()
    assert [float(text.split()[0]) for text in column(page, 5)] == rising[::-1]
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.get_by_role("button", name="Model").click()
    names = column(page, 1)
    assert names != ["b", "b", HOSTILE, HOSTILE, "a", "a"]
    assert names.index("a") < names.index("b")
    assert page.trouble == []


def test_numbers_sort_as_numbers_and_the_unknown_comes_last(page: Any) -> None:
    cells = "[...document.querySelectorAll('#results tbody td:nth-child(7)')]"
    page.evaluate(f"{cells}.forEach((cell, row) => cell.dataset.sort = ['100', '9', '', '20.5', '3', '1000'][row])")
    heading = page.get_by_role("button", name="Mean queries")
    heading.click()
    assert page.evaluate(f"{cells}.map((cell) => cell.dataset.sort)") == ["3", "9", "20.5", "100", "1000", ""]
    heading.click()
    assert page.evaluate(f"{cells}.map((cell) => cell.dataset.sort)") == ["1000", "100", "20.5", "9", "3", ""]


def test_a_hostile_name_is_shown_as_text(page: Any) -> None:
    assert page.locator(".card b").nth(1).inner_text() == HOSTILE
    assert HOSTILE in column(page, 1)
    assert page.locator("img[src=x]").count() == 0
    assert page.title() != "broken in"
    assert page.title().count(HOSTILE) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_follows_the_colour_scheme_and_fits_a_phone(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 380, "height": 800})
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (brightness > 128) == (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
