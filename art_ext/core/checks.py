"""Checks of arguments, shared by the core and its shells: what was given, what was wanted."""

from __future__ import annotations

import numbers
import operator


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
