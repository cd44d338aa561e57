"""The names of ``art_ext`` itself: imported when used, and known to editors and type checkers."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import art_ext
from art_ext.core.attacks import registry

ROOT = Path(__file__).parents[1]
TOOLKITS = ("torch", "numpy", "art", "torchattacks", "robustbench", "foolbox", "sklearn", "pandas")
# libraries of extras, which only the part that needs them imports
EXTRAS = (
    *("ray", "submitit", "distributed", "dask", "upath", "fsspec", "transformers", "datasets"),
    *("timm", "torchvision", "onnx", "onnxruntime", "wandb", "mlflow", "accelerate", "matplotlib"),
)
CLASSES = ("RayS", "FW", "FWBlack", "HMCAM", "SignGradient", "ZOO")


def loaded_by(program: str, **variables: str) -> set[str]:
    """Return the top-level modules that a program in a Python of its own has imported."""
    report = "import sys, json\nprint(json.dumps(list(sys.modules)), file=sys.stderr)"
    code = f"try:\n    exec({program!r})\nfinally:\n    {report.replace(chr(10), '; ')}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )
    assert "Traceback" not in done.stderr, done.stderr
    names: list[str] = json.loads(done.stderr.splitlines()[-1])
    return {name.partition(".")[0] for name in names}


# --- what is imported when ---


def test_importing_the_package_imports_nothing_else() -> None:
    assert not loaded_by("import art_ext") & {*TOOLKITS, *EXTRAS}
    assert not loaded_by("import art_ext; dir(art_ext); art_ext.__all__") & {*TOOLKITS, *EXTRAS}


def test_help_imports_no_library() -> None:
    commands = ("attacks", "recipes", "models", "data", "evaluate", "train", "submit", "doctor")
    program = (
        "import sys, contextlib; from art_ext.cli import main\n"
        f"for command in ([], *([name] for name in {commands})):\n"
        "    sys.argv = ['art-ext', *command, '--help']\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main()"
    )
    assert not loaded_by(program) & {*TOOLKITS, *EXTRAS}


def test_completion_imports_no_library() -> None:
    program = (
        "import sys; sys.argv = ['art-ext']; from art_ext.cli import main\n"
        "import io; sys.stdout = io.StringIO()\n"
        "try:\n    main()\nfinally:\n    assert 'evaluate' in sys.stdout.getvalue()"
    )
    loaded = loaded_by(
        program, _ART_EXT_COMPLETE="complete_bash", COMP_WORDS="art-ext ev", COMP_CWORD="1"
    )
    assert not loaded & {*TOOLKITS, *EXTRAS}


# --- the names ---


def test_every_attack_is_there() -> None:
    built_in = {spec.name for spec in registry.specs() if registry.is_built_in(spec)}
    assert built_in < set(art_ext.__all__)
    for name in built_in:
        assert getattr(art_ext, name) is registry.get(name).function


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("AttackResult", "core.result"),
        ("adbd", "core.metrics"),
        ("evaluate", "evaluation"),
        ("load_data", "data"),
        ("load_model", "models"),
        ("train", "training"),
    ],
)
def test_the_other_names(name: str, module: str) -> None:
    assert name in art_ext.__all__
    defined = getattr(importlib.import_module(f"art_ext.{module}"), name)
    assert getattr(art_ext, name) is defined


def test_packages_and_unknown_names() -> None:
    assert importlib.import_module("art_ext.models") is art_ext.models
    assert art_ext.__version__
    with pytest.raises(AttributeError, match="no attribute 'rayss'"):
        art_ext.rayss  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'rayss'"):
        exec("from art_ext import rayss")  # noqa: S102
    starred: dict[str, object] = {}
    exec("from art_ext import *", starred)  # noqa: S102
    assert set(art_ext.__all__) <= set(starred)
    assert set(dir(art_ext)) >= {*art_ext.__all__, "torchattacks", "models", "__version__"}


# --- editors and type checkers ---


def test_jedi_completes_our_names() -> None:
    jedi = pytest.importorskip("jedi", reason="jedi is not installed")

    def completed(code: str) -> dict[str, str]:
        return {one.name: one.full_name for one in jedi.Script(code).complete()}

    assert completed("import art_ext\nart_ext.ra") == {"rays": "art_ext.core.attacks.rays"}
    ours = "art_ext.adapters.torchattacks.attacks.RayS"
    assert completed("import art_ext\nart_ext.torchattacks.Ra") == {"RayS": ours}
    assert completed("import art_ext.torchattacks\nart_ext.torchattacks.Ra") == {"RayS": ours}
    (signature,) = jedi.Script("from art_ext import rays\nrays(").get_signatures()
    assert "max_queries" in [one.name for one in signature.params]


def test_classes_of_torchattacks_are_its_own() -> None:
    jedi = pytest.importorskip("jedi", reason="jedi is not installed")
    pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    script = jedi.Script("import art_ext.torchattacks as ta\nta.PGD\nta.RayS")
    assert [one.full_name for one in script.infer(2, 4)] == ["torchattacks.attacks.pgd.PGD"]
    ours = "art_ext.adapters.torchattacks.attacks.RayS"
    assert [one.full_name for one in script.infer(3, 4)] == [ours]


# Any as the type of a whole argument or result, and not of the values of a mapping
UNTYPED = re.compile(r"(?:[:|>] |^)Any(?=$|[ ,|)=])")


@pytest.mark.slow
def test_a_type_checker_knows_every_name(tmp_path: Path) -> None:
    names = sorted({*art_ext.__all__, *(f"torchattacks.{name}" for name in CLASSES), "__version__"})
    wrong = [
        ("from art_ext import rays; rays(f, x, max_querys=1)", "max_querys"),
        ("from art_ext import pgd; pgd(f, x, eps=0.1, steps=1)", "steps"),
        ("from art_ext import evaluate; evaluate(f, data, 'out', epss=1)", "epss"),
        ("from art_ext import load_data; load_data('digits', splitt='test')", "splitt"),
        ("from art_ext import train; train(f, (x, x), 'pgd', epoch=1)", "epoch"),
        ("from art_ext.training import train as t; t(f, (x, x), 'pgd', epoch=1)", "epoch"),
        ("from art_ext.attacks import RayS; RayS(f, max_querys=1)", "max_querys"),
        ("art_ext.torchattacks.RayS(f, max_querys=1)", "max_querys"),
    ]
    lines = ["import torch", "import art_ext", "f = torch.nn.Flatten()", "x = torch.rand(2, 3)"]
    lines += ["data = art_ext.load_data('digits')"]
    lines += [f"reveal_type(art_ext.{name})" for name in names]
    lines += [line for line, _ in wrong]
    lines += ["art_ext.rayss"]
    (tmp_path / "use.py").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "use.py", "--cache-dir", str(tmp_path / "cache")),
            # errors in our own files are reported by make lint: a user's checker finds us installed
            *("--ignore-missing-imports", "--follow-imports=silent"),
            *("--no-error-summary", "--hide-error-context"),
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    revealed = re.findall(
        r'^use\.py:\d+: note: Revealed type is "(.*)"$', done.stdout, re.MULTILINE
    )
    assert len(revealed) == len(names), done.stdout + done.stderr
    for name, found in zip(names, revealed, strict=True):
        assert not UNTYPED.search(found), f"{name}: {found}"
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert all(line.startswith("use.py:") for line in errors), errors
    assert len(errors) == len(wrong) + 1
    for (_, argument), error in zip(wrong, errors, strict=False):
        assert f'Unexpected keyword argument "{argument}"' in error
    assert 'no attribute "rayss"' in errors[-1]
