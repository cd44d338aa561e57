"""The work of a run of transfers: units, their pieces, and the task of a worker."""

from __future__ import annotations

import os
import pickle
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from art_ext.core.calls import scope
from art_ext.core.oracle import Model
from art_ext.data import Samples
from art_ext.evaluation.execution.engines import Workers, started
from art_ext.evaluation.execution.executor import Distribution
from art_ext.evaluation.execution.job import Ended, Rebuild, Watcher, identity_of_model, pickled
from art_ext.evaluation.execution.transfer.craft import Tensors, answers, clean_pass, craft
from art_ext.evaluation.execution.transfer.ensembles import EnsembleOf
from art_ext.evaluation.execution.transfer.plan import Crafting
from art_ext.evaluation.execution.worker import end_each
from art_ext.evaluation.panel.attack import Settings
from art_ext.storage.transfer import ANSWERS, CLEAN, CRAFTED, TransferFolder, key_of

Chunk = tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """Everything that decides the results but models and data. It pickles.

    Attributes:
        craftings: attacks on sources, in the order of the records.
        ensembles: sources that are made of models.
        average: of the ensembles.
        outputs: by the name of a model, the kind of its outputs.
        settings: of all attacks. Radius, seed and outputs are those of each crafting.
        chunks: positions of the first sample and the one after the last of each chunk.
    """

    craftings: tuple[Crafting, ...]
    ensembles: tuple[EnsembleOf, ...]
    average: str
    outputs: Mapping[str, str]
    settings: Settings
    chunks: tuple[Chunk, ...]

    @property
    def units(self) -> list[tuple[int, int]]:
        """Chunk and crafting of each unit, chunk by chunk."""
        return [
            (chunk, number)
            for chunk in range(len(self.chunks))
            for number in range(len(self.craftings))
        ]

    def settings_of(self, model: str, crafting: Crafting | None = None) -> Settings:
        """Return the settings of calls of a model, in a crafting."""
        settings = replace(self.settings, outputs=self.outputs[model])
        if crafting is None:
            return settings
        eps = crafting.setting.eps
        own = settings.eps if eps is None else (eps,)
        return replace(settings, eps=own, seed=crafting.setting.seed)

    def title(self, unit: tuple[int, int]) -> str:
        """Return the name of a unit in messages."""
        crafting, (start, stop) = self.craftings[unit[1]], self.chunks[unit[0]]
        setting = crafting.setting
        about = f" ({setting.text})" if setting.text else ""
        return f"{setting.attack.name}{about} on {crafting.source}, samples {start} to {stop - 1}"


class Job:
    """The plan with its models and data.

    Args:
        plan: of the run.
        models: by name, without the ensembles.
        data: the samples.
    """

    def __init__(self, plan: Plan, models: Mapping[str, Model], data: Samples) -> None:
        self.plan = plan
        self.data = data
        self.models: dict[str, Model] = dict(models)
        for one in plan.ensembles:
            kind = plan.outputs[one.members[0]]
            self.models[one.name] = one.built(models, plan.average, kind)

    @cached_property
    def identities(self) -> dict[str, Any]:
        """By name, what recognises each model."""
        known: dict[str, Any] = {}
        ensembles = {one.name: one for one in self.plan.ensembles}
        for name, model in self.models.items():
            if name in ensembles:
                members = zip(ensembles[name].members, ensembles[name].weights, strict=True)
                known[name] = {
                    "average": self.plan.average,
                    "members": [[known[one], weight] for one, weight in members],
                }
                continue
            found = identity_of_model(model)
            # a callable is recognised by its name
            known[name] = found if found["state"] else {**found, "name": name}
        return known

    def clean_key(self, model: str, chunk: Chunk) -> str:
        """Return the key of the clean pass of a model over a chunk."""
        outputs = self.plan.outputs[model]
        return key_of({"model": self.identities[model], "chunk": chunk, "outputs": outputs})

    def crafted_key(self, crafting: Crafting, chunk: Chunk) -> str:
        """Return the key of the examples of a crafting over a chunk."""
        settings = self.plan.settings_of(crafting.source, crafting)
        drawn = self.plan.settings.seed if settings.targeted == "random" else None
        return crafting.key(self.identities[crafting.source], settings, chunk, drawn)

    def answers_key(self, target: str, crafting: Crafting, chunk: Chunk) -> str:
        """Return the key of the answers of a target to the examples of a crafting."""
        examples = self.crafted_key(crafting, chunk)
        return key_of({"examples": examples, "model": self.clean_key(target, chunk)})


class Work:
    """Work of one process on the units of a run.

    Args:
        job: of the run.
        folder: of the run, begun.
    """

    def __init__(self, job: Job, folder: TransferFolder) -> None:
        self.job = job
        self.folder = folder
        self._read: tuple[Chunk, tuple[Tensor, Tensor]] | None = None
        self._first: dict[str, Tensors] = {}  # clean passes of the first chunk, by key

    def prepare(self, overwrite: bool = False) -> dict[str, int]:
        """Make the clean pass of all models over the first chunk, before anything is written.

        Args:
            overwrite: look at no earlier pass in the folder.

        Returns:
            By model its number of classes, 0 if it is not known.

        Raises:
            ValueError: if a model fails on the samples.
        """
        chunk = self.job.plan.chunks[0]
        classes = {}
        for name in self.job.models:
            key = self.job.clean_key(name, chunk)
            known = None if overwrite else self.folder.tensors(CLEAN, key)
            self._first[key] = known or self._pass(name, chunk)
            classes[name] = int(self._first[key]["classes"])
        return classes

    def do(self, number: int) -> None:
        """Do what is missing of a unit: clean passes, examples, and answers to them.

        Raises:
            ValueError: if a model or the attack fails, or a file is damaged.
            OSError: if the folder cannot be written. Finished pieces are kept.
        """
        place, crafting_number = self.job.plan.units[number]
        chunk = self.job.plan.chunks[place]
        crafting = self.job.plan.craftings[crafting_number]
        clean = {name: self._clean(name, chunk) for name in {crafting.source, *crafting.targets}}
        crafted = None
        if not self.folder.has(CRAFTED, self.job.crafted_key(crafting, chunk)):
            crafted = self._crafted(crafting, chunk, clean[crafting.source])
        for target in crafting.targets:
            if self.folder.has(ANSWERS, self.job.answers_key(target, crafting, chunk)):
                continue
            crafted = crafted or self._crafted(crafting, chunk, clean[crafting.source])
            found = answers(
                target, self.job.models[target], crafted, self.job.plan.settings_of(target)
            )
            self.folder.keep(ANSWERS, self.job.answers_key(target, crafting, chunk), found)

    def is_done(self, number: int) -> bool:
        """Return True if nothing of a unit is missing."""
        place, crafting_number = self.job.plan.units[number]
        chunk, crafting = self.job.plan.chunks[place], self.job.plan.craftings[crafting_number]
        models = {crafting.source, *crafting.targets}
        return (
            self.folder.has(CRAFTED, self.job.crafted_key(crafting, chunk))
            and all(self.folder.has(CLEAN, self.job.clean_key(one, chunk)) for one in models)
            and all(
                self.folder.has(ANSWERS, self.job.answers_key(one, crafting, chunk))
                for one in crafting.targets
            )
        )

    def _clean(self, name: str, chunk: Chunk) -> Tensors:
        key = self.job.clean_key(name, chunk)
        found = self.folder.tensors(CLEAN, key)
        if found is None:
            found = self._first.get(key) or self._pass(name, chunk)
            self.folder.keep(CLEAN, key, found)
        return found

    def _pass(self, name: str, chunk: Chunk) -> Tensors:
        x, y = self._rows(chunk)
        settings = self.job.plan.settings_of(name)
        with scope(f"clean-{chunk[0]} {name}"):
            return {**clean_pass(name, self.job.models[name], x, y, settings), "label": y}

    def _crafted(self, crafting: Crafting, chunk: Chunk, clean: Tensors) -> Tensors:
        key = self.job.crafted_key(crafting, chunk)
        found = self.folder.tensors(CRAFTED, key)
        if found is None:
            source = crafting.source
            model = self.job.models[source]
            settings = self.job.plan.settings_of(source, crafting)
            with scope(f"{crafting.setting.attack.name}-{chunk[0]} {source}"):
                x, y = self._rows(chunk)
                seed = self.job.plan.settings.seed
                found = craft(source, model, x, y, crafting.setting, settings, clean, seed)
            self.folder.keep(CRAFTED, key, found)
        return found

    def _rows(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        if self._read is None or self._read[0] != chunk:
            self._read = (chunk, self.job.data.rows(*chunk))
        return self._read[1]


def missing_units(work: Work, part: tuple[int, int]) -> Iterator[int]:
    """Yield the numbers of the units of a shard that have not ended."""
    first, step = part
    for number in range(first, len(work.job.plan.units), step):
        if not work.is_done(number):
            yield number


def do_units(work: Work, numbers: Sequence[int], watcher: Watcher) -> None:
    """Do units in this process."""
    for done, number in enumerate(numbers):
        watcher.units(done, len(numbers))
        work.do(number)
    if numbers:
        watcher.units(len(numbers), len(numbers))


class _Steps(Watcher):
    """Observer of workers that tells another one of units instead of chunks."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def chunks(self, done: int, total: int, robust: Mapping[str, float]) -> None:
        self.watcher.units(done, total)


def distribute_units(
    work: Work, numbers: Sequence[int], watcher: Watcher, *, rebuild: Rebuild, crew: Workers
) -> None:
    """Do units on workers.

    Raises:
        ValueError: for units that fail. The others are done then.
    """
    plan = work.job.plan
    names = {number: plan.title(plan.units[number]) for number in numbers}
    if not names:
        return
    identity = (work.job.identities, work.job.data.identity)
    content = pickled((rebuild, plan, identity))
    folder = work.folder
    with started(crew, folder.path.absolute()) as begun:
        task = UnitTask(content, uuid.uuid4().hex, folder.home, begun.threads)
        Distribution(crew, begun, task, names, work.is_done, _Steps(watcher)).run()


@dataclass(frozen=True)
class UnitTask:
    """Function of unit numbers that does these units, for workers. It pickles without a model.

    Attributes:
        content: pickled function that builds models and data, plan, and identities.
        key: of the run, by which a worker keeps what it has built.
        folder: of the run.
        threads: of PyTorch.
        home: folder in which relative paths begin.
    """

    content: bytes
    key: str
    folder: str
    threads: int
    home: str = field(default_factory=os.getcwd)

    def __call__(self, numbers: Sequence[int]) -> list[Ended]:
        """Do the units. Errors are returned, so that other units of the task go on."""
        return end_each(numbers, self.threads, lambda number: self._built().do(number))

    def _built(self) -> Work:
        """Return the work on the run. A worker builds it once.

        Raises:
            ValueError: if it builds other models or data than the run has.
        """
        if self.key not in _BUILT:
            _BUILT.clear()
            with suppress(OSError):  # a machine without this folder may have all files elsewhere
                os.chdir(self.home)
            rebuild, plan, identity = pickle.loads(self.content)  # noqa: S301 of the driver
            models, data = rebuild()
            job = Job(plan, models, data)
            if (job.identities, data.identity) != identity:
                raise ValueError(
                    f"worker on {socket.gethostname()} built other models or data than the run has:"
                    " the same source must build the same weights and samples on each machine"
                )
            _BUILT[self.key] = Work(job, TransferFolder(self.folder))
        return _BUILT[self.key]


_BUILT: dict[str, Work] = {}  # of this worker: for the newest run, by its key
