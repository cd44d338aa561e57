"""The two packages of AutoAttack behind one signature, and what their own checks complain of."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from art_ext.core.checks import check_choice

BACKENDS = ("auto", "autoattack", "pyautoattack")


# by what is to be found in the messages of either package
SIGNS = {
    "randomised": "randomized defense",
    "probabilities": "probability distribution",
    "zero-gradients": "zero gradient",
    "square-better": "Square Attack has decreased",
    "dynamic": "dynamic defense",
    "classes": "DLR loss!|target classes",
}


OF_VERSION = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
# their DLR losses divide by a difference of the third and fourth score
LEAST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}
# by the attack, the object that holds its number of targets
TARGETED = {"apgd-t": "apgd_targeted", "fab-t": "fab"}


def check_classes_for(attacks: Sequence[str], classes: int) -> None:
    """Raise ValueError if one of the attacks does not exist for a model of so many classes.

    Args:
        attacks: names of AutoAttack's attacks, of which ``OF_VERSION`` has those of a version.
        classes: of the model.
    """
    failing = [name for name in attacks if classes < LEAST_CLASSES.get(name, 2)]
    if failing:
        least = max(LEAST_CLASSES[name] for name in failing)
        raise ValueError(
            f"AutoAttack's {' and '.join(failing)} need a model of at least {least} classes, since"
            " their DLR losses "
            f'compare that many scores, got {classes}: use version="custom", attacks=("apgd-ce",'
            ' "fab", "square"), '
            "which run there, or --panel standard"
        )


def fit_targets(adversary: Any, attacks: Sequence[str], classes: int) -> list[str]:
    """Let the targeted attacks take no more targets than there are wrong classes.

    Args:
        adversary: the package's object. It is changed in place.
        attacks: what it is going to run.
        classes: of the model.

    Returns:
        The changes, in a sentence for each attack.
    """
    changes = []
    for name, part in TARGETED.items():
        wanted = getattr(adversary, part).n_target_classes
        if name in attacks and wanted > classes - 1:
            getattr(adversary, part).n_target_classes = classes - 1
            changes.append(
                f"{name} takes {classes - 1} targets instead of {wanted}: the model has {classes}"
                " classes"
            )
    return changes


@dataclass(frozen=True)
class Package:
    """One of the two packages: its class under git's signature, and its module of checks."""

    name: str
    kind: Callable[..., Any]
    checks: Any

    @property
    def version(self) -> str:
        """Version by the package's metadata."""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return "unknown"


def find_package(backend: str) -> Package:
    """Return the given package. ``"auto"`` takes git's autoattack if it is installed, otherwise
    pyautoattack.

    Raises:
        ImportError: if it is not installed, saying what brings it.
    """
    check_choice("backend", backend, BACKENDS)
    there = [name for name in BACKENDS[1:] if _installed(name)]
    if backend == "auto" and not there:
        raise ImportError(
            "neither autoattack nor pyautoattack found: pip install 'art-ext[robustbench]'"
        )
    name = there[0] if backend == "auto" else backend
    if name not in there:
        remedy = (
            "pyautoattack" if name == "pyautoattack" else "git+https://github.com/fra31/auto-attack"
        )
        raise ImportError(f"{name} is not installed: pip install {remedy}, or use backend='auto'")
    module = importlib.import_module(
        "art_ext.adapters.autoattack.git_signature" if name == "pyautoattack" else name
    )
    return Package(name, module.AutoAttack, importlib.import_module(f"{name}.checks"))


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a module made by hand, as the bridge to RobustBench makes one
        return False


class _Listener(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what is logged to ``auto-attack``, warned and printed, and keep it from the terminal.

    The trace function is put back too: the check for dynamic models would leave debuggers and
    coverage switched off.
    """
    lines: list[str] = []
    printed = io.StringIO()
    listener, logger, trace = _Listener(lines), logging.getLogger("auto-attack"), sys.gettrace()
    before = logger.level, logger.propagate, logger.disabled
    with warnings.catch_warnings(record=True) as warned, redirect_stdout(printed):
        warnings.simplefilter("always")
        try:
            logger.addHandler(listener)
            logger.propagate = logger.disabled = False
            logger.setLevel(min(logger.level or logging.WARNING, logging.WARNING))
            yield lines
        finally:
            logger.removeHandler(listener)
            level, logger.propagate, logger.disabled = before
            logger.setLevel(level)
            sys.settrace(trace)
            lines += [*(str(one.message) for one in warned), *printed.getvalue().splitlines()]


def heard_in(lines: Sequence[str]) -> dict[str, str]:
    """Return the first complaint of each kind among the lines, by the name of its flag."""
    found: dict[str, str] = {}
    for line in lines:
        for name, sign in SIGNS.items():
            if name not in found and re.search(sign, line):
                found[name] = line.removeprefix("Warning: ").partition(" See flags_doc")[0].strip()
    return found
