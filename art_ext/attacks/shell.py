"""Base class of the ART shells: conversion of arrays, ART's checks, the progress bar."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification.classifier import ClassGradientsMixin, ClassifierMixin
from art.estimators.estimator import BaseEstimator
from torch import Tensor, nn
from tqdm.auto import tqdm

from art_ext.attacks.estimator import EstimatorModel, check_scores
from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_flag
from art_ext.core.geometry import free_coordinates, norm_name
from art_ext.core.interruption import AttackInterrupted
from art_ext.core.keywords import CheckedKeywords, check_keywords
from art_ext.core.probe import ModelProbe, ProbeOnce
from art_ext.core.result import AttackResult, Progress

logger = logging.getLogger("art_ext")

GRADIENT_REQUIREMENTS = (BaseEstimator, ClassifierMixin, ClassGradientsMixin)


def class_indices(y: Any, count: int, nb_classes: int | None) -> Tensor | None:
    """ART's labels, (n,) or (n, 1) indices or (n, nb_classes) one-hot rows, as (n,) class indices.

    Raises:
        ValueError: for any other shape, or labels that are no integers.
    """
    if y is None:
        return None
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if (
        labels.shape[:1] != (count,)
        or labels.ndim > 2
        or (labels.ndim == 2 and labels.shape[1] != nb_classes)
    ):
        raise ValueError(
            f"y must have shape ({count},), ({count}, 1) or, one-hot, ({count}, {nb_classes}), got"
            f" {np.shape(y)}"
        )
    if labels.ndim == 2:
        labels = labels.argmax(axis=1)
    if labels.dtype.kind not in "biuf" or not bool(
        (np.isfinite(labels) & (labels == np.trunc(labels))).all()
    ):
        raise ValueError("y must hold integer class indices or one-hot rows")
    return torch.from_numpy(labels.astype(np.int64))


def check_class_order(estimator: BaseEstimator, y: Any) -> None:
    """Raise ValueError if y holds labels that are not the positions of the estimator's scores.

    scikit-learn sorts the labels that it is trained with, and its scores are in the order of
    ``classes_``.
    """
    classes = getattr(getattr(estimator, "_model", None), "classes_", None)
    if y is None or classes is None or np.ndim(classes) != 1:
        return
    one_hot = np.ndim(y) == 2 and np.shape(y)[1] > 1
    if one_hot or list(classes) == list(range(len(classes))):
        return
    some = np.asarray(classes).tolist()
    shown = ", ".join(map(repr, some[:10])) + (", ..." if len(some) > 10 else "")
    raise ValueError(
        f"y holds labels, but the estimator's scores are in the order of classes_ = [{shown}]: pass"
        " one-hot rows in this order, (np.asarray(y).reshape(-1, 1) =="
        " model.classes_).astype(float)"
    )


def as_tensor(value: Any) -> Tensor:
    """Copy an array or a list to a tensor. Numbers of any type, and bool, become float32.

    PyTorch itself accepts no mirrored views (``x[..., ::-1]``), other byte order or long doubles.
    """
    array = np.array(value, order="C")
    return torch.from_numpy(
        array.astype(np.float32, copy=False) if array.dtype.kind in "biuf" else array
    )


# that ART's own attacks take in ``generate``, so that its tools may pass them
ART_KEYWORDS = frozenset(
    {
        "cost_matrix",
        "early_stop",
        "foreground",
        "mask",
        "patch_points",
        "reset_patch",
        "resume",
        "shuffle",
        "sign",
        "starting_points",
        "x_adv_init",
        "x_init",
        "x_tar",
        "y_init",
    }
)


class CoreAttack(CheckedKeywords, EvasionAttack):
    """Base of the ART shells: a subclass names its parameters and says which core function to
    call.
    """

    _estimator_requirements: tuple[Any, ...] = (BaseEstimator, ClassifierMixin)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "verbose")

    def __init__(self, estimator: BaseEstimator, **parameters: Any) -> None:
        super().__init__(estimator=estimator)
        self._probe_once = ProbeOnce()
        for name, value in parameters.items():
            setattr(self, name, value)
        self._last_result: AttackResult | None = None
        self._check_params()

    @property
    def last_result(self) -> AttackResult | None:
        """The ``AttackResult`` of the latest ``generate`` or ``run``. None before the first."""
        return self._last_result

    def generate(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> np.ndarray:
        """Adversarial examples for x, as ART wants them: a float32 array of x's shape.

        Rows without success equal the input, or the last iterate where the attack has
        ``on_failure="last"``.

        Args:
            x: (n, *shape) inputs inside the estimator's ``clip_values``. They are never modified.
                Integers and bool are numbers in ``clip_values``, as for ART's own attacks.
            y: (n,), (n, 1) or one-hot (n, nb_classes) labels: what to leave or, if targeted, what
                to reach. None takes the estimator's own predictions. An estimator of scikit-learn
                whose ``classes_`` are not 0 to K - 1 takes one-hot rows only, in the order of
                ``classes_``.
            **kwargs: ``mask`` and what the attack adds. Those of ART's own attacks are ignored.

        Raises:
            TypeError: for any other keyword, with the nearest one.
        """
        # last_result stays true whatever the caller does with it
        return self.run(x, y, **kwargs).x_adv.numpy().copy()

    @outside_inference_mode()
    def run(self, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any) -> AttackResult:
        """Run the attack, and return the whole outcome: query counts, distances, verdicts (CPU
        tensors).

        Raises:
            AttackInterrupted: if the estimator's model raises ``ModelStopped``. ``last_result`` is
                its ``result`` then.
        """
        ignored = sorted(set(kwargs) & ART_KEYWORDS - set(self._generate_keywords))
        if ignored:
            logger.debug("%s ignores the keywords %s", type(self).__name__, ", ".join(ignored))
        unknown = [name for name in kwargs if name not in ignored]
        called = f"{type(self).__name__}.generate"
        check_keywords(called, unknown, self._generate_keywords)
        inputs = as_tensor(x)
        check_class_order(self.estimator, y)
        labels = class_indices(y, len(inputs), self.estimator.nb_classes)
        if self.targeted and labels is None:
            raise ValueError("Target labels `y` need to be provided for a targeted attack.")
        given = {name: kwargs.get(name) for name in self._generate_keywords}
        options = {
            name: None if value is None else as_tensor(value) for name, value in given.items()
        }
        with tqdm(
            total=len(inputs), desc=type(self).__name__, disable=None if self.verbose else True
        ) as bar:

            def advance(progress: Progress) -> None:
                bar.update(int(progress.finished.sum()))

            callback = None if bar.disable else advance  # what nobody sees is not computed
            model = EstimatorModel(self.estimator)
            found = self._probe(model, inputs)
            try:
                result = self._attack(model, inputs, labels, callback=callback, **options)
            except AttackInterrupted as stop:
                self._last_result = stop.result if found is None else found.charge(stop.result)
                raise
            result = result if found is None else found.charge(result)
        self._last_result = result
        logger.info(
            "Success rate of %s: %.2f%%",
            type(self).__name__,
            100 * float(result.success.float().mean()),
        )
        return result

    def _probe(self, model: EstimatorModel, x: Tensor) -> ModelProbe | None:
        """Test the estimator's answers for chance and for dependence on the batch, in the first
        call on it.
        """
        if not self.probe:
            return None
        return self._probe_once(
            self.estimator,
            model,
            x,
            outputs=getattr(self, "outputs", "logits"),
            batch_size=self.batch_size,
            clip_values=tuple(self.estimator.clip_values),
        )

    @property
    def _generate_keywords(self) -> tuple[str, ...]:
        """Arrays that ``generate`` takes besides x and y."""
        raise NotImplementedError

    def _attack(
        self, model: nn.Module, x: Tensor, labels: Tensor | None, **options: Any
    ) -> AttackResult:
        raise NotImplementedError

    def set_params(self, **kwargs: Any) -> None:
        """Set attack parameters. After a ValueError every parameter is as it was."""
        before = {name: getattr(self, name) for name in self.attack_params}
        try:
            super().set_params(**kwargs)
        except Exception:
            for name, value in before.items():
                setattr(self, name, value)
            raise

    def _check_params(self) -> None:
        super()._check_params()
        check_scores(self.estimator)
        if self.estimator.clip_values is None:
            raise ValueError(
                "the estimator needs clip_values, such as clip_values=(0, 1): guessing them from"
                " the data would make results depend on the batch"
            )
        for name in (*self._switches, "probe"):
            check_flag(name, getattr(self, name))
        # the rest is the core's to check: an attack on no sample asks the model nothing
        nothing = torch.empty(0, *self._sample_shape())
        labels = torch.empty(0, dtype=torch.int64)
        self._attack(
            EstimatorModel(self.estimator),
            nothing,
            labels,
            **dict.fromkeys(self._generate_keywords, nothing),
        )

    def _sample_shape(self) -> tuple[int, ...]:
        """Return the shape of a sample, if the estimator states it."""
        box = np.broadcast_shapes(*map(np.shape, self.estimator.clip_values))
        try:
            return np.broadcast_shapes(box, self.estimator.input_shape) or (1,)
        except (TypeError, ValueError):
            # unknown sides, or not the samples' shape: ART never looks at it
            return box or (1,)


class FunctionAttack(CoreAttack):
    """Base of the shells whose parameters are those of a core function but for their names.

    Attributes:
        _function: the core function.
        _core_names: its keywords by the shell's, where they differ.
        _inputs: its keywords for further arrays that ``generate`` takes, by the shell's.
        _replaced: by parameter, values that reach the function as another value.
        _targets: False if the function has no parameter ``targeted``.
    """

    _function: ClassVar[Callable[..., AttackResult]]
    _core_names: ClassVar[dict[str, str]] = {}
    _inputs: ClassVar[dict[str, str]] = {}
    _replaced: ClassVar[dict[str, dict[Any, Any]]] = {}
    _targets: ClassVar[bool] = True

    @property
    def _generate_keywords(self) -> tuple[str, ...]:
        return ("mask", *self._inputs)

    def _attack(
        self, model: nn.Module, x: Tensor, labels: Tensor | None, **options: Any
    ) -> AttackResult:
        function = type(self)._function
        settings = {
            self._core_names.get(name, name): self._value(name) for name in self.attack_params
        }
        for name in ("verbose", "probe"):
            settings.pop(name, None)
        settings["norm"] = norm_name(self.norm)
        settings["clip_values"] = tuple(self.estimator.clip_values)
        for name, core_name in self._inputs.items():
            settings[core_name] = self._input(name, options.pop(name), x)
        if not self._targets and settings.pop("targeted"):
            raise ValueError(f"{type(self).__name__} cannot be targeted: its page says why")
        if self._inputs and settings.pop("targeted", False):
            settings["targets"] = labels
            labels = None
        return function(model, x, labels, **{**settings, **options})

    def _value(self, name: str) -> Any:
        """Return the value of a parameter that reaches the core function."""
        value = getattr(self, name)
        others = self._replaced.get(name, {})
        return others[value] if isinstance(value, str) and value in others else value

    def _input(self, name: str, value: Tensor | None, x: Tensor) -> Tensor | None:
        """Return a further array, which a targeted attack needs.

        Raises:
            ValueError: if it is missing in a targeted attack, or not of x's shape.
        """
        if value is None and self.targeted:
            raise ValueError(
                f"targeted {type(self).__name__} needs generate(..., {name}=...), one input of the"
                " target class for each sample: the search itself hardly ever finds a given class"
            )
        if value is not None and value.shape != x.shape:
            raise ValueError(
                f"{name} must have x's shape {tuple(x.shape)}, got {tuple(value.shape)}"
            )
        return value


class ResizingAttack(FunctionAttack):
    """Base of the shells of attacks that may scale images: in the core, channels come first."""

    def _attack(
        self, model: nn.Module, x: Tensor, labels: Tensor | None, **options: Any
    ) -> AttackResult:
        if self.resize is None or getattr(self.estimator, "channels_first", True):
            return super()._attack(model, x, labels, **options)
        mask = options.pop("mask")
        if mask is not None:
            mask = free_coordinates(mask, x).view(-1, *x.shape[1:]).movedim(-1, 1)
        box = [
            np.moveaxis(np.broadcast_to(bound, x.shape[1:]), -1, 0).copy()
            if np.ndim(bound)
            else bound
            for bound in self.estimator.clip_values
        ]
        try:
            result = super()._attack(
                _ChannelsLast(model),
                x.movedim(-1, 1),
                labels,
                mask=mask,
                clip_values=tuple(box),
                **options,
            )
        except AttackInterrupted as stop:
            raise AttackInterrupted(
                str(stop), _channels_last(stop.result), stop.finished
            ) from stop.__cause__
        return _channels_last(result)


def _channels_last(result: AttackResult) -> AttackResult:
    """Return a result of images (C, H, W) as one of images (H, W, C)."""
    names = ("x_adv", "x_nearest")
    return replace(result, **{name: getattr(result, name).movedim(1, -1) for name in names})


class _ChannelsLast(nn.Module):
    """A model of images (H, W, C), called with images (C, H, W)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Tensor) -> Tensor:
        """(R, K) scores of rows (R, C, H, W)."""
        scores: Tensor = self.model(rows.movedim(1, -1))
        return scores

    def check_clean_outputs(self, scores: Tensor) -> None:
        """Run the check of the model inside."""
        EstimatorModel.check_clean_outputs(scores)
