"""Detectors of a run: one for each model, fitted and calibrated once, and kept in the folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_ext.core.checks import check_count
from art_ext.core.detection import Detector
from art_ext.core.detection.base import LEAST_CALIBRATION
from art_ext.core.detection.calibration import drawn
from art_ext.core.interruption import ModelStopped
from art_ext.core.metrics.detection import check_fpr
from art_ext.core.oracle import Model
from art_ext.core.streams import fingerprint
from art_ext.data import Dataset, Samples
from art_ext.errors import UserCodeError, describe, is_plain
from art_ext.storage.detectors import has_detector, read_facts, reading_detector, write_detector
from art_ext.storage.store import Store

if TYPE_CHECKING:
    from art_ext.evaluation.execution.job import Job
    from art_ext.evaluation.panel.attack import Settings
    from art_ext.evaluation.panel.detectors import Planned

FILE = "detector.safetensors"  # in the folder of a fitted detector


@dataclass(eq=False)
class Detection:
    """Detectors of the models of a run.

    Attributes:
        planned: by model, the detector that is to be fitted.
        fitted: by model, the fitted and calibrated detector. Empty before ``fit`` or ``load``.
        facts: by model, what is told of the fitted detector, in the types of JSON.
    """

    planned: Mapping[str, Planned]
    fitted: dict[str, Detector] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """Name of the detector of each model."""
        return {model: planned.name for model, planned in self.planned.items()}

    def of(self, model: str) -> Detector:
        """Return the fitted detector of a model."""
        return self.fitted[model]

    def load(self, store: Store, models: Mapping[str, Model], settings: Settings) -> bool:
        """Load the detectors that a run folder holds.

        Returns:
            True if the folder holds all of them. Nothing is loaded otherwise.

        Raises:
            ValueError: if a file is damaged, or was made for another model.
        """
        if not all(has_detector(store, number) for number in range(len(models))):
            return False
        for number, (name, model) in enumerate(models.items()):
            with reading_detector(store, number) as folder:
                self.fitted[name] = self.planned[name].load(folder / FILE, model, settings)
            self.facts[name] = read_facts(store, number)
        return True

    def store(self, store: Store, models: Mapping[str, Model], settings: Settings) -> bool:
        """Write the fitted detectors into a run folder, or load those of an earlier process.

        Returns:
            True if detectors of an earlier process with other thresholds were loaded.
        """
        for number, name in enumerate(models):
            write_detector(store, number, self.facts[name], _saving(self.fitted[name]))
        before = {name: facts["threshold"] for name, facts in self.facts.items()}
        self.load(store, models, settings)
        return any(facts["threshold"] != before[name] for name, facts in self.facts.items())

    def scores(self, model: str, x: Tensor) -> Tensor:
        """Return (K,) float32 scores of a model's detector for samples (K, *S), on the CPU.

        Raises:
            ValueError: if the detector fails. It may be the user's.
        """
        with _named(self.planned[model].name, model):
            return self.of(model).score(x).detach().cpu().float()

    def accepts(self, model: str, scores: Tensor) -> Tensor:
        """Return (K,) bool, True for scores (K,) that are at most the threshold."""
        return self.of(model).accepts(scores)


def _saving(detector: Detector) -> Any:
    return lambda folder: detector.save(folder / FILE)


def defended(
    models: Mapping[str, Model], planned: Sequence[Planned]
) -> tuple[dict[str, Model], Detection]:
    """Return each pair of a model and a detector under a name of its own.

    With one detector the names are those of the models.

    Args:
        models: by name.
        planned: the detectors.
    """
    pairs: dict[str, Model] = {}
    plans: dict[str, Planned] = {}
    for name, model in models.items():
        for one in planned:
            own = name if len(planned) == 1 else f"{name} + {one.name}"
            pairs[own] = model
            plans[own] = one
    return pairs, Detection(plans)


def with_detectors(job: Job, planned: Sequence[Planned]) -> Job:
    """Return a job whose models have these detectors. Without any, the job itself."""
    if not planned:
        return job
    models, detection = defended(job.models, planned)
    return replace(job, models=models, detection=detection)


@dataclass(frozen=True, eq=False)
class Fitting:
    """Data and rates by which the detectors of a run are fitted and calibrated.

    Attributes:
        fpr: wanted false-positive rate.
        calibration: number of calibration images.
        fit_data: clean training data. None: the detectors need none.
        calibration_data: clean images, from which the calibration images are drawn. None: there are
            none.
    """

    fpr: float
    calibration: int
    fit_data: Samples | None
    calibration_data: Samples | None

    @property
    def identity(self) -> dict[str, Any]:
        """Digests of the data."""
        return {name: data.identity for name, data in self._given.items()}

    @property
    def _given(self) -> dict[str, Samples]:
        """The data that there are, by name."""
        parts = {"fit_data": self.fit_data, "calibration_data": self.calibration_data}
        return {name: data for name, data in parts.items() if data is not None}

    def told(self, planned: Sequence[Planned]) -> dict[str, Any]:
        """Return the arguments of a run with these detectors, to record."""
        return {
            "detectors": [one.name for one in planned],
            "detector_args": {one.name: dict(one.arguments) for one in planned if one.arguments},
            "fpr": self.fpr,
            "calibration": self.calibration,
            **{name: data.name for name, data in self._given.items()},
        }

    def check(self, detection: Detection | None, data: Samples, outputs: str) -> None:
        """Raise ValueError unless the detectors can be fitted and calibrated.

        Args:
            detection: of the run. None: it has no detectors.
            data: the samples to attack.
            outputs: type of the models' outputs.
        """
        check_fpr(self.fpr)
        check_count("calibration", self.calibration, least=LEAST_CALIBRATION)
        if detection is None:
            if self.fit_data is not None:
                raise ValueError("fit_data are of detectors: give detectors (--detector) too")
            return
        if outputs == "labels":
            raise ValueError(
                "a detector needs scores, and a model with outputs='labels' returns class indices"
                " only: hand over a model that returns logits or probabilities"
            )
        for model, planned in detection.planned.items():
            if planned.fits and self.fit_data is None and planned.kind.needs_data:
                raise ValueError(
                    f"the detector {planned.name} learns from training data: give fit_data, such"
                    f" as --fit-data {data.name}, for the model {model}"
                )
        if any(planned.fits for planned in detection.planned.values()):
            self._pool(data)
        for name, other in self._given.items():
            if tuple(other.shape) != tuple(data.shape):
                raise ValueError(
                    f"{name} must hold samples of shape {tuple(data.shape)}, got"
                    f" {tuple(other.shape)}"
                )

    def fit(
        self, detection: Detection, models: Mapping[str, Model], data: Samples, settings: Settings
    ) -> None:
        """Fit the detector of each model, and set its threshold.

        Args:
            detection: of the run. It gets the fitted detectors.
            models: by name.
            data: the samples to attack, which calibrate nothing.
            settings: of the run.

        Raises:
            ValueError: if a detector cannot work with its model, or for too few images.
        """
        images = None
        for name, model in models.items():
            planned = detection.planned[name]
            with _named(planned.name, name):
                detector = self._fitted(planned, model, settings)
            if detector.threshold is None:
                images = self._calibration(data, settings.seed) if images is None else images
                with _named(planned.name, name):
                    detector.calibrate(images, self.fpr)
            detection.fitted[name] = detector
            detection.facts[name] = {
                "detector": planned.name,
                "fpr": detector.fpr,
                "threshold": detector.threshold,
                "scale": detector.scale,
                "rows": detector.rows,
                # it begins with their number
                **{
                    part: int(detector.data.get(part, "0").split()[0])
                    for part in ("fit", "calibration")
                },
                "attacked": attacked_of(detector, data),
            }

    def largest_rows(self, planned: Planned) -> int:
        """Return the largest number of rows that fitting and calibrating a detector sends."""
        pool = 0 if self.calibration_data is None else len(self.calibration_data)
        rows = min(pool, self.calibration) * planned.rows
        if planned.fits and planned.kind.needs_data and self.fit_data is not None:
            rows += len(self.fit_data)
        return rows

    def _fitted(self, planned: Planned, model: Model, settings: Settings) -> Detector:
        """Return a detector that is fitted to a model."""
        if planned.saved is not None:
            return planned.load(planned.saved, model, settings)
        detector = planned.make()
        if planned.fits:
            x, y = self._learning if detector.needs_data else (None, None)
            detector.fit(model, x, y, **settings.model_keywords)
        return detector

    @cached_property
    def _learning(self) -> tuple[Tensor, Tensor]:
        """The training data."""
        if self.fit_data is None:
            raise RuntimeError("check() has not been called")
        return self.fit_data.rows(0, len(self.fit_data))

    def _calibration(self, data: Samples, seed: int) -> Tensor:
        """Return the calibration images, drawn at random from clean images that are not attacked.

        Raises:
            ValueError: if there are too few.
        """
        pool = self._pool(data)
        places = drawn(len(pool), min(len(pool), self.calibration), seed)
        chosen = pool.take(places.sort().values)
        return chosen.rows(0, len(chosen))[0]

    def _pool(self, data: Samples) -> Samples:
        """Return the clean images that are not attacked.

        Raises:
            ValueError: if there are too few.
        """
        pool = self.calibration_data
        if isinstance(pool, Dataset) and isinstance(data, Dataset):
            pool = pool.take(~torch.isin(fingerprint(pool.x), fingerprint(data.x)))
        found = 0 if pool is None else len(pool)
        if pool is None or found < LEAST_CALIBRATION:
            raise ValueError(
                f"a detector is calibrated on at least {LEAST_CALIBRATION} clean images that are"
                f" not attacked, got {found}: attack fewer (--n), or give others"
                " (--calibration-data)"
            )
        return pool


def attacked_of(detector: Detector, data: Samples) -> int:
    """Return the number of attacked samples in memory that have set the threshold of a detector."""
    if detector.calibration_ids is None or not isinstance(data, Dataset):
        return 0
    return int(torch.isin(fingerprint(data.x).cpu(), detector.calibration_ids).sum())


@contextmanager
def _named(detector: str, model: str) -> Iterator[None]:
    """Turn errors of a detector, which may be the user's, into one that names it."""
    try:
        yield
    except ModelStopped:
        raise
    except Exception as error:
        where = f"the detector {detector} of the model {model!r}"
        if is_plain(error):
            raise ValueError(f"{where}: {describe(error)}") from error
        raise UserCodeError(f"{where} fails: {describe(error)}") from error
