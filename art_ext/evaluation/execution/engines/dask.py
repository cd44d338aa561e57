"""The engine ``dask``: workers of a Dask cluster, or of one that is started on this machine."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from art_ext.evaluation.execution.engines import Started, Workers, missing_library
from art_ext.evaluation.execution.engines.slots import Slots, Task

PATIENCE = 10.0  # seconds for the answer of a scheduler
PATIENCE_TO_RESTART = "1 hour"  # for a worker that died, on a busy machine
QUIET = {"DASK_LOGGING__DISTRIBUTED": "error"}  # of workers that this process starts


def start(workers: Workers, folder: Path) -> Started:
    """Return an executor of the workers of a cluster.

    Raises:
        ValueError: if the scheduler does not answer.
        ImportError: without Dask.
    """
    try:
        import distributed
    except ImportError as error:
        raise missing_library("dask", "Dask") from error
    workers.check_arguments(("address",))
    address = workers.arguments.get("address")
    cluster = None if address else _local_cluster(workers)
    try:
        client = distributed.Client(str(address) if address else cluster, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"engine_args address={address}: no Dask scheduler answers there within"
            f" {PATIENCE:g} s ({type(error).__name__})"
        ) from error
    demand = {"resources": {"GPU": workers.gpus}} if workers.gpus and address else {}
    executor = client.get_executor(pure=False, **demand)
    cores = sum(client.nthreads().values()) if address else None

    def close() -> None:
        client.close(timeout=1)
        if cluster is not None:
            cluster.close(timeout=5)

    slots = Slots([_Worker(executor) for _ in range(workers.number)], close)
    return Started(slots, workers.threads_of(cores))


def _local_cluster(workers: Workers) -> Any:
    """Start a scheduler and workers on this machine. A worker that dies is replaced."""
    import dask
    import distributed

    places = {
        number: {
            "cls": distributed.Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 0,  # attacks are not to be paused for the memory that they need
                "env": {**QUIET, **({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus})},
            },
        }
        for number, gpus in enumerate(workers.gpu_names())
    }
    # the run has its own retries, and Dask blames tasks that only waited on a dead worker
    dask.config.set({"distributed.scheduler.allowed-failures": 0})
    # a worker that is not back by then is given up, and without any the run would wait for ever
    dask.config.set({"distributed.deploy.lost-worker-timeout": PATIENCE_TO_RESTART})
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"dashboard": False, "host": "127.0.0.1", "port": 0},
    }
    return distributed.SpecCluster(workers=places, scheduler=scheduler, silence_logs=50)


class _Worker:
    """Room for one task on the cluster, which chooses the worker.

    Args:
        executor: of the cluster.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def submit(self, task: Task, /, *arguments: Any) -> Future[Any]:
        """Start a task."""
        return self.executor.submit(task, *arguments)

    def end(self) -> None:
        """Do nothing: the cluster ends with the executor, and drops its tasks."""
