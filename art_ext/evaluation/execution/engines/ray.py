"""The engine ``ray``: actors of a Ray cluster, or of a Ray that is started on this machine."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from art_ext.evaluation.execution.engines import Started, Workers, missing_library
from art_ext.evaluation.execution.engines.slots import Slots, Task

PATIENCE = 10.0  # seconds for the answer of a cluster
MEMORY = 100_000_000  # bytes of the object store of a Ray of our own: tasks carry names only
_TRIAL = """
import sys
import ray
print("begun", flush=True)
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
"""


def start(workers: Workers, folder: Path) -> Started:
    """Return an executor of actors. The Ray that the user has started is used, if there is one.

    Raises:
        ValueError: if the cluster does not answer, runs other versions, or has no machine that can
            hold a worker.
        ImportError: without Ray.
    """
    try:
        import ray
    except ImportError as error:
        raise missing_library("ray", "Ray") from error
    workers.check_arguments(("address", "namespace"))
    own = not ray.is_initialized()
    if own:
        _connect(workers)
    try:
        threads = workers.threads_of(ray.cluster_resources().get("CPU"))
        demand = {"CPU": float(threads), "GPU": float(workers.gpus)}
        check_machines([node["Resources"] for node in ray.nodes() if node["Alive"]], demand)
        slots = Slots(close=ray.shutdown if own else None)
        for _ in range(workers.number):
            actor = _Actor(demand)
            # a worker that the cluster cannot start yet gets no task
            actor.submit(_nothing).add_done_callback(partial(_add, slots, actor))
    except BaseException:
        if own:
            ray.shutdown()
        raise
    return Started(slots, threads)


def _connect(workers: Workers) -> None:
    """Connect to a cluster, or start Ray on this machine."""
    import ray

    arguments = dict(workers.arguments)
    address = arguments.pop("address", None) or os.environ.get("RAY_ADDRESS")
    common = {**arguments, "log_to_driver": False, "logging_level": logging.ERROR}
    if address not in (None, "local"):
        problem = _problem(str(address))
        if problem is not None:
            raise ValueError(f"engine_args address={address}: {problem}")
        ray.init(address=str(address), **common)
        return
    workers.gpu_names()  # an error if there are too few
    ray.init(
        address="local",
        num_cpus=workers.number * workers.threads_of(),
        include_dashboard=False,
        object_store_memory=MEMORY,
        **common,
    )


def _problem(address: str) -> str | None:
    """Return the reason why there is no connection to a cluster, None if there is one.

    Another process tries it, because an attempt cannot be stopped in this one.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _TRIAL, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None  # noqa: S101
    process.stdout.readline()  # the import of Ray does not count
    try:
        errors = process.communicate(timeout=PATIENCE)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"no Ray cluster answers there within {PATIENCE:g} s"
    if process.returncode == 0:
        return None
    return problem_of(errors)


def problem_of(errors: str) -> str:
    """Return one line about a failed connection from what Ray wrote."""
    if "Version mismatch" in errors:
        versions = errors[errors.index("Version mismatch") :].split(":", 1)[1]
        return f"workers need the versions of this process. {' '.join(versions.split())}"
    last = errors.strip().splitlines()[-1:] or ["no reason given"]
    return f"no Ray cluster answers there ({last[0].strip()})"


def check_machines(machines: list[dict[str, float]], demand: dict[str, float]) -> None:
    """Raise ValueError unless a machine of the cluster can hold a worker."""
    for machine in machines:
        if all(machine.get(kind, 0) >= number for kind, number in demand.items()):
            return
    most = {kind: max((one.get(kind, 0) for one in machines), default=0) for kind in demand}
    raise ValueError(
        f"a worker needs {demand['CPU']:g} CPUs (threads_per_worker) and {demand['GPU']:g} GPUs"
        f" (gpus_per_worker), but the largest machine of the Ray cluster has {most['CPU']:g} CPUs"
        f" and {most['GPU']:g} GPUs"
    )


class _Runner:
    """Code of an actor."""

    def run(self, task: Task, arguments: tuple[Any, ...]) -> Any:
        """Run a task."""
        return task(*arguments)


class _Actor:
    """One worker of the cluster.

    Args:
        demand: its CPUs and GPUs.
    """

    def __init__(self, demand: dict[str, float]) -> None:
        self.demand = demand
        self._handle: Any = None

    def submit(self, task: Task, /, *arguments: Any) -> Future[Any]:
        """Start a task in the actor, or in another one if it has died."""
        import ray

        if self._handle is None:
            options = {"num_cpus": self.demand["CPU"], "num_gpus": self.demand["GPU"]}
            self._handle = ray.remote(_Runner).options(**options).remote()
        running: Future[Any] = self._handle.run.remote(task, arguments).future()
        running.add_done_callback(self._check)
        return running

    def end(self) -> None:
        """End the actor at once."""
        import ray

        if self._handle is not None and ray.is_initialized():
            ray.kill(self._handle)
            self._handle = None

    def _check(self, ended: Future[Any]) -> None:
        """Forget an actor that has died."""
        if not ended.cancelled() and ended.exception() is not None:
            self._handle = None


def _nothing() -> None:
    """Do nothing. The answer says that a worker is there."""


def _add(slots: Slots, actor: _Actor, started: Future[Any]) -> None:
    slots.add(actor)
