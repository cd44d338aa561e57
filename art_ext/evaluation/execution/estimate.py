"""Rows and time that a run takes at most, before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from art_ext.core.attacks.engine.planning import PlannedRows, planning
from art_ext.core.checks import listed
from art_ext.core.expectation import Expectation, expectation_in
from art_ext.core.oracle import Model
from art_ext.core.wording import counted, duration
from art_ext.data import Samples
from art_ext.errors import describe
from art_ext.evaluation.execution.job import Job
from art_ext.evaluation.execution.timing import RowTime, time_rows
from art_ext.evaluation.panel.attack import Attack, AttackRequest, Settings
from art_ext.models.remote import RemoteClassifier

NO_TIME = "time unknown"


def check_dry_run(dry_run: bool, overwrite: bool) -> None:
    """Raise ValueError for a dry run that is to replace an earlier run."""
    if dry_run and overwrite:
        raise ValueError(
            "dry_run writes nothing, and overwrite replaces an earlier run: give one of the two"
        )


@dataclass(frozen=True)
class PlannedRun:
    """An attack on a model at the radii that it serves in one run.

    Attributes:
        model, attack: names.
        rows: most rows of a sample. None: the attack states no plan.
        seconds: of a sample at most. None: unknown.
    """

    model: str
    attack: str
    rows: PlannedRows | None
    seconds: float | None


@dataclass(frozen=True)
class Estimate:
    """Rows and time of a run at most, where no sample ends early, or of what is left of it.

    Attributes:
        runs: in the order of the units of a chunk.
        samples: number of samples of this process.
        workers: that share the samples.
        times: by model, the cost of a row.
        reasons: by model, the reason why its rows were not timed.
        ended: by the place of a run, the number of samples on which it has ended before.
        units: units that have ended before, and all of this process.
        draws: by model, the average over draws that answers for it.
    """

    runs: tuple[PlannedRun, ...]
    samples: int
    workers: int
    times: Mapping[str, RowTime]
    reasons: Mapping[str, str]
    ended: Mapping[int, int] = field(default_factory=dict)
    units: tuple[int, int] = (0, 0)
    draws: Mapping[str, Expectation] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return a line for each attack, and one for all of them.

        In a run that goes on, times are those of what is left. One that is complete has one line.
        """
        done, whole = self.units
        if done and done == whole:
            return [f"{done:,} of {whole:,} units are done: nothing is left to do"]
        attacks = list(dict.fromkeys(run.attack for run in self.runs))
        found = [self._line(attack) for attack in attacks]
        reasons = [f"{model} is not timed: {reason}" for model, reason in self.reasons.items()]
        drawn = [
            f"{model} answers at random: each row is {one.draws} rows of it, and each candidate is"
            f" verified by up to {one.verification_draws} further ones, which the time is without"
            for model, one in self.draws.items()
        ]
        return [*found, self._total(), *reasons, *drawn]

    @property
    def seconds(self) -> float:
        """Seconds of all attacks whose time is known, over all samples and workers."""
        return self._seconds(None)

    def _seconds(self, attack: str | None) -> float:
        """Return the seconds that the units of an attack still take. None: of all attacks."""
        whole = sum(
            (run.seconds or 0.0) * (self.samples - self.ended.get(place, 0))
            for place, run in enumerate(self.runs)
            if attack in (None, run.attack)
        )
        return whole / self.workers

    def _line(self, attack: str) -> str:
        runs = [run for run in self.runs if run.attack == attack]
        rows = _of_a_sample(runs)
        if rows is None:
            return f"{attack}: rows and time unknown"
        unknown = any(run.seconds is None for run in runs)
        spent = NO_TIME if unknown else f"about {duration(self._seconds(attack))}"
        left = [place for place, run in enumerate(self.runs) if run.attack == attack]
        if all(self.ended.get(place) == self.samples for place in left):
            spent = "done"
        return (
            f"{attack}: at most {rows.forward:,} forward and {rows.backward:,} backward rows a"
            f" sample, {spent}"
        )

    def _total(self) -> str:
        unknown = list(dict.fromkeys(run.attack for run in self.runs if run.seconds is None))
        models = len({run.model for run in self.runs})
        each = f" and {models} models" if models > 1 else ""
        shared = f", shared by {counted(self.workers, 'worker')}" if self.workers > 1 else ""
        done, units = self.units
        begun = f"{done:,} of {units:,} units are done"
        whole = f"for {counted(self.samples, 'sample')}{each}{shared}"
        if len(unknown) == len({run.attack for run in self.runs}):
            return f"{begun}, {NO_TIME}" if done else f"in all {whole}: {NO_TIME}"
        without = f", without {listed(unknown)}, whose time is unknown" if unknown else ""
        if done:
            return f"{begun}, the rest takes about {duration(self.seconds)}{shared}{without}"
        return f"in all about {duration(self.seconds)} {whole}{without}"


def _of_a_sample(runs: Sequence[PlannedRun]) -> PlannedRows | None:
    """Return the rows of a sample over all radii, of the model that takes the most. None: unknown.

    Args:
        runs: of one attack.
    """
    by_model: dict[str, PlannedRows] = {}
    for run in runs:
        if run.rows is None:
            return None
        by_model[run.model] = by_model.get(run.model, PlannedRows(0)).plus(run.rows)
    return max(by_model.values(), key=lambda rows: (rows.forward, rows.backward))


def estimate_run(
    job: Job,
    chunks: Mapping[int, tuple[int, int]],
    workers: int = 1,
    ended: Mapping[int, Collection[int]] | None = None,
) -> Estimate:
    """Return what a run takes at most. Each model is timed on the samples of one batch.

    A complete run is not timed.

    Args:
        job: of the run.
        chunks: by number, first and one past the last sample of each chunk of this process.
        workers: that share the work.
        ended: by number of the chunk, the places of the units that ended before. None: there are
            none.
    """
    places = Counter[int]()
    done = 0
    for number, (start, end) in chunks.items():
        own = (ended or {}).get(number, ())
        done += len(own)
        places.update(dict.fromkeys(own, end - start))
    units = (done, len(chunks) * len(job.attack_runs))
    samples = sum(end - start for start, end in chunks.values())
    if done and done == units[1]:
        return Estimate((), samples, workers, {}, {}, places, units)
    times: dict[str, RowTime] = {}
    reasons: dict[str, str] = {}
    for name, model in job.models.items():
        same = next((one for one in times if job.models[one] is model), None)
        if same is not None:
            times[name] = times[same]
            continue
        found = _timed(job, model, list(chunks.values()))
        if isinstance(found, RowTime):
            times[name] = found
        else:
            reasons[name] = found
    runs = tuple(
        _planned(job, name, attack, radii, times.get(name))
        for name, attack, radii in job.attack_runs
    )
    draws = {name: one for name in job.models if (one := expectation_in(job.models[name]))}
    return Estimate(runs, samples, workers, times, reasons, places, units, draws)


def _timed(job: Job, model: Model, chunks: Sequence[tuple[int, int]]) -> RowTime | str:
    """Return the time of a row, or the reason why it is unknown."""
    if not chunks:
        return "this process has no samples"
    gradients = any(attack.access == "gradients" for attack in job.panel)
    return timed(model, job.data, chunks[0], job.settings, gradients)


def timed(
    model: Model, data: Samples, chunk: tuple[int, int], settings: Settings, gradients: bool
) -> RowTime | str:
    """Return the time of a row of a model, or the reason why it is unknown.

    Args:
        model: to time.
        data: its samples.
        chunk: positions of the first sample and the one after the last that may be used.
        settings: of the run.
        gradients: True to time a row backward too.
    """
    if isinstance(model, RemoteClassifier):
        return "a service answers in its own time"
    start, end = chunk
    try:
        x, _ = data.rows(start, min(end, start + settings.batch_size))
        return time_rows(model, x, settings, gradients)
    except Exception as error:
        # the model is the user's, and the run itself will tell
        return describe(error)


def _planned(
    job: Job, name: str, attack: Attack, radii: Sequence[float], row: RowTime | None
) -> PlannedRun:
    rows = _rows(job, name, attack, radii[-1], None if row is None else row.classes)
    if rows is None or row is None or attack.resources:
        return PlannedRun(name, attack.name, rows, None)
    judged = 0 if job.detection is None else job.detection.planned[name].rows * len(radii)
    # a detector sees each row that is differentiated together with its variants
    variants = max(1, judged // len(radii)) if attack.aware_of else 1
    return PlannedRun(
        name, attack.name, rows, row.seconds(rows.forward + judged, rows.backward * variants)
    )


def _rows(
    job: Job, name: str, attack: Attack, eps: float, classes: int | None
) -> PlannedRows | None:
    """Return the most rows of a sample. None: the attack states no plan."""
    if not attack.checks_first:
        return None
    nothing = torch.zeros(0, *job.data.shape)
    labels = torch.zeros(0, dtype=torch.int64)
    resources = job.resources.rows(slice(0))
    with planning(classes) as found:
        attack.run(
            AttackRequest(job.models[name], nothing, labels, eps, job.settings, resources=resources)
        )
    if found.rows is None or not attack.aware_of or job.detection is None:
        return found.rows
    # planned without the detector, which is fitted later
    cost = job.detection.planned[name].rows
    whole = replace(found.rows, forward=cost * found.rows.forward)
    return whole.within(attack.budget(job.settings))
