"""Reports of a running training: the progress bar and Accelerate's trackers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from art_ext.training.history import Row

if TYPE_CHECKING:
    from accelerate import Accelerator


class Reporter:
    """Shows the progress of a run, and passes the rows of its history to trackers.

    Args:
        accelerator: of the run, whose trackers write into its project folder.
        title: of the bar.
        shown: show a bar, in the main process.
        configuration: of the run, for the trackers. None: there are no trackers.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        title: str,
        shown: bool,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        self._accelerator = accelerator
        self._title = title
        self._shown = shown and bool(accelerator.is_main_process)
        self._tracked = configuration is not None
        self._bar: tqdm[Any] | None = None
        if configuration is not None:
            accelerator.init_trackers("art_ext", config=flattened(configuration))

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

    def end_epoch(self, row: Row, update: int) -> None:
        """Report the row of an epoch that ended with this number of weight updates."""
        if self._tracked:
            self._accelerator.log(row, step=update)
        if self._bar is not None:
            shown = {
                name: f"{value:.4g}"
                for name, value in row.items()
                if name == "loss" or "validation" in name
            }
            self._bar.set_postfix(shown, refresh=False)

    def close(self) -> None:
        """Let the trackers finish."""
        for tracker in self._accelerator.trackers:
            tracker.finish()


def flattened(configuration: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str]:
    """Return a nested configuration as plain scalars by dotted names, as trackers take it.

    Lists are written as text, and None as "none".
    """
    found: dict[str, int | float | str] = {}
    for name, value in configuration.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            found.update(flattened(value, f"{key}."))
        elif isinstance(value, (bool, int, float, str)):
            found[key] = value
        else:
            found[key] = "none" if value is None else str(value)
    return found
