"""Code blocks of the pages, found by Sybil: run in order, in one namespace and folder a page.

* ``python`` blocks run. With ``title="net.py"`` a block is a file, which runs by itself and which
  later blocks may use. So are titled blocks of other languages.
* ``console`` blocks begin their commands with ``$ ``. The real command parses each ``art-ext`` line.
  Under ``<!-- run -->`` the lines run too.
* Under ``<!-- needs: NAME -->`` a block runs only if NAME is a variable of the environment that is
  set, or a package that can be imported.

Pytest's own collection by Sybil is not used: it makes an item of each block, and xdist may send the
blocks of one page to several processes.
"""

from __future__ import annotations

import importlib
import os
import re
import runpy
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import typer
import typer.main
from sybil import Document, Example, Region
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer
from typer.testing import CliRunner

from art_ext.cli import app

LANGUAGES = {"python", "console", "text", "toml", "json", "yaml", "csv"}
_FENCES = RawFencedCodeBlockLexer(re.compile(r"(?P<info>[^\n]*)\n"))
_MARKS = re.compile(r"((?:^[ \t]*<!-- (?:run|needs: \w+) -->[ \t]*\n)+)[ \t]*\Z", re.MULTILINE)
_OPERATORS = ("|", "||", "&", "&&", ";", ">", ">>", "2>", "<")


@dataclass
class Count:
    """What became of the blocks of a page."""

    ran: int = 0
    parsed: int = 0
    commands_run: int = 0
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is, the marks above it, and its text."""

    language: str
    title: str
    marks: frozenset[str]
    source: str

    @property
    def needs(self) -> list[str]:
        return [mark.removeprefix("needs: ") for mark in self.marks if mark != "run"]


def blocks(document: Document) -> Iterator[Region]:
    """Yield a region for each fenced block of a page: a parser of Sybil."""
    for region in _FENCES(document):
        info = region.lexemes["info"].strip()
        title = re.search(r'title="([^"]+)"', info)
        above = _MARKS.search(document.text[: region.start])
        marks = re.findall(r"<!-- (.*?) -->", above[1]) if above else []
        block = Block(
            info.partition(" ")[0],
            title[1] if title else "",
            frozenset(marks),
            region.lexemes["source"],
        )
        yield Region(region.start, region.end, block)


def parsed(page: Path) -> Document:
    """Return a page with its blocks as examples."""
    return Document.parse(str(page), blocks)


def run(page: Path, folder: Path, *, execute: bool = True) -> Count:
    """Check all blocks of a page, and run them unless ``execute`` is False.

    Raises:
        AssertionError: if a block fails. The message names the page and the line.
    """
    count = Count()
    document = parsed(page)
    document.namespace["__name__"] = "__main__"
    begin = time.perf_counter()
    with _working_in(folder):
        for example in document.examples():
            try:
                _evaluate(example, count, execute)
            except Exception as error:
                raise AssertionError(
                    f"{page}, line {example.line}: {type(error).__name__}: {error}"
                ) from error
    count.seconds = time.perf_counter() - begin
    return count


def _evaluate(example: Example, count: Count, execute: bool) -> None:
    block: Block = example.parsed
    missing = [name for name in block.needs if not _has(name)]
    if block.language == "console":
        for line in commands(block.source):
            count.parsed += parse(line)
            if execute and "run" in block.marks and not missing:
                _execute(line)
                count.commands_run += 1
    elif block.language == "python":
        compile(block.source, example.path, "exec")
    if missing:
        count.skipped.append(f"{example.path}:{example.line} needs {', '.join(missing)}")
    elif execute and block.title:
        file = Path(block.title)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.source, encoding="utf-8")
        importlib.invalidate_caches()
        if block.language == "python":
            runpy.run_path(block.title, run_name=file.stem)
            count.ran += 1
    elif execute and block.language == "python":
        # errors name the line of the page
        exec(compile("\n" * example.line + block.source, example.path, "exec"), example.namespace)  # noqa: S102
        count.ran += 1


def _has(name: str) -> bool:
    return bool(os.environ.get(name)) if name.isupper() else find_spec(name) is not None


def commands(source: str) -> list[str]:
    """Return the commands of a console block, with continued lines joined.

    Raises:
        ValueError: if the block has no command, or its first line is none.
    """
    lines = re.sub(r"\\\n\s*", " ", source).splitlines()
    if not lines or not lines[0].startswith("$ "):
        raise ValueError("a console block must begin with a line '$ COMMAND'")
    return [line[2:] for line in lines if line.startswith("$ ")]


def arguments_of(line: str) -> list[list[str]]:
    """Return the arguments of each ``art-ext`` in a command line, as a shell splits it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word in _OPERATORS:
            parts.append([])
        else:
            parts[-1].append(word)
    found = []
    for part in parts:
        if "art-ext" in part:
            found.append(part[part.index("art-ext") + 1 :])
        elif "art_ext" in part and part[part.index("art_ext") - 1] == "-m":
            found.append(part[part.index("art_ext") + 1 :])
    return found


def parse(line: str) -> int:
    """Parse each ``art-ext`` of a command line by the real command, and return their number.

    Raises:
        ValueError: if the command has no such subcommand, option or argument.
    """
    found = arguments_of(line)
    for arguments in found:
        try:
            _context(typer.main.get_command(app), "art-ext", arguments, None)
        except typer.Exit:  # --version and --help
            continue
        except Exception as error:  # Typer brings its own Click
            message = getattr(error, "message", None) or str(error)
            raise ValueError(f"{line!r}: {message}") from error
    return len(found)


def _context(command, name, arguments, parent) -> None:
    context = command.make_context(name, list(arguments), parent=parent)
    if hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        name, below, rest = command.resolve_command(context, rest)
        _context(below, name, rest, context)


def _execute(line: str) -> None:
    for arguments in arguments_of(line):
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        if done.exit_code:
            raise ValueError(f"{line!r} ended with exit code {done.exit_code}: {done.output}")


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Work in a folder, import from it, and forget afterwards what was imported."""
    before, modules = Path.cwd(), set(sys.modules)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]


def indented(text: str) -> list[int]:
    """Return the lines at which a Markdown text has an indented code block."""
    found = []
    fence = ""
    listed = False
    blank = True
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark and (not fence or line.strip() == fence):
            fence = "" if fence else mark[1]
        if fence or mark:
            blank = False
            continue
        if re.match(r"\s*([*+-]|\d+[.)]) |(!!!|\?\?\?)", line):
            listed = True
        elif line.strip() and not line.startswith(" "):
            listed = False
        if blank and line.strip() and line.startswith(" " * (8 if listed else 4)):
            found.append(number)
        blank = not line.strip() or (number in found)
    return found
