"""Pages, helps and templates are short sentences in plain words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from art_ext.cli import app
from tests.prose import PAGES, ROOT, avoided, figures, paragraphs, sentences, words

METHODS = ("docs/attacks", "docs/detectors", "docs/training")
ORDER = {  # of the sections of a method page, and whether each has it
    "Threat model": True,
    "Example": True,
    "Settings": True,
    "What is counted": True,
    "Differences from the paper": False,
    "Measured": False,
    "References": True,
}
FOLDERS = ("art_ext", "adapters", "benchmarks")
TEMPLATES = sorted((ROOT / "art_ext/evaluation/report/templates").glob("*.html.j2"))
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _helps(command: Any, path: str = "art-ext") -> Iterator[tuple[str, str]]:
    """Yield the help of a command, of its options and of its subcommands, each with its place."""
    yield path, command.help or ""
    for one in command.params:
        yield f"{path} {one.name}", getattr(one, "help", None) or ""
    for name, below in getattr(command, "commands", {}).items():
        yield from _helps(below, f"{path} {name}")


HELPS = dict(_helps(typer.main.get_command(app)))


def _imperative(texts: dict[str, str], folder: Path) -> list[str]:
    """Return the places whose first line is no imperative (D401 of ruff)."""
    file = folder / "texts.py"
    functions = [
        f'def f{number}():\n    r"""{text.strip().splitlines()[0]}"""\n'
        for number, text in enumerate(texts.values())
    ]
    file.write_text("\n\n".join(functions), encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=D401"]
    done = subprocess.run(
        [*command, "--output-format=concise", str(file)], capture_output=True, text=True
    )
    lines = [int(line) for line in re.findall(r"texts\.py:(\d+):", done.stdout)]
    source = file.read_text(encoding="utf-8").splitlines()
    numbers = [int(re.findall(r"def f(\d+)", source[line - 2])[0]) for line in lines]
    return [list(texts)[number] for number in numbers]


def _docstrings(source: str, kinds: tuple[type[ast.AST], ...]) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and isinstance(node, kinds):
            text = ast.get_docstring(node)
            if text:
                yield text


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_page_is_short(page):
    found = figures(page)
    assert found["words"] <= 1500
    assert found["semicolons"] <= 6
    assert found["p90"] <= 25, sentences(page.read_text("utf-8"))
    assert found["longest"] <= 45, max(sentences(page.read_text("utf-8")), key=len)


# the code of conduct is about people, who may want and ask
@pytest.mark.parametrize(
    "page", sorted({*PAGES, *ROOT.glob("*.md")} - {ROOT / "CODE_OF_CONDUCT.md"}), ids=_name
)
def test_words_of_a_page(page):
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ +(.*)$", text, flags=re.MULTILINE)
    assert avoided("\n".join([*headings, *paragraphs(text)])) == {}
    differences = [one for one in headings if re.search(r"\b(differ|paper)", one.lower())]
    assert {one for one in differences if "Differences" in one} <= {"Differences from the paper"}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if _name(page.parent) in METHODS], ids=_name
)
def test_a_method_page_has_one_order(page):
    headings = re.findall(r"^## +(.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = [one for one in headings if one in ORDER]
    assert found == [one for one in ORDER if one in found]
    assert [one for one, needed in ORDER.items() if needed and one not in found] == []


def test_docstrings_in_pages(tmp_path):
    """Code of a page is written as code of the package is."""
    texts = {
        f"{_name(page)}: {text}": text
        for page in PAGES
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
        for text in _docstrings(block, (ast.FunctionDef,))
    }
    assert _imperative(texts, tmp_path) == []


# D401 takes these for verbs. The help of an option may be a noun phrase
NOUNS = {
    "A",
    "An",
    "The",
    "Authors",
    "Data",
    "Evaluation",
    "Generator",
    "Initial",
    "Iterations",
    "Number",
    "Outputs",
    "Passes",
    "Processes",
    "Samples",
    "Steps",
}
# an option's help is a phrase of its own, and no answer to the name of the option
ANSWERS = {"How", "What", "Which", "Where", "Whether", "Who", "Their", "Of", "Such", "In"}


def test_words_of_helps(tmp_path):
    assert {place: found for place, text in HELPS.items() if (found := avoided(text))} == {}
    first = {place: text.split()[0] for place, text in HELPS.items() if text}
    assert {place for place, word in first.items() if word in ANSWERS} == set()
    texts = {place: HELPS[place] for place, word in first.items() if word not in NOUNS}
    assert _imperative(texts, tmp_path) == []


def test_helps_are_short():
    texts = {place: text.replace("'MEAN;STD'", "") for place, text in HELPS.items()}
    assert [place for place, text in texts.items() if ";" in text] == []
    long = {place: max(map(words, sentences(text)), default=0) for place, text in texts.items()}
    assert {place: most for place, most in long.items() if most > 45} == {}


@pytest.mark.parametrize("template", TEMPLATES, ids=_name)
def test_words_of_templates(template, tmp_path):
    text = template.read_text(encoding="utf-8")
    comments = re.findall(r"\{#-?(.*?)-?#\}", text, flags=re.DOTALL)
    filled = re.sub(r"\{[{%#].*?[}%#]\}", " ", text, flags=re.DOTALL)
    shown = re.sub(r"<[^>]*>|&#?\w+;|--\w+: *\w*;", " ", filled, flags=re.DOTALL)
    assert avoided(shown) == {}
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert [line for line in lines if ";" in line] == []
    assert [line for line in lines if max(map(words, sentences(line)), default=0) > 45] == []
    assert _imperative({one: one for one in comments if one.strip()}, tmp_path) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_words_of_docstrings(folder):
    texts = {
        path: "\n".join(_docstrings(path.read_text(encoding="utf-8"), DOCUMENTED))
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    assert {_name(path): found for path, text in texts.items() if (found := avoided(text))} == {}


def test_the_counter():
    page = "# A; b\n\nOne `a; b` two; three. J. Chen\nwrote it.\n\n    code; here\n\n| a; b |\n* Item one.\n"
    assert paragraphs(page) == ["One code two; three. J. Chen wrote it.", "Item one."]
    assert sentences(page) == ["One code two; three.", "J. Chen wrote it.", "Item one."]
    assert avoided("Results are computed anew.") == {"anew": "again"}
    assert avoided("metres, hand-in") == {}
