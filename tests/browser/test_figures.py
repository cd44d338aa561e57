"""Figures of the page in a browser: the curves as drawn, the values that they tell, the legend."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from art_ext.evaluation.analysis.blocks import WORST_CASE
from art_ext.evaluation.analysis.curves import curves, value_at
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.report import write_report
from art_ext.storage.evaluation import REPORT

WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 844}}
Curves = dict[tuple[str, str], np.ndarray]

# the corners of each path of a figure, in pixels from the lower left corner of the plot area
READ = """() => [...document.querySelectorAll("#curve .course")].map((course) => {
  const plot = course.closest(".frame").getBoundingClientRect();
  const lines = [];
  for (const path of course.querySelectorAll(".line")) {
    const matrix = path.getScreenCTM();
    let last = null;
    for (const [, command, numbers] of path.getAttribute("d").matchAll(/([MHV])([-\\d. ]+)/g)) {
      const values = numbers.trim().split(" ").map(Number);
      const next = command === "M" ? values : command === "H" ? [values[0], last[1]] : [last[0], values[0]];
      const seen = new DOMPoint(...next).matrixTransform(matrix);
      if (command === "M") lines.push([]);
      lines.at(-1).push([seen.x - plot.left, plot.bottom - seen.y]);
      last = next;
    }
  }
  return { model: course.dataset.model, attack: course.dataset.attack, lines, width: plot.width, height: plot.height };
})"""


def written(report: Path) -> Curves:
    """Return radius, robust, low, high and measured of each curve of ``curves.csv``."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    with (report.parent / "curves.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            attack = "worst case" if row["attack"] == WORST_CASE else row["attack"]
            values = [float(row[name]) for name in ("radius", "robust", "low", "high", "measured")]
            found.setdefault((row["model"], attack), []).append(values)
    return {key: np.array(values) for key, values in found.items()}


def at(curve: np.ndarray, place: float) -> np.ndarray:
    return curve[np.searchsorted(curve[:, 0], place, side="right") - 1]


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["1280", "390"])
def test_paths_are_the_written_curves(
    each_report: Path, opened: Callable[..., Any], size: dict[str, Any]
) -> None:
    page = opened(each_report, **size)
    expected = written(each_report)
    drawn = [one for one in page.evaluate(READ) if one["lines"]]
    worst = [key for key in expected if key[1] == "worst case"]
    assert {(one["model"], one["attack"]) for one in drawn} >= set(worst)
    right = max(curve[-1, 0] for curve in expected.values())
    for one in drawn:
        curve = expected[one["model"], one["attack"]]
        x = curve[:, 0] / right * one["width"]
        y = curve[:, 1] * one["height"]
        exact = np.stack([np.stack([x[:-1], x[1:]], 1), np.stack([y[:-1], y[:-1]], 1)], 2)
        exact = exact.reshape(-1, 2)
        own = np.concatenate([np.array(line) for line in one["lines"]])
        assert farthest(exact, one["lines"]) < 0.5
        assert farthest(own, [exact.tolist()]) < 0.5


def farthest(points: np.ndarray, lines: list[list[list[float]]]) -> float:
    """Return the largest distance of points from polylines."""
    corners = [np.array(line) for line in lines]
    starts = np.concatenate([line[:-1] for line in corners])
    along = np.concatenate([line[1:] for line in corners]) - starts
    worst = 0.0
    for part in np.array_split(points, max(1, len(points) // 200)):
        length = np.maximum((along**2).sum(-1), 1e-12)
        share = (((part[:, None] - starts) * along).sum(-1) / length).clip(0, 1)
        gap = part[:, None] - starts - share[..., None] * along
        worst = max(worst, float(np.sqrt((gap**2).sum(-1)).min(1).max(initial=0)))
    return worst


def told(plot: Any) -> tuple[float, dict[str, tuple[float, float, float, int, int]]]:
    """Return the radius that a readout tells, and by name the values of each curve in it."""
    first, *others = plot.locator(".readout > p").all_inner_texts()
    pattern = r"(.*) ([\d.]+) % \(([\d.]+) to ([\d.]+)\), (\d+) of (\d+)(?:, upper bound)?"
    found = {}
    for text in others:
        match = re.fullmatch(pattern, text)
        assert match, text
        name, share, low, high, count, samples = match.groups()
        found[name] = (float(share), float(low), float(high), int(count), int(samples))
    return float(Fraction(first.removeprefix("radius "))), found


def test_hovered_values_are_those_of_the_records(
    reports: Callable[[str], Path], opened: Callable[..., Any]
) -> None:
    for name in ("demo", "cascade"):
        report = reports(name)
        page = opened(report, **WIDE)
        plot = page.locator("#curve .plot").first
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        expected = written(report)
        exact = {(own.model, own.attack): own for own in curves(load_run(report.parent))}
        models = {model for model, _ in expected}
        seen = set()
        for share in np.linspace(0.001, 0.999, 23):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.999 * box["height"])
            place, values = told(plot)
            seen.add(place)
            for model in models:
                own = values["worst case" if len(models) == 1 else f"{model}, worst case"]
                robust, low, high = (
                    round(100 * value, 1) for value in at(expected[model, "worst case"], place)[1:4]
                )
                assert own[:3] == pytest.approx((robust, low, high), abs=0.051)
                point = value_at(exact[model, WORST_CASE], place)
                assert own[3:] == (point.held, exact[model, WORST_CASE].samples)
        assert len(seen) == 23
        assert page.trouble == []


def test_arrow_keys_ask_for_values(
    reports: Callable[[str], Path], opened: Callable[..., Any]
) -> None:
    report = reports("cascade")
    page = opened(report, **WIDE)
    plot = page.locator("#curve .plot").first
    plot.focus()
    (curve,) = [own for key, own in written(report).items() if key[1] == "worst case"]
    places = []
    for key in ("Home", "ArrowRight", "Shift+ArrowRight", "ArrowLeft", "PageUp", "End"):
        page.keyboard.press(key)
        place, values = told(plot)
        places.append(place)
        assert values["worst case"][0] == pytest.approx(100 * at(curve, place)[1], abs=0.051)
        assert plot.get_attribute("aria-valuetext").startswith("radius ")
    steps = [round(place / places[1]) for place in places]
    assert places[0] == 0
    assert steps[:5] == [0, 1, 11, 10, 20]
    assert plot.get_attribute("role") == "slider"
    page.keyboard.press("Escape")
    assert plot.locator(".readout").is_hidden()


@pytest.mark.parametrize("name", ["demo", "cascade"])
def test_measured_values_are_not_said_to_be_bounds(
    reports: Callable[[str], Path], opened: Callable[..., Any], name: str
) -> None:
    report = reports(name)
    page = opened(report, **WIDE)
    plot = page.locator("#curve .plot").first
    plot.scroll_into_view_if_needed()
    curve = next(own for key, own in written(report).items() if key[1] == "worst case")
    frame = plot.locator(".frame")
    box = frame.bounding_box()
    eps = load_run(report.parent).run["settings"]["eps"]
    line = plot.locator(".readout > p").nth(1)
    for place in (0.0, *eps):
        assert curve[curve[:, 0] == place, 4].tolist() == [1.0], "measured"
        share = place / curve[-1, 0]
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
        told_place = plot.locator(".readout > p").first.inner_text().removeprefix("radius ")
        assert float(Fraction(told_place)) == pytest.approx(place)
        assert "upper bound" not in line.inner_text()
    plot.focus()
    page.keyboard.press("Home")
    assert "upper bound" not in plot.get_attribute("aria-valuetext")


def test_attacks_become_full_by_the_legend(
    reports: Callable[[str], Path], opened: Callable[..., Any]
) -> None:
    page = opened(reports("cascade"), **WIDE)
    faint = page.locator("#curve .course.faint")
    strength = "(all) => all.map((one) => getComputedStyle(one).opacity)"
    page.wait_for_timeout(200)
    assert set(faint.evaluate_all(strength)) == {"0.28"}
    button = page.locator("#curve .legend button").first
    name = button.get_attribute("data-choice")
    own = page.locator(f'#curve .course.faint[data-choice="{name}"]')
    for act, undo in (
        (button.hover, lambda: page.mouse.move(0, 0)),
        (button.focus, button.blur),
        (button.click, lambda: (button.click(), button.blur(), page.mouse.move(0, 0))),
    ):
        act()
        page.wait_for_timeout(200)
        assert own.evaluate_all(strength) == ["1"] * own.count()
        assert page.locator("#curve .course.chosen").count() == own.count()
        undo()
        page.wait_for_timeout(200)
        assert own.evaluate_all(strength) == ["0.28"] * own.count()
    button.click()
    same = page.locator(f'.legend button[data-choice="{name}"]')
    assert same.count() == 2, "of both figures"
    assert set(same.evaluate_all("(all) => all.map((one) => one.ariaPressed)")) == {"true"}


def test_text_of_figures_is_legible_on_a_phone(
    each_report: Path, opened: Callable[..., Any]
) -> None:
    page = opened(each_report, **PHONE)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    sizes = page.evaluate(
        """() => [...document.querySelectorAll(".chart text, .chart tspan, .chart figcaption, .chart td, .chart th, .chart .key")]
        .map((one) => parseFloat(getComputedStyle(one).fontSize) * (one.getScreenCTM?.()?.a ?? 1))"""
    )
    assert len(sizes) > 10
    assert min(sizes) >= 11
    outside = page.evaluate(
        """() => [...document.querySelectorAll(".chart text")].filter((one) => {
          const [own, chart] = [one.getBoundingClientRect(), one.closest(".chart").getBoundingClientRect()];
          return own.left < chart.left || own.right > chart.right;
        }).map((one) => one.textContent)"""
    )
    assert outside == []
    over = page.evaluate(
        """() => [...document.querySelectorAll(".chart")].flatMap((chart) => {
          const ends = [...chart.querySelectorAll("text.end")].map((one) => one.getBoundingClientRect());
          return ends.filter((own, number) => ends.slice(0, number).some((other) => own.left < other.right
            && other.left < own.right && own.top < other.bottom - 0.5 && other.top < own.bottom - 0.5));
        }).length"""
    )
    assert over == 0, "labels at the ends of curves"


def test_numbers_without_script(reports: Callable[[str], Path], opened: Callable[..., Any]) -> None:
    report = reports("cascade")
    page = opened(report, java_script_enabled=False, **WIDE)
    chart = page.locator("#curve .chart").first
    chart.locator("summary").click()
    part = chart.locator(".numbers tbody").filter(has_text="worst case")
    rows = part.locator("tr:has(td)").all_inner_texts()
    (curve,) = [own for key, own in written(report).items() if key[1] == "worst case"]
    own = [row.split("\t") for row in rows]
    assert len(own) >= 5
    for row in own:
        place, robust = float(Fraction(row[0])), row[1]
        assert robust == f"{100 * at(curve, place)[1]:.1f} %"
    assert chart.locator(".legend").is_visible()
    assert chart.locator("svg .line").count() > 0


def test_hostile_names_are_text(make_run: Any, opened: Callable[..., Any], tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>\"]]> &lt;'"
    attacks = {f"{letter}{name}": {0.1: {1, 2}} for letter in "xy"}
    one = make_run({name: attacks, "b" * 200: attacks}, data=name)
    write_report(tmp_path, [one])
    page = opened(tmp_path / REPORT, **WIDE)
    button = page.locator("#curve .legend button").first
    button.click()
    page.locator("#curve .plot").hover()
    shown = page.locator("#curve .readout").inner_text()
    assert f"{name}, worst case" in shown
    assert f"{name}, x{name}" in shown
    assert button.inner_text() == f"x{name}"
    assert page.locator("#curve img, #queries img, img[src=x]").count() == 0
    assert page.trouble == []
