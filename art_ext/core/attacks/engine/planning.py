"""Planned rows of an attack: the most that it sends forward and backward for one sample.

The drivers state them from the loops and options of a method. On no samples an attack states its
plan and calls no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class PlannedRows:
    """The most rows of a sample.

    Attributes:
        forward: rows forward, the clean check included.
        backward: rows backward.
        further: those of them that share the row forward of another one.
    """

    forward: int
    backward: int = 0
    further: int = 0

    def within(self, max_queries: int | None) -> PlannedRows:
        """Return the rows that a budget of forward rows pays for. None: no limit."""
        if max_queries is None or self.forward <= max_queries:
            return self
        backward = min(self.backward, max_queries + self.further)
        return PlannedRows(max_queries, backward, self.further)

    def times(self, count: int) -> PlannedRows:
        """Return the rows of so many attacks."""
        return PlannedRows(count * self.forward, count * self.backward, count * self.further)

    def plus(self, other: PlannedRows) -> PlannedRows:
        """Return the rows of both."""
        return PlannedRows(
            self.forward + other.forward,
            self.backward + other.backward,
            self.further + other.further,
        )


@dataclass
class Planning:
    """The plan of an attack that is called inside ``planning``.

    Attributes:
        classes: of the model, for attacks on several classes of a sample. None: unknown.
        rows: the planned rows. None: the attack states none.
    """

    classes: int | None = None
    rows: PlannedRows | None = None


_PLANNING: ContextVar[Planning | None] = ContextVar("planning", default=None)


@contextmanager
def planning(classes: int | None = None) -> Iterator[Planning]:
    """Collect the planned rows of an attack that is called inside, on no samples.

    Args:
        classes: of the model. Default: None, unknown.
    """
    found = Planning(classes)
    token = _PLANNING.set(found)
    try:
        yield found
    finally:
        _PLANNING.reset(token)


def current() -> Planning | None:
    """Return the plan that is being made. None outside of ``planning``."""
    return _PLANNING.get()


def state_plan(rows: PlannedRows) -> None:
    """State the planned rows of one loop of an attack. Those of several loops add up."""
    found = _PLANNING.get()
    if found is not None:
        found.rows = rows if found.rows is None else found.rows.plus(rows)


def other_classes(wanted: int) -> int:
    """Return how many of the wanted other classes the model has, as far as it is known."""
    found = _PLANNING.get()
    return wanted if found is None or found.classes is None else min(wanted, found.classes - 1)
