"""The README's examples run as they stand, each in a fresh process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from art_ext.evaluation import evaluate
from art_ext.examples import digits
from tests.prose import words

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
MEASURED = re.findall(
    r"^\| (natural|adversarially trained) \| `(\w+)` \| ([\d.]+) % \| ([\d.]+) % \|$", TEXT, re.M
)
PRINTED = {
    "art_ext.core.metrics": r"robust accuracy \d+\.\d%, QueryStatistics\(",
    "art.estimators": r"success \d+%, most queries \d+",
    "art_ext.torchattacks": r"accuracy \d+%",
}


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 120
    assert words(TEXT) <= 900


def test_the_first_lines_say_how_to_begin():
    begin = "\n".join(TEXT.splitlines()[:40])
    assert "pip install" in begin
    assert "art-ext demo" in begin
    (picture,) = re.findall(r"!\[[^]]+\]\((\S+)\)", begin)
    assert (README.parent / picture).stat().st_size <= 200_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["natural", "adversarially trained"])
def test_the_table_of_the_demo_holds_within_three_points(name, tmp_path):
    model, x, y = digits(n=500, robust=name != "natural")
    wanted = {attack: (clean, robust) for of, attack, clean, robust in MEASURED if of == name}
    assert set(wanted) == {"pgd", "rays"}
    outcome = evaluate(
        {name: model}, (x, y), tmp_path, eps=0.2, attacks=list(wanted), max_queries=500
    )
    for row in outcome.rows:
        found = (100 * row.clean_accuracy, 100 * row.robust_accuracy)
        assert found == pytest.approx([float(share) for share in wanted[row.attack]], abs=3)


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
