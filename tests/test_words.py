"""Identifiers and docstrings of the package use the words of ``docs/glossary.md``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("art_ext", "adapters", "benchmarks")
# synonym: term of the glossary. Parts of snake_case and CamelCase names are compared.
# ``search`` and ``share`` are wrong for a unit of work only, and right for a binary search.
SYNONYMS = {
    "met": "success",
    "hit": "success",
    "hits": "success",
    "fooled": "success",
    "fallen": "success",
    "broken": "success",
    "won": "success",
    "live": "active rows",
    "stay": "active rows",
    "stays": "active rows",
    "leave": "active rows",
    "leaves": "active rows",
    "aim": "goal",
    "aims": "goal",
    "look": "query",
    "looks": "query",
    "ask": "query",
    "asks": "query",
    "asked": "query",
    "price": "query",
    "peer": "external attack",
    "peers": "external attack",
    "foreign": "external attack",
    "proposal": "candidate",
    "proposals": "candidate",
    "near": "nearest adversarial",
    "searches": "unit of work",
}
ALLOWED = {
    "broken",  # evaluation.table.broken, a public function, and the keyword of Evidence
    "broken_by",  # in the records of AutoAttack
    "fallen",  # a public property of Evidence, and a tensor of evidence.safetensors
}
FIRST_WORDS = ("What", "Whether", "Who", "Whose", "Where", "How", "Refuse", "Refuses")
PHRASES = re.compile(r"leave the print|is refused|are refused|fools? the model|\bforeign\b")


def _files() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            linked = any(parent.is_symlink() for parent in path.parents)
            if not linked:
                yield path


FILES = list(_files())


def _parts(name: str) -> set[str]:
    """Return the lower-case words of a snake_case or CamelCase name."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def _names(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a module defines: functions, classes, arguments, and assigned names."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _docstrings(tree: ast.AST) -> list[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented)]
    return [text for text in found if text]


def _messages(tree: ast.AST) -> list[str]:
    """Return the constant texts of raised errors."""
    return [
        part.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    synonyms = {
        name: [SYNONYMS[part] for part in _parts(name) & SYNONYMS.keys()]
        for name in {*_names(tree), path.stem} - ALLOWED
        if _parts(name) & SYNONYMS.keys()
    }
    assert synonyms == {}, "names, each with the term to use"
    docstrings = _docstrings(tree)
    summaries = [text.splitlines()[0] for text in docstrings]
    assert [line for line in summaries if line.split()[0] in FIRST_WORDS] == []
    texts = [*docstrings, *_messages(tree)]
    assert [text for text in texts if PHRASES.search(text)] == []


def test_semicolons() -> None:
    texts = [text for path in FILES for text in _docstrings(ast.parse(path.read_text("utf-8")))]
    words = sum(len(text.split()) for text in texts)
    assert sum(text.count(";") for text in texts) <= 2 * words / 1000


def test_parts() -> None:
    assert _parts("_already_broken") == {"already", "broken"}
    assert _parts("HTTPPeerError2") == {"http", "peer", "error"}
    assert not _parts("metric_nearest") & SYNONYMS.keys()
