"""Argument checks. Messages state the given and the wanted value."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any


class SampleError(ValueError):
    """ValueError that names a sample by its position, which an attack in slices moves.

    Args:
        text: what is wrong, with ``{sample}`` where the position belongs.
        sample: the position.
    """

    def __init__(self, text: str, sample: int) -> None:
        super().__init__(text, sample)

    def __str__(self) -> str:
        text, sample = self.args
        return str(text).replace("{sample}", str(sample))

    def move(self, start: int) -> None:
        """Count from ``start`` positions earlier."""
        text, sample = self.args
        self.args = (text, sample + start)


def check_count(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Raise ValueError unless the value is an integer from ``least`` to ``most``, None: any."""
    try:
        whole = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        whole = None
    if whole is None or isinstance(value, bool) or whole < least or (most and whole > most):
        wanted = f">= {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an integer {wanted}, got {value!r}")


def check_number(name: str, value: object) -> None:
    """Raise ValueError unless the value is a real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{name} must be a number, got {value!r}")


def check_positive(name: str, value: object) -> None:
    """Raise ValueError unless the value is a finite number > 0."""
    check_number(name, value)
    if not value > 0:  # type: ignore[operator]  # a number, as just checked
        raise ValueError(f"{name} must be > 0, got {value!r}")
    if value == math.inf:
        raise ValueError(f"{name} must be finite, got {value!r}")


def check_not_negative(name: str, value: object) -> None:
    """Raise ValueError unless the value is a finite number >= 0."""
    check_number(name, value)
    if not 0 <= value < math.inf:  # type: ignore[operator]  # a number, as just checked
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")


def check_share(name: str, value: object) -> None:
    """Raise ValueError unless the value is a number in [0, 1)."""
    check_number(name, value)
    if not 0 <= value < 1:  # type: ignore[operator]  # a number, as just checked
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}")


def check_inner_share(name: str, value: object) -> None:
    """Raise ValueError unless the value is a number in (0, 1)."""
    check_number(name, value)
    if not 0 < value < 1:  # type: ignore[operator]  # a number, as just checked
        raise ValueError(f"{name} must lie in (0, 1), got {value!r}")


def check_fraction(name: str, value: object) -> None:
    """Raise ValueError unless the value is a number in [0, 1]."""
    check_number(name, value)
    if not 0 <= value <= 1:  # type: ignore[operator]  # a number, as just checked
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}")


def check_range(name: str, value: Any) -> None:
    """Raise ValueError unless the value is a pair of finite numbers (lower, upper)."""
    try:
        lower, upper = value
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a pair such as (0, 1), or None, got {value!r}") from error
    for bound in (lower, upper):
        check_number(name, bound)
    if not -math.inf < lower < upper < math.inf:
        raise ValueError(f"{name} must be finite with lower < upper, got ({lower!r}, {upper!r})")


def check_flag(name: str, value: object) -> None:
    """Raise ValueError unless the value is True or False. The text "false" would count as true."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of the known names. The message lists them."""
    if value not in known:
        hint = nearest(value, known) if isinstance(value, str) else ""
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}{hint}"
        )


def nearest(name: str, known: Iterable[str], least: float = 0.5) -> str:
    """Return a hint at the most similar known name, for a message about an unknown one.

    Of equally similar names, one that holds the same words comes first: ``num_steps`` for
    ``steps``. Case is ignored. Without a similar name the hint is empty.

    Args:
        name: the unknown one.
        known: the known ones.
        least: similarity in [0, 1] that a name must have.
    """
    by_case = {one.casefold(): one for one in known}
    given = name.casefold()
    close = difflib.get_close_matches(given, by_case, cutoff=least)
    if not close:
        return ""

    def similarity(one: str) -> tuple[float, bool]:
        same_words = set(given.split("_")) <= set(one.split("_"))
        return difflib.SequenceMatcher(None, one, given).ratio(), same_words

    return f" (did you mean {by_case[max(close, key=similarity)]!r}?)"


def same_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that equals the given one up to case, or None."""
    names = list(known)
    return (
        name
        if name in names
        else next((one for one in names if one.casefold() == name.casefold()), None)
    )


def listed(names: Iterable[str], limit: int = 6) -> str:
    """Join names with commas, and count those beyond the limit."""
    every = list(names)
    rest = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + rest
