"""The experiment of ``docs/explanation/reproducibility.md`` gives its figures, and twice the same."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "reproducibility.md"
WITHIN = 0.03  # trainings round differently on other machines


def _run(line: str, folder: Path) -> None:
    """Run a line of the page, with its variables of the environment."""
    words = shlex.split(line)
    variables = dict(word.split("=") for word in words[: words.index("art-ext")])
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-m", "art_ext", *words[words.index("art-ext") + 1 :], "--quiet"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, **variables},
        check=True,
        capture_output=True,
    )


@pytest.mark.slow
def test_the_experiment_of_the_page(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## An experiment to repeat")[2]
    lines = re.sub(r"\\\n\s*", "", text)  # a command may go on in the next line
    training, evaluation = re.findall(r"^\$ (.*)$", lines, flags=re.MULTILINE)
    shares = [float(share) / 100 for share in re.findall(r"\| ([\d.]+) % \|", text)]
    low, high = (float(end) / 100 for end in re.findall(r"([\d.]+) to ([\d.]+) %", text)[0])
    _run(training, tmp_path)
    _run(evaluation, tmp_path)
    _run(evaluation.replace("--out quick", "--out again"), tmp_path)

    table = pd.read_csv(tmp_path / "quick" / "table.csv").set_index("attack")
    worst = table.loc["worst_case"]
    robust = table["robust_accuracy"]
    found = [worst["clean_accuracy"], *(robust[name] for name in ("pgd", "frank_wolfe", "rays"))]
    assert found == pytest.approx(shares, abs=WITHIN)
    assert [worst["robust_low"], worst["robust_high"]] == pytest.approx([low, high], abs=WITHIN)

    records = [
        pd.read_parquet(tmp_path / name / "records.parquet").drop(columns="seconds")
        for name in ("quick", "again")
    ]
    pd.testing.assert_frame_equal(*records)
