"""``art-ext docs``: the pages of the installed package, in a terminal."""

from __future__ import annotations

import pydoc
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from art_ext.cli.shared import explained

PACKAGE = Path(__file__).parents[1]
SENTENCE = 100  # letters of the line that describes a page
ARGUMENTS = (
    "Arguments of functions and classes: help() in Python, such as"
    ' python -c "import art_ext; help(art_ext.rays)"'
)


def docs(
    page: Annotated[
        str | None,
        typer.Argument(
            help="Name of a page, such as rays, or of a folder, such as attacks/. Without it all"
            " pages are listed.",
            autocompletion=lambda incomplete: [
                name for name in pages() if name.startswith(incomplete)
            ],
        ),
    ] = None,
) -> None:
    """Print a page of the documentation, or list all pages with one line each."""
    with explained():
        text = listing(page) if page is None or _is_folder(page) else read(page)
        if sys.stdout.isatty():
            pydoc.pager(text)
        else:
            typer.echo(text)


def folder() -> Path:
    """Return the folder of the pages: inside an installed package, beside it in a checkout."""
    installed = PACKAGE / "docs"
    return installed if installed.is_dir() else PACKAGE.parent / "docs"


def pages() -> dict[str, Path]:
    """Return the files of the pages by name: those of the top folder first."""
    found = sorted(
        folder().rglob("*.md"), key=lambda path: (len(path.relative_to(folder()).parts), path)
    )
    return {path.stem: path for path in found}


def read(name: str) -> str:
    """Return the Markdown of a page, without its comments.

    Args:
        name: stem of the page's file, with ``-`` or ``_`` between words. Its folder and ``.md`` may
            be there too.

    Raises:
        ValueError: for an unknown page, with the nearest name.
    """
    known = pages()
    stem = re.sub(r"\.md$", "", _plain(name).rpartition("/")[2])
    if stem not in known:
        from art_ext.core.checks import nearest

        raise ValueError(
            f"unknown page {name!r}{nearest(stem, {*known, *_folders()})}. art-ext docs lists all"
            " pages"
        )
    text = known[stem].read_text(encoding="utf-8")
    return re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL).strip()


def _plain(name: str) -> str:
    """Return a name as files of pages are written: small letters, and a dash between words."""
    return name.strip().replace("\\", "/").replace("_", "-").rstrip("/").lower()


def _is_folder(name: str) -> bool:
    """Return True for a folder of pages, unless a page has that name and no slash ends it."""
    ends = name.strip().endswith(("/", "\\"))
    return _plain(name).removeprefix("docs/") in _folders() and (
        ends or _plain(name) not in pages()
    )


def _folders() -> set[str]:
    """Return the folders of pages."""
    return {path.relative_to(folder()).parent.as_posix() for path in pages().values()} - {"."}


def listing(within: str | None = None) -> str:
    """Return the list of pages by folder, with the first sentence of each.

    Args:
        within: a folder, which is listed alone. None: all.
    """
    lines = []
    known = pages()
    if within is not None:
        own = folder() / _plain(within).removeprefix("docs/")
        known = {name: path for name, path in known.items() if path.parent == own}
    width = max(map(len, known))
    before = None
    for name, path in known.items():
        above = path.relative_to(folder()).parent.as_posix()
        if above != before:
            lines += ["", f"{above}/"] if above != "." else []
            before = above
        lines.append(f"{name.ljust(width)}  {_summary(read(name))}")
    return "\n".join(["art-ext docs PAGE prints one of these pages.", "", *lines, "", ARGUMENTS])


def _summary(text: str) -> str:
    """Return the first sentence of a page, or its title if a section or a table comes first."""
    title, _, rest = text.partition("\n")
    before = re.split(r"^(?:#|\||```|    )", rest, maxsplit=1, flags=re.MULTILINE)[0]
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", " ".join(before.split()))
    sentence = re.split(r"(?<=[.!?]) ", plain)[0].replace("`", "") or title.lstrip("# ")
    return sentence if len(sentence) <= SENTENCE else f"{sentence[: SENTENCE - 3].rstrip()}..."
