"""Distribution of the chunks of a run over the workers of an engine."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from queue import SimpleQueue

from art_ext.core.checks import listed
from art_ext.core.wording import counted
from art_ext.errors import UserCodeError, describe
from art_ext.evaluation.execution.engines import Started, Workers
from art_ext.evaluation.execution.job import Ended, Watcher
from art_ext.evaluation.execution.services import WorkersStopped
from art_ext.models.remote import Usage

logger = logging.getLogger("art_ext")
Task = Callable[[Sequence[int]], Sequence[Ended]]
LONGEST = 400  # letters of an error in a message
MOST_ERRORS = 3  # in a message
RETRIES = 2  # further attempts for a chunk that failed, or whose worker died


@dataclass(eq=False)
class Distribution:
    """Chunks of a run on the workers of an engine.

    A chunk that fails is tried again, but not after an error that another attempt would end with
    too, such as a ValueError. The other chunks go on. A model that gives no further answers ends
    the run: tasks that wait are cancelled, and those that run are awaited, because their requests
    are paid for.

    Attributes:
        workers: the order for workers.
        started: the workers.
        task: function of chunk numbers that does the chunks. It must pickle.
        names: name of each chunk in messages.
        complete: function of a chunk's number. True if the run folder holds all of it.
        watcher: observer of the progress.
        succeeded: function that is called with the number of each chunk that is done, and by model
            the robust accuracy so far.
    """

    workers: Workers
    started: Started
    task: Task
    names: Mapping[int, str]
    complete: Callable[[int], bool]
    watcher: Watcher
    succeeded: Callable[[int, Mapping[str, float]], None] = lambda number, robust: None

    def run(self) -> None:
        """Do the chunks.

        Raises:
            ValueError: for chunks that have failed. All others are done then, unless all failed.
            WorkersStopped: if the model of a worker gives no further answers.
        """
        self._running: dict[Future[Sequence[Ended]], tuple[int, ...]] = {}
        self._ended: SimpleQueue[Future[Sequence[Ended]]] = SimpleQueue()
        self._attempts: Counter[int] = Counter()
        self._failed: dict[int, Ended] = {}
        self._done = 0
        self._samples: Counter[str] = Counter()
        self._robust: Counter[str] = Counter()
        self._usage: dict[tuple[str, int], Usage] = {}  # of each worker, by host and process
        self._stop: str | None = None
        for numbers in self._groups():
            self._start(numbers)
        while self._running:
            self._settle(self._ended.get())
            if not self._done and len(self._failed) >= 2 * self.workers.number:
                break  # whatever fails everywhere is not tried on thousands of chunks
        if self._stop is not None:
            raise WorkersStopped(self._stop, sum(self._usage.values(), Usage()))
        if self._failed:
            self._report()

    def _groups(self) -> list[tuple[int, ...]]:
        """Return the chunks of each task."""
        numbers = list(self.names)
        most = self.started.most_tasks or len(numbers)
        size = -(-len(numbers) // most) if numbers else 1
        return [tuple(numbers[place : place + size]) for place in range(0, len(numbers), size)]

    def _start(self, numbers: tuple[int, ...]) -> None:
        future = self.started.executor.submit(self.task, numbers)
        self._running[future] = numbers
        future.add_done_callback(self._ended.put)

    def _settle(self, future: Future[Sequence[Ended]]) -> None:
        """Take in the result of a task."""
        numbers = self._running.pop(future)
        try:
            found = future.result()
        except (Exception, CancelledError) as error:
            if self._stop is None:
                self._lost(numbers, error)
            return
        for ended in found:
            self._usage[ended.host, ended.process] = ended.usage
            if ended.error is None:
                self._succeed(ended)
            elif ended.stopped:
                self._cancel_rest(ended.error)
            else:
                self._fail(ended)

    def _cancel_rest(self, stop: str) -> None:
        """Begin no further task, because a model has stopped."""
        if self._stop is None:
            self._stop = stop
            for future in self._running:
                future.cancel()

    def _succeed(self, ended: Ended) -> None:
        self._done += 1
        for model, (samples, robust) in ended.robust.items():
            self._samples[model] += samples
            self._robust[model] += robust
        shares = {model: self._robust[model] / count for model, count in self._samples.items()}
        self.watcher.chunks(self._done, len(self.names), shares)
        self.succeeded(ended.number, shares)

    def _lost(self, numbers: tuple[int, ...], error: BaseException) -> None:
        """Count a failed attempt of the chunk whose worker died. The later ones are free of it."""
        left = [number for number in numbers if not self.complete(number)]
        for number in numbers:
            if number not in left:
                self._succeed(Ended(number, "", {}))
        for number in left[1:]:
            self._start((number,))
        for number in left[:1]:
            reason = describe(error)[:LONGEST]
            text = f"its worker died, killed or out of memory ({reason})"
            logger.warning("%s: %s", self.names[number], text)
            self._fail(Ended(number, "", {}, text))

    def _fail(self, ended: Ended) -> None:
        """Count a failed attempt, and give the chunk up after the last one."""
        number = ended.number
        self._attempts[number] += 1
        if not ended.final and self._attempts[number] <= RETRIES and self._stop is None:
            self._start((number,))
            return
        self._failed[number] = ended

    def _report(self) -> None:
        """Raise ValueError that names the chunks that failed, with host and error."""
        chunks: dict[tuple[str, str, int], list[int]] = {}
        for number, ended in sorted(self._failed.items()):
            key = (ended.host, str(ended.error)[:LONGEST], self._attempts[number])
            chunks.setdefault(key, []).append(number)
        phrases = []
        for (host, error, attempts), numbers in list(chunks.items())[:MOST_ERRORS]:
            names = listed([self.names[number] for number in numbers])
            place = f" on {host}" if host else ""
            times = f" {attempts} times" if attempts > 1 else ""
            phrases.append(f"{names} failed{times}{place}: {error}")
        if len(chunks) > MOST_ERRORS:
            phrases.append(f"and {counted(len(chunks) - MOST_ERRORS, 'other error')}")
        rest = "All others are" if self._done else "No chunk succeeded. What is finished is"
        first = next(iter(self._failed.values()))
        message = f"{'; '.join(phrases)}. {rest} kept: run the same command again"
        raise ValueError(message) from UserCodeError(first.trace)
