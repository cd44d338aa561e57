"""``--figure`` of ``art-ext evaluate`` and ``art-ext report``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.evaluation import load_run
from art_ext.evaluation.report import card
from art_ext.evaluation.report.material import Material

MODEL = """
import torch
def linear():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[..., Result]]:
    """A folder with a run, and the command that evaluates there again with further options."""
    folder = tmp_path_factory.mktemp("figure")
    (folder / "nets.py").write_text(MODEL)
    options = ("--model", f"{folder / 'nets.py'}:linear", "--data", "digits", "--n", 8)

    def evaluate(*further: object) -> Result:
        return call("evaluate", *options, "--eps", "0.1", "--max-queries", 5, "--quiet", *further)

    done = evaluate("--out", folder / "run", "--figure", folder / "first.svg")
    assert done.exit_code == 0, done.output
    return folder, evaluate


def test_evaluate_writes_a_card(evaluated: tuple[Path, Callable[..., Result]]) -> None:
    folder, evaluate = evaluated
    facts = card.facts(Material([load_run(folder / "run")]))
    text = (folder / "first.svg").read_text(encoding="utf-8")
    assert all(fact in text for fact in facts)
    assert (folder / "run" / "card.png").read_bytes().startswith(b"\x89PNG")
    again = evaluate("--out", folder / "run", "--figure", folder / "first.svg")
    assert again.exit_code == 0, "an earlier card is replaced"


def test_report_writes_a_card(
    evaluated: tuple[Path, Callable[..., Result]], tmp_path: Path
) -> None:
    folder, _ = evaluated
    done = call("report", folder / "run", "--out", tmp_path / "r", "--figure", tmp_path / "c.png")
    assert done.exit_code == 0, done.output
    assert f"figure: {tmp_path / 'c.png'}" in done.output.replace("\n", "")
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "r" / "card.png").read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("card.jpg", "figure must end in .png or .svg, got "),
        ("out/deeper/card.png", "figure needs a folder that exists, but there is no "),
        ("nowhere/card.png", "figure needs a folder that exists, but there is no "),
        ("mine.svg", "mine.svg exists: choose another name, or allow it with --overwrite"),
    ],
)
def test_bad_files_are_errors_before_anything_runs(
    evaluated: tuple[Path, Callable[..., Result]], tmp_path: Path, name: str, message: str
) -> None:
    folder, evaluate = evaluated
    (tmp_path / "mine.svg").write_text("mine")
    out = tmp_path / "out"
    for done in (
        evaluate("--out", out, "--figure", tmp_path / name),
        call("report", folder / "run", "--out", out, "--figure", tmp_path / name),
    ):
        assert done.exit_code == 2
        assert message in " ".join(done.output.split())
        assert "Traceback" not in done.output
    assert not out.exists()
    assert (tmp_path / "mine.svg").read_text() == "mine"


@pytest.mark.parametrize("name", ["card.png", "mine.svg"])
def test_a_figure_may_lie_in_the_folder_that_the_command_makes(
    evaluated: tuple[Path, Callable[..., Result]], tmp_path: Path, name: str
) -> None:
    folder, evaluate = evaluated
    for _ in range(2):
        done = evaluate("--out", tmp_path / "run", "--figure", tmp_path / "run" / name)
        assert done.exit_code == 0, done.output
    out = tmp_path / "report"
    for _ in range(2):
        done = call("report", folder / "run", "--out", out, "--figure", out / "card.png")
        assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / name).is_file()
    assert (out / "card.png").is_file()


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_figure_without_a_name(
    evaluated: tuple[Path, Callable[..., Result]], tmp_path: Path, name: str
) -> None:
    folder, _ = evaluated
    done = call("report", folder / "run", "--out", tmp_path / "out", "--figure", name)
    assert done.exit_code == 2
    assert "figure must end in .png or .svg, got no name of a file" in done.output


def test_a_run_that_is_not_complete(
    evaluated: tuple[Path, Callable[..., Result]], tmp_path: Path
) -> None:
    _, evaluate = evaluated
    shard = ("--chunk-size", 4, "--shard", "0/2", "--out", tmp_path / "run")
    begun = evaluate(*shard, "--figure", tmp_path / "card.png")
    assert begun.exit_code == 0
    assert "figure: not written yet. The run that completes the folder writes it" in begun.output
    assert f"art-ext report {tmp_path / 'run'} --figure {tmp_path / 'card.png'}" in begun.output
    assert not (tmp_path / "card.png").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] != "complete"
    done = call("report", tmp_path / "run", "--figure", tmp_path / "card.png")
    assert done.exit_code == 2
    text = " ".join(done.output.split())
    assert "is not complete: 1 of 2 units of the work is missing" in text
    assert "Run the same command again" in text
    assert not (tmp_path / "card.png").exists()
