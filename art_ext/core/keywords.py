"""Keywords of public functions in any spelling that can be understood, and plain words about the
others.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar, cast

from art_ext.core.checks import nearest
from art_ext.core.geometry import norm_name

Function = TypeVar("Function", bound=Callable[..., Any])


def check_keywords(called: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise TypeError for a keyword that is not among the known ones.

    Args:
        called: name of what was called.
        given: the keywords that it was called with.
        known: the keywords that it takes.

    Raises:
        TypeError: naming the keyword and the nearest known one or, if none is near, all of them.
    """
    for name in given:
        if name not in known:
            hint = nearest(name, known) or f": it takes {', '.join(known) or 'none'}"
            raise TypeError(f"{called}() got an unexpected keyword argument {name!r}{hint}")


def checked_keywords(function: Function, called: str | None = None) -> Function:
    """Decorate a function so that a misspelt keyword raises a TypeError that names the nearest one.

    A function that takes any keyword stays as it is.

    Args:
        function: what is called.
        called: its name in messages. None takes its own.
    """
    parameters = inspect.signature(function).parameters.values()
    known = [
        one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
    ]
    name = called or function.__name__
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return function

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        check_keywords(name, keywords, known)
        return function(*arguments, **keywords)

    return cast(Function, call)


def any_norm(function: Function) -> Function:
    """Decorate a function with the keyword ``norm`` so that it takes every spelling that
    ``norm_name`` reads.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if keywords.get("norm") is not None:
            keywords["norm"] = norm_name(keywords["norm"])
        return function(*arguments, **keywords)

    return cast(Function, call)


class CheckedKeywords:
    """Base of classes whose constructors name the nearest argument where one is misspelt."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", checked_keywords(cls.__init__, cls.__name__))  # noqa: B010  # for mypy
