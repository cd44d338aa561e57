"""Write the shell classes and type stubs from the registry: ``make shells``."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

from art_ext.core.attacks.registry import AttackSpec, specs
from art_ext.shells import Plan, art, plans, torchattacks
from art_ext.shells.text import docstring, spelled, valued

ROOT = Path(__file__).parent.parent
NOTE = "Written by ``make shells`` from the registry. Change the specs instead."
_IMPORTS = {
    "np": "import numpy as np",
    "torch": "import torch",
    "Tensor": "from torch import Tensor",
    "nn": "from torch import nn",
    "Mapping": "from collections.abc import Mapping",
    "Sequence": "from collections.abc import Sequence",
    "Callable": "from collections.abc import Callable",
    "Any": "from typing import Any",
    "ClassVar": "from typing import ClassVar",
    "ClipValues": "from art_ext.core.geometry import ClipValues",
    "Loss": "from art_ext.core.losses import Loss",
    "Judge": "from art_ext.core.oracle import Judge",
    "Model": "from art_ext.core.oracle import Model",
    "AttackResult": "from art_ext.core.result import AttackResult",
    "Callback": "from art_ext.core.result import Callback",
    "EvasionAttack": "from art.attacks.attack import EvasionAttack",
    "BaseEstimator": "from art.estimators.estimator import BaseEstimator",
    "core": "from art_ext.core import attacks as core",
}


def written() -> dict[Path, str]:
    """Return the text of each generated file by its path."""
    shells = "art_ext.attacks.shell"
    bases = ("GRADIENT_REQUIREMENTS", "FunctionAttack", "ResizingAttack")
    of_art = _module(
        "Our attacks for ART.",
        [art.source(plan) for plan in plans(art.HOST)],
        plans(art.HOST),
        {name: f"from {shells} import {name}" for name in bases},
    )
    of_torchattacks = _module(
        "Our attacks for torchattacks.",
        [torchattacks.source(plan) for plan in plans(torchattacks.HOST)],
        plans(torchattacks.HOST),
        {"FunctionAttack": "from art_ext.adapters.torchattacks.shell import FunctionAttack"},
        "ATTACKS: dict[str, type[FunctionAttack]] = {%s}",
    )
    texts = {
        ROOT / "attacks" / "shells.py": of_art,
        ROOT / "adapters" / "torchattacks" / "attacks.py": of_torchattacks,
        ROOT / "torchattacks.pyi": _facade(plans(torchattacks.HOST)),
        ROOT / "core" / "attacks" / "__init__.pyi": _core(),
    }
    return {path: _formatted(text, path) for path, text in texts.items()}


def main() -> None:
    """Write the files that have changed."""
    for path, text in written().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {path.relative_to(ROOT.parent)}\n")


def _module(
    title: str, sources: list[str], listed: list[Plan], imports: dict[str, str], end: str = ""
) -> str:
    """Return a module of classes, with a tuple of their names that ``end`` may show otherwise."""
    names = sorted(plan.name for plan in listed)
    body = "\n\n\n".join(sources)
    if end:
        body += "\n\n\n" + end % ", ".join(f'"{name}": {name}' for name in names)
    every = "\n".join(f'    "{name}",' for name in names)
    head = [f'"""{title}\n\n{NOTE}\n"""', "from __future__ import annotations"]
    return "\n\n".join([*head, _imports(body, imports), f"__all__ = [\n{every}\n]", body]) + "\n"


def _imports(body: str, imports: dict[str, str]) -> str:
    """Return the imports of the names that a text uses outside its docstrings."""
    code = re.sub(r'""".*?"""', "", body, flags=re.DOTALL)
    used = set(re.findall(r"\b[A-Za-z_]\w*", code))
    return "\n".join(line for name, line in {**_IMPORTS, **imports}.items() if name in used)


def _facade(listed: list[Plan]) -> str:
    names = sorted(plan.name for plan in listed)
    lines = [f'"""All of torchattacks plus our attacks.\n\n{NOTE}\n"""', ""]
    lines += ["from typing import Any", "", "from torchattacks import *  # noqa: F403"]
    source = "from art_ext.adapters.torchattacks.attacks import"
    lines += [f"{source} {name} as {name}" for name in names]
    lines += ["", "__all__: list[str]", "", "def __getattr__(name: str) -> Any: ..."]
    return "\n".join(lines) + "\n"


def _core() -> str:
    named = sorted(specs(), key=lambda spec: spec.name)
    ours = [spec for spec in named if spec.function.__module__.startswith("art_ext.core.attacks.")]
    body = "\n\n".join(_function(spec) for spec in ours)
    head = f'"""Attacks with all their keywords, for editors and type checkers.\n\n{NOTE}\n"""'
    registry = "from art_ext.core.attacks import registry as registry"
    return (
        "\n\n".join([head, _imports(body, {"": ""}), registry, "__all__: list[str]", body]) + "\n"
    )


def _function(spec: AttackSpec) -> str:
    signature = inspect.signature(spec.function)
    lines = [f"def {spec.name}("]
    keyword_only = False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            lines += ["*,"]
        default = ""
        if parameter.default is not parameter.empty:
            default = f" = {valued(parameter.default)}"
        lines += [f"{name}: {spelled(parameter.annotation)}{default},"]
    lines += [f") -> {spelled(signature.return_annotation)}:"]
    text = (inspect.getdoc(spec.function) or "").splitlines()
    about = [text[0], *(f"    {line}".rstrip() for line in text[1:])]
    return "\n".join([*lines, docstring(about, 4, raw=any("\\" in line for line in text))])


def _formatted(text: str, path: Path) -> str:
    """Sort the imports of a text and lay it out as ``make lint`` wants it."""
    ruff = [sys.executable, "-m", "ruff"]
    name = ["--stdin-filename", str(path.resolve())]
    for command in (["check", "--quiet", "--fix", "--select", "I,RUF022"], ["format", "--quiet"]):
        done = subprocess.run(
            [*ruff, *command, *name, "-"], input=text, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"ruff cannot lay out {path}: {done.stderr}\n{text}")
        text = done.stdout
    return text


if __name__ == "__main__":
    main()
