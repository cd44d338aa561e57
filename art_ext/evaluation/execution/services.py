"""Services among the models of a run: what they cost at most, and the end of a run by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from art_ext.core.detection.base import PROBES
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.core.probe import COMPANY
from art_ext.evaluation.analysis.examples import COLUMNS, holds_examples
from art_ext.evaluation.execution.chunks import repeated_rows
from art_ext.evaluation.execution.detection import Fitting
from art_ext.evaluation.execution.job import Job, Watcher
from art_ext.evaluation.execution.models import callable_model, common_outputs
from art_ext.models.remote import BudgetSpent, RemoteClassifier, Usage
from art_ext.models.sources import LoadedModel
from art_ext.storage.evaluation import RunFolder

CHUNK_SIZE = 64  # of a run with a service, whose chunks are slow


class RunStopped(RuntimeError):
    """Raised by an evaluation whose model gives no further answers. Finished chunks are kept."""


class WorkersStopped(ModelStopped):
    """Raised for workers whose model gives no further answers.

    Attributes:
        usage: of the services, by all workers.
    """

    def __init__(self, message: str, usage: Usage) -> None:
        super().__init__(message)
        self.usage = usage


def services_of(job: Job) -> dict[str, RemoteClassifier]:
    """Return the models that are services, by name."""
    return {
        name: model for name, model in job.models.items() if isinstance(model, RemoteClassifier)
    }


def usage_of(job: Job) -> Usage:
    """Return the rows that this process sent to the services of a run."""
    total = Usage()
    # with several detectors a service has several names
    for service in {id(one): one for one in services_of(job).values()}.values():
        total += service.usage
    return total


def check_services(job: Job, other_processes: bool) -> None:
    """Raise ValueError unless the run suits the services among its models.

    Args:
        job: of the run.
        other_processes: True if other processes do the work.
    """
    for name, service in services_of(job).items():
        if service.outputs != job.settings.outputs:
            raise ValueError(
                f"the service {name!r} returns {service.outputs}, got outputs="
                f"{job.settings.outputs!r}: pass outputs={service.outputs!r}"
            )
        limited = service.max_rows is not None or service.max_cost is not None
        if other_processes and limited:
            raise ValueError(
                f"the limits of the service {name!r} hold for one process: use the engine local, or"
                " no max_rows and max_cost"
            )
        for attack in job.panel:
            if attack.access == "gradients":
                raise ValueError(
                    f"{attack.name} needs gradients, which the service {name!r} does not give: use"
                    " --panel black-box, or --attack rays"
                )
            if attack.arguments.get("speculate") is True:
                raise ValueError(
                    f"{attack.name} must not speculate on the service {name!r}, whose rows cost"
                    " money or time: leave out speculate"
                )


def largest_rows(
    job: Job, chunks: Sequence[tuple[int, int]], name: str, fitting: Fitting, processes: int = 1
) -> int | None:
    """Return the largest number of rows that a run sends to a model, without failed requests.

    None if the queries of an attack have no bound.

    Args:
        job: of the run.
        chunks: first and one past the last sample of each chunk to do.
        name: of the model.
        fitting: of the detectors of the run.
        processes: number of processes that load the detectors.
    """
    settings = job.settings
    samples = sum(end - start for start, end in chunks)
    rows = samples * (1 + (settings.targeted == "least-likely"))
    if chunks and chunks[0][0] == 0:
        again = repeated_rows(job.models[name], settings.batch_size, chunks[0][1])
        rows += again * (2 if again >= COMPANY else 1)
    judged = 0 if job.detection is None else job.detection.planned[name].rows
    if job.detection is not None:
        # the clean scores, and two passes of the images that tell the model of a saved detector
        rows += samples * judged + (1 + processes) * PROBES * judged
        rows += fitting.largest_rows(job.detection.planned[name])
    # samples of different classes, and the first successes
    shown = sum(min(2 * COLUMNS, end - start) for start, end in chunks if holds_examples(start))
    for model, attack, radii in job.attack_runs:
        if model != name:
            continue
        budget = attack.budget(settings)
        if budget is None:
            return None
        rows += samples * (budget + judged * len(radii)) + shown
    return rows


def announce(
    job: Job,
    chunks: Sequence[tuple[int, int]],
    watcher: Watcher,
    fitting: Fitting,
    processes: int = 1,
) -> None:
    """Tell the watcher what each service costs at most, before anything is sent."""
    for name, service in services_of(job).items():
        rows = largest_rows(job, chunks, name, fitting, processes)
        cost = None if rows is None else rows * service.cost_per_row
        watcher.service(name, rows, cost)


@contextmanager
def stopping(job: Job, folder: RunFolder) -> Iterator[None]:
    """Turn the stop of a model into ``RunStopped``, which says how the run goes on."""
    try:
        yield
    except (ModelStopped, AttackInterrupted) as stop:
        total = usage_of(job)
        if isinstance(stop, WorkersStopped):
            total += stop.usage
        done = len(folder.complete_chunks())
        raise RunStopped(
            f"{stop}. {total.rows_sent:,} rows sent, {total.rows_replayed:,} replayed, cost"
            f" {total.cost:.6g}, {done} of {len(folder.chunks)} chunks finished: the same command"
            f" goes on{', with a larger limit' if _is_spent(stop) else ''}"
        ) from stop


def _is_spent(stop: BaseException | None) -> bool:
    """Return True if a budget ended the run."""
    return isinstance(stop, BudgetSpent) or (
        isinstance(stop, AttackInterrupted) and isinstance(stop.__cause__, BudgetSpent)
    )


def with_answers(
    models: Mapping[str, LoadedModel], options: dict[str, Any], outputs: str | None
) -> dict[str, LoadedModel]:
    """Return models with an answer log each, if the options name one.

    The logs of several models lie in folders of their names.

    Args:
        models: by name.
        options: of ``RemoteClassifier``. Without ``answers`` there is no log.
        outputs: type of the models' outputs. None: what they declare.

    Raises:
        ValueError: if a model has a log already, or as ``RemoteClassifier``.
    """
    if not options.get("answers"):
        return dict(models)
    found = {}
    for name, loaded in models.items():
        # a function is wrapped as it is, because it may take timeout= and keys=
        model = loaded.model if callable(loaded.model) else callable_model(loaded)
        if isinstance(model, RemoteClassifier):
            raise ValueError(
                f"the model has the answer log {model.log.folder} already: leave out --answers"
            )
        if isinstance(model, nn.Module):
            model = model.eval()
        kind = common_outputs(outputs, {name: loaded})
        folder = Path(options["answers"])
        own = {**options, "answers": folder / name if len(models) > 1 else folder}
        found[name] = replace(loaded, model=RemoteClassifier(model, outputs=kind, **own))
    return found
