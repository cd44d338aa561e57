"""Shell completion: the right names, without an import of torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from art_ext import tables
from art_ext.cli.completion import completion
from art_ext.core.attacks import registry
from art_ext.evaluation.panel.panels import PANELS, VERSIONS

PROGRAM = "from art_ext.cli import app; app(prog_name='art-ext')"


def completed(line: str) -> tuple[list[str], str]:
    """What bash is told to complete the last word of a line with, and what was imported for it."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", PROGRAM],
        capture_output=True,
        text=True,
        env={**os.environ, **words, "_ART_EXT_COMPLETE": "complete_bash"},
    )
    return done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("art-ext evaluate --attack pgd,ra", ["pgd,rays"]),
        ("art-ext evaluate --panel ", sorted([*PANELS, *VERSIONS])),
        ("art-ext evaluate --engine s", ["slurm"]),
        ("art-ext train --recipe backw", ["backward-smoothing"]),
    ],
)
def test_a_shell_completes_names_without_torch(line: str, wanted: list[str]) -> None:
    found, imported = completed(line)
    assert found == wanted
    assert "art_ext.configuration.values" in imported
    assert not {"torch", "numpy", "art"} & {
        text.split("|")[-1].strip() for text in imported.split("\n")
    }


def test_the_names_are_those_of_their_lists() -> None:
    assert tables.VALUES.read_text(encoding="utf-8") == tables.values(), "run make tables"


def test_all_attacks_are_completed() -> None:
    complete = completion("attacks")
    assert complete is not None
    assert complete("") == sorted(registry.names())
    assert completion("out") is None
