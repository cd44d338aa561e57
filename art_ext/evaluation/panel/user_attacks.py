"""Attacks of users, ``FILE.py:FUNCTION``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from art_ext.core.attacks import registry
from art_ext.core.attacks.registry import AttackSpec
from art_ext.core.checks import nearest
from art_ext.models.factory import digest_of_file, resolve_object


@dataclass(frozen=True)
class FileAttack(AttackSpec):
    """An attack of a Python file. It pickles as its source, so that other processes load the file.

    Attributes:
        source: ``FILE.py:FUNCTION``, with the whole path.
    """

    source: str = ""

    def __reduce__(self) -> tuple[Callable[[str], AttackSpec], tuple[str]]:
        return load_attack, (self.source,)

    @property
    def file(self) -> str:
        """Path of the file."""
        return self.source.rpartition(":")[0]

    def digest(self) -> str:
        """Return a digest of the file, which identifies a version of the attack."""
        return digest_of_file(self.file)


# by source and digest of its file: a copy of an attack that was pickled equals the attack
_LOADED: dict[tuple[str, str], FileAttack] = {}


def is_file(name: str) -> bool:
    """Return True if a name of an attack is ``FILE.py:FUNCTION``."""
    return name.rpartition(":")[0].endswith(".py")


def name_of(attack: str) -> str:
    """Return the name in records of an attack that is given as ``FILE.py:FUNCTION`` or by name."""
    return attack.rpartition(":")[2] if is_file(attack) else attack


def load_attack(source: str) -> FileAttack:
    """Run a Python file and register the attack that it holds.

    A file that has not changed is not run again.

    Args:
        source: ``FILE.py:FUNCTION``. The file may register the function with its own AttackSpec.
            Otherwise FUNCTION is its name, and its queries are counted from outside, see
            ``registry.spec_of``.

    Raises:
        ValueError: if the file is missing or fails, or holds no such attack, or if an attack of
            art-ext has the same name.
    """
    if not is_file(source):
        raise ValueError(
            f"an attack of your own must be given as FILE.py:FUNCTION, got {source!r}"
            f"{nearest(source, registry.names())}. A registered attack is found by its name alone"
        )
    location, _, name = source.rpartition(":")
    file = Path(location).resolve()
    key = (f"{file}:{name}", digest_of_file(file) if file.is_file() else "")
    if key not in _LOADED:
        own = _run_file(source, name)
        values = {one.name: getattr(own, one.name) for one in fields(AttackSpec)}
        _LOADED[key] = FileAttack(**values, source=key[0])
    found = _LOADED[key]
    registry.register(found)
    return found


def _run_file(source: str, name: str) -> AttackSpec:
    """Run a file, and return the spec of its function."""
    with resolve_object(source, "attack", "FUNCTION") as function:
        if not callable(function):
            raise ValueError(
                f"{source!r} must name a function, got an instance of {type(function).__name__}"
            )
        return _declared(function) or registry.spec_of(function, name)


def _declared(function: Callable[..., Any]) -> AttackSpec | None:
    """Return the spec with which the file registered its function, if it did."""
    return next((spec for spec in registry.specs() if spec.function is function), None)
