"""Rows that a weight update sends through the network."""

from __future__ import annotations

from typing import NamedTuple


class _Rows(NamedTuple):
    forwards: int
    backwards: int


class Cost(_Rows):
    """Rows that one weight update sends through the network, per sample of its minibatch.

    It is the pair ``(forwards, backwards)``. ``first_layer_rows`` is no part of the pair, whose sum
    counts rows of the whole network only.

    Args:
        forwards: rows forward.
        backwards: rows backward. A row counts once for each differentiation of its forward.
        first_layer_rows: rows that are sent to the first layer alone, and back from it.
    """

    first_layer_rows: int

    def __new__(cls, forwards: int, backwards: int, first_layer_rows: int = 0) -> Cost:
        """Return the pair, with the third number beside it."""
        made = super().__new__(cls, forwards, backwards)
        made.first_layer_rows = first_layer_rows
        return made

    def plus(self, other: Cost) -> Cost:
        """Return the rows of two parts together."""
        return Cost(
            self.forwards + other.forwards,
            self.backwards + other.backwards,
            self.first_layer_rows + other.first_layer_rows,
        )

    def times(self, networks: int) -> Cost:
        """Return the rows of several networks of this cost."""
        return Cost(
            self.forwards * networks, self.backwards * networks, self.first_layer_rows * networks
        )
