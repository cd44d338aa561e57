"""Numbers of README and docs come from commands: measured tables stand between markers."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer

from art_ext import tables
from art_ext.benchmarks import stored
from art_ext.cli import app
from tests.prose import PAGES, ROOT

NUMBER = re.compile(r"[*([<>+-]*\.?\d")  # what a cell of a number begins with
# headings of sections whose tables hold what is chosen, and what others have published
SECTIONS = re.compile(r"Settings|Defaults .*|Published figures")
SOURCE = re.compile(r"dissertation|thesis|slides|\bpaper|[Tt]ables? \d|\bet al\b|\((19|20)\d\d\)")
# tables with numbers that nothing measures, by the page and the first heading of the table
EXCEPTIONS = {
    ("docs/how-to/choose-an-attack.md", "what you have"): "advice, and widths by Wilson's formula",
    ("docs/reference/gpu.md", "part"): "shares of time that the card sets itself",
    ("docs/training/tricks.md", "`clean_forwards`"): "weights that follow from the momentum",
}
# measured before there was a command. Remove a name when a command measures its table
WITHOUT_COMMAND = {"lipschitz-radius"}
KEYS = {
    *("title", "command", "part", "model", "data", "n", "seeds", "note", "published", "versions"),
    *("machine", "commit", "date", "columns", "rows"),
}


def sections(page: Path) -> list[tuple[str, str]]:
    """Return the headings of a page with their text, without code and tables between markers."""
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    parts = re.split(r"^#+ (.*)\n", tables.MARKED.sub("", text), flags=re.M)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def numbers(rows: list[list[str]]) -> int:
    """Count the cells that hold a number outside code, but for the first of a row, its name."""
    plain = (re.sub(r"`[^`]*`", "", cell).strip() for row in rows for cell in row[1:])
    return sum(bool(NUMBER.match(cell)) for cell in plain)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_numbers_stand_between_markers(page):
    for heading, text in sections(page):
        for heads, rows in stored.tables_in(text):
            known = (page.relative_to(ROOT).as_posix(), heads[0]) in EXCEPTIONS
            if numbers(rows) < 2 or known or SECTIONS.fullmatch(heading):
                continue
            pytest.fail(f"{heading}: the table {heads} has numbers outside markers")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_published_figures_name_their_source(page):
    for heading, text in sections(page):
        assert heading != "Published figures" or SOURCE.search(text), page


def test_exceptions_are_needed():
    for name, first in EXCEPTIONS:
        found = [heads for _, text in sections(ROOT / name) for heads, _ in stored.tables_in(text)]
        assert first in [heads[0] for heads in found]


def test_measured_tables_are_whole():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = [name for _, kind, name, _ in tables.MARKED.findall(text) if kind == "measured"]
    assert sorted(shown) == stored.names(), "a file that no page shows goes"
    for name in stored.names():
        content = stored.read(name)
        assert {"title", "columns", "rows"} <= {*content} <= KEYS, name
        assert {len(row) for row in content["rows"]} == {len(content["columns"])}, name
        assert ("command" in content) != (name in WITHOUT_COMMAND), name
        assert ("note" in content) == (name in WITHOUT_COMMAND), name


def test_commands_exist():
    commands = typer.main.get_command(app).commands
    for name in {*stored.names()} - WITHOUT_COMMAND:
        program, *words = shlex.split(stored.read(name)["command"])
        if program == "art-ext":
            assert words[0] in commands, name
        elif words[1] == "pytest":
            assert (ROOT / words[-1]).is_file(), name
        else:
            module = words[1].removeprefix("art_ext.").replace(".", "/")
            assert (ROOT / f"{module}.py").is_file(), name


def test_a_command_writes_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "FOLDER", tmp_path)
    printed = "| a | n |\n|---|---|\n| x | 1 |\n\n| b | % |\n|---|---:|\n| y, z | 2.5 % |\n"
    command = f"python -c {shlex.quote(f'print({printed!r})')}"
    content = {"title": "Toy", "command": command, "columns": [], "rows": []}
    for part, expected in enumerate(("| x | 1 |", "| y, z | 2.5 % |")):
        stored.write("toy", {**content, "part": part})
        stored.main(["toy"])
        content = stored.read("toy")
        assert content["versions"]["python"] == sys.version.split()[0]
        assert stored.shown("toy").splitlines()[1:] == ["|---|---:|", expected]
    stored.write("toy", {**content, "part": 2})
    with pytest.raises(ValueError, match="printed 2 tables: toy is as before"):
        stored.measure("toy")
    with pytest.raises(ValueError, match=r"unknown measured table 'tyo'.*did you mean 'toy'"):
        stored.read("tyo")
    stored.write("old", {"title": "Old", "note": "By hand.", "columns": ["a"], "rows": []})
    with pytest.raises(ValueError, match="old has no command: By hand"):
        stored.measure("old")
