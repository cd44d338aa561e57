"""Test the wheel with each Python at hand, one after the other.

Usage: python tools/matrix.py WHEEL [VERSION ...]

For each version an empty environment gets the wheel with the extras ``all``, ``test`` and
``torchattacks``. There ``doctor``, README's first Python block, the contract tests and the demo
run, outside the checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
# what would show the checkout or another environment to the new one
HIDDEN = ("PYTHON", "VIRTUAL_ENV")


def main() -> int:
    """Test every version and print a table. Return 1 if one failed or none started."""
    wheel = Path(sys.argv[1]).resolve(strict=True)
    results = {version: outcome(version, wheel) for version in sys.argv[2:] or VERSIONS}
    print("\n| Python | result |\n|---|---|")
    for version, (_, words) in results.items():
        print(f"| {version} | {words} |")
    states = [state for state, _ in results.values()]
    return 0 if True in states and False not in states else 1


def outcome(version: str, wheel: Path) -> tuple[bool | None, str]:
    """Return True, False or, for a Python that does not start, None, and the result in words."""
    launcher = shutil.which(f"python{version}")
    if launcher is None or not starts(launcher):
        return None, "not at hand"
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(
            ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(ROOT / "pyproject.toml", folder)
        binaries = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        for title, command in steps(launcher, binaries, wheel).items():
            print(f"Python {version}: {title}", flush=True)
            if run(command, folder).returncode:
                return False, f"failed: {title}"
    return True, f"passed in {(time.monotonic() - started) / 60:.0f} min"


def starts(launcher: str) -> bool:
    """Return True if a launcher starts a Python. A shim may exist without one."""
    return subprocess.run([launcher, "-c", ""], capture_output=True).returncode == 0


def steps(launcher: str, binaries: Path, wheel: Path) -> dict[str, list[str]]:
    """Return the commands of one version by title."""
    python, command = str(binaries / "python"), str(binaries / "art-ext")
    return {
        "environment": [launcher, "-m", "venv", str(binaries.parent)],
        "pip": [python, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25"],
        "wheel": [python, "-m", "pip", "install", "--quiet", f"{wheel}[all,test,torchattacks]"],
        "doctor": [command, "doctor"],
        "README": [python, "-c", first_block()],
        "contract": [str(binaries / "pytest"), "-q", "-m", "not slow", "tests/contract"],
        "demo": [command, "demo", "--out", "demo"],
    }


def first_block() -> str:
    """Return the first Python block of README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise SystemExit("README.md has no Python block")
    return found.group(1)


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a folder, without variables that lead out of it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    return subprocess.run(command, cwd=folder, env=clean)


if __name__ == "__main__":
    sys.exit(main())
