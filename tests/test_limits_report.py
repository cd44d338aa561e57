"""The page of a run on limits, its figure and its files; ``tests/browser`` opens it."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.data import Dataset
from art_ext.evaluation import evaluate
from art_ext.evaluation.analysis.examples import Found
from art_ext.evaluation.analysis.limits import GIVEN_ALPHA, Limits
from art_ext.evaluation.analysis.records import LoadedRun, load_run
from art_ext.evaluation.report import limits as report
from art_ext.evaluation.report import limits_plot, plots
from art_ext.evaluation.report.limits_plot import Plot
from art_ext.evaluation.report.limits_tables import to_csv
from art_ext.storage.evaluation import LIMITS, LIMITS_PLOT, LIMITS_TABLES, PLOTS, WARNINGS
from tests._limits import bound, make_limits

HOSTILE = "<img src=x onerror=alert(1)> _$x^{"
HEADINGS = {"on the manifold": ("rays",), "without constraint": ("fgsm", "i_fgsm")}


@pytest.fixture
def without_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else, and most tests are not about it."""
    plot = Plot(LIMITS_PLOT, "", "", b"", 1)
    monkeypatch.setattr(report, "draw_limits", lambda limits: plot)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn from here on."""
    figures: list[Any] = []

    def keep(figure: Any) -> bytes:
        figures.append(figure)
        return b""

    monkeypatch.setattr(limits_plot, "to_png", keep)
    return figures


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, digits: tuple[Tensor, Tensor]) -> LoadedRun:
    """A run of three attacks on one model."""
    out = tmp_path_factory.mktemp("attacks")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    data = Dataset("digits", digits[0][:20], digits[1][:20])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw", lambda loaded: [])
        attacks = ("rays", "fgsm", "i_fgsm")
        evaluate({"net": net}, data, out, eps=0.05, attacks=attacks, max_queries=40)
    return load_run(out)


def tables(limits: Limits) -> dict[str, list[dict[str, str]]]:
    return {name: list(csv.DictReader(io.StringIO(text))) for name, text in to_csv(limits).items()}


def test_one_page_with_the_figure_and_the_pictures_inside(tmp_path: Path, one: LoadedRun) -> None:
    pictures = report.strips(one, HEADINGS)
    report.write_limits_report(tmp_path, make_limits(), {"n": 200, "workers": None}, pictures)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    inside = [
        base64.b64decode(content)
        for content in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]
    assert inside[0] == (tmp_path / LIMITS_PLOT).read_bytes()
    assert all(content.startswith(b"\x89PNG\r\n\x1a\n") for content in inside)
    assert (tmp_path / PLOTS[2]).read_bytes().startswith(b"\x89PNG"), "the pictures as one file"
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page), "nothing is fetched"
    assert "http" not in page.replace("http-equiv", "")
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii")
    assert f"script-src 'sha256-{digest}';" in page, "no other script may run"
    assert "<dt>n</dt>" in page
    assert "<dt>workers</dt>" not in page, "an argument that was not given"
    assert {path.name for path in tmp_path.iterdir()} == {
        "index.html",
        LIMITS,
        WARNINGS,
        LIMITS_PLOT,
        PLOTS[2],
        *LIMITS_TABLES,
    }


@pytest.mark.usefixtures("without_plot")
def test_the_results_are_read_back_from_their_file(tmp_path: Path) -> None:
    limits = make_limits(checkpoints=(5, 10))
    report.write_limits_report(tmp_path, limits)
    read = Limits.from_plain(json.loads((tmp_path / LIMITS).read_text()))
    assert report.render_limits(read) == report.render_limits(limits)
    assert to_csv(read) == to_csv(limits)
    kinds = [found["kind"] for found in json.loads((tmp_path / WARNINGS).read_text())]
    assert kinds == ["zero-risk", "not-represented"]


@pytest.mark.usefixtures("without_plot")
def test_the_page_says_that_the_bound_may_be_too_low() -> None:
    page = report.render_limits(make_limits())
    assert "All estimates of L are lower bounds" in page.partition('class="cards"')[0]
    bounds = page.partition("<h2>Bounds</h2>")[2]
    assert bounds.lstrip().startswith(f"<p>{report.LOWER_ESTIMATE}</p>")
    assert "Not run: BigGAN, LP-certify." in page


@pytest.mark.usefixtures("without_plot")
def test_names_from_outside_are_escaped() -> None:
    page = report.render_limits(make_limits((HOSTILE, "b"), name=HOSTILE), {"data": HOSTILE})
    assert "<img src=x" not in page
    # title, heading, data, card, table, bounds, verdict, warnings, arguments
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 9


def test_tables_as_files_hold_every_number() -> None:
    limits = make_limits(eps=(0.5, 1.0), checkpoints=(5, 10))
    constants, robustness, bounds, figure = tables(limits).values()
    assert [float(row["value"]) for row in constants] == [row.value for row in limits.lipschitz]
    assert constants[-1]["deviation"] == "", "of a single repeat"
    first = limits.rows[0]
    shares = [float(robustness[0][f"unconstrained{part}"]) for part in ("", "_low", "_high")]
    unconstrained = first.unconstrained
    assert shares == [unconstrained.value, unconstrained.low, unconstrained.high]
    assert robustness[0]["given"] == "", "that attack did not run"
    assert robustness[-1]["risk_9"] == str(limits.rows[-1].class_risks[9].value)
    forms = [row["form"] for row in bounds if (row["model"], row["eps"]) == ("natural", "0.5")]
    assert forms == [*["overall"] * 2, *["class-wise"] * 4, *["Theorem 4.4.3"] * 2]
    assert len(figure) == sum(len(curve.alphas) for curve in limits.curves) + len(limits.points)
    said = [row for row in figure if row["kind"] == "bound" and row["form"] == "overall"]
    nothing = [row for row in said if row["robustness"] == ""]
    assert {float(row["risk"]) >= 0.1 for row in nothing} == {True}, "alpha / p above 1"


@pytest.mark.usefixtures("without_plot")
def test_bounds_name_what_is_wrong_with_them() -> None:
    limits = make_limits(("net",), (1.0,))
    (row,) = limits.rows
    silent = replace(row.bounds[0], value=math.nan)
    page = report.render_limits(replace(limits, rows=(replace(row, bounds=(silent,)),)))
    assert "<span>says nothing</span>" in page
    vacuous = replace(row.bounds[0], value=1.0004, value_low=0.99, value_high=1.001, vacuous=True)
    page = report.render_limits(replace(limits, rows=(replace(row, bounds=(vacuous,)),)))
    note = "99.0 to 100.1, vacuous, radius too small"
    assert f"<span>100.0 %<small>{note}</small></span>" in page
    low = replace(row.bounds[1], value=0.5, value_low=0.49, value_high=row.in_distribution.low)
    page = report.render_limits(replace(limits, rows=(replace(row, bounds=(low,)),)))
    assert "contradicted<" not in page
    low = replace(low, value_high=row.in_distribution.low - 0.001)
    page = report.render_limits(replace(limits, rows=(replace(row, bounds=(low,)),)))
    assert ", contradicted</small>" in page
    given = replace(low, reading=GIVEN_ALPHA, applies=False)
    page = report.render_limits(replace(limits, rows=(replace(row, bounds=(given,)),)))
    assert ", of larger risks only</small>" in page
    assert "contradicted<" not in page, "the classifier is not among those of the bound"


@pytest.mark.usefixtures("without_plot")
def test_columns_of_attacks_that_did_not_run_are_left_out() -> None:
    limits = make_limits(("net",), (1.0,))
    assert "Given start" not in report.render_limits(limits)
    (row,) = limits.rows
    both = replace(limits, rows=(replace(row, given=row.optimise),))
    assert "Given start" in report.render_limits(both)


def test_the_start_distance_is_that_of_optimised_starts() -> None:
    page = report.render_limits(make_limits(("net",), (1.0,)))
    assert "Median L2 distance between a sample and its optimised start." in page


def test_axes_for_each_eps_with_bounds_and_marks(drawn: list[Any]) -> None:
    limits = make_limits()
    plot = limits_plot.draw_limits(limits)
    assert plot.axes == 3
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["eps = 0.5", "eps = 0.75", "eps = 1"]
    texts = [text.get_text().strip() for text in figure.legends[0].get_texts()]
    assert texts == [
        "class-wise bound, sampled L = 1.05",
        "class-wise bound, spectral L = 1.41",
        "overall bound, sampled L = 1.05",
        "overall bound, spectral L = 1.41",
        "natural, unconstrained",
        "natural, in-distribution",
        "l2-trained, unconstrained",
        "l2-trained, in-distribution",
    ]
    for axes, eps in zip(figure.axes, limits.eps, strict=True):
        lines = {line.get_label().strip(): line for line in axes.lines}
        x, y = lines["class-wise bound, sampled L = 1.05"].get_data()
        assert y[15] == pytest.approx(100 * bound("class-wise", x[15] / 100, eps, 1.05))
        marks = {one.get_label().strip(): one.lines[0] for one in axes.containers}
        row = next(row for row in limits.rows if (row.model, row.eps) == ("natural", eps))
        (place,) = marks["natural, in-distribution"].get_xydata()
        assert place == pytest.approx([100 * row.risk.value, 100 * row.in_distribution.value])
        left, right = axes.get_xlim()
        assert left < 0 < max(100 * point.risk.value for point in limits.points) < right


def test_the_path_of_a_training_is_drawn_in_its_order(drawn: list[Any]) -> None:
    limits = make_limits(eps=(1.0,), checkpoints=(5, 10, 40))
    shuffled = replace(limits, points=limits.points[::-1])
    plot = limits_plot.draw_limits(shuffled)
    assert "the checkpoints of one training" in plot.caption
    (axes,) = drawn[0].axes
    wanted = [
        (100 * point.risk.value, 100 * point.robustness.value)
        for point in limits.points
        if point.path and point.kind == "in-distribution"
    ]
    paths = [one.lines[0] for one in axes.containers if len(one.lines[0].get_xydata()) > 1]
    assert len(paths) == 2
    found = [path.get_xydata().tolist() for path in paths if path.get_linestyle() == "-"]
    assert found == [[pytest.approx(place) for place in wanted]]
    assert {path.get_linestyle() for path in paths} == {"-", ":"}
    assert [text.get_text() for text in axes.texts] == ["epoch 5", "epoch 40"]
    colours = {line.get_color() for line in (one.lines[0] for one in axes.containers)}
    assert len(colours) == 2, "checkpoints have the colour of their training"


def test_strips_show_the_nearest_success(one: LoadedRun) -> None:
    assert one.examples is not None
    position = one.examples.index[0]
    image = one.examples.originals[position]
    shift = {"rays": (0.02, False), "fgsm": (0.05, True), "i_fgsm": (0.03, True)}
    found = {
        ("net", name): {position: Found(image + distance, 3, distance, success)}
        for name, (distance, success) in shift.items()
    }
    given = replace(one, examples=replace(one.examples, found=found))
    (sheet,) = report.strips(given, HEADINGS)
    assert [name for name, _ in sheet.rows] == ["on the manifold", "without constraint"]
    shown = [tiles[0] for _, tiles in sheet.rows]
    assert [(tile.distance, tile.success) for tile in shown if tile] == [
        (0.02, False),
        (0.03, True),
    ]
    assert report.strips(replace(one, examples=None), HEADINGS) == []


@pytest.mark.usefixtures("without_plot")
def test_checkpoints_have_rows_of_robustness_and_nothing_else() -> None:
    limits = make_limits(checkpoints=(5, 10))
    early = "l2-trained epoch 5"
    found = replace(limits.warnings[0], model=early, message="found at a checkpoint")
    page = report.render_limits(replace(limits, warnings=(*limits.warnings, found)))
    cards, robustness = page.replace("<wbr>", "").partition("<h2>Robustness</h2>")[::2]
    robustness, bounds = robustness.partition("<h2>Bounds</h2>")[::2]
    assert cards.count('class="box card"') == 2
    assert "<summary>1 finding on checkpoints</summary>" in cards
    assert cards.count(early) == 1, "that finding"
    assert robustness.count(f'<tr data-model="{early}"') == len(limits.eps)
    assert early not in bounds
    assert "Those of checkpoints are in the file." in bounds


def test_ends_of_a_path_that_are_close_share_a_text(drawn: list[Any]) -> None:
    limits = make_limits(eps=(1.0,), checkpoints=(5, 10))
    same = [
        replace(point, risk=limits.points[0].risk, robustness=limits.points[0].robustness)
        if point.path
        else point
        for point in limits.points
    ]
    limits_plot.draw_limits(replace(limits, points=tuple(same)))
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["epochs 5 to 10"]
