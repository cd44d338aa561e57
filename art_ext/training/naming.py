"""Construction of objects by name. Errors name the nearest match."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from art_ext.core.checks import nearest

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def construct(kind: str, known: Mapping[str, type], name: str, arguments: Mapping[str, Any]) -> Any:
    """Return ``known[name](**arguments)``.

    Raises:
        ValueError: for an unknown name or argument, with the known ones and the nearest match, and
            for a missing argument.
    """
    check_known(kind, known, name)
    wanted = inspect.signature(known[name]).parameters
    for argument in arguments:
        if argument not in wanted:
            raise ValueError(
                f"the {kind} {name} takes {', '.join(wanted) or 'no argument'}, "
                f"got {argument!r}{nearest(argument, wanted)}"
            )
    missing = [
        argument
        for argument, one in wanted.items()
        if one.default is one.empty and argument not in arguments and one.kind not in VARIABLE
    ]
    if missing:
        raise ValueError(
            f"the {kind} {name} needs {', '.join(missing)}, such as"
            f" --{kind}-args {missing[0]}=VALUE"
        )
    return known[name](**arguments)


def check_known(kind: str, known: Iterable[str], name: str) -> None:
    """Raise ValueError unless a name is known. The message lists the known ones."""
    names = list(known)
    if not isinstance(name, str) or name not in names:
        raise ValueError(
            f"{kind} must be one of {', '.join(names)}, got {name!r}{nearest(str(name), names)}"
        )
