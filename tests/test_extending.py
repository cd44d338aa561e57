"""The guide's examples: an attack, a recipe and a detector, one file each, found everywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext import cli
from art_ext.adapters.torchattacks import make as make_torchattacks
from art_ext.attacks import make as make_art
from art_ext.core.attacks import registry
from art_ext.data import Dataset, load_data
from art_ext.evaluation import evaluate
from art_ext.evaluation.panel.user_attacks import load_attack
from art_ext.evaluation.panel.user_detectors import find_detector
from art_ext.evaluation.report import plots
from art_ext.models import load_weights, resolve_factory
from art_ext.testing import check_attack, check_recipe
from art_ext.training import RECIPES
from tests.toys import examples

ROOT = Path(__file__).parents[1]
EPS = 0.3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example files of the guide; the current folder."""
    for page in ("add-an-attack", "add-a-recipe", "add-a-detector", "plug-in-package"):
        for name, code in examples(f"how-to/{page}.md").items():
            (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])
    yield tmp_path
    if "random_search" in registry.names():
        registry.unregister("random_search")


@pytest.fixture
def spec(folder: Path) -> registry.AttackSpec:
    return load_attack("random_search.py:random_search")


def test_it_is_about_30_lines(folder: Path) -> None:
    code = re.sub(r'""".*?"""', "", (folder / "random_search.py").read_text(), flags=re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip() and "import" not in line]
    assert len(lines) <= 32


def test_in_the_listing(folder: Path) -> None:
    done = CliRunner().invoke(cli.app, ["attacks", "--attack", "random_search.py:random_search"])
    (line,) = [line for line in done.output.splitlines() if line.startswith("random_search ")]
    assert line.split()[1:4] == ["scores", "fixed-radius", "linf,l2,l1"]


def test_in_an_evaluation(
    folder: Path, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    outcome = evaluate(
        linear_net,
        Dataset("digits", *digits),
        folder / "run",
        eps=EPS,
        attacks=("random_search.py:random_search", "fgsm"),
        attack_args={"random_search": {"num_steps": 5}},
    )
    found = outcome.records.query("attack == 'random_search' and not already_adversarial")
    assert set(found["queries"]) == {1 + 5}
    assert 0 < found["success"].sum() < len(found)


def test_as_an_art_class_and_a_torchattacks_class(
    spec: registry.AttackSpec, linear_net: nn.Module, digits: tuple[Tensor, Tensor]
) -> None:
    x, y = digits
    own = spec.function(linear_net, x, y, eps=EPS, seed=0, on_failure="last")
    classifier = PyTorchClassifier(
        linear_net, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    art: Any = make_art(spec)(classifier, eps=EPS, seed=0, verbose=False)
    assert np.array_equal(art.generate(x.numpy(), y.numpy()), own.x_adv.numpy())
    pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    torchattack: Any = make_torchattacks(spec)(linear_net, eps=EPS, seed=0)
    assert torch.equal(torchattack(x, y), own.x_adv)


@pytest.mark.slow
def test_passes_the_contract(folder: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "contract")),
            *("-c", str(ROOT / "pyproject.toml"), "-k", "random_search", "-p", "no:cacheprovider"),
        ],
        cwd=folder,
        env={
            **os.environ,
            "PYTEST_ADDOPTS": "",  # the caller's options may change the line that is read
            "ART_EXT_CONTRACT": str(folder / "entries.py"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 60, "in the core, in ART and in torchattacks"


def test_its_contract_in_ones_own_tests(spec: registry.AttackSpec) -> None:
    assert all(check.passed for check in check_attack(spec, num_steps=10))


class TestPackage:
    FILES = ("pyproject.toml", "corner_attacks.py")

    def test_it_has_20_lines(self, folder: Path) -> None:
        lines = [line for name in self.FILES for line in (folder / name).read_text().splitlines()]
        assert len([line for line in lines if line.strip()]) <= 20

    @pytest.mark.slow
    def test_built_installed_and_found(self, folder: Path, tmp_path: Path) -> None:
        source = tmp_path / "package"
        source.mkdir()
        for name in self.FILES:
            (folder / name).rename(source / name)
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
        target = tmp_path / "installed"
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, "--target", target, source],
            check=True,
            capture_output=True,
        )
        done = subprocess.run(
            [sys.executable, "-m", "art_ext", "attacks"],
            env={**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT}"},
            cwd=source,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        lines = {line.split()[0]: line for line in done.stdout.splitlines()}
        guide = (ROOT / "docs" / "how-to" / "plug-in-package.md").read_text(encoding="utf-8")
        assert " corner-attacks 1.0 " in lines["corner"]
        assert " ".join(lines["corner"].split()) in " ".join(guide.split())


@pytest.mark.usefixtures("detectors_as_before")
class TestDetector:
    SOURCE = "energy.py:Energy"

    def test_in_the_listing(self, folder: Path) -> None:
        done = CliRunner().invoke(cli.app, ["detectors", "--detector", self.SOURCE])
        (line,) = [line for line in done.output.splitlines() if line.startswith("energy ")]
        assert line.split()[1:4] == ["1", "scores", "energy.py:Energy"]

    def test_its_contract(self, folder: Path) -> None:
        done = CliRunner().invoke(cli.app, ["detectors", "--check", self.SOURCE])
        assert done.exit_code == 0, done.output

    def test_its_scores(self, folder: Path, linear_net: nn.Module) -> None:
        x = load_data("digits").first(60).x
        detector = find_detector(self.SOURCE).kind().fit(linear_net)
        with torch.no_grad():
            wanted = -linear_net(x).exp().sum(dim=1).log()
        assert torch.allclose(detector.score(x), wanted, atol=1e-4)


class TestRecipe:
    SOURCE = "reverse.py:ReverseTraining"

    @pytest.fixture(autouse=True)
    def _forgotten(self) -> Iterator[None]:
        yield
        RECIPES.pop(self.SOURCE, None)

    def test_it_is_about_30_lines(self, folder: Path) -> None:
        code = re.sub(r'""".*?"""', "", (folder / "reverse.py").read_text(), flags=re.DOTALL)
        lines = [line for line in code.splitlines() if line.strip() and "import" not in line]
        assert len(lines) <= 30

    def test_in_the_listing(self, folder: Path) -> None:
        done = CliRunner().invoke(cli.app, ["recipes", "--recipe", self.SOURCE])
        (line,) = [line for line in done.output.splitlines() if line.startswith("reverse ")]
        assert line.split()[1:5] == ["1", "+", "1", "labels"]

    def test_its_contract(self, folder: Path) -> None:
        assert all(check.passed for check in check_recipe(self.SOURCE))

    def test_trained_by_name_and_evaluated_with_its_head(self, folder: Path) -> None:
        command = ["train", "--recipe", self.SOURCE, "--data", "digits", "--out", "run"]
        done = CliRunner().invoke(cli.app, [*command, "--quiet"])
        assert done.exit_code == 0, done.output
        rows = [json.loads(line) for line in (folder / "run" / "history.jsonl").open()]
        assert rows[-1]["validation_clean"] > 0.9
        run = json.loads((folder / "run" / "run.json").read_text())
        assert run["recipe"] == {"name": "reverse", "head": "NegatedHead()"}
        assert run["final"]["clean"] > 0.9
        model: Any = resolve_factory("reverse.py:build")
        load_weights(model, folder / "run" / "model.safetensors")
        test = load_data("digits")
        right = model(test.x).argmax(dim=1) == test.y
        assert float(right.double().mean()) == pytest.approx(run["final"]["clean"])
        again = CliRunner().invoke(cli.app, [*command, "--resume"])
        assert again.exit_code == 0, again.output
