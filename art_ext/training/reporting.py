"""Reports of a running training: the progress bar and the trackers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm

from art_ext.tracking import Trackers
from art_ext.training.history import Row


class Reporter:
    """Shows the progress of a run, and passes the rows of its history to trackers.

    Args:
        title: of the bar.
        shown: show a bar.
        trackers: of the run, started.
    """

    def __init__(self, title: str, shown: bool, trackers: Trackers) -> None:
        self._title = title
        self._shown = shown
        self._trackers = trackers
        self._bar: tqdm[Any] | None = None

    def resume(self, history: Sequence[Row]) -> None:
        """Report earlier rows to trackers that did not get them."""
        for row in history:
            self._trackers.log(row, int(row["updates"]))

    @contextmanager
    def bar(self, total: int, done: int) -> Iterator[None]:
        """Show a bar of the weight updates for a block."""
        # seconds between refreshes: a terminal shows a moving bar, a log file few lines
        pause = 0.2 if sys.stderr.isatty() else 10
        with tqdm(
            total=total, initial=done, disable=not self._shown, desc=self._title, mininterval=pause
        ) as self._bar:
            yield
        self._bar = None

    def advance(self, update: int) -> None:
        """Move the bar to a number of weight updates."""
        if self._bar is not None:
            self._bar.update(update - self._bar.n)

    def report(self, row: Row, update: int) -> None:
        """Report a row of the history after this number of weight updates."""
        self._trackers.log(row, update)
        if self._bar is not None:
            shown = {
                name: f"{value:.4g}"
                for name, value in row.items()
                if name == "loss" or "validation" in name
            }
            self._bar.set_postfix(shown, refresh=False)
