"""The context of a model call, for models that record their answers.

A model without requests costs nothing: an oracle enters itself once per attack, and rows are
described only when a model calls :func:`described_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary


class Scope:
    """Part of a program whose model calls are numbered on their own.

    Attributes:
        name: of the part, such as a unit of work of an evaluation.
        memory: what models remember of the calls in this part, by model.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.memory: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


Rows = Callable[[], tuple[list[int], list[int]]]
_OUTSIDE = Scope("")
_SCOPE: ContextVar[Scope] = ContextVar("art_ext_scope", default=_OUTSIDE)
_ROWS: ContextVar[Rows | None] = ContextVar("art_ext_rows", default=None)


@contextmanager
def scope(name: str) -> Iterator[Scope]:
    """Open a scope for a block, whose model calls are numbered from the first one."""
    token = _SCOPE.set(Scope(name))
    try:
        yield _SCOPE.get()
    finally:
        _SCOPE.reset(token)


def current_scope() -> Scope:
    """Return the innermost scope. Outside of any it is the one named ``""``."""
    return _SCOPE.get()


@contextmanager
def describing(rows: Rows) -> Iterator[None]:
    """Let ``described_rows`` call a function, for a block."""
    token = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(token)


def described_rows() -> tuple[list[int], list[int]]:
    """Return the identities of the samples whose rows a model is called with, and the numbers of
    their queries.

    The lists are empty outside of an attack. Rows of padding follow those that are described. A row
    of speculation has the number of the latest query of its sample.
    """
    rows = _ROWS.get()
    return ([], []) if rows is None else rows()
