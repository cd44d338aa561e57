"""Measured tables of README and docs: a JSON file for each, and the command that measures it again.

A page shows ``benchmarks/results/NAME.json`` between ``<!-- measured: NAME -->`` and
``<!-- end of table -->``, where ``make tables`` writes it. A file holds ``title``, ``command``,
``columns`` and ``rows``, and what is known of ``model``, ``data``, ``n``, ``seeds``, ``versions``,
``machine``, ``commit`` and ``date``. A file without a command says in ``note`` how its numbers came
about. ``part`` counts the tables that a command prints, from 0.

``python -m art_ext.benchmarks.stored NAME ...`` runs the commands of files again, and puts the
tables that they print in place of the old ones. Without a name it lists the files.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from art_ext.benchmarks.papers.results import as_json, commit, machine, versions
from art_ext.core.checks import nearest
from art_ext.core.wording import markdown
from art_ext.storage.files import write_atomically

FOLDER = Path(__file__).parent / "results"
TABLE = re.compile(r"^\|.*\|\n\|(?:[ :-]*\|)+\n(?:\|.*\|\n?)*", re.MULTILINE)
# a number with its unit, spread and interval
NUMBER = re.compile(r"-?|[-+]?[\d,]*\.?\d+ ?%?( \+- [\d.]+)?( [\[(].*[\])])?")


def names() -> list[str]:
    """Return the names of all measured tables."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> dict[str, Any]:
    """Return the content of the file of a table.

    Raises:
        ValueError: for an unknown name. The message gives the nearest one.
    """
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"unknown measured table {name!r}{nearest(name, names())}")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write(name: str, content: dict[str, Any]) -> None:
    """Write the file of a table, with a line for each key and each row."""
    last = ("columns", "rows")
    ordered = {key: value for key, value in content.items() if key not in last}
    ordered |= {key: content[key] for key in last}
    write_atomically(FOLDER / f"{name}.json", as_json(ordered, ("rows",)).encode())


def shown(name: str) -> str:
    """Return a measured table as Markdown."""
    content = read(name)
    columns = list(zip(*content["rows"], strict=True))
    numbers = [place for place, cells in enumerate(columns) if all(map(NUMBER.fullmatch, cells))]
    return markdown(content["columns"], content["rows"], numbers)


def tables_in(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Return the heads and the rows of the Markdown tables of a text."""
    found = []
    for table in TABLE.findall(text):
        lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()]
        found.append((lines[0], lines[2:]))
    return found


def measure(name: str) -> None:
    """Run the command of a table, and write the table that it prints.

    Raises:
        ValueError: for a file without a command, and for a command that fails or prints no table.
    """
    content = read(name)
    if "command" not in content:
        raise ValueError(f"{name} has no command: {content['note']}")
    program, *arguments = shlex.split(content["command"])
    started = ["-m", "art_ext"] if program == "art-ext" else []
    done = subprocess.run(
        [sys.executable, *started, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    sys.stdout.write(done.stdout)
    printed = tables_in(done.stdout)
    part = content.get("part", 0)
    if done.returncode or len(printed) <= part:
        raise ValueError(f"{content['command']} printed {len(printed)} tables: {name} is as before")
    content["columns"], content["rows"] = printed[part]
    content.update(
        versions=versions(), machine=machine(), commit=commit(), date=date.today().isoformat()
    )
    write(name, content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the tables of the given names again, or list all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of files in benchmarks/results, without .json")
    chosen = parser.parse_args(arguments).names
    if not chosen:
        for name in names():
            content = read(name)
            print(f"{name}: {content.get('command', content.get('note'))}")
    try:
        for name in chosen:
            measure(name)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
