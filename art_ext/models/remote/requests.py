"""Requests to a service: side by side, with retries, a timeout, and a rate."""

from __future__ import annotations

import email.utils
import heapq
import http.client
import itertools
import math
import os
import queue
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from art_ext.core.interruption import ModelStopped
from art_ext.errors import typed

RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
RETRIED_TYPES = (ConnectionError, TimeoutError, socket.gaierror, http.client.HTTPException)
# of the libraries requests, httpx, aiohttp and of clients built on them, whose errors derive from
# no common class
RETRIED_NAMES = frozenset(
    {
        "APIConnectionError",
        "ChunkedEncodingError",
        "ClientConnectionError",
        "ConnectionError",
        "Timeout",
        "TransportError",
    }
)
SMALLEST_SHARE = 10  # requests that a second of the rate is split into, at the least
LONGEST_WAIT = 3600.0  # seconds, for a clock that overflows

RetryRule = Callable[[BaseException], bool]


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception carries, or None."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None


def is_transient(error: BaseException) -> bool:
    """Return True for connection errors, timeouts, and statuses that allow another try."""
    status = status_of(error)
    if status is not None:
        return status in RETRIED_STATUS
    if isinstance(error, RETRIED_TYPES):
        return True
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException) and isinstance(reason, RETRIED_TYPES):
        return True
    return any(kind.__name__ in RETRIED_NAMES for kind in type(error).__mro__)


def retry_after(error: BaseException) -> float:
    """Return the seconds that the header ``Retry-After`` of an exception states, else 0."""
    for holder in (error, getattr(error, "response", None)):
        headers = getattr(holder, "headers", None)
        if headers is None or not hasattr(headers, "get"):
            continue
        value = headers.get("Retry-After")
        if value is None:
            continue
        try:
            return max(0.0, float(value))
        except ValueError:
            parsed = email.utils.parsedate_tz(str(value))
            if parsed is not None:
                return max(0.0, email.utils.mktime_tz(parsed) - time.time())
    return 0.0


@dataclass(frozen=True)
class Policy:
    """Retries of a failed request, with exponential backoff and full jitter.

    Attributes:
        retries: further tries after the first one.
        backoff: (first, largest): the delay before try n is uniform up to ``first * 2^(n-1)``, at
            most the largest.
        timeout: seconds after which a request counts as failed.
        retry_on: True for an exception that is tried again.
        concurrency: most requests side by side.
    """

    retries: int
    backoff: tuple[float, float]
    timeout: float
    retry_on: RetryRule
    concurrency: int

    def delay(self, attempt: int, draw: random.Random) -> float:
        """Return the seconds to wait after so many failed tries."""
        first, largest = self.backoff
        return draw.uniform(0, min(largest, first * 2 ** min(attempt - 1, 60)))


class Pace:
    """The times at which requests may begin: ``rate`` rows per second, evenly.

    Args:
        rate: rows per second. None for no limit.

    Attributes:
        ready: time of the monotonic clock at which the next request may begin.
    """

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self.ready = -math.inf

    def take(self, now: float, rows: int) -> None:
        """Note a request of so many rows."""
        if self.rate is not None:
            self.ready = max(now, self.ready) + rows / self.rate

    def pause(self, until: float) -> None:
        """Begin no request before a time."""
        self.ready = max(self.ready, until)

    def largest(self, rows: int) -> int:
        """Return the most rows of a request. Large ones would exceed the rate for a moment."""
        return rows if self.rate is None else max(1, min(rows, int(self.rate / SMALLEST_SHARE)))


class Workers:
    """Threads that make the requests. A thread whose request hangs is replaced."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def submit(self, task: Callable[[], None]) -> None:
        """Run a task in an idle thread, or in a new one."""
        if self._process != os.getpid():
            self._begin()  # a forked process has no threads
        with self._lock:
            new = self._idle == 0
            self._idle -= not new
        self._tasks.put(task)
        if new:
            threading.Thread(target=self._work, name="art-ext-request", daemon=True).start()

    def _work(self) -> None:
        while True:
            self._tasks.get()()
            with self._lock:
                self._idle += 1


@dataclass(frozen=True)
class Flight:
    """A request on its way.

    Attributes:
        number: of the group of rows.
        attempt: number of the try, from 1.
        deadline: time of the monotonic clock after which it counts as failed.
    """

    number: int
    attempt: int
    deadline: float


class Round:
    """The requests of one model call. Only the calling thread touches it.

    Args:
        policy, pace, workers: of the service.
        groups: positions of the rows of each request.
        call: sends the rows of a group, in a worker.
        reserve: takes so many rows from the budget, or raises ``ModelStopped``.
        accept: checks and logs the answer for a group, or raises ``ModelStopped``.
    """

    def __init__(
        self,
        policy: Policy,
        pace: Pace,
        workers: Workers,
        groups: Sequence[Sequence[int]],
        *,
        call: Callable[[Sequence[int]], Any],
        reserve: Callable[[int], None],
        accept: Callable[[Sequence[int], Any], None],
    ) -> None:
        self.policy = policy
        self.pace = pace
        self.workers = workers
        self.groups = groups
        self.call = call
        self.reserve = reserve
        self.accept = accept
        self.open = set(range(len(groups)))
        self.waiting = [(-math.inf, number, 1) for number in range(len(groups))]
        self.flying: dict[int, Flight] = {}
        self.late: dict[int, Flight] = {}
        self.stop: ModelStopped | None = None
        self._tokens = itertools.count()
        self._answers: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._draw = random.Random()  # noqa: S311  # a stream of its own, for delays

    def run(self) -> None:
        """Send all groups.

        Requests that are on their way when the model stops are awaited, because they are paid for.

        Raises:
            ModelStopped: if the budget is spent, or the service fails for good.
        """
        while self.open and (self.flying or self.stop is None):
            self._send()
            if self.open and (self.flying or self.stop is None):
                self._receive()
        if self.stop is not None:
            raise self.stop

    def _send(self) -> None:
        """Begin the requests that may begin now."""
        while self._next() <= time.monotonic():
            _, number, attempt = heapq.heappop(self.waiting)
            if number not in self.open:
                continue  # its answer came late
            group = self.groups[number]
            try:
                self.reserve(len(group))
            except ModelStopped as stop:
                self.stop = stop
                return
            now = time.monotonic()
            self.pace.take(now, len(group))
            token = next(self._tokens)
            self.flying[token] = Flight(number, attempt, now + self.policy.timeout)
            self.workers.submit(lambda token=token, group=group: self._work(token, group))  # type: ignore[misc]  # mypy infers no type of a lambda with defaults

    def _next(self) -> float:
        """Return the time at which the next request may begin."""
        full = len(self.flying) >= self.policy.concurrency
        if full or self.stop is not None or not self.waiting:
            return math.inf
        return max(self.waiting[0][0], self.pace.ready)

    def _work(self, token: int, group: Sequence[int]) -> None:
        try:
            answer = self.call(group)
        except BaseException as error:  # the caller decides
            self._answers.put((token, None, error))
        else:
            self._answers.put((token, answer, None))

    def _receive(self) -> None:
        """Wait for an answer, a deadline, or the time of the next request."""
        deadlines = [flight.deadline for flight in self.flying.values()]
        until = min([self._next(), *deadlines])
        try:
            seconds = min(max(0.0, until - time.monotonic()), LONGEST_WAIT)
            token, answer, error = self._answers.get(timeout=seconds)
        except queue.Empty:
            self._expire(time.monotonic())
            return
        in_time = token in self.flying
        flight = self.flying.pop(token) if in_time else self.late.pop(token)
        if flight.number not in self.open:
            return
        if error is None:
            try:
                self.accept(self.groups[flight.number], answer)
            except ModelStopped as stop:
                self.stop = self.stop or stop
            self.open.discard(flight.number)
        elif in_time:
            self._failed(flight, error)

    def _expire(self, now: float) -> None:
        for token, flight in list(self.flying.items()):
            if flight.deadline <= now:
                self.late[token] = self.flying.pop(token)
                error = TimeoutError(f"no answer within {self.policy.timeout:g} s")
                self._failed(flight, error)

    def _failed(self, flight: Flight, error: BaseException) -> None:
        """Try again, or stop."""
        tries = f"after {flight.attempt} tries" if flight.attempt > 1 else "at once"
        if flight.attempt > self.policy.retries or not self.policy.retry_on(error):
            if self.stop is None:
                self.stop = ModelStopped(f"the service fails {tries}: {typed(error)}")
                self.stop.__cause__ = error
            return
        now = time.monotonic()
        wanted = retry_after(error)
        if wanted:
            self.pace.pause(now + wanted)
        delay = max(self.policy.delay(flight.attempt, self._draw), wanted)
        heapq.heappush(self.waiting, (now + delay, flight.number, flight.attempt + 1))
