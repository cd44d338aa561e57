"""Every code block of README and the pages runs, and every command line is parsed."""

from __future__ import annotations

import sys

import pytest

from tests import code_blocks
from tests.prose import PAGES, ROOT

SKIPS = 6  # blocks that may have a condition


def _name(page) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def page_of(tmp_path):
    """Writes a page of one text."""

    def write(text):
        (tmp_path / "page.md").write_text(text, encoding="utf-8")
        return tmp_path / "page.md"

    return write


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_blocks_are_python_and_commands(page, tmp_path):
    code_blocks.run(page, tmp_path, execute=False)
    found = [example.parsed for example in code_blocks.parsed(page).examples()]
    assert {block.language for block in found} <= code_blocks.LANGUAGES
    assert code_blocks.indented(page.read_text("utf-8")) == []


@pytest.mark.slow
@pytest.mark.usefixtures("attacks_as_before", "detectors_as_before")
@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_blocks_run(page, tmp_path, record_property):
    count = code_blocks.run(page, tmp_path)
    for name, value in vars(count).items():
        record_property(name, value)
    sys.stdout.write(f"{_name(page)}: {count}\n")


def test_few_blocks_have_a_condition():
    needs = [
        f"{_name(page)}:{example.line}: {example.parsed.needs}"
        for page in PAGES
        for example in code_blocks.parsed(page).examples()
        if example.parsed.needs
    ]
    assert len(needs) <= SKIPS, needs


# --- what the check finds ---


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("art-ext evaluate --model a:b --out runs/a --epsilon 0.1", "No such option"),
        ("art-ext evalute", "No such command"),
        ("cat x | art-ext report a --no-such | cat", "No such option"),
        ("python -m art_ext attacks --no-such", "No such option"),
    ],
)
def test_a_removed_option_fails(page_of, tmp_path, line, message):
    with pytest.raises(AssertionError, match=f"line 1: .*{message}"):
        code_blocks.run(page_of(f"```console\n$ {line}\n```\n"), tmp_path)


def test_commands_run_in_the_folder_of_the_page(page_of, tmp_path):
    text = (
        '```python title="net.py"\nvalue = 3\n```\n\n'
        "```python\nimport net\nassert net.value == 3\n```\n\n"
        "<!-- run -->\n```console\n$ art-ext attacks --json   # a comment\n[...]\n```\n"
    )
    count = code_blocks.run(page_of(text), tmp_path)
    assert (count.ran, count.parsed, count.commands_run) == (2, 1, 1)
    assert "net" not in sys.modules


def test_a_block_with_a_condition_is_skipped_without_it(page_of, tmp_path):
    text = "<!-- needs: no_such_package -->\n```python\nraise RuntimeError\n```\n"
    count = code_blocks.run(page_of(text), tmp_path)
    assert len(count.skipped) == 1
    assert "needs no_such_package" in count.skipped[0]


def test_indented_blocks_are_found():
    assert code_blocks.indented("a\n\n    code\n\nb\n") == [3]
    assert code_blocks.indented("* a\n\n    more of the item\n\n        code\n") == [5]
    assert code_blocks.indented("```text\n\n    code\n```\n\n!!! note\n\n    text\n") == []
