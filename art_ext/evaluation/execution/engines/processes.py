"""The engine ``processes``: processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing import connection
from pathlib import Path
from typing import Any

from art_ext.evaluation.execution.engines import Started, Workers
from art_ext.evaluation.execution.engines.slots import Slots, Task


def start(workers: Workers, folder: Path) -> Started:
    """Return an executor of processes. Each starts with its first task."""
    workers.check_arguments(())
    slots = Slots([_Process(gpus) for gpus in workers.gpu_names()])
    return Started(slots, workers.threads_of())


class _Process:
    """One process.

    Args:
        gpus: that it sees. None: all.
    """

    def __init__(self, gpus: str | None) -> None:
        self.gpus = gpus
        self._pool: ProcessPoolExecutor | None = None
        self._line: connection.Connection | None = None

    def submit(self, task: Task, /, *arguments: Any) -> Future[Any]:
        """Start a task in the process, or in another one if it has died."""
        if self._pool is not None:
            try:
                return self._pool.submit(task, *arguments)
            except BrokenExecutor:
                self.end()
        context = multiprocessing.get_context("spawn")
        here, self._line = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            1, mp_context=context, initializer=_begin, initargs=(self.gpus, here)
        )
        return self._pool.submit(task, *arguments)

    def end(self) -> None:
        """End the process at once."""
        if self._line is not None:
            self._line.close()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _begin(gpus: str | None, line: connection.Connection) -> None:
    """Set up a process: its GPUs, and its end together with the driver or by a closed pipe."""
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver too, which ends us
    driver = multiprocessing.parent_process()
    watched: list[Any] = [line] if driver is None else [line, driver.sentinel]
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(watched: list[Any]) -> None:
    """End this process when the driver ends. A killed driver cannot tell its workers."""
    connection.wait(watched)
    os._exit(1)
