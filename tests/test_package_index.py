"""Metadata for a package index: no dead link, versions that agree, files that people look for."""

from __future__ import annotations

import re
import sys
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.test_packaging import ROOT, copy_of_the_tree, run

LINK = re.compile(r"\]\(([^)\s]+)\)")


def metadata(tree: Path, folder: Path) -> Message:
    """What a wheel of this tree says of itself."""
    code = f"from setuptools import build_meta as b; b.prepare_metadata_for_build_wheel({str(folder)!r})"
    outcome = run([sys.executable, "-c", code], tree)
    assert outcome.returncode == 0, outcome.stderr
    (file,) = folder.glob("*.dist-info/METADATA")
    return Parser().parsestr(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = copy_of_the_tree(tmp_path_factory.mktemp("tree"))
    readme = tree / "README.md"
    more = "\n![a picture](docs/images/report.png)\n[budget](docs/attacks/rays.md#budget) [terms](LICENSE)\n"
    readme.write_text(readme.read_text(encoding="utf-8") + more, encoding="utf-8")
    return tree


def test_without_an_address_no_link_is_relative(tree: Path, tmp_path: Path) -> None:
    found = metadata(tree, tmp_path)
    text = str(found.get_payload())
    assert found["Description-Content-Type"] == "text/markdown"
    assert [link for link in LINK.findall(text) if "://" not in link] == []
    assert "budget (`art-ext docs rays`) terms" in text
    assert "a picture" not in text
    assert "<!--" not in text
    assert len(text) > 2000


def test_with_an_address_links_and_pictures_are_absolute(tree: Path, tmp_path: Path) -> None:
    settings = tree / "pyproject.toml"
    before = settings.read_text(encoding="utf-8")
    settings.write_text(before.replace('docs-url = ""', 'docs-url = "https://example.org/art/"'))
    try:
        text = str(metadata(tree, tmp_path).get_payload())
    finally:
        settings.write_text(before)
    assert [link for link in LINK.findall(text) if "://" not in link] == []
    assert "[budget](https://example.org/art/attacks/rays.html#budget) terms" in text
    assert "![a picture](https://example.org/art/images/report.png)" in text
    assert "art-ext docs rays`)" not in text


def test_no_address_is_invented(tree: Path, tmp_path: Path) -> None:
    found = metadata(tree, tmp_path)
    assert found.get_all("Project-URL") is None
    assert found["Author-email"] is None
    assert 'docs-url = ""' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_one_version_everywhere() -> None:
    stated = {
        "pyproject.toml": r'^version = "([^"]+)"',
        "CITATION.cff": r"^version: (\S+)",
        "CHANGELOG.md": r"^## (\S+)",
    }
    found = {}
    for name, pattern in stated.items():
        match = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert match is not None, name
        found[name] = match.group(1)
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize("name", ["CODE_OF_CONDUCT.md"])
def test_short_pages(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) < 40


def test_hooks_need_no_network() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"- repo: (\S+)", text) == ["local"]
    assert set(re.findall(r"language: (\S+)", text)) == {"system"}
