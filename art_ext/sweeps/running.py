"""Cells of a sweep, run one after the other in this process, or on the workers of an engine."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from art_ext.errors import describe
from art_ext.evaluation.execution.engines import Workers, started

RETRIES = 2  # further attempts for a cell whose worker died: it goes on from its checkpoint
Run = Callable[[Mapping[str, Any], Path], None]


@dataclass(frozen=True)
class Ended:
    """The end of a cell.

    Attributes:
        seconds: that it took. 0 if its worker died.
        error: message in one line, None without an error.
    """

    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class CellTask:
    """Function without arguments that runs a cell, for any process.

    Attributes:
        run: function of a module that runs the command with values in a folder.
        values: of the options.
        folder: of the run.
        threads: of PyTorch. None: as the process has them.
        home: folder in which relative paths begin.
    """

    run: Run
    values: Mapping[str, Any]
    folder: Path
    threads: int | None = None
    home: str = field(default_factory=os.getcwd)

    def __call__(self) -> Ended:
        """Run the cell. An error is returned, so that the other cells go on."""
        os.chdir(self.home)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        began = time.perf_counter()
        try:
            self.run(self.values, self.folder)
        except Exception as error:  # of the user's code and of the disk too
            return Ended(time.perf_counter() - began, describe(error))
        return Ended(time.perf_counter() - began)


def run_cells(
    tasks: Sequence[CellTask],
    workers: Workers | None,
    folder: Path,
    told: Callable[[int, Ended], None],
) -> None:
    """Run cells.

    Args:
        tasks: the cells.
        workers: that share them. None: this process runs one after the other.
        folder: of the sweep.
        told: function that is called with the number of each cell that has ended.
    """
    if workers is None:
        for number, task in enumerate(tasks):
            told(number, task())
        return
    with started(workers, folder) as begun:
        running: dict[Future[Ended], int] = {}
        ended: SimpleQueue[Future[Ended]] = SimpleQueue()
        attempts: Counter[int] = Counter()

        def start(number: int) -> None:
            future = begun.executor.submit(replace(tasks[number], threads=begun.threads))
            running[future] = number
            future.add_done_callback(ended.put)

        for number in range(len(tasks)):
            start(number)
        while running:
            future = ended.get()
            number = running.pop(future)
            try:
                found = future.result()
            except (Exception, CancelledError) as error:
                attempts[number] += 1
                if attempts[number] <= RETRIES:
                    start(number)
                    continue
                text = f"its worker died, killed or out of memory ({describe(error)})"
                found = Ended(0.0, text)
            told(number, found)
