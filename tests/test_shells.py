"""The generated shell classes and stubs: complete, up to date, and as the generator makes them."""

from __future__ import annotations

import ast
import functools
import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from art.estimators.classification import BlackBoxClassifier

import art_ext.attacks
import art_ext.torchattacks
from art_ext.adapters.torchattacks import make as make_torchattacks
from art_ext.attacks import make as make_art
from art_ext.attacks.generate import written
from art_ext.core.attacks import rays
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, get, specs
from art_ext.core.result import AttackResult
from art_ext.shells import art, plan, plans, torchattacks
from art_ext.shells.text import renamed, without_default

ROOT = Path(__file__).parent.parent
HOSTS = {"art": (art, art_ext.attacks), "torchattacks": (torchattacks, art_ext.torchattacks)}
OURS = [spec for spec in specs() if spec.function.__module__.startswith("art_ext.")]
CLASSES = [(found, module) for host, module in HOSTS.values() for found in plans(host.HOST)]


def named(value: Any) -> str:
    return f"{value.host.name}-{value.name}" if hasattr(value, "host") else ""


def test_files_are_what_the_generator_writes() -> None:
    for path, text in written().items():
        assert path.read_text() == text, f"{path} is out of date: make shells"


@pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
def test_every_attack_has_an_art_shell_or_a_reason(spec: AttackSpec) -> None:
    shell = spec.hosts["art"]
    assert bool(shell.name) != bool(shell.reason)
    assert bool(shell.reason) == bool(spec.resources), "ART has a class for every other attack"


@pytest.mark.parametrize("spec", OURS, ids=lambda spec: spec.name)
def test_every_attack_has_a_torchattacks_shell_or_a_reason(spec: AttackSpec) -> None:
    shell = spec.hosts["torchattacks"]
    assert bool(shell.name) != bool(shell.reason)


@pytest.mark.parametrize(("found", "module"), CLASSES, ids=named)
def test_every_argument_is_documented(found, module) -> None:
    shell = getattr(module, found.name)
    text = inspect.getdoc(shell if found.host.name == "torchattacks" else shell.__init__)
    assert text is not None
    for name in inspect.signature(shell).parameters:
        starts = (f"    {name}: ", f"    {name} (")
        (line,) = [line for line in text.splitlines() if line.startswith(starts)]
        assert len(line.strip()) > len(name) + 3, line


@pytest.mark.parametrize(("found", "module"), CLASSES, ids=named)
def test_a_class_made_at_run_time_is_the_written_one(found, module) -> None:
    written_class = getattr(module, found.name)
    make = make_art if found.host.name == "art" else make_torchattacks
    made = make(found.spec)
    assert inspect.signature(made) == inspect.signature(written_class)
    assert inspect.getdoc(made) == inspect.getdoc(written_class)
    assert made.__mro__[1:] == written_class.__mro__[1:]
    for name in ("attack_params", "_core_names", "_inputs", "_replaced", "_targets", "_switches"):
        assert getattr(made, name, None) == getattr(written_class, name, None), name


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("T, the steps. Default: 40.", "T, the steps."),
        ("alpha. Default: None, ``2.5 eps / T``.", "alpha. None: ``2.5 eps / T``."),
        ("of the streams. Default: None, which draws one.", "of the streams. None draws one."),
        ("gamma. Default: 0.5. With 0.97 it is ours.", "gamma. With 0.97 it is ours."),
    ],
)
def test_defaults_of_the_core_are_left_out(text: str, wanted: str) -> None:
    assert without_default(text) == wanted


def test_texts_name_the_keywords_of_the_host() -> None:
    names = {"num_steps": "max_iter", "h": "variable_h"}
    text = "every ``num_steps / 10`` steps, h of ``h``; num_steps"
    assert renamed(text, names) == "every ``max_iter / 10`` steps, h of ``variable_h``; max_iter"


def test_a_misspelt_part_of_a_spec_is_an_error() -> None:
    for shell in (Shell(parameters="norm epsilon"), Shell(texts={"epsilon": "x"})):
        spec = AttackSpec(
            "mine",
            get("pgd").function,
            access="gradients",
            family="fixed-radius",
            summary="Mine.",
            hosts={"art": shell},
        )
        with pytest.raises(ValueError, match="the shell of mine for art has no keyword 'epsilon'"):
            plan(spec, art.HOST)


@pytest.mark.parametrize(("given", "reaches"), [("auto", False), (True, True), (False, False)])
def test_a_value_may_reach_the_core_as_another(given: object, reaches: bool) -> None:
    """RayS behind an estimator speculates on request only: a prediction may cost time or money."""
    seen = []

    @functools.wraps(rays)
    def spy(*arguments: Any, **options: Any) -> AttackResult:
        seen.append(options["speculate"])
        return rays(*arguments, **options)

    shell = make_art(replace(get("rays"), function=spy))
    estimator = BlackBoxClassifier(lambda x: np.eye(2)[[0] * len(x)], (3,), 2, clip_values=(0, 1))
    x = np.full((2, 3), 0.5, np.float32)
    shell(estimator, speculate=given, max_queries=5, verbose=False).generate(x, np.eye(2)[[0, 0]])
    assert set(seen) == {reaches}


def test_no_shell_without_counted_queries_or_with_a_reason() -> None:
    with pytest.raises(ValueError, match="no shell of pgd for torchattacks: torchattacks has PGD"):
        plan(get("pgd"), torchattacks.HOST)


@pytest.mark.parametrize("host", HOSTS)
def test_no_shell_class_is_written_by_hand(host: str) -> None:
    folder = ROOT / ("art_ext/attacks" if host == "art" else "adapters/torchattacks")
    generated = {path.resolve() for path in written()}
    for path in folder.glob("*.py"):
        if path.resolve() not in generated:
            classes = [
                node.name
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ClassDef)
            ]
            assert not {found.name for found, _ in CLASSES} & set(classes)


@pytest.mark.slow
def test_shells_have_types_for_mypy(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import art_ext.torchattacks as torchattacks\n"
        "from art_ext.attacks import RayS\n"
        "from art_ext.core.attacks import pgd\n"
        "reveal_type(torchattacks.RayS)\nreveal_type(RayS)\nreveal_type(pgd)\n"
        "pgd(1, 2, 3, epsilon=4)\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [*command, str(program)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    shown = [line for line in done.stdout.splitlines() if "Revealed type" in line]
    assert len(shown) == 3, done.stdout
    assert all("def (" in line and "max_queries: int" in line for line in shown), shown
    assert 'Unexpected keyword argument "epsilon"' in done.stdout
