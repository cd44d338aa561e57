"""The README's examples run as they stand, each in a fresh process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
PRINTED = {
    "art_ext.core.metrics": r"robust accuracy \d+\.\d%, QueryStatistics\(",
    "art.estimators": r"success \d+%, most queries \d+",
    "art_ext.torchattacks": r"accuracy \d+%",
}


def test_there_is_an_example_for_each_host():
    assert len(EXAMPLES) == len(PRINTED)


@pytest.mark.parametrize("host", PRINTED)
def test_example(host, tmp_path):
    begins = re.compile(rf"^(import|from) {re.escape(host)}\b", flags=re.MULTILINE)
    (example,) = [text for text in EXAMPLES if begins.search(text)]
    assert sum(map(bool, example.splitlines())) <= 10
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTED[host], done.stdout), done.stdout
    assert list(tmp_path.iterdir()) == [], "an example must leave no file behind"
