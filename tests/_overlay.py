"""Packages that are not part of the environment, in folders of their own for subprocesses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def overlay(name: str, *packages: str) -> Path:
    """Return a folder with packages, for ``PYTHONPATH``. Skip the test if pip cannot install them.

    Args:
        name: of the folder in ``build``. It is kept.
        *packages: requirements, which one command installs, so that their versions fit.
    """
    folder = ROOT / "build" / f"overlay-{name}"
    done = folder / "complete"
    if not done.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
        found = subprocess.run([*command, *packages], capture_output=True, text=True)
        if found.returncode:
            pytest.skip(f"pip cannot install {', '.join(packages)}: {found.stderr[-300:]}")
        done.touch()
    return folder
