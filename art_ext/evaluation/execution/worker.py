"""Work of a worker: it builds models and data by their names once, and does chunks of the run."""

from __future__ import annotations

import os
import pickle
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from art_ext.errors import UserCodeError, describe
from art_ext.evaluation.execution.job import Blueprint, Job, Watcher, identity_of_job
from art_ext.evaluation.execution.work import Work
from art_ext.storage.evaluation import open_run

# errors of arguments, of the user's code and of the disk: another attempt would end with them too
_FINAL = (ValueError, TypeError, ImportError, OSError)


@dataclass(frozen=True)
class Ended:
    """The end of a chunk in a worker.

    Attributes:
        number: of the chunk.
        host: of the worker. Empty if the worker died.
        seconds: that it took.
        robust: by model, the number of its samples, and of those without a success within the
            largest eps.
        error: message, None without an error.
        final: True if another attempt would end with the same error.
        trace: traceback of the error.
    """

    number: int
    host: str
    seconds: float
    robust: Mapping[str, tuple[int, int]]
    error: str | None = None
    final: bool = False
    trace: str = ""


@dataclass(frozen=True)
class ChunkTask:
    """Function of chunk numbers that does these chunks, for workers. It pickles without a model.

    Attributes:
        blueprint: pickled, so that a worker reports an error of loading as any other.
        key: of the blueprint.
        folder: of the run, begun.
        threads: of PyTorch.
        home: folder in which relative paths begin.
    """

    blueprint: bytes
    key: str
    folder: str
    threads: int
    home: str = field(default_factory=os.getcwd)

    def __call__(self, numbers: Sequence[int]) -> list[Ended]:
        """Do the chunks. Errors are returned, so that other chunks of the task go on."""
        host = socket.gethostname()
        torch.set_num_threads(self.threads)
        ends = []
        for number in numbers:
            begun = time.perf_counter()
            try:
                robust = self._work().do(number)
            except Exception as error:
                final = isinstance(_cause(error), _FINAL)
                text = describe(error)
                trace = "".join(traceback.format_exception(error))
                ends.append(Ended(number, host, 0.0, {}, text, final, trace))
            else:
                ends.append(Ended(number, host, time.perf_counter() - begun, robust))
        return ends

    def _work(self) -> Work:
        """Return the work on the run. A worker builds it once.

        Raises:
            ValueError: if this worker builds other models or data than the run has.
        """
        if self.key not in _built:
            _built.clear()
            with suppress(OSError):  # a machine without this folder may have all files elsewhere
                os.chdir(self.home)
            blueprint: Blueprint = pickle.loads(self.blueprint)  # noqa: S301 of the driver
            job = blueprint.job()
            run = open_run(self.folder)
            _check_built(job, run.run["identity"])
            _built[self.key] = Work(job, run, Watcher(), 0)
        return _built[self.key]


_built: dict[str, Work] = {}  # of this worker: the work of the newest run, by its key


def _cause(error: Exception) -> BaseException:
    """Return the original exception of an error of the user's code."""
    return error.__cause__ or error if isinstance(error, UserCodeError) else error


def _check_built(job: Job, identity: Mapping[str, Any]) -> None:
    """Raise ValueError unless a worker has built the models and the data of the run.

    Args:
        job: that the worker has built.
        identity: of the run, from ``run.json``.
    """
    built = identity_of_job(job)
    models = built["models"]
    if list(models) != list(identity["models"]):
        raise ValueError(
            f"worker on {socket.gethostname()} built the models {', '.join(models)}, but the run"
            f" has {', '.join(identity['models'])}: the same source must build the same"
        )
    different = [f"model {name!r}" for name in models if models[name] != identity["models"][name]]
    if built["data"] != identity["data"]:
        different.append("data")
    if different:
        raise ValueError(
            f"worker on {socket.gethostname()} built another {' and '.join(different)} than the run"
            " has: the same source must build the same weights and samples on each machine"
        )
