"""Engines: workers that do the chunks of a run, in this machine or in a cluster.

An engine is a module with a function ``start``, which returns an executor in the form of
``concurrent.futures.Executor``. A task of the executor is a few chunks, given by their numbers and
the names from which a worker builds models and data. It never carries a model.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from art_ext.core.checks import check_choice, check_count, check_not_negative

LOCAL = "local"  # this process does the work
ENGINES = (LOCAL, "processes", "ray", "slurm", "dask")
TASKS_PER_WORKER = 8  # at least, if the size of a chunk is left open


@dataclass(frozen=True)
class Workers:
    """Workers that share the chunks of a run.

    Attributes:
        engine: ``"processes"``, ``"ray"``, ``"slurm"`` or ``"dask"``.
        number: most tasks at a time.
        gpus: of each worker. A fraction such as 0.5 puts two workers on one GPU.
        threads: of PyTorch in each worker. None: cores / workers.
        arguments: of the engine, such as the address of a cluster.
    """

    engine: str
    number: int
    gpus: float = 0
    threads: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES[1:])
        check_count("workers", self.number)
        check_not_negative("gpus_per_worker", self.gpus)
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(
                f"gpus_per_worker must be a fraction of one GPU or an integer, got {self.gpus}"
            )
        if self.threads is not None:
            check_count("threads_per_worker", self.threads)

    def threads_of(self, cores: float | None = None) -> int:
        """Return the threads of a worker.

        Args:
            cores: that the workers share. None: the threads of this process.
        """
        if self.threads is not None:
            return self.threads
        return max(1, int((cores or torch.get_num_threads()) // self.number))

    def check_arguments(self, known: tuple[str, ...]) -> None:
        """Raise ValueError for an argument that the engine does not take."""
        for name in self.arguments:
            check_choice("engine_args", name, known)

    def check_device(self, device: str | None) -> None:
        """Raise ValueError for a GPU that the workers do not see.

        A worker sees its own GPUs only, and numbers them from 0.
        """
        kind, _, number = (device or "").partition(":")
        seen = max(1, int(self.gpus))
        if self.gpus and kind == "cuda" and number.isdigit() and int(number) >= seen:
            raise ValueError(
                f"device must be cuda with gpus_per_worker {self.gpus:g}, because a worker sees"
                f" its own GPUs only, got {device!r}"
            )

    def gpu_names(self) -> list[str | None]:
        """Return the visible GPUs of each worker of this machine, None without GPUs.

        Raises:
            ValueError: if this machine has fewer GPUs.
        """
        if not self.gpus:
            return [None] * self.number
        listed = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        names = listed.split(",")[:count] if listed else [str(one) for one in range(count)]
        whole = max(1, int(self.gpus))
        sharing = 1 if self.gpus >= 1 else int(1 / self.gpus + 1e-9)
        needed = whole * -(-self.number // sharing)
        if needed > len(names):
            raise ValueError(
                f"gpus_per_worker {self.gpus:g} for {self.number} workers needs {needed} GPUs, but"
                f" this machine has {len(names) or 'none'}"
            )
        places = [number // sharing * whole for number in range(self.number)]
        return [",".join(names[place : place + whole]) for place in places]


def workers_of(
    engine: str | None,
    number: int | None,
    gpus: float,
    threads: int | None,
    arguments: Mapping[str, Any],
) -> Workers | None:
    """Return the workers that the arguments of ``evaluate`` name. None: this process.

    Raises:
        ValueError: for an unknown engine, or arguments of workers with the engine ``local``.
    """
    name = engine or (LOCAL if number is None else "processes")
    check_choice("engine", name, ENGINES)
    if name != LOCAL:
        count = (os.cpu_count() or 1) if number is None else number
        return Workers(name, count, gpus, threads, arguments)
    given = {
        "workers": number,
        "gpus_per_worker": gpus or None,
        "threads_per_worker": threads,
        "engine_args": arguments or None,
    }
    for option, value in given.items():
        if value is not None:
            raise ValueError(
                f"{option} belongs to an engine with workers (processes, ray, slurm, dask), got"
                f" {option} {value} with engine local"
            )
    return None


@dataclass(frozen=True, eq=False)
class Started:
    """Workers that are there.

    Attributes:
        executor: that runs tasks on them.
        threads: of PyTorch in each.
        most_tasks: most tasks for all chunks, where each task costs a start. None: one a chunk.
    """

    executor: Executor
    threads: int
    most_tasks: int | None = None


@contextmanager
def started(workers: Workers, folder: Path) -> Iterator[Started]:
    """Start the workers, and end them.

    Args:
        workers: to start.
        folder: of the run, which may not exist yet.

    Raises:
        ValueError: for an argument that the engine does not take, GPUs that are not there, or a
            cluster that does not answer.
        ImportError: without the library of the engine.
    """
    engine = importlib.import_module(f"{__name__}.{workers.engine}")
    begun: Started = engine.start(workers, folder)
    try:
        yield begun
    finally:
        begun.executor.shutdown(wait=False, cancel_futures=True)


def device_of_driver(device: str | None, engine: str | None) -> str | None:
    """Return the device on which the driver builds models.

    The driver of workers may run on a machine without GPUs.

    Args:
        device: of the run.
        engine: as of ``evaluate``.
    """
    absent = device is not None and device.startswith("cuda") and not torch.cuda.is_available()
    return None if absent and engine not in (None, LOCAL) else device


def missing_library(engine: str, package: str) -> ImportError:
    """Return the error for an engine whose library is not installed."""
    return ImportError(f"engine {engine!r} needs {package}: pip install 'art-ext[{engine}]'")
