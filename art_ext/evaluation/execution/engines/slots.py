"""An executor over workers that take one task at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Executor, Future
from functools import partial
from typing import Any, Protocol

Task = Callable[..., Any]


class Slot(Protocol):
    """One worker. If it dies, the next task gets another one in its place."""

    def submit(self, task: Task, /, *arguments: Any) -> Future[Any]:
        """Start a task. The worker has none."""

    def end(self) -> None:
        """End the worker at once, with the task that it runs."""


class Slots(Executor):
    """Executor that gives each free worker the next task, in the order of ``submit``.

    Args:
        slots: free workers. ``add`` adds others.
        close: called after the workers have ended.
    """

    def __init__(self, slots: Iterable[Slot] = (), close: Callable[[], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._all = list(slots)
        self._free = deque(self._all)
        self._waiting: deque[tuple[Future[Any], Task, tuple[Any, ...]]] = deque()
        self._close = close
        self._ended = False

    def add(self, slot: Slot) -> None:
        """Add a free worker."""
        with self._lock:
            self._all.append(slot)
            self._free.append(slot)
        self._start()

    def submit(self, task: Task, /, *arguments: Any, **_: Any) -> Future[Any]:
        """Start a task as soon as a worker is free."""
        future: Future[Any] = Future()
        with self._lock:
            if self._ended:
                raise RuntimeError("the workers have ended")
            self._waiting.append((future, task, arguments))
        self._start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers at once, with the tasks that they run."""
        with self._lock:
            self._ended = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for future, _, _ in waiting:
            future.cancel()
        for slot in self._all:
            slot.end()
        if self._close is not None:
            self._close()

    def _start(self) -> None:
        """Start waiting tasks on free workers."""
        while True:
            with self._lock:
                if self._ended or not (self._free and self._waiting):
                    return
                slot = self._free.popleft()
                future, task, arguments = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                self._give_back(slot)
                continue
            try:
                running = slot.submit(task, *arguments)
            except Exception as error:  # of a library: the task is charged, and may be tried again
                future.set_exception(error)
                self._give_back(slot)
                continue
            running.add_done_callback(partial(self._settle, slot, future))

    def _settle(self, slot: Slot, future: Future[Any], ended: Future[Any]) -> None:
        """Hand a result on, and free its worker."""
        self._give_back(slot)
        try:
            future.set_result(ended.result())
        except (Exception, CancelledError) as error:
            future.set_exception(error)
        self._start()

    def _give_back(self, slot: Slot) -> None:
        with self._lock:
            self._free.append(slot)
