"""The page of trainings in a real browser, opened from disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from art_ext.evaluation.report.trainings import write_training_report
from tests.test_training_report import HOSTILE, made


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Pages of one training and of seven, one of which has a hostile name."""
    folder = tmp_path_factory.mktemp("pages")
    shares = [0.1, 0.5, 0.82]
    loaded = [
        made(
            {"validation_clean": shares[: 2 + n % 2], "loss": [2.5, 1e-4 * n], "a_b": [-1.0, n]},
            name=f"run {n} of a grid with a long name" if n else HOSTILE,
            folder=Path(f"runs/{n}"),
        )
        if n % 2 == 0
        else made({"validation_clean": shares}, folder=Path(f"runs/{n}"), name=f"run-{n}")
        for n in range(7)
    ]
    for count in (1, 7):
        write_training_report(folder / str(count), loaded[:count])
    return {count: folder / str(count) / "index.html" for count in (1, 7)}


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_nothing_is_fetched(
    opened: Callable[..., Any], pages: dict[int, Path], count: int, width: int, scheme: str
) -> None:
    view = opened(pages[count], viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.trouble == []
    assert all(url.startswith(("file:", "data:")) for url in view.requests)
    assert view.locator("img[src=x]").count() == 0


def test_values_are_read_out(opened: Callable[..., Any], pages: dict[int, Path]) -> None:
    view = opened(pages[1], viewport={"width": 1280, "height": 800})
    plot = view.locator(".plot").first
    plot.focus()
    assert "epoch 2" in plot.locator(".readout").inner_text()
    assert "25 of 50" in plot.locator(".readout").inner_text()
    view.keyboard.press("Home")
    assert "5 of 50" in plot.locator(".readout").inner_text()
    last = view.locator(".plot").last
    last.focus()
    view.keyboard.press("Home")
    assert "-1.0000" in last.locator(".readout").inner_text()


def test_a_curve_has_no_value_before_its_first_point(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    early = made({"loss": [3.0, 2.0, 1.0]}, name="early")
    late = made({"loss": [5.0, 4.0]}, name="late", folder=Path("runs/late"))
    late = type(late)(**{**vars(late), "points": early.points[1:]})
    write_training_report(tmp_path, [early, late])
    view = opened(tmp_path / "index.html", viewport={"width": 1280, "height": 800})
    plot = view.locator(".plot").first
    plot.focus()
    assert "late" in plot.locator(".readout").inner_text()
    view.keyboard.press("Home")
    assert "late" not in plot.locator(".readout").inner_text()
