"""What holds for every report, on five that differ in what they show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.measures import (
    BROKEN_WORDS,
    CUT,
    FIRST_SCREEN,
    SCROLLS,
    folded_text,
    unfold,
    violations,
)

Opened = Callable[..., Any]
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
SMALL = {"width": 320, "height": 700}
A4 = {"width": 718, "height": 1047}  # CSS pixels within margins of 1 cm
# name, robust accuracy with interval, clean accuracy, attacks, what is not covered
CARD = [".verdict h2", ".headline", ".between", ".clean", ".attacks", ".doubt, .sound", ".missing"]
PLOT = "#curve .frame"  # the area of its figure


def test_opens_without_complaint_or_request(each_report: Path, opened: Opened) -> None:
    page = opened(each_report)
    assert page.trouble == []
    fetched = [url for url in page.requests if not url.startswith("data:")]
    assert fetched == [each_report.as_uri()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_screen_tells_how_robust(
    reports: Callable[[str], Path], opened: Opened, scheme: str
) -> None:
    for name in ("demo", "cascade", "compared", "unbroken", "photographs"):
        page = opened(reports(name), viewport=DESKTOP, color_scheme=scheme)
        wanted = CARD if name == "compared" else [*CARD, PLOT]  # three models
        assert page.evaluate(FIRST_SCREEN, wanted) == [], name
        page = opened(reports(name), viewport=PHONE, color_scheme=scheme)
        assert page.evaluate("document.querySelector('.card').getBoundingClientRect().bottom") < 844
        begins = page.evaluate("document.querySelector('#curve').getBoundingClientRect().top")
        assert begins < 1.3 * 844, name


def test_a_report_opens_short(reports: Callable[[str], Path], opened: Opened) -> None:
    for size, most in ((DESKTOP, 3600), (PHONE, 6000)):
        page = opened(reports("demo"), viewport=size)
        assert page.evaluate("document.documentElement.scrollHeight") <= most


def test_no_word_breaks_and_nothing_scrolls_sideways(each_report: Path, opened: Opened) -> None:
    for size in (DESKTOP, PHONE, SMALL):
        page = opened(each_report, viewport=size)
        for _ in ("folded", "unfolded"):
            assert not page.evaluate(SCROLLS), size
            assert page.evaluate(BROKEN_WORDS) == [], size
            assert page.evaluate(CUT) == [], size
            unfold(page)


@pytest.mark.parametrize(("scheme", "sizes"), [("light", (DESKTOP, PHONE)), ("dark", (PHONE,))])
def test_axe_finds_nothing(
    each_report: Path, opened: Opened, scheme: str, sizes: tuple[dict[str, int], ...]
) -> None:
    for size in sizes:
        page = opened(each_report, viewport=size, color_scheme=scheme)
        assert violations(page) == [], size
        unfold(page)
        assert violations(page) == [], f"{size}, all sections open"
        if page.locator(".zoom").count():
            page.locator(".zoom").first.press("Enter")
            page.locator("dialog").wait_for(state="visible")
            assert violations(page) == [], f"{size}, the dialog open"


def test_a_link_unfolds_its_section(reports: Callable[[str], Path], opened: Opened) -> None:
    page = opened(reports("demo"), viewport=DESKTOP)
    for name in ("Results", "Classes", "Method and versions"):
        summary = page.locator("summary", has_text=name)
        inside = summary.locator("xpath=..").locator(".inside")
        assert not inside.is_visible()
        page.locator(".side").get_by_role("link", name=name).click()
        inside.wait_for(state="visible")
        assert 0 <= summary.evaluate("one => one.getBoundingClientRect().top") < 800
        summary.click()
        page.locator(".side").get_by_role("link", name=name).press("Enter")
        inside.wait_for(state="visible")


def test_every_control_is_reached_by_tab_with_visible_focus(
    reports: Callable[[str], Path], opened: Opened
) -> None:
    page = opened(reports("demo"), viewport=DESKTOP)
    unfold(page)
    wanted = page.evaluate(
        """() => [...document.querySelectorAll(
             "a[href], button, input, select, summary, [tabindex='0']")]
           .filter((one) => one.checkVisibility({visibilityProperty: true}))
           .map((one, place) => { one.dataset.place = place; return place; })"""
    )
    reached = {}
    for _ in range(len(wanted) + 5):
        page.keyboard.press("Tab")
        place, outline = page.evaluate(
            """() => { const style = getComputedStyle(document.activeElement);
                 return [document.activeElement.dataset.place, style.outlineStyle]; }"""
        )
        if place is not None:
            reached[int(place)] = outline
    assert sorted(reached) == wanted
    assert "none" not in reached.values(), "each shows that it has the focus"


def test_without_scripts_everything_can_be_reached(each_report: Path, opened: Opened) -> None:
    scripted = opened(each_report, viewport=DESKTOP)
    page = opened(each_report, viewport=DESKTOP, java_script_enabled=False)
    assert not page.locator(".control:visible").count()
    for summary in page.locator(".section > summary").all():
        summary.click()
    unfold(scripted)
    for table in ("#rows", ".classes"):
        assert page.locator(table).first.inner_text() == scripted.locator(table).first.inner_text()
    pictures = page.locator("main img, main svg")
    assert pictures.count() == scripted.locator("main img, main svg").count()
    page.goto(f"{each_report.as_uri()}#method")
    assert page.locator("#method").is_visible()


def test_paper_shows_all_and_cuts_nothing(each_report: Path, opened: Opened) -> None:
    page = opened(each_report, viewport=A4, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate(folded_text()) == [], "all sections are open"
    assert page.evaluate(CUT) == []
    assert not page.evaluate(SCROLLS)
    overflow = """() => [...document.querySelectorAll('.scroll, table')]
      .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.id + one.className)"""
    assert page.evaluate(overflow) == []
