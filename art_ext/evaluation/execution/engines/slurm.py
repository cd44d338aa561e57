"""The engine ``slurm``: jobs of a Slurm cluster, by submitit.

All jobs are submitted at once, as arrays. So they go on when the driver ends. Without Slurm, or
with ``cluster=local``, jobs are processes of this machine.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from art_ext.evaluation.execution.engines import TASKS_PER_WORKER, Started, Workers, missing_library
from art_ext.evaluation.execution.engines.slots import Task

JOBS = ".jobs"  # folder of the jobs' programs, results and logs, in the run folder
WEEK = 7 * 24 * 60  # minutes
_LOCAL_PAUSE = 0.1  # seconds between two checks of the jobs of this machine
_PAUSE = 2.0  # and of those of Slurm


def start(workers: Workers, folder: Path) -> Started:
    """Return an executor of jobs.

    The engine takes the arguments ``cluster`` (``slurm`` or ``local``), ``folder`` (on a disk that
    all machines share) and those of ``submitit.AutoExecutor.update_parameters``, such as
    ``timeout_min``, ``mem_gb`` and ``slurm_partition``.

    Raises:
        ValueError: if there is no Slurm, or for an argument that submitit does not know.
        ImportError: without submitit.
    """
    try:
        import submitit
    except ImportError as error:
        raise missing_library("slurm", "submitit") from error
    arguments = dict(workers.arguments)
    cluster = arguments.pop("cluster", None)
    place = Path(arguments.pop("folder", None) or _jobs_of(folder))

    def make(place: Path) -> Any:
        return submitit.AutoExecutor(folder=place, cluster=cluster)

    with tempfile.TemporaryDirectory() as trial:  # before anything is written
        try:
            local = make(Path(trial)).cluster != "slurm"
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"engine_args cluster={cluster}: {error}") from error
        threads = workers.threads_of() if local else workers.threads or 1
        parameters = {**_parameters(workers, threads, local), **arguments}
        try:
            make(Path(trial)).update_parameters(**parameters)
        except (NameError, ValueError, TypeError) as error:
            raise ValueError(f"engine_args: {' '.join(str(error).split())}") from error
    executor = _Jobs(make, parameters, workers.number if local else None, place)
    return Started(executor, threads, TASKS_PER_WORKER * workers.number)


def _jobs_of(folder: Path) -> Path:
    """Return the folder of the jobs in a run folder, which must be a local one."""
    if isinstance(folder, Path):
        return folder / JOBS
    raise ValueError(
        f"engine slurm needs a folder on a shared disk for its jobs, because {folder} is not a"
        " disk: --engine-args folder=FOLDER"
    )


def _parameters(workers: Workers, threads: int, local: bool) -> dict[str, Any]:
    """Return the parameters of submitit that the options of workers mean."""
    found: dict[str, Any] = {"cpus_per_task": threads}
    if local:
        workers.gpu_names()  # an error if there are too few
        found["timeout_min"] = WEEK
    else:
        found["slurm_array_parallelism"] = workers.number
    if workers.gpus:
        found["gpus_per_node"] = max(1, int(workers.gpus))
    return found


class _Jobs(Executor):
    """Executor whose tasks are jobs.

    Tasks that are submitted in the same moment become one array of jobs.

    Args:
        make: function from a folder to submitit's executor.
        parameters: of submitit.
        most: jobs at a time. None: the cluster decides.
        place: folder of the jobs.
    """

    def __init__(
        self,
        make: Callable[[Path], Any],
        parameters: Mapping[str, Any],
        most: int | None,
        place: Path,
    ) -> None:
        self._make = make
        self._parameters = parameters
        self._most = most
        self._place = place
        self._waiting: list[tuple[Future[Any], Task, tuple[Any, ...]]] = []
        self._running: list[tuple[Future[Any], Any]] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._watcher: threading.Thread | None = None

    def submit(self, task: Task, /, *arguments: Any, **_: Any) -> Future[Any]:
        """Submit a task as a job, soon."""
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.append((future, task, arguments))
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True)
                self._watcher.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel all jobs that have not ended, and remove the jobs' folder if there are none."""
        self._end.set()
        if self._watcher is not None:
            self._watcher.join()
        for _, job in self._running:
            with suppress(Exception):  # it may have ended meanwhile
                job.cancel(check=False)
        if not self._running and not self._waiting:
            shutil.rmtree(self._place, ignore_errors=True)

    def _watch(self) -> None:
        """Submit waiting tasks and settle jobs that have ended, until the end."""
        pause = _PAUSE if self._most is None else _LOCAL_PAUSE
        while not self._end.wait(pause):
            try:
                self._submit()
                self._settle()
            except Exception as error:  # of sbatch or of the disk
                self._fail(error)

    def _submit(self) -> None:
        """Submit waiting tasks, as far as there is room."""
        with self._lock:
            room = len(self._waiting) if self._most is None else self._most - len(self._running)
            tasks = self._waiting[:room]
            self._waiting = self._waiting[room:]
        # jobs of this machine run from now on, those of a cluster when it likes
        tasks = [
            one
            for one in tasks
            if not one[0].cancelled()
            and (self._most is None or one[0].set_running_or_notify_cancel())
        ]
        if not tasks:
            return
        try:
            array = self._make(self._place)
            array.update_parameters(**self._parameters)
            with array.batch():
                jobs = [array.submit(task, *arguments) for _, task, arguments in tasks]
        except Exception as error:
            for future, _, _ in tasks:
                future.set_exception(error)
            return
        self._running += zip([future for future, _, _ in tasks], jobs, strict=True)

    def _settle(self) -> None:
        """Hand on the results of jobs that have ended."""
        running = self._running
        self._running = [(future, job) for future, job in running if not job.done()]
        left = {id(job) for _, job in self._running}
        for future, job in running:
            if id(job) in left or future.cancelled():
                continue
            # of a dead process of this machine no result will come, which submitit waits for
            dead = self._most is not None and not job.paths.result_pickle.exists()
            error = RuntimeError(f"job {job.job_id} left no result") if dead else job.exception()
            if error is None:
                future.set_result(job.result())
            else:
                future.set_exception(error)

    def _fail(self, error: Exception) -> None:
        """Fail the running jobs, of which nothing more can be learnt."""
        for future, _ in self._running:
            future.set_exception(error)
        self._running = []
