"""Base of the ART trainers: conversion, checks, and the core's loop on the classifier's network."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from art.data_generators import DataGenerator
from art.defences.trainer import Trainer
from art.estimators.classification import PyTorchClassifier

from art_ext.configuration.options import options_of
from art_ext.core.checks import check_count, check_flag, nearest
from art_ext.core.keywords import HOST_KEYWORDS, CheckedKeywords
from art_ext.trainers.batches import Minibatches, as_samples, own_numpy_streams
from art_ext.trainers.classifier import ClassifierNetwork, check_classifier
from art_ext.training import Recipe, TrainingResult, train
from art_ext.training.options import Callback, TrainingOptions

_CORE_NAMES = {host: core for core, host in HOST_KEYWORDS["art"]["training"].items()}
_MORE = sorted(options_of(TrainingOptions, "art"))


class CoreTrainer(CheckedKeywords, Trainer):
    """Base of the ART trainers. A subclass defines the recipe and its parameters.

    The classifier's own network, optimizer, device and clip_values are used, and training
    differentiates through its preprocessing.
    """

    _recipe: ClassVar[type[Recipe]]

    def __init__(
        self, classifier: PyTorchClassifier, seed: int, verbose: bool, **parameters: Any
    ) -> None:
        check_classifier(type(self), classifier)
        super().__init__(classifier)
        check_count("seed", seed, least=0)
        check_flag("verbose", verbose)
        self.recipe = self._recipe(
            **{_CORE_NAMES.get(name, name): value for name, value in parameters.items()}
        )
        self.seed = seed
        self.verbose = verbose
        self._trained = classifier
        self._last_result: TrainingResult | None = None

    @property
    def last_result(self) -> TrainingResult | None:
        """The core's ``TrainingResult`` of the last ``fit`` or ``fit_generator``, or None.

        Its ``model`` is the user's own module. ``best`` holds the weights of the epoch with the
        best validation.
        """
        return self._last_result

    @property
    def history(self) -> list[dict[str, float]]:
        """Rows per epoch of the last ``fit`` or ``fit_generator``.

        A row holds loss, rate, validation, and rows forward and backward.
        """
        return [] if self._last_result is None else self._last_result.history

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        validation_data: tuple[np.ndarray, np.ndarray] | None = None,
        batch_size: int = 128,
        nb_epochs: int | None = None,
        scheduler: Any = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        resume: bool = False,
        callbacks: Iterable[Callback] = (),
        passes: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Train the classifier, in place or, if the class says so, a copy.

        Args:
            x: (n, *shape) inputs inside the classifier's ``clip_values``. They are never modified.
            y: (n,), (n, 1) or one-hot (n, nb_classes) labels.
            validation_data: (x, y) whose clean and robust accuracy is measured after each epoch.
            batch_size: samples of a minibatch. Each epoch has another order, by the seed.
            nb_epochs: number of epochs. None: 20, or the length that ``passes`` gives.
            scheduler: an object with ``.step()``, called after each epoch. None keeps the
                optimizer's rate. If ``.step()`` requires ``metrics``, as in ``ReduceLROnPlateau``,
                it gets the column of the history that ``schedule_metric`` names. If it requires
                ``epoch``, it gets the number of epochs done.
            checkpoint_dir: folder for checkpoints, history and weights. None writes nothing.
            resume: continue from the newest checkpoint in that folder.
            callbacks: functions of an ``EpochEnd``. Their results are entered into the history.
            passes: rows forward plus rows backward per training sample, instead of ``nb_epochs``.
            **kwargs: more keywords of ``art_ext.training.TrainingOptions``, such as
                ``label_smoothing``, ``ema``, ``augmentation``, ``precision``, ``validation_steps``,
                ``drop_last``, ``schedule_metric`` or ``schedule_every="update"``.

        Raises:
            ValueError: for data, labels or options that do not fit, and if the loss is not finite.
        """
        samples = as_samples(x, y, self.classifier.nb_classes)
        self._train(
            samples,
            validation_data,
            nb_epochs,
            passes,
            scheduler,
            batch_size=batch_size,
            checkpoint_dir=checkpoint_dir,
            resume=resume,
            callbacks=callbacks,
            **kwargs,
        )

    def fit_generator(
        self,
        generator: DataGenerator | Iterable[Any],
        nb_epochs: int | None = None,
        scheduler: Any = None,
        validation_data: tuple[np.ndarray, np.ndarray] | None = None,
        passes: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Train as ``fit``, on minibatches of a data generator or an iterable.

        The noise of crafting is keyed by a sample's bits here, and by its position in ``fit``. The
        two differ as two seeds do.

        Args:
            generator: an ART ``DataGenerator``, or any iterable with a length, of minibatches (x,
                y) as for ``fit``.
            nb_epochs: as in ``fit``.
            scheduler: as in ``fit``.
            validation_data: as in ``fit``.
            passes: as in ``fit``.
            **kwargs: ``checkpoint_dir``, ``resume``, ``callbacks`` and the further keywords of
                ``fit``.

        Raises:
            ValueError: as ``fit``.
        """
        if "batch_size" in kwargs:
            raise ValueError(
                "the generator decides the size of its minibatches, got batch_size as well"
            )
        batches = Minibatches(generator, self.classifier.nb_classes)
        self._train(batches, validation_data, nb_epochs, passes, scheduler, **kwargs)

    def predict(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> np.ndarray:
        """Return the classifier's predictions (n, nb_classes) for x (n, *shape)."""
        predictions: np.ndarray = self.classifier.predict(x, batch_size=batch_size, **kwargs)
        return predictions

    def _train(
        self,
        data: Any,
        validation_data: Any,
        nb_epochs: int | None,
        passes: float | None,
        scheduler: Any,
        **options: Any,
    ) -> None:
        if nb_epochs is not None and passes is not None:
            raise ValueError(
                f"pass one of nb_epochs and passes, got nb_epochs={nb_epochs} and passes={passes}"
            )
        if nb_epochs is None and passes is None:
            nb_epochs = 20
        for name in options:
            if name not in _MORE:
                raise ValueError(
                    f"there is no keyword {name!r}{nearest(name, _MORE)}: pass {', '.join(_MORE)}"
                )
        classifier = self.classifier
        held = validation_data
        if held is not None:
            held = as_samples(held[0], held[1], classifier.nb_classes, "y of validation_data")
        for name in ("append", "extra_data"):
            more = options.get(name)
            if isinstance(more, (tuple, list)) and len(more) == 2:
                inputs, labels = more
                if not isinstance(inputs, (str, os.PathLike)):
                    classes = classifier.nb_classes
                    options[name] = as_samples(inputs, labels, classes, f"y of {name}")
        with own_numpy_streams(self.seed):
            result = train(
                ClassifierNetwork(self._trained),
                data,
                self.recipe,
                epochs=nb_epochs,
                passes=passes,
                validation_data=held,
                optimizer=self._trained.optimizer,
                schedule=self._schedule(scheduler),
                seed=self.seed,
                clip_values=tuple(classifier.clip_values),
                device=classifier.device,
                progress=self.verbose,
                **options,
            )
        self._last_result = dataclasses.replace(result, model=classifier.model)

    def _schedule(self, scheduler: Any) -> Any:
        """Return the object that the loop steps.

        Raises:
            ValueError: if there is no ``.step()``.
        """
        if scheduler is None:
            return _Unchanged()
        if not callable(getattr(scheduler, "step", None)):
            raise ValueError(f"scheduler must have .step(), got {scheduler!r}")
        return scheduler


class _Unchanged:
    """Schedule that keeps the optimizer's current rate."""

    def step(self) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""
