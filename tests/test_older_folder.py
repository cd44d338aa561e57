"""A run folder that an older version wrote: reports, comparisons and submissions still work.

The folder was written by the last version of format 5, on 20 digits enlarged to 32 x 32.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.storage.formats import EVALUATION

FOLDER = Path(__file__).parent / "folders" / "format-5"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder in the working folder, beside the data that it was run on."""
    shutil.copytree(FOLDER, tmp_path / "old")
    digits = load_digits()
    images = (digits.images[:20, None] / 16).astype(np.float32)
    images = images.repeat(4, axis=2).repeat(4, axis=3).repeat(3, axis=1)
    np.savez(tmp_path / "digits.npz", x_test=images, y_test=digits.target[:20])
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old" / "run"


def test_it_is_of_the_format_before_the_present_one(run: Path) -> None:
    stated = json.loads((run / "run.json").read_text())["format"]
    assert stated == EVALUATION.written - 1
    assert stated in EVALUATION.readable


def test_report_and_comparison(run: Path, tmp_path: Path) -> None:
    done = call("report", run, "--out", tmp_path / "report")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report" / "index.html").stat().st_size > 10_000
    table = pd.read_csv(tmp_path / "report" / "table.csv").set_index(["attack", "eps"])
    assert table.loc[("worst_case", 8 / 255), "robust_accuracy"] == 0.85
    assert table.loc[("worst_case", 4 / 255), "robust_accuracy"] == 0.95
    assert table["clean_accuracy"].tolist() == [0.95] * 6
    done = call("compare", run, run)
    assert done.exit_code == 0, done.output


def test_submission(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission"
    done = call(
        *("submit", run, "--model", "mine.py:build", "--weights", "net.safetensors"),
        *("--data", tmp_path / "digits.npz", "--dataset", "cifar10", "--eps", "8/255"),
        *("--name", "Mine2026Robust", "--authors", "A. Author", "--paper-title", "Robust"),
        *("--paper-link", "https://example.org", "--venue", "none", "--architecture", "linear"),
        *("--no-additional-data", "--license", "MIT", "--url", "https://example.org/mine"),
        *("--allow-partial", "--out", out),
    )
    assert done.exit_code == 0, done.output
    checked = call("submit", "--check", out)
    assert checked.exit_code == 0, checked.output
    assert "robust accuracy 85.0% on 20 samples; 0 verdicts differ" in checked.output


def test_a_newer_folder_names_what_reads_it(run: Path) -> None:
    content = json.loads((run / "run.json").read_text())
    content["versions"]["art-ext"] = "9.1"
    (run / "run.json").write_text(json.dumps({**content, "format": EVALUATION.written + 1}))
    done = call("report", run)
    assert done.exit_code == 2
    assert "art-ext 9.1 wrote it, so install that version" in done.output


def test_an_older_run_is_not_resumed(run: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in run.rglob("*"))
    done = call(
        *("evaluate", "--model", "mine.py:build", "--weights", "net.safetensors"),
        *("--data", tmp_path / "digits.npz", "--n", 20, "--eps", "4/255,8/255", "--attack", "pgd"),
        *("--out", run),
    )
    assert done.exit_code == 2, done.output
    assert sorted(path.name for path in run.rglob("*")) == before


def test_a_run_that_stopped_after_its_last_unit_is_named_as_such(run: Path) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**content, "state": "running"}))
    (run / "records.parquet").unlink()
    done = call("report", run)
    assert done.exit_code == 2
    assert "stopped before its last step, though all of its units" in " ".join(done.output.split())
