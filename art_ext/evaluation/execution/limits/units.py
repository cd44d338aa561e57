"""Units of work besides the attacks: the constant of one class, and the risk of one model."""

from __future__ import annotations

import math
import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from art_ext.core.limits import draw_latents, empirical_expansion, generator_lipschitz, risk_on
from art_ext.core.limits.risk import GeneratorRisk
from art_ext.core.oracle import Model
from art_ext.evaluation.execution.engines import Workers, started
from art_ext.evaluation.execution.executor import Distribution
from art_ext.evaluation.execution.job import Ended, Rebuild, Watcher
from art_ext.evaluation.execution.limits.plan import LimitsUnit
from art_ext.evaluation.execution.limits.settings import LimitsSettings
from art_ext.evaluation.execution.worker import end_each
from art_ext.evaluation.panel.resources import GeneratorSource
from art_ext.storage.limits import LimitsFolder


def run_unit(
    unit: LimitsUnit, generator: Any, models: Mapping[str, Model], settings: LimitsSettings
) -> dict[str, Any]:
    """Return the content of a unit's file.

    Raises:
        ValueError: as ``generator_lipschitz`` and ``risk_on``.
    """
    begun = time.perf_counter()
    if unit.model:
        found = _risk(unit.model, generator, models[unit.model], settings)
    else:
        found = _constant(unit, generator, settings)
    return {**found, "seconds": round(time.perf_counter() - begun, 3)}


def _risk(name: str, generator: Any, model: Model, settings: LimitsSettings) -> dict[str, Any]:
    risk = risk_on(model, generator, **settings.risk)
    return {
        "model": name,
        "wrong": [one.count for one in risk.classes],
        "samples": [one.total for one in risk.classes],
        "queries": risk.queries,
        "generator_rows": risk.generator_rows,
        "expansion": list(_expansions(risk, generator.latent_dim, settings.radius)),
    }


def _expansions(
    risk: GeneratorRisk, latent_dim: int, radius: float
) -> Iterator[dict[str, float | int]]:
    """Yield for each class with an error how many latents lie near one."""
    z = draw_latents(latent_dim, risk.y, risk.index, risk.seed)
    for label in risk.y[risk.wrong].unique().tolist():
        own = risk.y == label
        found = empirical_expansion(z[own], risk.wrong[own], radius)
        yield {
            "label": label,
            "latents": int(own.sum()),
            "risk": found.risk,
            "radius": radius,
            "share": float(found.share),
            "least": float(found.least),
        }


def _constant(unit: LimitsUnit, generator: Any, settings: LimitsSettings) -> dict[str, Any]:
    keywords = settings.lipschitz(unit.estimator)
    found = generator_lipschitz(generator, classes=[unit.label], **keywords)
    deviation = float(found.deviation[0])
    return {
        "estimator": unit.estimator,
        "label": unit.label,
        "value": float(found.value[0]),
        "deviation": None if math.isnan(deviation) else deviation,
        "repeats": found.repeats[0].tolist(),
        "local": found.local[0].tolist(),
        "residual": None if found.residual is None else float(found.residual.max()),
        "rows": int(found.rows[0] + found.backward_rows[0]),
        "is_largest": found.is_largest,
        "differentiation": found.differentiation,
        "num_latents": keywords["num_latents"],
        "num_neighbours": 0 if unit.estimator == "spectral" else keywords["num_neighbours"],
    }


class _Steps(Watcher):
    """Observer of workers that tells another one of units instead of chunks."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def chunks(self, done: int, total: int, robust: Mapping[str, float]) -> None:
        self.watcher.units(done, total)


def do_units(
    units: Sequence[LimitsUnit],
    folder: LimitsFolder,
    generator: Any,
    models: Mapping[str, Model],
    settings: LimitsSettings,
    watcher: Watcher,
) -> None:
    """Do the missing units in this process, and write each when it ends."""
    missing = [unit for unit in units if folder.read(unit.file) is None]
    for number, unit in enumerate(missing):
        watcher.units(number, len(missing))
        folder.write(unit.file, run_unit(unit, generator, models, settings))
    if missing:
        watcher.units(len(missing), len(missing))


def distribute_units(
    units: Sequence[LimitsUnit],
    folder: LimitsFolder,
    source: GeneratorSource,
    rebuild: Rebuild,
    settings: LimitsSettings,
    crew: Workers,
    watcher: Watcher,
) -> None:
    """Do the missing units on workers.

    Raises:
        ValueError: for units that fail. The others are done then.
    """
    names = {
        number: unit.title for number, unit in enumerate(units) if folder.read(unit.file) is None
    }
    if not names:
        return
    task = UnitTask(
        pickle.dumps((rebuild, source, settings, tuple(units))), uuid.uuid4().hex, folder.home
    )

    def complete(number: int) -> bool:
        return folder.read(units[number].file) is not None

    with started(crew, folder.path.absolute()) as begun:
        task = task.with_threads(begun.threads)
        Distribution(crew, begun, task, names, complete, _Steps(watcher)).run()


@dataclass(frozen=True)
class UnitTask:
    """Function of unit numbers that does these units, for workers. It pickles without a model.

    Attributes:
        content: pickled rebuild, generator source, settings and units.
        key: of the run, by which a worker keeps what it has built.
        folder: of the run.
        threads: of PyTorch.
        home: folder in which relative paths begin.
    """

    content: bytes
    key: str
    folder: str
    threads: int = 1
    home: str = field(default_factory=os.getcwd)

    def with_threads(self, threads: int) -> UnitTask:
        """Return the task for workers of so many threads."""
        return UnitTask(self.content, self.key, self.folder, threads, self.home)

    def __call__(self, numbers: Sequence[int]) -> list[Ended]:
        """Do the units. Errors are returned, so that other units of the task go on."""
        return end_each(numbers, self.threads, lambda number: self._built()(number))

    def _built(self) -> Callable[[int], None]:
        """Return the function that does a unit. A worker builds it once."""
        if self.key not in _BUILT:
            _BUILT.clear()
            with suppress(OSError):  # a machine without this folder may have all files elsewhere
                os.chdir(self.home)
            rebuild, source, settings, units = pickle.loads(self.content)  # noqa: S301 of the driver
            models, _ = rebuild()
            generator = source.load()
            folder = LimitsFolder(self.folder)

            def do(number: int) -> None:
                unit = units[number]
                folder.write(unit.file, run_unit(unit, generator, models, settings))

            _BUILT[self.key] = do
        return _BUILT[self.key]


_BUILT: dict[str, Callable[[int], None]] = {}  # of this worker: for the newest run, by its key
