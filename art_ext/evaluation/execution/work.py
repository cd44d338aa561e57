"""Work of one process on a run, chunk by chunk."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.calls import scope
from art_ext.core.oracle import Model
from art_ext.core.streams import fingerprint
from art_ext.data import Samples
from art_ext.data.reading import Reader
from art_ext.evaluation.execution.chunks import Chunk, clean_pass, images_of
from art_ext.evaluation.execution.detection import Detection, Fitting, with_detectors
from art_ext.evaluation.execution.job import (
    Blueprint,
    Ended,
    Job,
    Watcher,
    files_of_models,
    identity_of_job,
)
from art_ext.evaluation.execution.services import usage_of
from art_ext.evaluation.execution.units import (
    Tally,
    adversarial_before,
    ended,
    rows_of,
    run_unit,
    samples_to_attack,
)
from art_ext.evaluation.execution.worker import end_each
from art_ext.evaluation.panel.attack import Settings
from art_ext.models.factory import digest_of_file
from art_ext.models.remote import Usage
from art_ext.storage.chunks import ChunkWriter
from art_ext.storage.evaluation import RunFolder, open_run, read_run
from art_ext.storage.formats import EVALUATION
from art_ext.storage.ownership import OVERWRITE
from art_ext.storage.store import Place, Store
from art_ext.storage.units import Unit

if TYPE_CHECKING:
    import pyarrow as pa

    from art_ext.evaluation.execution.progress import RunProgress


@dataclass(eq=False)
class Work:
    """Work of one process on the chunks of a run.

    ``begin`` checks the folder and starts the run. ``do`` runs the missing units of one chunk.
    Chunks may be done in any order, by any process, and more than once.

    Attributes:
        job: of the run.
        folder: of the run.
        watcher: observer of the progress.
        samples: number of samples of this process, for the watcher.
        numbers: of the chunks that this process will do, in their order, to read ahead.
        fitting: data and rates by which detectors are fitted. None: they are loaded.
        progress: of the whole run. None: nobody watches it.
    """

    job: Job
    folder: RunFolder
    watcher: Watcher
    samples: int
    numbers: Sequence[int] = ()
    fitting: Fitting | None = None
    progress: RunProgress | None = None
    _clean: dict[int, Chunk] = field(default_factory=dict)
    _tallies: dict[int, Tally] = field(default_factory=dict)

    def begin(self, numbers: Iterable[int], overwrite: bool = False) -> None:
        """Check the folder and the first chunks, then start or continue the run in the folder.

        Args:
            numbers: of the chunks whose clean pass is made before anything is written.
            overwrite: as of ``RunFolder.begin``.

        Raises:
            ValueError: for a folder that is not free, or as ``clean_pass``.
        """
        continued = self.check(overwrite)
        numbers = list(numbers)
        if self.job.detection is not None and numbers:
            self._prepare(self.job.detection, continued)
        for number in numbers:
            self._clean[number] = self._clean_pass(number)
        for name in self.job.models if self._clean else ():
            right = torch.cat([~chunk.clean[name].wrong for chunk in self._clean.values()])
            self.watcher.clean(name, geometry.exact_mean(right))
        self.folder.begin(overwrite)
        if self.job.detection is not None and numbers and self.job.detection.store(*self._place):
            # another process has just fitted other detectors, by other kernels
            self._clean = {number: self._clean_pass(number) for number in numbers}
        for chunk in self._clean.values():
            self._check_records(chunk, self.folder.files.tables(chunk.number))

    @property
    def _place(self) -> tuple[Store, Mapping[str, Model], Settings]:
        """Store of the detectors of the run, its models, and its settings."""
        return self.folder.store, self.job.models, self.job.settings

    def _prepare(self, detection: Detection, continued: bool) -> None:
        """Load the detectors of the run that the folder holds, or fit them."""
        if continued and detection.load(*self._place):
            return
        if self.fitting is None:
            raise RuntimeError("only the process that begins a run fits its detectors")
        self.fitting.fit(detection, self.job.models, self.job.data, self.job.settings)

    def do(self, number: int) -> dict[str, tuple[int, int]]:
        """Run the missing units of a chunk, and write them.

        Returns:
            By model, the number of samples, and of those without a success within the largest eps.

        Raises:
            ValueError: as ``clean_pass`` and ``run_unit``, and for records of another model.
            OSError: if the folder cannot be written. Finished units are kept.
        """
        passed = self._clean.pop(number, None)
        chunk = passed or self._clean_pass(number)
        writer = self.folder.write_chunk(number)
        if passed is None:
            self._check_records(chunk, writer.tables)
        try:
            for unit in self.folder.units_of(number):
                self._do_unit(chunk, unit, writer)
        finally:
            writer.write()
        return {name: (len(clean.labels), clean.robust) for name, clean in chunk.clean.items()}

    def _do_unit(self, chunk: Chunk, unit: Unit, writer: ChunkWriter) -> None:
        """Run a unit, or read it if it has ended."""
        place = unit.place
        _, attack, radii = self.job.attack_runs[place]
        clean = chunk.clean[unit.model]
        self.watcher.start(unit.model, unit.attack, radii[-1], self.samples)
        if place not in self._tallies:
            self._tallies[place] = Tally(self.watcher, radii, self.progress)
        tally = self._tallies[place]
        self._tell_failures(unit.model, chunk)
        done = None
        if place in writer.tables:
            records = writer.tables[place]
            tally.skip(ended(records, unit), adversarial_before(self.job, clean, radii[-1]))
        else:
            if self.progress is not None:
                number = int(samples_to_attack(self.job, clean, unit, attack).sum())
                self.progress.begin(chunk.number, place, number, unit.title)
            with scope(unit.name):
                done = run_unit(self.job, chunk, unit, attack, tally)
            records = done.records
            if self.progress is not None:
                self.progress.end(*rows_of(records, unit))
        clean.count(records, chunk.samples.start)
        self._tell_failures(unit.model, chunk)
        if done is not None:
            # originals before adversarials, so that a write has both
            kept = [images["index"] for images in (*writer.of_units(), done.images) if images]
            writer.clean(chunk.facts, images_of(self.job, chunk, kept))
            writer.add(place, records, done.images, done.facts, done.states)

    def failures(self) -> list[tuple[str, int, int]]:
        """Return model, number of the chunk and number of samples that are not robust, of the
        chunks whose clean pass is made.
        """
        return [
            (name, chunk.number, len(clean.labels) - clean.robust)
            for chunk in self._clean.values()
            for name, clean in chunk.clean.items()
        ]

    def _tell_failures(self, model: str, chunk: Chunk) -> None:
        if self.progress is not None:
            clean = chunk.clean[model]
            self.progress.failed(model, chunk.number, len(clean.labels) - clean.robust)

    def _clean_pass(self, number: int) -> Chunk:
        start, stop = self.folder.chunks[number]
        x, y = self._reader.rows(start, stop)
        return clean_pass(self.job, number, slice(start, stop), x, y)

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.job.data, [self.folder.chunks[number] for number in self.numbers])

    def check(self, overwrite: bool) -> bool:
        """Raise ValueError unless the folder is free for this run.

        The message names the first sample that differs from those of another run.

        Returns:
            True if the folder holds the beginning, or all, of this very run.
        """
        try:
            return self.folder.check(overwrite)
        except ValueError as error:
            sample = _first_other_sample(self.folder, self.job.data)
            if sample is None:
                raise
            raise ValueError(f"{error}. Sample {sample} is the first that differs") from error

    def _check_records(self, chunk: Chunk, ended: Mapping[int, pa.Table]) -> None:
        """Raise ValueError unless the records of ended units are those of these samples and models.

        A callable must predict as in the records. Networks are compared by their weights.

        Args:
            chunk: after its clean pass.
            ended: the records of the units that have ended, by their place in the plan.
        """
        for table in list(ended.values())[:1]:
            before = _column(table, "id")
            differs = (before[: len(chunk.ids)] != chunk.ids.cpu()).nonzero()
            if len(differs):
                raise ValueError(
                    f"{self.folder.path} holds records of other data: sample"
                    f" {chunk.samples.start + int(differs[0])} is the first that differs. Choose"
                    f" another folder, or replace that run with {OVERWRITE}"
                )
        for unit in self.folder.units_of(chunk.number):
            if unit.place not in ended or isinstance(self.job.models[unit.model], torch.nn.Module):
                continue
            before = _column(ended[unit.place], "clean_prediction")
            now = chunk.clean[unit.model].predictions.repeat(len(unit.radii))
            differs = (before != now).nonzero()
            if len(differs):
                sample = unit.samples[0] + int(differs[0]) % (unit.samples[1] - unit.samples[0])
                raise ValueError(
                    f"{self.folder.path} holds records of another model {unit.model!r}: sample"
                    f" {sample} was answered otherwise. Choose another folder, or replace that run"
                    f" with {OVERWRITE}"
                )


def _column(table: pa.Table, name: str) -> Tensor:
    return torch.from_numpy(table[name].to_numpy().copy())


def _first_other_sample(folder: RunFolder, data: Samples) -> int | None:
    """Return the first sample that differs from the one in the records of a folder's run.

    None if the runs have other numbers of samples, or no sample with records differs.
    """
    run = read_run(folder.store)
    if run is None or not EVALUATION.reads(EVALUATION.of(run)):
        return None
    there = RunFolder(folder.store, run)
    if there.run["plan"]["samples"] != len(data) or there.run["identity"]["data"] == data.identity:
        return None
    for number, (start, stop) in enumerate(there.chunks):
        for table in list(there.files.tables(number).values())[:1]:
            x, y = data.rows(start, stop)
            rows = table.slice(0, stop - start)
            differs = _column(rows, "id") != fingerprint(x).cpu()
            differs |= _column(rows, "label") != y.cpu()
            if bool(differs.any()):
                return start + int(differs.nonzero()[0])
    return None


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
    folder: Place
    threads: int
    home: str = field(default_factory=os.getcwd)

    def __call__(self, numbers: Sequence[int]) -> list[Ended]:
        """Do the chunks. Errors are returned, so that other chunks of the task go on.

        A model that gives no further answers ends the task.
        """
        return end_each(
            numbers, self.threads, lambda number: self._work().do(number), lambda: self._usage
        )

    @property
    def _usage(self) -> Usage:
        """Rows that this worker sent to the services of the run."""
        return usage_of(_built[self.key].job) if self.key in _built else Usage()

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
            job = with_detectors(blueprint.job(), blueprint.detectors)
            run = open_run(self.folder)
            _check_built(job, run.run["identity"])
            detection = job.detection
            if detection and not detection.load(run.store, job.models, job.settings):
                raise ValueError(f"{run.path} holds no fitted detector: run the same command again")
            _built[self.key] = Work(job, run, Watcher(), 0)
        return _built[self.key]


_built: dict[str, Work] = {}  # of this worker: the work of the newest run, by its key


def _check_built(job: Job, identity: Mapping[str, Any]) -> None:
    """Raise ValueError unless a worker has built the models, data and own attacks of the run.

    Args:
        job: that the worker has built.
        identity: of the run, from ``run.json``.
    """
    for attack in job.panel:
        if attack.digest and digest_of_file(attack.file) != attack.digest:
            raise ValueError(
                f"worker on {socket.gethostname()} loaded another version of {attack.file} than the"
                f" run has: the file of the attack {attack.name!r} must be the same on each machine"
            )
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
    different += [
        name
        for name in ("generator", "latents")
        if built.get(name) != identity.get(name, built.get(name))
    ]
    known = identity.get("model_files", {})
    files = files_of_models(job)
    different += [
        f"file of model {name!r}" for name in files if files[name] != known.get(name, files[name])
    ]
    if different:
        raise ValueError(
            f"worker on {socket.gethostname()} built another {' and '.join(different)} than the run"
            " has: the same source must build the same weights and samples on each machine"
        )
