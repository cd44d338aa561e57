"""Values of an evaluation for trackers: robust accuracy so far, and the final table."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from art_ext.evaluation.analysis.blocks import Key, collect
from art_ext.evaluation.analysis.table import failed_counts
from art_ext.evaluation.analysis.verdict import table
from art_ext.storage.evaluation import (
    CARD,
    CURVES,
    DETECTION_PLOTS,
    PLOTS,
    REPORT,
    TABLES,
    WARNINGS,
    RunFolder,
)
from art_ext.tracking import Trackers, key

if TYPE_CHECKING:
    from art_ext.evaluation.execution.finish import Outcome

logger = logging.getLogger("art_ext")


class TrackedRun:
    """Passes the results of an evaluation, which it reads from the run folder, to trackers.

    Args:
        trackers: of the run.
        folder: of the run.
        driver: True if this process logs the progress. The final values are logged by the process
            that completes the run.
    """

    def __init__(self, trackers: Trackers, folder: RunFolder, driver: bool) -> None:
        self._trackers = trackers
        self._folder = folder
        self._follows = driver and bool(trackers)
        self._ended: set[int] = set()
        self._samples = 0
        self._robust: Counter[Key] = Counter()

    def begin(self, complete: Sequence[int] = ()) -> None:
        """Start the trackers, once the folder is that of the run.

        Args:
            complete: numbers of the chunks that this process will not do.

        Raises:
            ValueError: if one does not start.
        """
        self._follows = self._follows and not self._trackers.concluded
        if self._follows:
            self._trackers.start(self._facts())
        for number in complete:
            self.chunk(number)

    def chunk(self, number: int) -> None:
        """Log the robust accuracy of each attack so far, after the end of a chunk."""
        if not self._follows or number in self._ended:
            return
        import pandas as pd

        self._ended.add(number)
        tables = self._folder.files.tables(number)
        rows = pd.concat([tables[place].to_pandas() for place in sorted(tables)])
        start, end = self._folder.chunks[number]
        for place, failed in failed_counts(collect([rows]), self._folder.run):
            self._robust[place] += end - start - failed
        self._samples += end - start
        values = {
            key(*place, "robust_accuracy"): count / self._samples
            for place, count in self._robust.items()
        }
        self._trackers.log(values, self._samples)

    def finish(self, outcome: Outcome) -> None:
        """Log the table and the warnings of a complete run, with report and tables."""
        if outcome.missing or not self._trackers or self._trackers.concluded:
            return
        try:
            self._trackers.start(self._facts())
        except ValueError as error:  # the run is complete
            logger.warning("%s", error)
            return
        values: dict[str, float | str] = {
            key("final", row["model"], row["attack"], row["eps"], name): value
            for row in table(outcome.rows, outcome.verdicts)
            for name, value in row.items()
            if isinstance(value, (int, float)) and name != "eps"
        }
        values["warnings"] = "\n".join(one.line for one in outcome.warnings) or "none"
        files: Sequence[str] = (REPORT, *TABLES, WARNINGS, CURVES, CARD, *PLOTS, *DETECTION_PLOTS)
        self._trackers.conclude(values, files, self._folder.run["plan"]["samples"])

    def _facts(self) -> dict[str, Any]:
        state = ("tool", "format", "state")
        return {name: one for name, one in self._folder.run.items() if name not in state}
