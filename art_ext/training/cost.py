"""Rows that a weight update sends through the network."""

from __future__ import annotations

from typing import NamedTuple


class Cost(NamedTuple):
    """Rows that one weight update sends through the network, per sample of its minibatch.

    Attributes:
        forwards: rows forward.
        backwards: rows backward. A row counts once for each differentiation of its forward.
    """

    forwards: int
    backwards: int

    def plus(self, other: Cost) -> Cost:
        """Return the rows of two parts together."""
        return Cost(self.forwards + other.forwards, self.backwards + other.backwards)

    def times(self, networks: int) -> Cost:
        """Return the rows of several networks of this cost."""
        return Cost(self.forwards * networks, self.backwards * networks)
