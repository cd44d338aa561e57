"""One bar over a whole run on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from art_ext.cli.terminal import say

if TYPE_CHECKING:
    from tqdm import tqdm

    from art_ext.evaluation.execution.progress import RunState

BAR = "{percentage:3.0f}%|{bar:20}| {desc}"
PAUSE = 0.2  # seconds between two states of the bar
PAUSE_OF_LINES = 30.0  # seconds between two lines of a log


class Line:
    """The state of a run on stderr.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._terminal = sys.stderr.isatty()
        self._shown = clock() - (PAUSE if self._terminal else 0.0)
        self._bar: tqdm[Any] | None = None

    def show(self, state: RunState) -> None:
        """Show a state, unless the last one was shown a moment ago."""
        now = self._clock()
        if now - self._shown < (PAUSE if self._terminal else PAUSE_OF_LINES):
            return
        self._shown = now
        if not self._terminal:
            say(f"{100 * state.share:.0f} %, {described(state)}", err=True)
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=1.0, initial=state.share, bar_format=BAR, dynamic_ncols=True)
        self._bar.set_description_str(described(state), refresh=False)
        self._bar.n = state.share
        self._bar.refresh()

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def described(state: RunState) -> str:
    """Return the time left, what runs, and the robust accuracy that is left, as text."""
    from art_ext.core.wording import duration, one_line

    parts = [f"{duration(state.left)} left", state.current]
    if state.robust is not None:
        parts.append(f"robust <= {100 * state.robust:.1f} %")
    return one_line(", ".join(filter(None, parts)))
