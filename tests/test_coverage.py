"""What the card of a model says of the attacks that were run, and of what was not covered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from art_ext.data import load_data
from art_ext.evaluation import evaluate, read_run
from art_ext.evaluation.analysis.coverage import kinds, not_covered
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.report.cards import duration


@pytest.fixture
def run(make_run: Callable[..., Any]) -> Callable[..., Any]:
    """Build a run of attacks with given access, and change facts of it."""

    def build(access: dict[str, str], **settings: Any) -> Any:
        one = make_run({"m": {name: {0.1: {1}} for name in access}})
        for name, own in access.items():
            one.run["attacks"][name]["access"] = own
        one.run["settings"].update({"max_queries": 5000, **settings})
        return one

    return build


@pytest.mark.parametrize(
    ("access", "missing"),
    [
        ({"pgd": "gradients", "nes": "scores", "rays": "labels"}, ["AutoAttack"]),
        ({"pgd": "gradients"}, ["attacks on scores", "attacks on labels alone", "AutoAttack"]),
        ({"autoattack": "gradients"}, ["attacks on scores", "attacks on labels alone"]),
        ({"rays": "labels"}, ["attacks on gradients", "attacks on scores", "AutoAttack"]),
    ],
)
def test_access_without_an_attack_is_named(
    run: Callable[..., Any], access: dict[str, str], missing: list[str]
) -> None:
    one = run(access)
    assert not_covered(one.blocks, one.run, "m") == missing


@pytest.mark.parametrize(
    ("budget", "own", "told"),
    [
        (5000, {}, False),
        (1000, {}, False),
        (999, {}, True),
        (5000, {"max_queries": 200}, True),
        (200, {"max_queries": 5000}, False),
    ],
)
def test_small_budgets_are_named(
    run: Callable[..., Any], budget: int, own: dict[str, int], told: bool
) -> None:
    one = run({"rays": "labels"}, max_queries=budget)
    one.run["attacks"]["rays"]["arguments"] = own
    missing = not_covered(one.blocks, one.run, "m")
    wanted = f"budgets over {own.get('max_queries', budget):,} queries"
    assert (wanted in missing) == told


def test_a_budget_limits_no_attack_on_gradients(run: Callable[..., Any]) -> None:
    one = run({"pgd": "gradients"}, max_queries=10)
    assert not any("budget" in part for part in not_covered(one.blocks, one.run, "m"))


def test_targets_leave_out_the_other_classes(run: Callable[..., Any]) -> None:
    one = run({"pgd": "gradients"}, targeted="random")
    assert "classes that are no targets" in not_covered(one.blocks, one.run, "m")


def test_attacks_are_counted_by_what_they_need(run: Callable[..., Any]) -> None:
    one = run({"a": "gradients", "b": "gradients", "c": "labels", "d": "unknown"})
    assert kinds(one.blocks, one.run, "m") == (
        "4 attacks: 2 on gradients, 1 on labels alone, 1 of unknown access"
    )


@pytest.mark.usefixtures("no_report")
def test_the_first_samples_of_a_data_set_are_told(tmp_path: Path, linear_net: nn.Module) -> None:
    data = load_data("digits")
    whole = len(data)
    assert data.first(whole).first_of is None
    assert data.first(8).first(4).first_of == whole
    evaluate(linear_net, data.first(6), tmp_path, eps=0.1, attacks=("fgsm",))
    run = read_run(tmp_path)
    assert run is not None
    assert run["data"]["first_of"] == whole
    one = load_run(tmp_path)
    missing = not_covered(one.blocks, one.run, one.blocks.models[0])
    assert f"all but the first 6 of {whole} samples" in missing


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.21, "4.2 s"), (99, "99.0 s"), (150, "2 min"), (7500, "2 h 5 min")]
)
def test_times_are_told_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
