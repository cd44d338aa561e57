"""Executors of an evaluation: processes of this machine, or any other workers.

An executor has the form of ``concurrent.futures.Executor``. A worker gets the number of a chunk and
the names from which it builds models and data. It never gets a model. It writes the units of the
chunk into the run folder. Only the driver, the process that called ``evaluate``, starts and
finishes a run.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass
from multiprocessing import connection

import torch

from art_ext.core.checks import check_count, listed
from art_ext.errors import describe
from art_ext.evaluation.execution.job import Rebuild, Watcher

logger = logging.getLogger("art_ext")
# errors of arguments, of the user's code and of the disk: another attempt would end with them too
_FINAL = (ValueError, TypeError, ImportError, OSError)


def processes(number: int) -> Executor:
    """Return an executor of so many processes of this machine, which share this one's threads."""
    return ProcessPoolExecutor(
        number,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(max(1, torch.get_num_threads() // number),),
    )


@dataclass(frozen=True)
class Workers:
    """Workers that share the chunks of a run.

    Attributes:
        rebuild: function without arguments by which a worker builds models and data, a mapping of
            names to models and a ``Dataset``. It must be a function of a module, or a ``partial``
            of one.
        number: most chunks at a time.
        retries: further attempts for a chunk whose worker died.
        make_executor: function from the number to an executor in the form of
            ``concurrent.futures.Executor``. Default: processes of this machine.
    """

    rebuild: Rebuild
    number: int = 1
    retries: int = 2
    make_executor: Callable[[int], Executor] = processes

    def __post_init__(self) -> None:
        check_count("workers", self.number)
        check_count("retries", self.retries, least=0)


def _start_worker(threads: int) -> None:
    """Set up a worker process: its threads, and its end together with the driver."""
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the driver too, which reports it
    driver = multiprocessing.parent_process()
    if driver is not None:
        threading.Thread(target=_end_with, args=(driver.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """End this process when the driver ends. A killed driver cannot tell its workers."""
    connection.wait([sentinel])
    os._exit(1)


@dataclass(eq=False)
class Distribution:
    """Chunks of a run on the workers of an executor.

    A chunk whose worker dies is tried again. If several chunks were running, they are tried one at
    a time, so that the failure is charged to the right one.

    Attributes:
        workers: to use. If their executor breaks, another one is made.
        task: function of a chunk's number that does the chunk. It must pickle.
        names: name of each chunk in messages.
        watcher: observer of the progress.
    """

    workers: Workers
    task: Callable[[int], None]
    names: Mapping[int, str]
    watcher: Watcher

    def run(self) -> None:
        """Do the chunks.

        Raises:
            ValueError: as ``Work.do``, or for chunks that failed in every attempt. All others are
                done then.
        """
        self._pending = deque(self.names)
        self._suspects: deque[int] = deque()
        self._failures: Counter[int] = Counter()
        self._lost: dict[int, BaseException] = {}
        self._running: dict[Future[None], int] = {}
        self._executor = self.workers.make_executor(self.workers.number)
        finished = 0
        try:
            while self._submit():
                ended = wait(self._running, return_when=FIRST_COMPLETED).done
                for future in sorted(ended, key=self._running.__getitem__):
                    if self._settle(future):
                        finished += 1
                        self.watcher.chunks(finished, len(self.names))
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)
        if self._lost:
            self._report()

    def _submit(self) -> bool:
        """Submit chunks as far as there is room. Return True if any is running."""
        while self._pending and not self._suspects and len(self._running) < self.workers.number:
            self._start(self._pending.popleft())
        if self._suspects and not self._running:
            self._start(self._suspects.popleft())
        return bool(self._running)

    def _start(self, number: int) -> None:
        future = self._executor.submit(self.task, number)
        self._running[future] = number

    def _settle(self, future: Future[None]) -> bool:
        """Take a chunk off the running ones. Return True if it has succeeded."""
        if future not in self._running:  # lost with a broken executor
            return False
        number = self._running.pop(future)
        error = future.exception()
        if error is None:
            return True
        if isinstance(error, _FINAL):
            raise error.with_traceback(None) from error.__cause__
        if not isinstance(error, BrokenExecutor):
            self._fail(number, error)
            return False
        lost = [number]
        for other in [one for one in self._running if one.exception() is not None]:
            lost.append(self._running.pop(other))
        names = listed([self.names[one] for one in sorted(lost)])
        logger.warning("a worker died, killed or out of memory, while %s ran: trying again", names)
        self._executor.shutdown(wait=False)
        self._executor = self.workers.make_executor(self.workers.number)
        if len(lost) == 1:
            self._fail(number, error)
        else:
            self._suspects.extend(sorted(lost))
        return False

    def _fail(self, number: int, error: BaseException) -> None:
        """Count a failed attempt, and give the chunk up after the last one."""
        self._failures[number] += 1
        if self._failures[number] > self.workers.retries:
            self._lost[number] = error
        else:
            self._suspects.append(number)

    def _report(self) -> None:
        """Raise ValueError that names the chunks that were given up."""
        names = [self.names[number] for number in sorted(self._lost)]
        number, error = next(iter(self._lost.items()))
        died = isinstance(error, BrokenExecutor)
        reason = "its worker died, killed or out of memory" if died else describe(error)
        raise ValueError(
            f"{listed(names)} failed {self._failures[number]} times"
            f" ({reason}). All others are kept: run the same command again"
        ) from error
