"""Rows and time that a run of transfers takes at most, before it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch

from art_ext.core.attacks.engine.planning import PlannedRows, planning
from art_ext.evaluation.execution.estimate import Estimate, PlannedRun, timed
from art_ext.evaluation.execution.timing import RowTime
from art_ext.evaluation.execution.transfer.job import Chunk, Job, Work
from art_ext.evaluation.execution.transfer.plan import Crafting
from art_ext.evaluation.panel.attack import AttackRequest
from art_ext.storage.transfer import ANSWERS, CLEAN, CRAFTED

ON_CLEAN = "clean samples"
TRIED = "examples on targets"


@dataclass
class _Found:
    """Runs of an estimate, and by the place of each the samples on which nothing is left."""

    runs: list[PlannedRun] = field(default_factory=list)
    ended: dict[int, int] = field(default_factory=dict)

    def add(
        self, model: str, title: str, rows: PlannedRows | None, row: RowTime | None, ended: int
    ) -> None:
        known = None if rows is None or row is None else row.seconds(rows.forward, rows.backward)
        self.ended[len(self.runs)] = ended
        self.runs.append(PlannedRun(model, title, rows, known))


def estimate_transfer(work: Work, part: tuple[int, int], workers: int = 1) -> Estimate:
    """Return what a run of transfers takes at most. Each model is timed on one batch.

    Attacks are on their sources, in the order of the records. The clean samples and the examples
    on targets stand in lines of their own.

    Args:
        work: on the run. Its folder may hold a part of it.
        part: the shard.
        workers: that share the work.
    """
    job, folder = work.job, work.folder
    plan = job.plan
    units = range(part[0], len(plan.units), part[1])
    done = sum(map(work.is_done, units))
    samples = len(job.data)
    if done == len(units):
        return Estimate((), samples, workers, {}, {}, {}, (done, len(units)))
    times, reasons = _times(job)
    own = {plan.units[number] for number in units}
    found = _Found()

    def ended(kind: str, key: Callable[[Chunk], str], number: int | None = None) -> int:
        """Return the samples that are done, or of another shard."""
        return sum(
            chunk[1] - chunk[0]
            for place, chunk in enumerate(plan.chunks)
            if (number is not None and (place, number) not in own) or folder.has(kind, key(chunk))
        )

    for name in job.models:
        there = ended(CLEAN, partial(job.clean_key, name))
        found.add(name, ON_CLEAN, PlannedRows(1), times.get(name), there)
    for number, one in enumerate(plan.craftings):
        rows, states = _planned(job, one, times.get(one.source))
        there = ended(CRAFTED, partial(job.crafted_key, one), number)
        found.add(one.source, one.setting.attack.name, rows, times.get(one.source), there)
        tried = PlannedRows(1 + states + len(one.setting.at))
        for target in one.targets:
            there = ended(ANSWERS, partial(job.answers_key, target, one), number)
            found.add(target, TRIED, tried, times.get(target), there)
    return Estimate(
        tuple(found.runs), samples, workers, times, reasons, found.ended, (done, len(units))
    )


def _times(job: Job) -> tuple[dict[str, RowTime], dict[str, str]]:
    """Return the time of a row of each model, or the reason why it is unknown."""
    attacked = {
        one.source for one in job.plan.craftings if one.setting.attack.access == "gradients"
    }
    times: dict[str, RowTime] = {}
    reasons: dict[str, str] = {}
    for name, model in job.models.items():
        settings = job.plan.settings_of(name)
        found = timed(model, job.data, job.plan.chunks[0], settings, name in attacked)
        if isinstance(found, RowTime):
            times[name] = found
        else:
            reasons[name] = found
    return times, reasons


def _planned(job: Job, one: Crafting, row: RowTime | None) -> tuple[PlannedRows | None, int]:
    """Return the most rows of a sample, None if the attack states no plan, and its states."""
    attack = one.setting.attack
    further = PlannedRows(1 if job.plan.settings.targeted == "least-likely" else 0)
    if not attack.checks_first:
        return None, 0
    nothing = torch.zeros(0, *job.data.shape)
    labels = torch.zeros(0, dtype=torch.int64)
    settings = job.plan.settings_of(one.source, one)
    eps = cast(float, one.setting.eps)  # None for a minimum-norm attack without a ball
    with planning(None if row is None else row.classes) as found:
        result = attack.run(AttackRequest(job.models[one.source], nothing, labels, eps, settings))
    states = 0 if result.samples is None else len(result.samples)
    return None if found.rows is None else found.rows.plus(further), states
