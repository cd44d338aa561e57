"""The page of a run and its plots; ``test_report_browser.py`` opens it in a browser."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import rays
from art_ext.core.result import AttackResult
from art_ext.data import Dataset
from art_ext.evaluation import Attack, evaluate, records
from art_ext.evaluation.examples import choose

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


def test_samples_that_are_no_images_have_no_pictures(tmp_path: Path, linear_net: nn.Module, data: Dataset) -> None:
    run(tmp_path, linear_net, replace(data, x=data.x.flatten(1)))
    assert not (tmp_path / "examples.png").exists()
    assert page_of(tmp_path).count("<figure>") == 2


def test_examples_take_turns_among_the_classes() -> None:
    y = torch.tensor([1, 1, 1, 0, 2, 0, 2])
    right = torch.tensor([False, True, True, True, True, True, True])
    assert choose(y, right).tolist() == [3, 1, 4, 5, 2, 6]
    assert choose(y, torch.zeros(7, dtype=torch.bool)).tolist() == [3, 0, 4, 5, 1, 6, 2]
