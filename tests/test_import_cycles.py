"""No module of the package imports itself through others while it is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import art_ext

ROOT = Path(art_ext.__file__).parent


def modules(root: Path, package: str) -> dict[str, Path]:
    """Return the files of a package by module name. ``adapters`` and ``benchmarks`` are links."""
    found = {}
    for path in walk(root):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join([package, *parts]).removesuffix(".__init__")
        found[name] = path
    return found


def walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from walk(path)
        elif path.suffix == ".py":
            yield path


def at_import(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when the module is imported."""
    for statement in body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            yield statement
        elif isinstance(statement, ast.If):
            if "TYPE_CHECKING" not in ast.unparse(statement.test):
                yield from at_import(statement.body)
            yield from at_import(statement.orelse)
        elif isinstance(statement, ast.Try):
            for part in (statement.body, statement.orelse, statement.finalbody):
                yield from at_import(part)
            for handler in statement.handlers:
                yield from at_import(handler.body)


def targets(statement: ast.Import | ast.ImportFrom, known: set[str]) -> Iterator[str]:
    """Yield the modules of the package that an import names."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names if alias.name in known)
        return
    for alias in statement.names:
        for name in (f"{statement.module}.{alias.name}", statement.module or ""):
            if name in known:
                yield name
                break


def graph(files: dict[str, Path]) -> dict[str, set[str]]:
    return {
        name: {
            target
            for statement in at_import(ast.parse(path.read_text(encoding="utf-8")).body)
            for target in targets(statement, set(files))
        }
        - {name}
        for name, path in files.items()
    }


def test_there_is_no_cycle() -> None:
    files = modules(ROOT, "art_ext")
    assert {"art_ext.core.oracle", "art_ext.adapters.external", "art_ext.benchmarks.common"} <= set(
        files
    )
    try:
        TopologicalSorter(graph(files)).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_a_cycle_is_found(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "one.py").write_text("from sample.two import a\n")
    (tmp_path / "two.py").write_text("if True:\n    import sample.three\n")
    (tmp_path / "three.py").write_text("def f():\n    from sample import one\n")
    files = modules(tmp_path, "sample")
    TopologicalSorter(graph(files)).prepare()
    (tmp_path / "three.py").write_text("from sample import one\n")
    with pytest.raises(CycleError):
        TopologicalSorter(graph(files)).prepare()


def test_evaluation_has_ten_levels() -> None:
    """A module of evaluation that imports no other is at level 1.

    The highest level is that of the runner. What calls it as a user does is not a part of it.
    """
    package = "art_ext.evaluation"
    runner = f"{package}.execution.runner"
    imports = {
        name: {other for other in targets if other.startswith(package)} - {package}
        for name, targets in graph(modules(ROOT, "art_ext")).items()
        if name.startswith(f"{package}.")
    }
    levels: dict[str, int] = {}
    callers: set[str] = set()
    for name in TopologicalSorter(imports).static_order():
        levels[name] = 1 + max((levels[other] for other in imports[name]), default=0)
        if imports[name] & {runner, *callers}:
            callers.add(name)
    assert max(level for name, level in levels.items() if name not in callers) <= 10
