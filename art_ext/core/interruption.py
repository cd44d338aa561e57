"""Attacks on a model that gives no further answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from art_ext.core.result import AttackResult


class ModelStopped(RuntimeError):
    """Raised by a model that gives no further answers, such as a service whose budget is spent."""


class AttackInterrupted(RuntimeError):
    """Raised by an attack whose model stopped.

    Attributes:
        message: the sentence that the error shows.
        result: the outcome so far. Every success in it is verified. ``queries`` counts the rows
            that the model answered.
        finished: (N,) bool, samples that the attack was done with.
    """

    def __init__(self, message: str, result: AttackResult, finished: Tensor) -> None:
        super().__init__(message, result, finished)
        self.result = result
        self.finished = finished

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def interruptible(
    oracle: AbstractContextManager[object], outcome: Callable[[], tuple[AttackResult, Tensor]]
) -> Iterator[None]:
    """Enter an oracle, and turn ``ModelStopped`` into ``AttackInterrupted``.

    Args:
        oracle: of the attack.
        outcome: returns the result so far, and (N,) bool, the samples that are done.
    """
    try:
        with oracle:
            yield
    except ModelStopped as stop:
        result, finished = outcome()
        raise AttackInterrupted(str(stop), result, finished) from stop
