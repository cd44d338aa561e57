"""The page of a run and its plots; ``tests/browser`` opens it in a browser."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import rays
from art_ext.core.metrics.intervals import wilson
from art_ext.core.result import AttackResult
from art_ext.data import Dataset
from art_ext.evaluation import Attack, AttackRequest, evaluate
from art_ext.evaluation.analysis import records
from art_ext.evaluation.analysis.blocks import blocks_of
from art_ext.evaluation.analysis.examples import Chosen, Examples, Found, choose
from art_ext.evaluation.analysis.queries import query_curves
from art_ext.evaluation.analysis.radii import adversarial
from art_ext.evaluation.analysis.table import summarise, to_text, verdicts
from art_ext.evaluation.analysis.together import name_apart, notes
from art_ext.evaluation.report import page as report
from art_ext.evaluation.report import pictures, plots
from art_ext.evaluation.report.canvas import Canvas, grid
from art_ext.evaluation.report.classes import by_class
from art_ext.evaluation.report.results import leaderboard
from art_ext.storage.evaluation import CARD

HOSTILE = "<img src=x onerror=alert(1)> _$x^{"


@pytest.fixture
def data(digits: tuple[Tensor, Tensor]) -> Dataset:
    return Dataset("digits", digits[0][:20], digits[1][:20])


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than everything else, and most tests are not about it."""
    monkeypatch.setattr(plots, "draw", lambda loaded: [])


def run(out: Path, models: Any, data: Dataset, **options: Any) -> Any:
    return evaluate(models, data, out, eps=0.05, max_queries=40, **options)


def page_of(out: Path) -> str:
    return (out / "index.html").read_text(encoding="utf-8")


def test_one_page_with_the_plots_inside(
    tmp_path: Path, linear_net: nn.Module, data: Dataset
) -> None:
    run(tmp_path, linear_net, data)
    page = page_of(tmp_path)
    assert all(
        (tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in (*records.PLOTS[:2], CARD)
    )
    assert page.count('<svg class="frame"') == 2, "the figures are in the page itself"
    assert (tmp_path / records.PLOTS[2]).read_bytes().startswith(b"\x89PNG"), (
        "the pictures as one file"
    )
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page), "nothing is fetched"
    assert "http" not in page.replace("http-equiv", "")
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(sha256(script.encode("utf-8")).digest()).decode("ascii")
    assert f"script-src 'sha256-{digest}';" in page, "no other script may run"
    assert json.loads((tmp_path / records.WARNINGS).read_text()) == []


def test_names_from_outside_are_escaped(
    tmp_path: Path, linear_net: nn.Module, data: Dataset
) -> None:
    named = replace(data, name=HOSTILE, class_names=(HOSTILE, "b", "_c", *"3456789"))
    run(tmp_path, {HOSTILE: linear_net, "_$\\frac{": linear_net}, named)
    page = page_of(tmp_path)
    assert "<img src=x" not in page
    # title, heading, card, table, pictures
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 5
    assert json.loads((tmp_path / "table.json").read_text())[0]["model"] == HOSTILE


@pytest.mark.usefixtures("without_plots")
def test_the_worst_case_over_attacks(tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
    def every_other(request: AttackRequest) -> AttackResult:
        """An invented attack: breaks every other sample, and says nothing on its way."""
        broken = torch.arange(len(request.x)) % 2 == 0
        return replace(
            rays(request.model, request.x, request.goal, eps=request.eps, max_queries=1),
            success=broken,
            x_nearest=None,
            stop_on_success=False,
            distance=torch.where(broken, request.eps, torch.inf),
            queries_to_success=torch.where(broken, 1, -1),
        )

    invented = Attack("invented", every_other, nearest=False, about="It breaks every other sample.")
    outcome = run(tmp_path, linear_net, data, attacks=("rays", invented))
    by_attack = outcome.records.pivot_table(
        index="index", columns="attack", values="success", aggfunc="any"
    )
    worst = 1 - by_attack.any(axis=1).mean()
    assert worst < min(row.robust_accuracy for row in outcome.rows)
    headline = f"Robust accuracy <strong>{100 * worst:.1f} %</strong> at eps 0.05 "
    assert headline in page_of(tmp_path)
    assert "It breaks every other sample." in page_of(tmp_path)


@pytest.mark.usefixtures("without_plots")
def test_distances_have_a_column_where_an_attack_knows_them(
    tmp_path: Path, linear_net: nn.Module, data: Dataset
) -> None:
    always = int(linear_net(torch.zeros(1, 1, 8, 8)).argmax())
    y = torch.where(torch.arange(20) < 5, always, data.y)
    models = {"hears": linear_net, "deaf": lambda x: linear_net(0 * x)}
    run(tmp_path / "stopped", models, replace(data, y=y), attacks=("rays", "fgsm"))
    assert not {"Distance", "ADBD"} & set(_headings(page_of(tmp_path / "stopped")))
    outcome = run(tmp_path / "minimised", models, replace(data, y=y), attacks=("i_fgm",))
    page = page_of(tmp_path / "minimised")
    headings = _headings(page)
    assert "ADBD" not in headings
    results = page.partition('<table id="rows"')[2]
    cells = re.findall(r"<td[^>]*data-title[^>]*><span>(.*?)</span></td>", results)
    hears, deaf = cells[headings.index("Distance") :: len(headings)]
    assert hears == f"{outcome.rows[0].mean_distance:.4f}"
    right = int((y == always).sum())
    assert right >= 5
    assert deaf == f"-<small>{right} left out</small>"
    assert f"   {outcome.rows[0].mean_distance:.4f} |" in to_text(outcome.rows)
    assert "ADBD" not in to_text(outcome.rows)


def _headings(page: str) -> list[str]:
    return re.findall(
        r"<th[^>]*><button[^>]*>([^<]+)</button>",
        page.partition('id="results"')[2].partition("</thead>")[0],
    )


def test_samples_that_are_no_images_have_no_pictures(
    tmp_path: Path, linear_net: nn.Module, data: Dataset
) -> None:
    run(tmp_path, linear_net, replace(data, x=data.x.flatten(1)))
    assert not (tmp_path / "examples.png").exists()
    assert page_of(tmp_path).count("<img") == 0


def test_examples_take_turns_among_the_classes() -> None:
    y = torch.tensor([1, 1, 1, 0, 2, 0, 2])
    right = torch.tensor([False, True, True, True, True, True, True])
    assert choose(y, right).tolist() == [3, 1, 4, 5, 2, 6]
    assert choose(y, torch.zeros(7, dtype=torch.bool)).tolist() == [3, 0, 4, 5, 1, 6]


@pytest.mark.parametrize("models", [2, 3, 5, 7])
def test_each_model_has_axes_and_each_column_labels(models: int) -> None:
    names = [f"m{number}" for number in range(models)]
    canvas = Canvas(*grid(names, 2))
    for name, axes in canvas.axes.items():
        axes.set_title(name)
    canvas.set(xlim=(0, 1), ylim=(0, 101), xlabel="radius", ylabel="robust accuracy (%)")
    visible = [axes for axes in canvas.figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in visible] == names
    canvas.figure.draw_without_rendering()
    for column in (0, 1):
        own = visible[column::2]
        labels = [
            any(label.get_visible() and label.get_text() for label in axes.get_xticklabels())
            for axes in own
        ]
        assert labels == [False] * (len(own) - 1) + [True], "under the last of the column only"
        assert [axes.get_xlabel() for axes in own] == [""] * (len(own) - 1) + ["radius"]
        marked = [
            any(label.get_visible() and label.get_text() for label in axes.get_yticklabels())
            for axes in own
        ]
        assert marked == [column == 0] * len(own)


# ---- pictures


def sampled(side: int = 2, channels: int = 1) -> Examples:
    """Two samples of one class; one attack changes the first by +0.1 and -0.05, another finds
    nothing.
    """
    original = torch.full((channels, side, side), 0.5)
    changed = original.clone()
    changed[:, 0, 0] += 0.1
    changed[:, 0, 1] -= 0.05
    found = {("m", "finds"): {3: Found(changed, 7, 0.1, True)}, ("m", "fails"): {}}
    chosen = {"m": Chosen(broken=(3,), held=(5,))}
    return Examples([3, 5], {3: original, 5: original}, {3: 1, 5: 1}, found, chosen)


def test_a_picture_of_every_attack_and_its_perturbation(make_run: Any) -> None:
    one = make_run(
        {"m": {"finds": {0.1: {3}}, "fails": {0.1: set()}}},
        examples=sampled(),
        class_names=[*"abcdefgh"],
    )
    (sheet,) = pictures.sheets(one)
    assert [label for label, _ in sheet.originals] == ["b", "b"]
    assert sheet.originals[0][1].pixels.tolist() == [[128, 128], [128, 128]]
    (name, (tile, nothing)), (other, tiles) = sheet.rows
    assert (name, other, nothing, tiles) == ("finds", "fails", None, [None, None])
    assert tile is not None
    assert (tile.label, tile.distance, tile.success, tile.factor) == ("h", 0.1, True, 10)
    assert tile.image.pixels[0].tolist() == [153, 115]
    change = tile.change.pixels
    assert change[0, 0].tolist() == [178, 24, 43], "the largest change is the full red"
    assert change[1].tolist() == [[255] * 3] * 2, "no change is white"
    red, green, blue = change[0, 1].tolist()
    assert blue > green > red > 33, "half of it the other way is a pale blue"


def test_large_images_are_thinned_not_averaged(make_run: Any) -> None:
    one = make_run(
        {"m": {"finds": {0.1: {3}}, "fails": {0.1: set()}}}, examples=sampled(side=150, channels=3)
    )
    one.run["data"]["shape"] = [3, 150, 150]
    (sheet,) = pictures.sheets(one)
    tile = sheet.rows[0][1][0]
    assert tile is not None
    assert tile.factor == 5
    change = tile.change.pixels
    assert change.shape == (50, 50, 3)
    assert change[0, 0].tolist() == [255] * 3, "the largest change keeps its strength"
    assert change[1, 1].tolist() == [128] * 3
    assert pictures.mosaic([sheet]).startswith(b"\x89PNG")


# ---- table, worst case, classes, warnings


def test_a_success_inside_a_smaller_ball_is_one_inside_a_larger_ball(make_run: Any) -> None:
    one = make_run(
        {"m": {"x": {0.1: {1, 2}, 0.2: {2}}, "y": {0.1: {4}, 0.2: {5}}}}, wrong={"m": {0}}
    )
    small, large = ({0, 1, 2, 4}, {0, 1, 2, 4, 5})
    shuffled = blocks_of(one.records.sample(frac=1, random_state=0))
    for blocks in (one.blocks, shuffled):
        for eps, wanted in ((0.1, small), (0.2, large), (0.3, large)):
            assert set(adversarial(blocks, "m", eps).nonzero()[0].tolist()) == wanted
    with pytest.raises(ValueError, match=r"at least the smallest radius attacked, 0\.1, got 0\.05"):
        adversarial(one.blocks, "m", 0.05)


def test_verdicts_are_the_worst_case_with_its_interval(make_run: Any) -> None:
    broken_by = {"x": {0.1: {1, 2}, 0.2: {2}}, "y": {0.1: {4}, 0.2: {5}}}
    doubts = (
        {"model": "m"},
        {"model": "m", "level": "info"},
        {"model": "other"},
        {"model": "", "level": "warning"},
    )
    one = make_run({"m": broken_by, "n": broken_by}, wrong={"m": {0}}, warnings=doubts)
    first, second = verdicts(one.records, one.run)
    assert (first.model, first.samples, first.clean_accuracy) == ("m", 10, 0.9)
    assert (first.warnings, first.infos, second.infos) == (2, 1, 0)
    assert [(worst.eps, worst.robust_accuracy) for worst in first.worst] == [(0.1, 0.6), (0.2, 0.5)]
    assert (first.worst[1].robust_low, first.worst[1].robust_high) == wilson(5, 10)
    assert (first.clean_low, first.clean_high) == wilson(9, 10)
    assert (second.warnings, second.clean_accuracy) == (1, 1.0)


def search_in_a_cascade(make_run: Any) -> Any:
    """One search of ``last`` for both radii, after ``first``; 0 is misclassified.

    ``first`` breaks 1 and 2 within 0.1, and 3, 4 and 5 within 0.2 only. ``last`` is given what is
    left within 0.1.
    """
    one = make_run(
        {"m": {"first": {0.1: {1, 2}, 0.2: {3, 4, 5}}, "last": {0.1: {6}, 0.2: {3, 4, 6, 7}}}},
        wrong={"m": {0}},
        mode="cascade",
        nearest=("last",),
    )
    records = one.records
    own, index = records["attack"] == "last", records["index"]
    records.loc[own, "attacked"] = ~index.isin([0, 1, 2])
    records.loc[own, "success"] = (index == 6) | ((records["eps"] == 0.2) & index.isin([3, 4, 7]))
    records.loc[own, "nearest_distance"] = (
        index[own].map({3: 0.15, 4: 0.15, 6: 0.05, 7: 0.15}).fillna(np.inf)
    )
    records.loc[own & records["success"], "queries_to_success"] = 7
    records.loc[own & index.isin([3, 4]), "queries_to_success"] = 99
    return replace(one, blocks=blocks_of(records), rows=summarise(records, one.run))


def test_a_search_for_several_eps_counts_what_was_left_at_each(make_run: Any) -> None:
    one = search_in_a_cascade(make_run)
    first, second = (row for row in one.rows if row.attack == "last")
    assert (first.attacked, first.success_rate, first.robust_accuracy) == (
        7,
        pytest.approx(1 / 7),
        0.6,
    )
    assert (second.attacked, second.success_rate, second.robust_accuracy) == (
        4,
        0.5,
        pytest.approx(0.2),
    )
    assert second.mean_queries == 7, "3 and 4 were broken before"
    assert first.mean_distance == second.mean_distance == pytest.approx(0.125), "of the one search"


def test_curves_of_a_cascade_are_of_what_was_left(make_run: Any) -> None:
    found = query_curves(search_in_a_cascade(make_run), ())
    ends = [curve.successes[-1] / curve.samples for curve in found]
    assert ends == pytest.approx([2 / 9, 3 / 7, 1 / 7, 1 / 2])


@pytest.mark.usefixtures("without_plots")
def test_rows_of_a_cascade_count_what_came_before(make_run: Any) -> None:
    broken_by = {"x": {0.1: {1}, 0.2: {2}}, "y": {0.1: {3}, 0.2: {3, 4, 5}}}
    chain = make_run({"m": broken_by}, wrong={"m": {0}}, mode="cascade", nearest=("y",))
    found = {(row.attack, row.eps): row for row in chain.rows}
    robust = {key: row.robust_accuracy for key, row in found.items()}
    assert robust == {("x", 0.1): 0.8, ("x", 0.2): 0.7, ("y", 0.1): 0.7, ("y", 0.2): 0.4}
    assert {key: row.attacked for key, row in found.items()} == {
        ("x", 0.1): 9,
        ("x", 0.2): 8,
        ("y", 0.1): 8,
        ("y", 0.2): 6,
    }
    assert found["x", 0.1].success_rate == pytest.approx(1 / 9)
    assert found["y", 0.2].success_rate == pytest.approx(2 / 6), (
        "of those it was given; the third had fallen before"
    )
    assert (found["y", 0.2].robust_low, found["y", 0.2].robust_high) == wilson(4, 10)
    assert np.isnan(found["y", 0.2].adbd), "a mean over survivors is no ADBD"
    assert found["y", 0.2].left_out == 4
    (verdict,) = verdicts(chain.records, chain.run)
    assert verdict.worst[-1].robust_accuracy == robust["y", 0.2]
    alone = make_run({"m": broken_by}, wrong={"m": {0}}, nearest=("y",))
    own = {(row.attack, row.eps): row for row in alone.rows}
    assert own["y", 0.2].robust_accuracy == pytest.approx(0.6)
    assert own["y", 0.2].adbd == pytest.approx((0 + 3 * 0.18) / 4)
    assert "The attacks ran as a cascade." in report.render([chain])
    assert "its robust accuracy is its own" in report.render([alone])


def test_each_class_has_its_shares(make_run: Any) -> None:
    one = make_run(
        {"m": {"x": {0.1: {1}, 0.2: {5, 6}}}},
        wrong={"m": {0}},
        labels=[0] * 4 + [2] * 6,
        class_names=["cat", "dog", "eel"],
    )
    ((model, eps, (cat, eel)),) = by_class(one)
    assert (model, eps) == ("m", 0.2)
    assert (cat.name, cat.count, cat.clean, cat.robust) == ("cat", 4, 0.75, 0.5)
    assert (eel.name, eel.count, eel.clean, eel.robust) == ("eel", 6, 1.0, pytest.approx(4 / 6))
    assert (eel.low, eel.high) == wilson(4, 6)


@pytest.mark.usefixtures("without_plots")
def test_the_farthest_boundary_leads(make_run: Any) -> None:
    near, far = {"x": {0.1: {1, 2}}}, {"x": {0.1: set(), 0.4: {1, 2}}}
    one = make_run({"near": near, "far": far}, nearest=("x",))
    first, second = leaderboard([one])
    assert (first.model, first.adbd, first.relative_adbd, first.left_out) == (
        "far",
        pytest.approx(0.36),
        1.0,
        8,
    )
    assert (second.model, second.adbd, second.relative_adbd) == (
        "near",
        pytest.approx(0.09),
        pytest.approx(0.25),
    )
    assert "ADBD leaderboard" in report.render([one])
    assert "ADBD leaderboard" not in report.render([make_run({"near": near})])


@pytest.mark.usefixtures("without_plots")
def test_warnings_name_their_samples(make_run: Any) -> None:
    doubt = {
        "kind": "falsely-robust",
        "model": "m",
        "attack": None,
        "eps": 8 / 255,
        "message": f"look at {HOSTILE}",
        "indices": list(range(300)),
        "ids": [10_000 + index for index in range(300)],
        "count": 300,
        "samples": 1000,
        "interval": [0.272, 0.329],
    }
    page = report.render([make_run({"m": {"x": {8 / 255: {1}}}}, warnings=(doubt,))])
    assert '<a href="#warnings">All warnings</a>' in page
    assert "eps 8/255" in page
    assert "300 of 1,000 samples, 30.0 % (27.2 to 32.9)" in page
    assert "look at &lt;img src=x" in page
    assert "198, 199</code>" in page
    assert "10199</code>" in page
    assert "The first 200. All are in <code>warnings.json</code>." in page
    assert "No warnings" in report.render([make_run({"m": {"x": {0.1: {1}}}})])


@pytest.mark.usefixtures("without_plots")
def test_infos_stand_apart_from_warnings(make_run: Any) -> None:
    info = {
        "kind": "autoattack:square-better",
        "model": "m",
        "attack": None,
        "eps": 0.1,
        "message": "by 0.3 %",
        "indices": [4],
        "ids": [14],
        "count": 1,
        "samples": 10,
        "interval": [0.0, 0.4],
        "level": "info",
    }
    page = report.render([make_run({"m": {"x": {0.1: {1}}}}, warnings=(info,))])
    assert 'No warnings (<a href="#infos">1 info</a>)' in page
    assert '<h3 id="infos">Infos</h3>' in page
    assert '<div class="note info">' in page
    assert "<summary>1 sample</summary>" in page


# ---- several runs


@pytest.mark.usefixtures("without_plots")
def test_runs_with_equal_model_names_are_told_apart(make_run: Any, tmp_path: Path) -> None:
    doubt: dict[str, Any] = {
        "kind": "range",
        "model": "m",
        "attack": None,
        "eps": None,
        "message": "odd",
        "indices": [],
        "ids": [],
        "count": 0,
        "samples": 0,
        "interval": None,
    }
    first = make_run(
        {"m": {"finds": {0.1: {3}}}, "only": {"finds": {0.1: set()}}},
        name="one",
        examples=sampled(),
    )
    second = make_run({"m": {"finds": {0.1: {1, 2}}}}, name="two", warnings=(doubt,))
    report.write_report(tmp_path, [first, second])
    rows = json.loads((tmp_path / "table.json").read_text())
    robust = {row["model"]: row["robust_accuracy"] for row in rows}
    assert robust == {"m (one)": 0.9, "only": 1.0, "m (two)": 0.8}
    (warning,) = json.loads((tmp_path / "warnings.json").read_text())
    assert warning["model"] == "m (two)"
    page = page_of(tmp_path)
    assert page.count('<span class="kind">Note</span>') == 0, "same samples, eps and panel"
    assert page.count("<h3>m (one)</h3>") == 2, "classes and pictures"
    assert "<h3>Command line of one</h3>" in page
    assert page.count("<h3>Versions</h3>") == 1, "both runs have the same"
    assert page.count("As it was run.") == 1, "what the runs share is told once"
    with pytest.raises(ValueError, match=r"folders must differ, got .*one 2 times"):
        report.render([first, first])


def test_equal_names_in_folders_of_equal_names(make_run: Any) -> None:
    runs = [make_run({"m": {"x": {0.1: {1}}}}, name=name) for name in ("a/run", "b/run")]
    names = [one.rows[0].model for one in name_apart(runs)]
    assert names == [f"m ({one.folder.resolve()})" for one in runs]


def test_runs_that_do_not_compare_are_shown_with_a_note(make_run: Any, tmp_path: Path) -> None:
    first = make_run({"m": {"x": {0.1: {3}}}}, name="one")
    other_data = make_run({"n": {"x": {0.1: {3}}}}, name="two", ids=list(range(10)), data="others")
    other_eps = make_run({"o": {"x": {0.2: {3}}, "y": {0.2: {4}}}}, name="three")
    assert notes([first]) == []
    samples, eps, panels = notes([first, other_data, other_eps])
    assert "differ in their samples (one, three | two)" in samples
    other_norm = make_run({"p": {"x": {0.1: {3}}}}, name="four")
    other_norm.run["settings"] |= {"norm": "l2", "targeted": "next"}
    assert notes([first, other_norm])[0].startswith(
        "These runs differ in their norm and targets (one | four): "
    )
    assert "different eps (one: 0.1; three: 0.2)" in eps
    assert "different panels (one: x; three: x, y)" in panels
    report.write_report(tmp_path, [first, other_data, other_eps])
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "card.png",
        "robust_accuracy.png",
        "robust_accuracy-2.png",
        "success_queries.png",
        "success_queries-2.png",
    }
    page = page_of(tmp_path)
    assert "Robustness of 3 runs" in page
    assert (
        "Robust accuracy against eps: others, 10 samples, L-infinity, eps 0.1; panel custom (independent)"
        in page
    )
    assert all(model in page for model in ("<h2>m</h2>", "<h2>n</h2>", "<h2>o</h2>"))
    (different,) = notes([first, make_run({"m": {"x": {0.1: {3}}}}, name="two", norm="l2")])
    assert "are not comparable" in different
