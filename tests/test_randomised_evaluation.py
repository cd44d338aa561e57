"""Evaluations of models whose answers are random: the panel ``rand``, draws, findings, resume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.evaluation import evaluate, find_panel, read_records, read_run
from art_ext.examples import digits

FEW = {"auto_pgd_probability": {"num_steps": 3}, "auto_pgd_ce": {"num_steps": 3}}


class Noisy(nn.Module):
    """Network whose input gets Gaussian noise at each call."""

    def __init__(self, network: nn.Module, deviation: float) -> None:
        super().__init__()
        self.network = network
        self.deviation = deviation

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.network(rows + self.deviation * torch.randn_like(rows))
        return found


@pytest.fixture(scope="module")
def case() -> tuple[nn.Module, Tensor, Tensor]:
    model, x, y = digits(n=24)
    return model, x, y


def run(case: Any, out: Path, deviation: float = 0.1, **options: Any) -> Any:
    model, x, y = case
    options = {"panel": "rand", "attack_args": FEW, "eps": 0.1, "chunk_size": 12, **options}
    return evaluate({"net": Noisy(model, deviation).eval()}, (x, y), out, **options)


def test_the_panel_averages_draws_and_says_so(case: Any, tmp_path: Path) -> None:
    outcome = run(case, tmp_path)
    kinds = {finding.kind: finding.level for finding in outcome.warnings}
    assert kinds["randomised"] == "info"
    assert not {"batch-dependent", "training-mode"} & set(kinds)
    content = read_run(tmp_path)
    assert content is not None
    assert content["settings"]["draws"] == find_panel("rand").draws == 10
    assert content["identity"]["models"]["net"]["draws"] == 10
    assert any("average over 10 draws" in line for line in content["protocol"])
    records = read_records(tmp_path)
    first = records[records["attack"] == "auto_pgd_probability"]
    assert first["queries"].max() <= 5  # of averages: the clean check, the start, three steps
    assert records["success"].any()


def test_a_run_that_was_cut_ends_with_the_same_records(case: Any, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(case, whole)
    run(case, cut, shard=(1, 2))
    run(case, cut)
    left, right = (read_records(folder).drop(columns="seconds") for folder in (whole, cut))
    assert left.equals(right)


def test_without_draws_the_panel_is_recommended(case: Any, tmp_path: Path) -> None:
    outcome = run(case, tmp_path, panel="quick", attack_args={"rays": {"max_queries": 5}})
    (found,) = [one for one in outcome.warnings if one.kind == "randomised"]
    assert found.level == "warning"
    assert "--panel rand" in found.message
    content = read_run(tmp_path)
    assert content is not None
    assert "draws" not in content["settings"]


def test_draws_serve_any_attack(case: Any, tmp_path: Path) -> None:
    run(case, tmp_path, panel=None, attacks=["rays"], attack_args={}, max_queries=8, draws=3)
    content = read_run(tmp_path)
    assert content is not None
    assert content["settings"]["draws"] == 3


def test_a_deterministic_model_is_named(case: Any, tmp_path: Path, caplog: Any) -> None:
    outcome = run(case, tmp_path, deviation=0.0)
    (found,) = [one for one in outcome.warnings if one.kind == "deterministic"]
    assert found.level == "info"
    assert "needs no draws" in found.message
    assert sum("deterministic" in line for line in caplog.messages) == 1


def test_a_panel_of_ones_own_names_its_draws(case: Any, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('draws = 4\n[[attack]]\nattack = "pgd"\narguments = { num_steps = 2 }\n')
    run(case, tmp_path / "run", panel=file, attack_args={})
    content = read_run(tmp_path / "run")
    assert content is not None
    assert content["settings"]["draws"] == 4
    file.write_text('draws = 0\n[[attack]]\nattack = "pgd"\n')
    with pytest.raises(ValueError, match="draws must be an integer >= 1, got 0"):
        find_panel(file)


def test_what_does_not_go_together(case: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="draws must be an integer >= 1"):
        run(case, tmp_path / "a", draws=0)
    with pytest.raises(ValueError, match="detectors and members need models"):
        run(case, tmp_path / "b", detectors=["confidence"])
    assert not (tmp_path / "a").exists()
    shutil.rmtree(tmp_path / "b", ignore_errors=True)
