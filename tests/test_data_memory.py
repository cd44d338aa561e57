"""Memory and disk of an evaluation of images that do not fit in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("_lazy_evaluation.py")


def run(kind: str, samples: int, folder: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), kind, str(samples), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path):
    few, many = (run("nothing", count, tmp_path / str(count)) for count in (300, 1200))
    assert many["growth"] < few["growth"] + 60, "1,200 images take 720 MB"
    assert run("pgd", 192, tmp_path / "pgd")["growth"] < 400


@pytest.mark.slow
def test_only_the_first_chunks_keep_images(tmp_path):
    few, many = (run("all", count, tmp_path / str(count))["disk"] for count in (192, 640))
    assert many < few + 2, "records only"
    assert many < 120
