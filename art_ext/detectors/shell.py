"""Base of the ART detectors: conversion of arrays, ART's checks, the core's detector inside."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np
import torch
from art.defences.detector.evasion import EvasionDetector
from art.estimators.classification import PyTorchClassifier
from art.estimators.classification.classifier import ClassifierMixin
from art.estimators.estimator import BaseEstimator
from art.exceptions import EstimatorError
from torch import Tensor

from art_ext.attacks.estimator import EstimatorModel, check_scores
from art_ext.attacks.shell import as_tensor, check_class_order, class_indices
from art_ext.core.checks import check_choice, check_count, check_number, nearest
from art_ext.core.detection.base import Detector
from art_ext.core.detection.calibration import drawn
from art_ext.core.detection.registry import make_detector
from art_ext.core.features import feature_module
from art_ext.core.keywords import CheckedKeywords
from art_ext.core.thresholds import check_fpr

OUTPUTS = ("logits", "probabilities")


class CoreDetector(CheckedKeywords, EvasionDetector):
    """Base of the ART detectors. A subclass names the core's class and its parameters."""

    _kind: ClassVar[type[Detector]]
    defence_params: ClassVar[list[str]]
    fpr: float
    calibration: float
    outputs: str
    seed: int

    def __init__(self, classifier: BaseEstimator, **parameters: Any) -> None:
        super().__init__()
        wanted = PyTorchClassifier if self._kind.needs_features else ClassifierMixin
        if not isinstance(classifier, wanted):
            raise EstimatorError(type(self), (wanted,), classifier)
        self.classifier = classifier
        self._detector: Detector | None = None
        self.set_params(**parameters)

    @property
    def detector(self) -> Detector | None:
        """The core's detector of the latest ``fit``. None before the first."""
        return self._detector

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray | None = None,
        batch_size: int = 128,
        nb_epochs: int = 20,
        **kwargs: Any,
    ) -> None:
        """Fit the detector, and set its threshold on a random share of x.

        Give clean images that the classifier was not trained on. On its training images the
        threshold is too low for others.

        Args:
            x: (n, *shape) clean inputs. At least 20 are left for the threshold.
            y: (n,), (n, 1) or one-hot (n, nb_classes) labels. Only detectors that learn from data
                need them.
            batch_size: most rows in one call of the classifier.
            nb_epochs: not used. No detector is trained by epochs.
            **kwargs: none. ART's interface has them.

        Raises:
            ValueError: if the data do not suffice, or for an unknown keyword.
        """
        _check_no_more("fit", kwargs)
        check_count("batch_size", batch_size)
        check_scores(self.classifier)
        check_class_order(self.classifier, y)
        rows = as_tensor(x)
        labels = class_indices(y, len(rows), self.classifier.nb_classes)
        held = drawn(len(rows), int(self.calibration * len(rows)), self.seed)
        kept = torch.ones(len(rows), dtype=torch.bool)
        kept[held] = False
        detector = self._made()
        detector.fit(
            EstimatorModel(self.classifier),
            rows[kept],
            None if labels is None else labels[kept],
            outputs=self.outputs,
            batch_size=batch_size,
            clip_values=_box(self.classifier),
        )
        detector.calibrate(rows[held], self.fpr)
        self._detector = detector

    def detect(
        self, x: np.ndarray, batch_size: int = 128, **kwargs: Any
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Score inputs, and reject those above the threshold.

        Args:
            x: (n, *shape) inputs.
            batch_size: most rows in one call of the classifier.
            **kwargs: none. ART's interface has them.

        Returns:
            A report with ``scores`` (n,), ``threshold``, and ``predictions`` (n, nb_classes) of the
            classifier, and (n,) bool, True where an input is rejected.

        Raises:
            ValueError: before ``fit``, or for an unknown keyword.
        """
        _check_no_more("detect", kwargs)
        check_count("batch_size", batch_size)
        detector = self._detector
        if detector is None:
            raise ValueError(f"{type(self).__name__} must be fitted before use: call fit(x, y)")
        detector.batch_size = batch_size
        found = detector.answers(as_tensor(x))
        report = {
            "scores": _as_array(found.scores),
            "threshold": detector.threshold,
            "predictions": _as_array(found.outputs),
        }
        return report, _as_array(~detector.accepts(found.scores))

    def set_params(self, **kwargs: Any) -> None:
        """Set parameters, and check them. The detector has to be fitted again.

        Raises:
            ValueError: for an unknown parameter, with the nearest known one, or a value out of
                range. Nothing is changed then.
        """
        for name in kwargs:
            if name not in self.defence_params:
                raise ValueError(
                    f"{type(self).__name__} has no parameter {name!r}"
                    f"{nearest(name, self.defence_params)}: it has {', '.join(self.defence_params)}"
                )
        before = dict(self.__dict__)
        self.__dict__.update(kwargs)
        try:
            self._check_params()
        except (ValueError, ImportError):
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        self._detector = None

    def _check_params(self) -> None:
        check_fpr(self.fpr)
        check_number("calibration", self.calibration)
        if not 0 < self.calibration < 1:
            raise ValueError(f"calibration must lie in (0, 1), got {self.calibration!r}")
        check_choice("outputs", self.outputs, OUTPUTS)
        check_count("seed", self.seed, least=0)
        self._made()

    def _made(self) -> Detector:
        """Return the core's detector for the parameters, not fitted."""
        known = inspect.signature(self._kind).parameters
        detector = make_detector(self._kind, {name: getattr(self, name) for name in known})
        if detector.needs_features and detector.layer is not None:
            # names are those of the user's own module
            name, _ = feature_module(self.classifier.model, detector.layer)
            detector.layer = f"networks.0._model.{name}"
        return detector


def _check_no_more(method: str, keywords: dict[str, Any]) -> None:
    """Raise ValueError if there is a keyword left."""
    for name in keywords:
        raise ValueError(f"{method} has no keyword {name!r}")


def _box(classifier: BaseEstimator) -> tuple[float, float] | None:
    """Return the classifier's ``clip_values`` as two numbers, or None without such."""
    if classifier.clip_values is None:
        return None
    low, high = (np.unique(bound) for bound in classifier.clip_values)
    return (float(low[0]), float(high[0])) if len(low) == len(high) == 1 else None


def _as_array(value: Tensor) -> np.ndarray:
    array: np.ndarray = value.detach().cpu().numpy()
    return array
