"""Write the shell classes and type stubs from their lists: ``make shells``."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from art_ext.core import detection
from art_ext.core.attacks.registry import AttackSpec, is_built_in, specs
from art_ext.shells import Plan, art, detectors, plans, torchattacks, trainers
from art_ext.shells.text import docstring, spelled, valued

ROOT = Path(__file__).parent.parent
NOTE = (
    "Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those"
    " instead."
)
PACKAGES = (  # that ``art_ext.NAME`` imports
    "attacks",
    "core",
    "data",
    "detectors",
    "evaluation",
    "examples",
    "models",
    "testing",
    "torchattacks",
    "trainers",
    "training",
)
FRONT = {  # modules of what ``from art_ext import`` knows besides the attacks
    "AttackResult": "core.result",
    "adbd": "core.metrics",
    "evaluate": "evaluation",
    "load_data": "data",
    "load_model": "models",
    "train": "training",
}
MARKED = re.compile(r"(# written by ``make shells``\n).*?(# end of what is written\n)", re.DOTALL)
_IMPORTS = {
    "np": "import numpy as np",
    "torch": "import torch",
    "Tensor": "from torch import Tensor",
    "nn": "from torch import nn",
    "os": "import os",
    "Iterable": "from collections.abc import Iterable",
    "Mapping": "from collections.abc import Mapping",
    "Sequence": "from collections.abc import Sequence",
    "Callable": "from collections.abc import Callable",
    "Any": "from typing import Any",
    "ClassVar": "from typing import ClassVar",
    "Detector": "from art_ext.core.detection.base import Detector",
    "ClipValues": "from art_ext.core.geometry import ClipValues",
    "Generator": "from art_ext.core.limits.generator import Generator",
    "Loss": "from art_ext.core.losses import Loss",
    "Judge": "from art_ext.core.oracle import Judge",
    "Transform": "from art_ext.core.transforms import Transform",
    "Model": "from art_ext.core.oracle import Model",
    "AttackResult": "from art_ext.core.result import AttackResult",
    "Callback": "from art_ext.core.result import Callback",
    "ScheduleObject": "from art_ext.training.schedules import ScheduleObject",
    "Data": "from art_ext.training.sources import Data",
    "EvasionAttack": "from art.attacks.attack import EvasionAttack",
    "PyTorchClassifier": "from art.estimators.classification import PyTorchClassifier",
    "Squeezer": "from art_ext.core.detection.squeezers import Squeezer",
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
        [plan.name for plan in plans(art.HOST)],
        {name: f"from {shells} import {name}" for name in bases},
    )
    of_torchattacks = _module(
        "Our attacks for torchattacks.",
        [torchattacks.source(plan) for plan in plans(torchattacks.HOST)],
        [plan.name for plan in plans(torchattacks.HOST)],
        {"FunctionAttack": "from art_ext.adapters.torchattacks.shell import FunctionAttack"},
        "ATTACKS: dict[str, type[FunctionAttack]] = {%s}",
    )
    of_training = _module(
        "ART trainers of our recipes.",
        [trainers.source(shell) for shell in trainers.TRAINERS],
        [shell.name for shell in trainers.TRAINERS],
        {
            "HeadTrainer": "from art_ext.trainers.headed import HeadTrainer",
            "EnsembleTrainer": "from art_ext.trainers.headed import EnsembleTrainer",
            "CoreTrainer": "from art_ext.trainers.shell import CoreTrainer",
            "Tensor": "from torch import Tensor",
            "ClassVar": "from typing import ClassVar",
            "Mapping": "from collections.abc import Mapping",
            "Recipe": "from art_ext.training import Recipe",
            **{
                recipe.__name__: f"from art_ext.training import {recipe.__name__}"
                for shell in trainers.TRAINERS
                for recipe in (shell.recipe, *shell.objectives.values())
            },
        },
    )
    of_detection = _module(
        "Our detectors for ART.",
        [detectors.source(spec) for spec in detectors.listed()],
        [spec.art for spec in detectors.listed()],
        {
            "CoreDetector": "from art_ext.detectors.shell import CoreDetector",
            **{
                spec.kind.__name__: f"from {spec.kind.__module__} import {spec.kind.__name__}"
                for spec in detectors.listed()
            },
        },
    )
    texts = {
        ROOT / "attacks" / "shells.py": of_art,
        ROOT / "detectors" / "shells.py": of_detection,
        ROOT / "trainers" / "shells.py": of_training,
        ROOT / "adapters" / "torchattacks" / "attacks.py": of_torchattacks,
        ROOT / "torchattacks.pyi": _facade(plans(torchattacks.HOST)),
        ROOT / "core" / "attacks" / "__init__.pyi": _core(),
        ROOT / "core" / "detection" / "__init__.pyi": _detection(),
        ROOT / "training" / "__init__.pyi": _training(),
        ROOT / "__init__.py": _front(),
        ROOT / "__init__.pyi": _front_types(),
    }
    return {path: formatted(text, path) for path, text in texts.items()}


def main() -> None:
    """Write the files that have changed."""
    for path, text in written().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {path.relative_to(ROOT.parent)}\n")


def _module(
    title: str, sources: list[str], classes: list[str], imports: dict[str, str], end: str = ""
) -> str:
    """Return a module of classes, with a tuple of their names that ``end`` may show otherwise."""
    names = sorted(classes)
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


def _training() -> str:
    """Return the names of ``art_ext.training``, with all keywords of ``train``."""
    from art_ext.training import train

    module = ast.parse((ROOT / "training" / "__init__.py").read_text(encoding="utf-8"))
    names = {
        one.name: statement.module
        for statement in module.body
        if isinstance(statement, ast.ImportFrom)
        for one in statement.names
        if one.name != train.__name__
    }
    body = _function(train.__name__, train)
    lines = [f"from {place} import {name} as {name}" for name, place in names.items()]
    head = f'"""Robust training, with all keywords, for editors and type checkers.\n\n{NOTE}\n"""'
    imports = "\n".join([_imports(body, dict.fromkeys(names, "")), *lines])
    return "\n\n".join([head, imports, "__all__: list[str]", body]) + "\n"


def _front() -> str:
    """Return the module of the front with its names, and where they come from."""
    modules = ", ".join(f'"{name}": "{module}"' for name, module in _front_names().items())
    names = ", ".join(f'"{name}"' for name in PACKAGES)
    block = f"_PACKAGES = ({names})\n_MODULES = {{{modules}}}\n"
    return MARKED.sub(rf"\1{block}\2", (ROOT / "__init__.py").read_text(encoding="utf-8"))


def _front_types() -> str:
    """Return the names of the front for editors and type checkers."""
    names = _front_names()
    lines = [f'"""The names of the front.\n\n{NOTE}\n"""', ""]
    lines += [f"from art_ext import {name} as {name}" for name in PACKAGES]
    lines += [f"from art_ext.{module} import {name} as {name}" for name, module in names.items()]
    every = ", ".join(f'"{name}"' for name in names)
    return "\n".join([*lines, "", f"__all__ = [{every}]", "", "__version__: str"]) + "\n"


def _front_names() -> dict[str, str]:
    """Return the modules of the front's functions and classes."""
    return dict(sorted({**FRONT, **{spec.name: "core.attacks" for spec in _ours()}}.items()))


def _core() -> str:
    body = "\n\n".join(_function(spec.name, spec.function) for spec in _ours())
    head = f'"""Attacks with all their keywords, for editors and type checkers.\n\n{NOTE}\n"""'
    registry = "from art_ext.core.attacks import registry as registry"
    return (
        "\n\n".join([head, _imports(body, {"": ""}), registry, "__all__: list[str]", body]) + "\n"
    )


def _detection() -> str:
    """Return the names of ``art_ext.core.detection`` for editors and type checkers."""
    found = [getattr(detection, name) for name in detection.__all__]
    lines = [f'"""Detectors, for editors and type checkers.\n\n{NOTE}\n"""', ""]
    lines += ["from art_ext.core.detection import registry as registry"]
    lines += [f"from {one.__module__} import {one.__name__} as {one.__name__}" for one in found]
    return "\n".join([*lines, "", "__all__: list[str]"]) + "\n"


def _ours() -> list[AttackSpec]:
    """Return the attacks of art-ext by name."""
    named = sorted(specs(), key=lambda spec: spec.name)
    return [spec for spec in named if is_built_in(spec)]


def _function(name: str, function: Callable[..., Any]) -> str:
    """Return a function without its body."""
    signature = inspect.signature(function)
    lines = [f"def {name}("]
    keyword_only = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            lines += ["*,"]
        default = ""
        if parameter.default is not parameter.empty:
            default = f" = {valued(parameter.default)}"
        lines += [f"{parameter.name}: {spelled(parameter.annotation)}{default},"]
    lines += [f") -> {spelled(signature.return_annotation)}:"]
    text = (inspect.getdoc(function) or "").splitlines()
    about = [text[0], *(f"    {line}".rstrip() for line in text[1:])]
    return "\n".join([*lines, docstring(about, 4, raw=any("\\" in line for line in text))])


def formatted(text: str, path: Path) -> str:
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
