"""The examples of a report: their sizes, and the dialog that shows them large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.measures import unfold, violations

WIDTHS = (
    "images => images.map((image) => [image.naturalWidth, image.getBoundingClientRect().width])"
)
SHOWN = "#examples .gallery img"


@pytest.fixture(params=["demo", "photographs"])
def page_file(request: pytest.FixtureRequest, reports: Callable[[str], Path]) -> Path:
    return reports(request.param)


@pytest.mark.parametrize(("width", "least"), [(1280, 160), (390, 100)])
def test_images_are_large_and_small_ones_have_whole_pixels(
    page_file: Path, opened: Callable[..., Any], width: int, least: int
) -> None:
    page = opened(page_file, viewport={"width": width, "height": 800})
    sizes = page.eval_on_selector_all(SHOWN, WIDTHS)
    assert sizes
    for pixels, wide in sizes:
        assert wide >= least
        assert pixels > 64 or wide % pixels == 0
    smoothing = page.eval_on_selector_all(
        SHOWN, "images => images.map((image) => getComputedStyle(image).imageRendering)"
    )
    assert set(smoothing) == {"pixelated" if sizes[0][0] <= 64 else "auto"}
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.trouble == []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_dialog_shows_an_example_large_and_arrow_keys_turn_it(
    page_file: Path, opened: Callable[..., Any], width: int
) -> None:
    from playwright.sync_api import expect

    page = opened(page_file, viewport={"width": width, "height": 844})
    count = page.locator("#examples .example").count()
    assert count % 6 == 0
    first = page.locator(".zoom").first
    inline = first.locator("img").first.bounding_box()["width"]
    first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#viewer")
    assert dialog.is_visible()
    title = page.locator("#viewer-title")
    assert title.inner_text().endswith(f"(1 of {count})")
    assert dialog.locator("img").count() == 3
    pixels, wide = dialog.locator("img").first.evaluate(f"image => ({WIDTHS})([image])[0]")
    assert wide >= max(pixels, inline)
    assert wide % pixels == 0
    predicted = page.locator(".example figcaption").first.inner_text()
    assert dialog.locator(".said").inner_text() == predicted
    page.keyboard.press("ArrowRight")
    assert title.inner_text().endswith(f"(2 of {count})")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert title.inner_text().endswith(f"({count} of {count})")
    page.get_by_role("button", name="Next").click()
    assert title.inner_text().endswith(f"(1 of {count})")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    expect(page.locator("#examples .zoom").nth(1)).to_be_focused()
    page.locator("#examples .zoom").last.click()
    page.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()
    assert page.trouble == []


def test_thumbnails_of_all_attacks_unfold(
    reports: Callable[[str], Path], opened: Callable[..., Any]
) -> None:
    page = opened(reports("demo"))
    thumbs = page.locator(".every").first
    assert not thumbs.locator("img").first.is_visible()
    thumbs.locator("summary").press("Enter")
    assert thumbs.locator("img").first.is_visible()
    assert thumbs.locator("tr").count() == 1 + 15


def test_without_scripts_all_images_are_there(page_file: Path, opened: Callable[..., Any]) -> None:
    page = opened(page_file, java_script_enabled=False)
    shown = page.locator(SHOWN)
    assert shown.count() >= 6
    assert all(one.is_visible() for one in shown.all())
    page.locator(".every summary").first.click()
    assert page.locator(".every img").first.is_visible()
    assert not page.locator("#viewer").is_visible()


def test_photographs_keep_the_page_small(reports: Callable[[str], Path]) -> None:
    assert reports("photographs").stat().st_size <= 3_000_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_in_the_dialog(
    page_file: Path, opened: Callable[..., Any], width: int, scheme: str
) -> None:
    page = opened(page_file, viewport={"width": width, "height": 844}, color_scheme=scheme)
    unfold(page)
    page.locator(".zoom").first.click()
    assert violations(page) == []
