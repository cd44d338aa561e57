"""The demonstration: its training, its panel, and the folder it writes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from art_ext import examples
from art_ext.data import load_data
from art_ext.evaluation import demo, read_run
from art_ext.evaluation.demo import run_demo
from art_ext.evaluation.panel import toolkits
from art_ext.examples import train_digits
from art_ext.storage.formats import EVALUATION
from art_ext.training import Recipe, TrainingResult, train
from art_ext.training.runs import requirements


def test_training_depends_on_the_seed_and_on_nothing_else() -> None:
    few = load_data("digits", split="train").first(70).in_memory()
    before = torch.get_rng_state()
    first, same, other = (train_digits(few, eps=0.1, epochs=2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [nn.utils.parameters_to_vector(model.parameters()) for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("eps", "recipe"), [(0.0, "natural"), (0.1, "backward-smoothing")])
def test_the_robust_network_is_trained_by_backward_smoothing(
    monkeypatch: pytest.MonkeyPatch, eps: float, recipe: str
) -> None:
    done: list[tuple[Recipe, TrainingResult]] = []

    def watched(model: nn.Module, data: Any, recipe: Recipe, **options: Any) -> TrainingResult:
        done.append((recipe, train(model, data, recipe, **options)))
        return done[-1][1]

    monkeypatch.setattr(examples, "train", watched)
    few = load_data("digits", split="train").first(100).in_memory()
    model = train_digits(few, eps=eps, epochs=3, seed=0)
    ((used, result),) = done
    assert (used.name, used.radius) == (recipe, eps)
    assert result.model is model
    assert not model.training
    assert (result.updates, result.forwards) == (3 * 2, 3 * 100 * used.cost().forwards)


def test_refuses_to_start_without_the_extras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'art-ext\[train\]'"):
        run_demo(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def test_the_panel_has_every_family_and_an_external_attack_where_there_is_one() -> None:
    names = [attack.name for attack in demo._panel()]
    families = {
        "rays",
        "frank_wolfe",
        "frank_wolfe_black_box",
        "nes",
        "hmcam",
        "ai_fgsm",
        "pgd",
        "ead",
        "zoo",
    }
    assert families <= set(names)
    assert ("torchattacks:PGD" in names) == (find_spec("torchattacks") is not None)


def test_leaves_out_a_torchattacks_that_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> object:
        raise RuntimeError("operator torchvision::nms does not exist")

    for module in (demo, toolkits):
        monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr(toolkits.importlib, "import_module", broken)
    assert [attack.name for attack in demo._panel()] == list(demo.PANEL)
    assert "torchvision::nms" in caplog.text
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    caplog.clear()
    assert [attack.name for attack in demo._panel()] == list(demo.PANEL)
    assert caplog.text == "", "not installed is no fault"


def test_replaces_only_an_earlier_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {
        "NATURAL_EPOCHS": 1,
        "ROBUST_EPOCHS": 1,
        "MAX_QUERIES": 20,
        "PANEL": {"rays": {}, "fgsm": {}},
    }
    for name, value in few.items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr(
        demo, "load_data", lambda name, **options: load_data(name, **options).first(40)
    )
    mine = tmp_path / "mine" / "run.json"
    mine.parent.mkdir()
    mine.write_text(
        json.dumps(
            {"tool": "art-ext", "format": EVALUATION.written, "arguments": {"command": "evaluate"}}
        )
    )
    before = mine.read_bytes()
    with pytest.raises(ValueError, match="holds another run"):
        run_demo(mine.parent)
    assert mine.read_bytes() == before
    run_demo(tmp_path / "demo", seed=0)
    (tmp_path / "demo" / "notes.txt").write_text("mine")
    outcome = run_demo(tmp_path / "demo", seed=1)
    assert read_run(tmp_path / "demo")["arguments"]["seed"] == 1  # type: ignore[index]
    assert (tmp_path / "demo" / "notes.txt").read_text() == "mine"
    assert {row.model for row in outcome.rows} == {"natural", "adversarially trained"}


@pytest.mark.slow
def test_the_natural_network_breaks_and_the_robust_one_holds(tmp_path: Path) -> None:
    outcome = run_demo(tmp_path / "demo")
    strong = {"rays", "frank_wolfe", "hmcam", "ai_fgsm", "pgd", "i_fgm"}
    other_norms = {"ead", "zoo"}  # they change single pixels by more than eps
    for row in outcome.rows:
        assert row.clean_accuracy > 0.95
        if row.attack in other_norms:
            continue
        if row.model == "natural":
            assert row.robust_accuracy < (0.05 if row.attack in strong else 0.25)
        else:
            assert 0.4 < row.robust_accuracy < (0.75 if row.attack in strong else 0.85)
    far = {(row.model, row.attack): row.mean_distance for row in outcome.rows}
    for row in outcome.rows:
        if row.attack in other_norms and row.model == "natural":
            assert row.left_out == 0, "every sample has an adversarial somewhere"
            assert 0.2 < row.mean_distance < far["adversarially trained", row.attack] - 0.05
    boundary = {row.model: row.adbd for row in outcome.rows if row.attack == "rays"}
    assert boundary["adversarially trained"] > 1.5 * boundary["natural"]
    shares = {(row.model, row.attack): row.robust_accuracy for row in outcome.rows}
    for model in boundary:
        assert shares[model, "pgd"] < shares[model, "fgsm"], "forty steps find more than one"
        # where it is installed
        external = shares.get((model, "torchattacks:PGD"), shares[model, "pgd"])
        assert abs(shares[model, "pgd"] - external) < 0.04, "the same method from two hands"


def test_the_demo_runs_on_one_thread_and_gives_the_others_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with examples.one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
