"""Checks of arguments, shared by the core and its shells: what was given, what was wanted."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Iterable


def check_count(name: str, value: object, least: int = 1) -> None:
    """Refuse what is no whole number of at least ``least``.

    Raises:
        ValueError: naming the argument, what was given and what was wanted.
    """
    try:
        whole = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        whole = None
    if whole is None or isinstance(value, bool) or whole < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")


def check_number(name: str, value: object) -> None:
    """Refuse what is no real number, before it is compared with one.

    Raises:
        ValueError: naming the argument and what was given.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be a number, got {value!r}")


def check_positive(name: str, value: object) -> None:
    """Refuse what is no finite number > 0.

    Raises:
        ValueError: naming the argument and what was given.
    """
    check_number(name, value)
    if not value > 0:  # type: ignore[operator]  # a number, as just checked
        raise ValueError(f"{name} must be > 0, got {value!r}")
    if value == math.inf:
        raise ValueError(f"{name} must be finite, got {value!r}")


def check_not_negative(name: str, value: object) -> None:
    """Refuse what is no finite number >= 0.

    Raises:
        ValueError: naming the argument and what was given.
    """
    check_number(name, value)
    if not 0 <= value < math.inf:  # type: ignore[operator]  # a number, as just checked
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")


def check_share(name: str, value: object) -> None:
    """Refuse what is no decay: a number in [0, 1).

    Raises:
        ValueError: naming the argument and what was given.
    """
    check_number(name, value)
    if not 0 <= value < 1:  # type: ignore[operator]  # a number, as just checked
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise ValueError unless value is True or False: the text "false" would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    """Refuse a name that is not among the known ones.

    Raises:
        ValueError: listing them.
    """
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the nearest match, for the message about an unknown name; or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Iterable[str], limit: int = 6) -> str:
    """Join names with commas, and count those beyond the limit."""
    every = list(names)
    rest = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + rest
