"""Names with control characters or with very many letters, in the texts of a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from art_ext.cli.terminal import fitted_markdown, say
from art_ext.core.wording import one_line, shortened
from art_ext.evaluation.analysis.table import LETTERS, to_text, verdicts
from art_ext.evaluation.analysis.verdict import lines

BROKEN = "line\nbreak\ttab\x1b[31m\u2028end"


def test_control_characters_become_spaces() -> None:
    assert one_line(BROKEN) == "line break tab [31m end"
    assert one_line("größer 模型 \U0001f600") == "größer 模型 \U0001f600"


@pytest.mark.parametrize("letters", [8, 9, 240])
def test_long_names_keep_both_ends(letters: int) -> None:
    name = "".join(map(chr, range(0x4E00, 0x4E00 + 240)))
    found = shortened(name, letters)
    assert len(found) == letters
    assert found == name or found.split("…") == [
        name[: letters // 2],
        name[-((letters - 1) // 2) :],
    ]


def test_names_keep_the_table_and_the_verdict_in_their_lines(
    make_run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "a" * 120 + "b" * 120
    one = make_run({BROKEN: {"x": {0.1: {1}}}, long: {long: {0.1: {1}}}})
    head, _, *rows = to_text(one.rows).splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == [one_line(BROKEN), f"{'a' * 20}…{'b' * 19}"]
    assert {len(row) for row in rows} == {len(head)}
    assert len(cells[1][2]) == LETTERS
    monkeypatch.setenv("COLUMNS", "200")
    assert "model:" not in fitted_markdown(to_text(one.rows), ("model",)), "a table, no list"
    for sentence in lines(verdicts(one.blocks, one.run)):
        say(sentence)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert told[0].startswith("line break tab [31m end: robust accuracy 90.0 %")
