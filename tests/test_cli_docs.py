"""``art-ext docs``: the list of pages, one page, and the nearest name for an unknown one."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from art_ext.cli import app, docs
from tests.prose import ROOT
from tests.test_front import EXTRAS, TOOLKITS, loaded_by

FILES = sorted((ROOT / "docs").rglob("*.md"))


def call(*arguments):
    return CliRunner().invoke(app, ["docs", *arguments])


def test_names_of_pages_are_unique():
    assert len(docs.pages()) == len(FILES)


def test_the_list_has_a_line_for_each_page():
    lines = call().stdout.splitlines()
    for path in FILES:
        (line,) = [line for line in lines if line.split("  ")[0].strip() == path.stem]
        assert line.split("  ", 1)[1].strip()
    assert "help()" in lines[-1]


@pytest.mark.parametrize(
    "name", ["rays", "rays.md", "attacks/rays", "docs/attacks/rays.md", "RayS"]
)
def test_a_page_is_printed_without_its_comments(name):
    text = call(name).stdout
    assert text.startswith("# RayS\n")
    assert "<!--" not in text


def test_an_unknown_page_has_the_nearest_name():
    result = call("glosary")
    assert result.exit_code == 2
    assert "unknown page 'glosary' (did you mean 'glossary'?)" in result.stderr


@pytest.mark.parametrize("name", ["read_a_report", "read-a_report.md", "how-to/READ_A_REPORT"])
def test_underscores_count_as_dashes(name):
    assert call(name).stdout == call("read-a-report").stdout


@pytest.mark.parametrize("name", ["attacks/", "docs/attacks/", "Attacks\\"])
def test_a_folder_lists_its_pages(name):
    result = call(name)
    assert result.exit_code == 0
    listed = {line.split()[0] for line in result.stdout.splitlines() if "  " in line}
    assert listed == {path.stem for path in FILES if path.parent == ROOT / "docs" / "attacks"}


def test_an_unknown_folder_has_the_nearest_name():
    result = call("atacks/")
    assert result.exit_code == 2
    assert "(did you mean 'attacks'?)" in result.stderr


def test_the_pages_need_no_library():
    program = (
        "import sys; sys.argv = ['art-ext', 'docs', 'rays']; from art_ext.cli import main; main()"
    )
    assert not loaded_by(program) & {*TOOLKITS, *EXTRAS}


def test_a_terminal_gets_a_pager(monkeypatch):
    shown = []
    monkeypatch.setattr(docs.pydoc, "pager", shown.append)
    monkeypatch.setattr(docs.sys, "stdout", type("Terminal", (), {"isatty": lambda self: True})())
    docs.docs("rays")
    assert shown[0].startswith("# RayS")


def test_names_are_completed():
    from typer.main import get_command

    argument = get_command(app).commands["docs"].params[0]
    names = [one.value for one in argument.shell_complete(None, "ray")]
    assert names == ["rays"]
