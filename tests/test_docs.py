"""Links of the documentation lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def _prose(page: Path) -> str:
    """Return the text of a page without code blocks and inline code."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = "\n".join(line for line in text.split("\n") if not line.startswith("    "))
    return re.sub(r"`[^`]*`", "", text)


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page, and those set by hand."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = [
        re.sub(r"<[^>]*>", "", heading).strip().lower()
        for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    ]
    slugs = {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_glossary_is_linked(page):
    assert "glossary.md)" in (ROOT / page).read_text(encoding="utf-8")


def test_a_warning_of_the_site_stops_its_build():
    commands = re.findall(r"mkdocs build (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(commands) == 1
    assert "--strict" in commands[0]
    assert "--quiet" not in commands[0]  # would hide warnings from --strict
