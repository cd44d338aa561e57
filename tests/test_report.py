"""The page of a run and its plots; ``test_report_browser.py`` opens it in a browser."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import rays
from art_ext.core.result import AttackResult
from art_ext.data import Dataset
from art_ext.evaluation import Attack, Settings, evaluate, plots, records
from art_ext.evaluation.examples import Examples, Found, choose
from art_ext.evaluation.table import to_text

HOSTILE = "<img src=x onerror=alert(1)> _$x^{"


@pytest.fixture
def data(digits: tuple[Tensor, Tensor]) -> Dataset:
    return Dataset("digits", digits[0][:20], digits[1][:20])


def run(out: Path, models: Any, data: Dataset, **options: Any) -> Any:
    return evaluate(models, data, out, eps=0.05, max_queries=40, **options)


def page_of(out: Path) -> str:
    return (out / "index.html").read_text(encoding="utf-8")


def test_one_page_with_the_plots_inside(tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
    run(tmp_path, linear_net, data)
    page = page_of(tmp_path)
    inside = [base64.b64decode(content) for content in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert inside == [(tmp_path / name).read_bytes() for name in records.PLOTS]
    assert all(content.startswith(b"\x89PNG\r\n\x1a\n") for content in inside)
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page), "nothing is fetched"
    assert "http" not in page.replace("http-equiv", "")


def test_names_from_outside_are_escaped(tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
    named = replace(data, name=HOSTILE, class_names=(HOSTILE, "b", "_c", *"3456789"))
    run(tmp_path, {HOSTILE: linear_net, "_$\\frac{": linear_net}, named)
    page = page_of(tmp_path)
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 4  # title, heading, card, table
    assert json.loads((tmp_path / "table.json").read_text())[0]["model"] == HOSTILE


def test_the_worst_case_over_attacks(tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
    def every_other(model: Any, x: Tensor, y: Tensor, eps: float, settings: Any, callback: Any) -> AttackResult:
        """An invented attack: breaks every other sample, and says nothing on its way."""
        broken = torch.arange(len(x)) % 2 == 0
        return replace(
            rays(model, x, y, eps=eps, max_queries=1), success=broken, x_nearest=None, early_stop=False,
            distance=torch.where(broken, eps, torch.inf), queries_to_success=torch.where(broken, 1, -1),
        )  # fmt: skip

    invented = Attack("invented", every_other, nearest=False, about="It breaks every other sample.")
    outcome = run(tmp_path, linear_net, data, attacks=("rays", invented))
    by_attack = outcome.records.pivot_table(index="index", columns="attack", values="success", aggfunc="any")
    worst = 1 - by_attack.any(axis=1).mean()
    assert worst < min(row.robust_accuracy for row in outcome.rows)
    assert f'<div class="big">{100 * worst:.1f} %</div>' in page_of(tmp_path)
    assert "It breaks every other sample." in page_of(tmp_path)


def test_distances_have_a_column_where_an_attack_knows_them(
    tmp_path: Path, linear_net: nn.Module, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])
    always = int(linear_net(torch.zeros(1, 1, 8, 8)).argmax())
    y = torch.where(torch.arange(20) < 5, always, data.y)
    models = {"hears": linear_net, "deaf": lambda x: linear_net(0 * x)}
    run(tmp_path / "stopped", models, replace(data, y=y), attacks=("rays", "fgsm"))
    assert not {"Distance", "ADBD"} & set(_headings(page_of(tmp_path / "stopped")))
    outcome = run(tmp_path / "minimised", models, replace(data, y=y), attacks=("i_fgm",))
    page = page_of(tmp_path / "minimised")
    headings = _headings(page)
    assert "ADBD" not in headings
    hears, deaf = re.findall(r"<td[^>]*>(.*?)</td>", page)[headings.index("Distance") :: len(headings)]
    assert hears == f"{outcome.rows[0].mean_distance:.4f}"
    right = int((y == always).sum())
    assert right >= 5
    assert deaf == f'-<br><small class="soft">{right} left out</small>'
    assert f"   {outcome.rows[0].mean_distance:.4f} |" in to_text(outcome.rows)
    assert "ADBD" not in to_text(outcome.rows)


def _headings(page: str) -> list[str]:
    return re.findall(r"<button[^>]*>([^<]+)</button>", page)


def test_only_attacks_that_stopped_early_have_a_faint_curve(
    tmp_path: Path, linear_net: nn.Module, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def keep(figure: Any) -> bytes:
        drawn.append(figure)
        return b""

    monkeypatch.setattr(plots, "_png", keep)
    for early_stop, faint in ((True, [0.35, None, None]), (False, [None, None])):
        out = tmp_path / str(early_stop)
        run(out, linear_net, data, attacks=("rays", "i_fgm"), early_stop=early_stop)
        curves = [line for line in drawn[0].axes[0].lines if line.get_drawstyle() == "steps-post"]
        assert [line.get_alpha() for line in curves] == faint
        page = page_of(out)
        assert ("left the search at their first success (rays)" in page) == early_stop
        assert "minimise a distortion of their own (i_fgm) need not come near" in page
        drawn.clear()


def test_samples_that_are_no_images_have_no_pictures(tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
    run(tmp_path, linear_net, replace(data, x=data.x.flatten(1)))
    assert not (tmp_path / "examples.png").exists()
    assert page_of(tmp_path).count("<figure>") == 2


def test_examples_take_turns_among_the_classes() -> None:
    y = torch.tensor([1, 1, 1, 0, 2, 0, 2])
    right = torch.tensor([False, True, True, True, True, True, True])
    assert choose(y, right).tolist() == [3, 1, 4, 5, 2, 6]
    assert choose(y, torch.zeros(7, dtype=torch.bool)).tolist() == [3, 0, 4, 5, 1, 6]


def test_a_picture_of_every_attack_and_its_perturbation(
    tmp_path: Path, linear_net: nn.Module, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    draw = plots._png

    def keep(figure: Any) -> bytes:
        drawn.append(figure)
        return draw(figure)

    monkeypatch.setattr(plots, "_png", keep)
    attacks = ("rays", "frank_wolfe", "fgsm", "i_fgsm", "mi_fgsm")
    outcome = run(tmp_path, {"a": linear_net, "b": linear_net}, data, attacks=attacks)
    curves, queries, examples = drawn
    for figure in (curves, queries):
        assert [axes.get_title() for axes in figure.axes] == ["a", "b"], "so many curves need axes for each model"
        assert len(figure.legends[0].get_texts()) == len(attacks)
    names = [axes.get_ylabel().split("\n")[0] for axes in examples.axes if axes.get_ylabel()]
    assert names == ["original", *attacks]
    pictures = [axes for axes in examples.axes if axes.images]
    assert len(pictures) > 2 * 3 + 2 * len(attacks), "originals, then an adversarial and its perturbation"
    perturbations = [axes.images[0].get_array() for axes in pictures if axes.images[0].get_cmap().name == "RdBu_r"]
    for picture in perturbations:
        assert abs(picture).max() <= 1 + 1e-6, "in units of the row's scale"
    assert max(abs(picture).max() for picture in perturbations) == pytest.approx(1)
    assert {row.attack for row in outcome.rows} == set(attacks)


def test_looks_tell_curves_apart() -> None:
    for models, attacks in ((2, 2), (6, 1), (1, 11), (3, 11)):
        pairs = [(f"m{model}", f"a{attack}") for model in range(models) for attack in range(attacks)]
        canvas = plots._Canvas.of(pd.DataFrame(pairs, columns=["model", "attack"]))
        assert canvas.apart == (models > 1 and attacks > 2)
        for axes in set(canvas.axes.values()):
            looks = [str(look) for (model, _), look in canvas.looks.items() if canvas.axes[model] is axes]
            assert len(set(looks)) == len(looks)


def test_samples_that_most_attacks_broke_are_shown(data: Dataset) -> None:
    settings = Settings((0.1,), 10, "linf", True, "logits", (0.0, 1.0), 8, None, 0)
    examples = Examples(data, torch.tensor([4, 2, 9, 7]), settings)
    found = Found(data.x[0], 1, 0.1, True)
    examples.found = {("m", "a"): {2: found, 7: found}, ("m", "b"): {7: found, 9: found}, ("n", "a"): {9: found}}
    assert plots._shown(examples, 2) == [9, 7]
    assert plots._shown(examples, 3) == [2, 9, 7]
    assert plots._shown(examples, 9) == [4, 2, 9, 7]
