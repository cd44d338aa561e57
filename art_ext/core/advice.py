"""Attacks to advise for a model that cannot serve the chosen one, by what they need of a model."""

from __future__ import annotations

_NAMES: dict[str, str] = {}  # by the name of an attack of art-ext, what it needs


def note_attack(name: str, access: str) -> None:
    """Note an attack of art-ext. The registry calls this."""
    _NAMES[name] = access


def advised(*access: str) -> str:
    """Return the attacks that need one of these kinds of access, as a list in words.

    Args:
        *access: ``"labels"``, ``"scores"`` or ``"gradients"``.
    """
    found = [name for one in access for name in sorted(_NAMES) if _NAMES[name] == one]
    if not found:  # the attacks were not imported
        return f"those that need {' or '.join(access)}"
    return " or ".join(filter(None, (", ".join(found[:-1]), found[-1])))
