"""What is installed, what importing it costs, and that the rules of the house are enforced."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("art_ext", "adapters", "benchmarks")
PAGES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
HEAVY = ("art", "pandas", "matplotlib")


def run(
    command: list[str], cwd: Path, timeout: float = 120, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=env
    )


def copy_of_the_tree(destination: Path) -> Path:
    """What a checkout holds, symbolic links kept, without what builds and tools leave behind."""
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*FOLDERS, "docs"):
        shutil.copytree(ROOT / name, destination / name, symlinks=True, ignore=left_out)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, destination / name)
    return destination


def modules_of_the_tree() -> set[str]:
    """Every module of the three folders, as it must be called in a wheel."""
    found = set()
    for name in FOLDERS:
        prefix = "" if name == "art_ext" else "art_ext/"
        # does not follow the links, so nothing is met twice
        for folder, _, files in os.walk(ROOT / name):
            inside = Path(folder).relative_to(ROOT).as_posix()
            found |= {f"{prefix}{inside}/{file}" for file in files if file.endswith(".py")}
    return found


# --- imports ---


@pytest.mark.parametrize("name", ["adapters", "benchmarks"])
def test_bare_import_from_the_root_is_refused(name: str) -> None:
    outcome = run([sys.executable, "-c", f"import {name}"], ROOT)
    assert outcome.returncode == 1
    assert f"ImportError: this folder is imported as art_ext.{name}" in outcome.stderr
    assert run([sys.executable, "-c", f"import art_ext.{name}"], ROOT).returncode == 0


def test_importing_the_plugin_is_light() -> None:
    modules = ["art_ext", "art_ext.core", "art_ext.data", "art_ext.models", "art_ext.torchattacks"]
    code = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded[name] = [heavy for heavy in {HEAVY} if heavy in sys.modules]\n"
        "print(json.dumps(loaded))"
    )
    outcome = run([sys.executable, "-c", code], ROOT)
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout) == {name: [] for name in modules}


# --- the rules of the house ---


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return run([str(command), "--no-cache", "--no-logo"], tree)


def test_import_rules_hold() -> None:
    outcome = lint_imports(ROOT)
    assert outcome.returncode == 0, outcome.stdout
    assert "0 broken" in outcome.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("adapters/planted.py", "import art.utils", "adapters import their own toolkit and core"),
        (
            "adapters/planted.py",
            "from art_ext.attacks import RayS",
            "adapters import their own toolkit and core",
        ),
        ("art_ext/attacks/planted.py", "import torchattacks", "ART shells import ART and core"),
        ("art_ext/core/planted.py", "import art.utils", "core knows no toolkit"),
        (
            "art_ext/models/planted.py",
            "import art.utils",
            "the façade and the package root never reach ART",
        ),
        (
            "art_ext/core/attacks/planted.py",
            "from art_ext.core.attacks import rays",
            "attacks in core do not import",
        ),
    ],
)
def test_forbidden_import_is_refused(tmp_path: Path, file: str, line: str, broken: str) -> None:
    tree = copy_of_the_tree(tmp_path)
    (tree / file).write_text(f"{line}\n")
    outcome = lint_imports(tree)
    assert outcome.returncode == 1, outcome.stdout
    assert [
        text for text in outcome.stdout.splitlines() if text.startswith(broken) and "BROKEN" in text
    ]
    assert ".planted" in outcome.stdout


def test_checkout_without_links_is_refused(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path)
    assert run([sys.executable, "setup.py", "--name"], tree).stdout.strip().endswith("art-ext")
    link = tree / "art_ext" / "adapters"
    link.unlink()
    link.write_text("../adapters")  # what git writes where it may not make links
    outcome = run([sys.executable, "setup.py", "--name"], tree)
    assert outcome.returncode == 1
    assert (
        "art_ext/adapters is a plain file, but must be a symbolic link to ../adapters"
        in outcome.stderr
    )


# --- wheel and sdist ---


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it; in ``direct``, the wheel of
    ``pip install .``.
    """
    tree = copy_of_the_tree(tmp_path_factory.mktemp("tree"))
    # with the setuptools that the extra `test` installs
    build = [sys.executable, "-m", "build", "--no-isolation"]
    for arguments in (["--outdir", "dist"], ["--wheel", "--outdir", "dist/direct"]):
        outcome = run([*build, *arguments], tree, timeout=600)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        # or the next wheel would be filled from it
        shutil.rmtree(tree / "build", ignore_errors=True)
    return tree / "dist"


@pytest.mark.slow
@pytest.mark.parametrize("folder", [".", "direct"])
def test_wheel_holds_each_module_once(built: Path, folder: str) -> None:
    (wheel,) = (built / folder).glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (top_level,) = [name for name in names if name.endswith("top_level.txt")]
        assert archive.read(top_level).split() == [b"art_ext"]
    assert max(Counter(names).values()) == 1
    assert {name for name in names if name.endswith(".py")} == modules_of_the_tree()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"art_ext"}
    templates = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "art_ext").glob("**/templates/*.j2")
    }
    stubs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "art_ext").glob("**/*.pyi")}
    assert templates
    assert stubs
    presets = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "art_ext").glob("**/presets/*.toml")
    }
    assert presets
    assert templates | stubs | presets | {"art_ext/py.typed"} <= set(names)
    with zipfile.ZipFile(wheel) as archive:
        pages = [one for one in archive.infolist() if one.filename.startswith("art_ext/docs/")]
    assert {one.filename.removeprefix("art_ext/") for one in pages} == PAGES
    assert sum(one.file_size for one in pages) <= 1e6


@pytest.mark.slow
def test_sdist_holds_each_module_once(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [
            name.partition("/")[2]
            for name in archive.getnames()
            if name.endswith((".py", ".j2", "py.typed", ".md"))
        ]
    assert max(Counter(names).values()) == 1
    modules = Counter(
        name if name.startswith("art_ext/") else f"art_ext/{name}"
        for name in names
        if name.endswith(".py") and name != "setup.py"
    )
    assert set(modules) == modules_of_the_tree()
    assert max(modules.values()) == 1, "a mapped folder is packed a second time through its link"
    assert "art_ext/py.typed" in names
    assert set(names) >= PAGES


RAYS_ON_A_CALLABLE = """
import torch
from art_ext.core.attacks import rays

def predict(x):
    left = x[:, :4].sum(dim=1)
    # class 0 where the first four features sum to more than 1
    return torch.stack([left, 2 - left], dim=1)

x = torch.full((3, 8), 0.3)
result = rays(predict, x, torch.zeros(3, dtype=torch.long), eps=0.1, max_queries=500, seed=0)
assert result.success.all(), result
assert ((result.x_adv - x).abs().amax(dim=1) <= 0.1 + 1e-6).all(), result
assert (predict(result.x_adv).argmax(dim=1) == 1).all(), result
assert (result.queries <= 500).all(), result
print("fooled")
"""


@pytest.mark.slow
def test_wheel_works_alone_in_an_empty_environment(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python, empty = str(binaries / "python"), tmp_path / "empty"
    empty.mkdir()
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "COV_", "VIRTUAL_ENV"))
    }
    pip = [python, "-m", "pip", "install", "--quiet"]
    # a CPU build of torch is a twentieth of the size; where the registry has none, the next command
    # brings what it has
    run([*pip, "torch==2.13.0+cpu"], empty, timeout=900, env=env)
    outcome = run([*pip, str(wheel)], empty, timeout=1800, env=env)
    assert outcome.returncode == 0, outcome.stderr

    listed = run([python, "-m", "pip", "list", "--format", "json"], empty, env=env)
    extras = {"pandas", "matplotlib", "torchattacks", "robustbench", "pytest", "accelerate"}
    assert not extras & {package["name"] for package in json.loads(listed.stdout)}

    doctor = run([str(binaries / "art-ext"), "doctor"], empty, timeout=300, env=env)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "robustbench" in doctor.stdout
    attack = run([python, "-c", RAYS_ON_A_CALLABLE], empty, timeout=300, env=env)
    assert attack.returncode == 0, attack.stderr
    assert attack.stdout.strip() == "fooled"
    page = run([str(binaries / "art-ext"), "docs", "rays"], empty, env=env)
    assert page.stdout.startswith("# RayS"), page.stderr
    assert list(empty.iterdir()) == []
