"""Every public name has an entry in the API reference, and every parameter a line of its own."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil

import pytest

import art_ext
from art_ext import core
from tools import docs_api


def _public():
    for package in docs_api.PACKAGES:
        for name, found in docs_api.public_names(package).items():
            yield package, name, found


def test_every_package_with_public_names_has_a_page():
    names = [one.name for one in pkgutil.iter_modules(art_ext.__path__, "art_ext.") if one.ispkg]
    names += [one.name for one in pkgutil.iter_modules(core.__path__, "art_ext.core.") if one.ispkg]
    public = [name for name in names if getattr(importlib.import_module(name), "__all__", None)]
    # shells plans the generated classes, and nothing else uses it
    assert sorted({*public} - {*docs_api.PACKAGES, "art_ext.shells"}) == []


@pytest.mark.parametrize("package", docs_api.PACKAGES)
def test_parameters_are_documented(package):
    names = docs_api.public_names(package)
    callables = {name: found for name, found in names.items() if callable(found)}
    missing = {name: docs_api.undocumented(found) for name, found in callables.items()}
    unknown = {name: docs_api.unknown(found) for name, found in callables.items()}
    assert {name: found for name, found in missing.items() if found} == {}
    assert {name: found for name, found in unknown.items() if found} == {}


def test_every_name_has_a_docstring():
    bare = [f"{package}.{name}" for package, name, found in _public() if not inspect.getdoc(found)]
    assert bare == []


def test_pages_and_stubs_hold_every_name(tmp_path):
    docs_api.write_pages(tmp_path / "pages")
    docs_api.write_stubs(tmp_path / "stubs")
    index = (tmp_path / "pages" / "index.md").read_text("utf-8")
    defined = set()
    for file in (tmp_path / "stubs").rglob("*.py"):
        parts = file.relative_to(tmp_path / "stubs").with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        for node in ast.parse(file.read_text("utf-8")).body:
            name = getattr(node, "name", None) or getattr(getattr(node, "target", None), "id", "")
            defined.add(f"{module}.{name}")
    for package, name, found in _public():
        page = docs_api.page_name(package)
        full = docs_api.identifier(package, name, found)
        text = (tmp_path / "pages" / page).read_text("utf-8")
        assert f"]({page})" in index
        assert f"::: {full}\n" in text or f"#{full})" in text
        assert full in defined


# --- what the check finds ---


class _Base:
    """A base.

    Args:
        a: one.
    """

    def __init__(self, a, b=1):
        pass


def _grouped(a, b):
    """Do something.

    Args:
        a, b: two parameters.
    """


def _stale(a):
    """Do something.

    Args:
        a: one.
        old: was renamed.
    """


@pytest.mark.parametrize(
    ("found", "undocumented", "unknown"),
    [(_Base, ["b"], []), (_grouped, ["a", "b"], ["a, b"]), (_stale, [], ["old"])],
)
def test_the_check_finds_parameters(found, undocumented, unknown):
    assert docs_api.undocumented(found) == undocumented
    assert docs_api.unknown(found) == unknown
