"""The report in a real browser, opened from disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.data import Dataset
from art_ext.evaluation import evaluate
from art_ext.evaluation.analysis.limits import LOWER_ESTIMATE
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.report.limits import strips, write_limits_report
from art_ext.evaluation.report.page import write_report
from tests._limits import make_limits

HOSTILE = "<script>alert(1)</script><img src=x onerror=\"document.title='broken in'\">"
ORDER = ["b", "b", "b", "b", HOSTILE, HOSTILE, HOSTILE, HOSTILE, "a", "a", "a", "a"]


def wait_for_all_rows(page: Any) -> None:
    """Wait until the filters hide no row."""
    from playwright.sync_api import expect

    # a function that the page polls would be evaluated there, which its content policy forbids
    expect(page.locator(".out")).to_have_count(0)


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
    data = Dataset(
        HOSTILE, x, (x.flatten(1).mean(dim=1) > 0.5).long(), class_names=(HOSTILE, "bright")
    )
    models = {"b": Brightness(0.5), HOSTILE: Brightness(0.45), "a": Brightness(0.55)}
    out = tmp_path_factory.mktemp("report") / "run"
    evaluate(models, data, out, eps=(0.02, 0.05), attacks=("rays", "fgsm"), max_queries=40)
    loaded = load_run(out)
    doubt = {
        "kind": "falsely-robust",
        "model": HOSTILE,
        "attack": "rays",
        "eps": 0.05,
        "message": HOSTILE,
        "count": 2,
        "indices": [3, 5],
        "ids": [11, 12],
        "samples": 30,
        "interval": [0.01, 0.2],
    }
    write_report(out, [replace(loaded, run={**loaded.run, "warnings": [doubt]})])
    return out / "index.html"


@pytest.fixture(scope="module")
def limits_report(tmp_path_factory: pytest.TempPathFactory, report: Path) -> Path:
    """A report on limits, with a hostile name and the pictures of a run."""
    out = tmp_path_factory.mktemp("limits")
    headings = {"on the manifold": ("rays",), "without constraint": ("fgsm",)}
    limits = make_limits(("natural", HOSTILE), checkpoints=(5, 10), name=HOSTILE)
    write_limits_report(out, limits, {"data": HOSTILE}, strips(load_run(report.parent), headings))
    return out / "index.html"


@pytest.fixture
def page(report: Path, opened: Callable[..., Any]) -> Any:
    """The report in Chromium."""
    return opened(report)


@pytest.fixture
def unfolded(page: Any) -> Any:
    """The report with all sections open."""
    page.eval_on_selector_all(".section", "sections => sections.forEach((one) => one.open = true)")
    return page


@pytest.fixture
def limits_page(limits_report: Path, opened: Callable[..., Any]) -> Any:
    """The report on limits in Chromium."""
    return opened(limits_report)


def column(page: Any, number: int) -> list[str]:
    return [cell.inner_text() for cell in page.locator(f"#rows tbody td:nth-child({number})").all()]


def left(page: Any) -> list[tuple[str, str, str]]:
    """Model, attack and eps of the rows that are to be seen."""
    rows = page.locator("#rows tbody tr:visible").all()
    return [
        tuple(row.get_attribute(f"data-{name}") for name in ("model", "attack", "eps"))
        for row in rows
    ]


def test_opens_from_disk_without_complaint(page: Any) -> None:
    assert page.trouble == []
    sizes = page.eval_on_selector_all("img", "images => images.map((image) => image.naturalWidth)")
    assert min(sizes) > 0
    assert page.locator("#curve figure, #queries figure").count() > 1, "curves"
    assert sizes.count(4) > 2 * 3, "originals, adversarials and perturbations"


def test_a_heading_sorts_up_and_then_down(unfolded: Any) -> None:
    page = unfolded
    assert column(page, 1) == ORDER, "the order in which they ran"
    heading = page.locator("#rows").get_by_role("button", name="Robust accuracy", exact=True)
    heading.click()
    rising = [float(text.split()[0]) for text in column(page, 5)]
    assert rising == sorted(rising)
    assert len(set(rising)) > 2
    heading.press("Enter")
    assert [float(text.split()[0]) for text in column(page, 5)] == rising[::-1]
    assert page.locator("#rows th[aria-sort=descending]").count() == 1
    page.locator("#rows").get_by_role("button", name="Model", exact=True).click()
    names = column(page, 1)
    assert names != ORDER
    assert names.index("a") < names.index("b")
    page.locator("#classes .classes").first.get_by_role("button", name="Robust at 0.05").click()
    assert page.locator("#classes th[aria-sort=ascending]").count() == 1, "of that table alone"
    assert page.trouble == []


def test_numbers_sort_as_numbers_and_the_unknown_comes_last(unfolded: Any) -> None:
    page = unfolded
    cells = "[...document.querySelectorAll('#rows tbody td:nth-child(7)')]"
    given = "['100', '9', '', '20.5', '3', '1000', '5', '', '7', '8', '10', '11']"
    page.evaluate(f"{cells}.forEach((cell, row) => cell.dataset.sort = {given}[row])")
    heading = page.locator("#rows").get_by_role("button", name="Mean queries")
    rising = ["3", "5", "7", "8", "9", "10", "11", "20.5", "100", "1000"]
    heading.click()
    assert page.evaluate(f"{cells}.map((cell) => cell.dataset.sort)") == [*rising, "", ""]
    heading.click()
    assert page.evaluate(f"{cells}.map((cell) => cell.dataset.sort)") == [*rising[::-1], "", ""]


def test_filters_narrow_the_table(unfolded: Any) -> None:
    page = unfolded
    filters = page.locator("#filters")
    count = filters.locator("output")
    assert count.inner_text() == "12 of 12 rows"
    filters.get_by_label("Filter").press_sequentially("FGSM 0.02")
    assert left(page) == [(model, "fgsm", "0.02") for model in ("b", HOSTILE, "a")]
    assert count.inner_text() == "3 of 12 rows"
    filters.get_by_label("Model").select_option(HOSTILE)
    assert left(page) == [(HOSTILE, "fgsm", "0.02")]
    filters.get_by_label("eps").select_option("0.05")
    assert left(page) == []
    assert page.get_by_text("No row is left.").is_visible()
    page.emulate_media(media="print")
    assert len(left(page)) == 12, "paper has all rows"
    assert not page.locator(".control:visible").count(), "and no controls"
    page.emulate_media(media="screen")
    filters.get_by_role("button", name="Clear").press("Enter")
    wait_for_all_rows(page)
    assert len(left(page)) == 12
    filters.get_by_label("Attack").focus()
    page.keyboard.press("r")  # the keyboard alone chooses rays
    assert {attack for _, attack, _ in left(page)} == {"rays"}
    assert not page.get_by_text("No row is left.").is_visible()
    assert page.trouble == []


def test_a_hostile_name_is_shown_as_text(unfolded: Any) -> None:
    page = unfolded
    assert page.locator(".card h2").nth(1).inner_text() == HOSTILE
    assert HOSTILE in column(page, 1)
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("script").count() == 1
    assert page.title() == f"Robustness of b, {HOSTILE}, a on {HOSTILE}"
    assert page.trouble == []


def test_a_script_that_slipped_in_would_not_run(page: Any) -> None:
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'ran = 1'}))"
    )
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"ran = 2\">')"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("typeof ran") == "undefined"
    assert any("Content Security Policy" in text for text in page.trouble)


def test_a_warning_unfolds_its_samples(page: Any) -> None:
    assert not page.locator(".note").is_visible()
    page.get_by_role("link", name="All warnings").click()
    warning = page.locator(".note")
    assert warning.is_visible(), "the link unfolded its section"
    assert HOSTILE in warning.inner_text()
    assert not warning.get_by_text("3, 5").is_visible()
    warning.get_by_text("2 samples", exact=True).press("Enter")
    assert warning.get_by_text("3, 5").is_visible()
    assert warning.get_by_text("11, 12").is_visible()


BRIGHTNESS = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_follows_the_colour_scheme_and_fits_a_phone(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    assert (page.evaluate(BRIGHTNESS) > 128) == (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("document.getElementById('rows').scrollWidth <= window.innerWidth"), (
        "rows are blocks"
    )
    page.set_viewport_size({"width": 320, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_button_turns_the_colours_round(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    button = page.locator("#theme")
    other = "dark" if scheme == "light" else "light"
    from playwright.sync_api import expect

    expect(button).to_have_text(other.capitalize())
    button.press("Enter")
    assert (page.evaluate(BRIGHTNESS) > 128) == (other == "light")
    assert button.inner_text().lower() == scheme
    page.emulate_media(media="print", color_scheme=scheme)
    assert page.evaluate(BRIGHTNESS) == 255, "paper is white"
    page.emulate_media(media="screen", color_scheme=scheme)
    button.click()
    assert (page.evaluate(BRIGHTNESS) > 128) == (scheme == "light")
    assert page.trouble == []


class TestLimits:
    def test_opens_from_disk_and_shows_a_hostile_name_as_text(self, limits_page: Any) -> None:
        page = limits_page
        assert page.trouble == []
        sizes = page.eval_on_selector_all(
            "img", "images => images.map((image) => image.naturalWidth)"
        )
        assert min(sizes) > 0
        assert max(sizes) > 1000, "the figure"
        assert sizes.count(4) > 2 * 3, "samples, adversarials and perturbations"
        assert page.locator(".card > b").nth(1).inner_text() == HOSTILE
        assert page.title() == f"Limits of robustness of natural, {HOSTILE} on {HOSTILE}"
        assert page.locator("h1").inner_text() == f"Limits of robustness on {HOSTILE}"
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("script").count() == 1

    def test_the_sentence_on_lower_estimates_stands_beside_every_bound(
        self, limits_page: Any
    ) -> None:
        for heading in ("Bounds", "Local Lipschitz constants of the generator"):
            beside = limits_page.locator(f"h2:text-is('{heading}') + p")
            assert beside.inner_text() == LOWER_ESTIMATE
        assert "the lines may lie too low" in limits_page.locator("figcaption").inner_text()
        first = limits_page.locator("main p:not(.soft)").first
        assert "the bound may be too low" in first.inner_text()

    def test_rows_sort_and_filter(self, limits_page: Any) -> None:
        page = limits_page
        count = page.locator("#filters output")
        assert count.inner_text() == "12 of 12 rows"
        page.get_by_label("Model").select_option(HOSTILE)
        page.get_by_label("eps").select_option("1.0")
        assert count.inner_text() == "1 of 12 rows"
        page.get_by_role("button", name="Clear").press("Enter")
        wait_for_all_rows(page)
        page.locator("#rows").get_by_role("button", name="Unconstrained", exact=True).click()
        rising = [float(text.split()[0]) for text in column(page, 8)]
        assert rising == sorted(rising)
        assert len(set(rising)) > 2
        assert page.locator("th[aria-sort=ascending]").count() == 1, "of that table alone"
        assert page.trouble == []

    @pytest.mark.parametrize("width", [390, 320])
    def test_fits_a_phone(self, limits_page: Any, width: int) -> None:
        limits_page.set_viewport_size({"width": width, "height": 800})
        assert limits_page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        cut = """[...document.querySelectorAll('table.sortable')].flatMap((table) => {
          const right = table.closest('.box').getBoundingClientRect().right;
          return [...table.querySelectorAll('td')]
            .filter((cell) => cell.getBoundingClientRect().right > right + 1
              || cell.scrollWidth > cell.clientWidth + 1)
            .map((cell) => cell.textContent);
        })"""
        assert limits_page.evaluate(cut) == [], "no number is cut off"

    def test_paper_has_all_rows_and_no_controls(self, limits_page: Any) -> None:
        page = limits_page
        page.get_by_label("Model").select_option(HOSTILE)
        page.emulate_media(media="print", color_scheme="dark")
        assert len(left(page)) == 12
        assert not page.locator(".control:visible").count()
        assert page.evaluate(BRIGHTNESS) == 255
