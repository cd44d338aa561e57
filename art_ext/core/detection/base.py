"""The interface of detectors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor

from art_ext.core.checks import check_count, check_number
from art_ext.core.features import FeatureTap
from art_ext.core.geometry import ClipValues
from art_ext.core.losses import logits_of
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.samples import check_classes, check_samples

LEAST_CALIBRATION = 20  # images, below which no threshold is set
LEAST_SCALE = 1e-12  # a spread of scores, below which they count as equal
Self = TypeVar("Self", bound="Detector")


class Answers(NamedTuple):
    """Outputs of the model and scores of a detector for R rows.

    Attributes:
        outputs: (R, K) outputs of the model, of the kind that the model returns.
        scores: (R,) float32 scores. A larger one is more suspicious.
    """

    outputs: Tensor
    scores: Tensor


class Detector(ABC):
    """A score of an input that is larger for adversarial ones, and a threshold.

    An input is rejected if its score exceeds the threshold. ``fit`` binds the model and learns
    from clean training data. ``calibrate`` sets the threshold at a false-positive rate.

    A subclass defines ``measure``, and where it needs them ``variants`` and ``learn``. Both are
    functions of tensors inside an autograd graph, so that attacks can use them.

    Attributes:
        name: key of the detector in the list.
        needs_features: whether ``measure`` gets features of the network.
        needs_data: whether ``fit`` needs training data.
        differentiable: whether the score has a gradient with respect to the input. A
            straight-through one counts.
        layer: name of the module whose output the features are. None: the input of the last linear
            layer.
        threshold: the largest accepted score. None before ``calibrate``.
        scale: interquartile range of the calibration scores, the unit of penalties in attacks.
        fpr: the false-positive rate that the threshold was set at. None before ``calibrate``.
        rows: number of rows through the model for one row, 1 and one for each variant.
    """

    name: ClassVar[str] = ""
    needs_features: ClassVar[bool] = False
    needs_data: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True

    def __init__(self) -> None:
        self.layer: str | None = None
        self.threshold: float | None = None
        self.scale = 1.0
        self.fpr: float | None = None
        self.rows = 1
        self.model: Model | None = None
        self.outputs = "logits"
        self.batch_size = 256
        self.clip_values: ClipValues | None = (0.0, 1.0)
        self.device: torch.device | str | None = None

    @abstractmethod
    def measure(
        self, outputs: Tensor, features: Tensor | None, further: tuple[Tensor, ...]
    ) -> Tensor:
        """Return (r,) scores. Row i depends on row i of the arguments only.

        Args:
            outputs: (r, K) logits of the rows.
            features: (r, F) features of the rows, or None for a detector that needs none.
            further: (r, K) logits of each variant of the rows.
        """

    def variants(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return further inputs (r, *S) that the model answers for rows (r, *S). Default: none."""
        return ()

    def learn(self, outputs: Tensor, features: Tensor | None, y: Tensor | None) -> None:
        """Learn from clean training data.

        Args:
            outputs: (N, K) logits.
            features: (N, F), or None for a detector that needs none.
            y: (N,) true classes, or None.
        """
        raise NotImplementedError(f"{type(self).__name__} needs data and must define learn")

    def fit(
        self: Self,
        model: Model,
        x: Tensor | None = None,
        y: Tensor | None = None,
        *,
        outputs: str = "logits",
        batch_size: int = 256,
        clip_values: ClipValues | None = (0.0, 1.0),
        device: torch.device | str | None = None,
    ) -> Self:
        """Bind a model, and learn from its answers to clean training data.

        An earlier threshold is dropped.

        Args:
            model: an ``nn.Module``, or a callable from (R, *S) to class scores (R, K).
            x: (N, *S) clean training inputs. May be None for a detector that needs no data.
            y: (N,) true classes. May be None where x may be.
            outputs: what the model returns, ``"logits"`` or ``"probabilities"``.
            batch_size: maximum number of rows in one call of the model.
            clip_values: the box (lower, upper) of the inputs.
            device: device of the inputs, for models without parameters.

        Raises:
            ValueError: if the model shows too little, or the data do not suffice.
        """
        check_count("batch_size", batch_size)
        self.model = model
        self.outputs = outputs
        self.batch_size = batch_size
        self.clip_values = clip_values
        self.device = device
        self.threshold = None
        self.fpr = None
        self.check_model(model)
        if self.needs_data:
            if x is None or y is None:
                raise ValueError(f"{self.name} must be fitted to training data, got x or y None")
            check_samples(x)
            check_classes("y", y, len(x))
            self._learn_from(x, y)
        return self

    def _learn_from(self, x: Tensor, y: Tensor) -> None:
        """Send training data (N, *S) through the model, and learn from the answers."""
        with self.oracle(len(x)) as oracle, torch.no_grad(), ExitStack() as stack:
            tap = None
            if self.needs_features:
                tap = stack.enter_context(oracle.features(self.layer))
            outputs = []
            features = []
            for start in range(0, len(x), oracle.batch_size):
                part = x[start : start + oracle.batch_size].detach().to(oracle.device).float()
                owner = torch.arange(start, start + len(part), device=oracle.device)
                outputs.append(logits_of(oracle.scores(part, owner), oracle.outputs))
                if tap is not None:
                    features.append(tap.take(len(part)))
            found = torch.cat(features) if features else None
            self.learn(torch.cat(outputs), found, y.to(oracle.device))

    def check_model(self, model: Model) -> None:
        """Raise ValueError if the detector cannot work with the model."""
        ScoreOracle(model, 0, outputs=self.outputs)
        if self.needs_features:
            FeatureTap(model, self.layer)

    def score(self, x: Tensor) -> Tensor:
        """Return (N,) float32 scores of inputs (N, *S). A larger one is more suspicious.

        Raises:
            ValueError: before ``fit``.
        """
        check_samples(x)
        return self.answers(x).scores

    def answers(self, x: Tensor) -> Answers:
        """Return the model's outputs and the scores of inputs (N, *S), from the same passes.

        Raises:
            ValueError: before ``fit``.
        """
        with self.oracle(len(x)) as oracle:
            rows = x.detach().to(oracle.device).float()
            return self.query(oracle, rows, torch.arange(len(rows), device=oracle.device))

    def oracle(self, num_samples: int) -> ScoreOracle:
        """Return an oracle of the model that the detector was fitted to.

        Raises:
            ValueError: before ``fit``.
        """
        if self.model is None:
            raise ValueError(f"{self.name} must be fitted before use: call fit(model, x, y)")
        return ScoreOracle(
            self.model,
            num_samples,
            outputs=self.outputs,
            batch_size=self.batch_size,
            clip_values=self.clip_values,
            device=self.device,
        )

    def query(self, oracle: ScoreOracle, rows: Tensor, index: Tensor) -> Answers:
        """Return outputs and scores of rows (R, *S), without a graph.

        Each row is charged ``rows`` queries: one for itself and one for each variant.

        Args:
            oracle: of the model that the detector was fitted to.
            rows: (R, *S) inputs.
            index: (R,) int64, the sample each row is charged to.
        """
        parts = []
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            tap = None
            if self.needs_features:
                tap = stack.enter_context(oracle.features(self.layer))
            for start in range(0, max(1, len(rows)), oracle.batch_size):
                part = rows[start : start + oracle.batch_size]
                owner = index[start : start + oracle.batch_size]
                outputs = oracle.scores(part, owner)
                features = None if tap is None else tap.take(len(part))
                further = tuple(
                    logits_of(oracle.scores(variant, owner), oracle.outputs)
                    for variant in self.variants(part)
                )
                scores = self.measure(logits_of(outputs, oracle.outputs), features, further)
                parts.append(Answers(outputs, scores.float()))
        return Answers(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def accepts(self, scores: Tensor) -> Tensor:
        """Return (r,) bool, True where a score is at most the threshold. NaN is not.

        Raises:
            ValueError: before ``calibrate``.
        """
        if self.threshold is None:
            raise ValueError(f"{self.name} has no threshold: call calibrate(x) before")
        return scores.float() <= self.threshold

    def detect(self, x: Tensor) -> Tensor:
        """Return (N,) bool, True where an input (N, *S) is rejected: its score > threshold.

        Raises:
            ValueError: before ``fit`` or ``calibrate``.
        """
        return ~self.accepts(self.score(x))

    def calibrate(self, x: Tensor, fpr: float = 0.05) -> float:
        """Set the threshold so that at most a share ``fpr`` of clean inputs is rejected.

        The threshold is the (n - floor(n fpr))-th smallest of n scores. Use clean images that
        neither the model nor the detector was trained on, and that are not attacked.

        Args:
            x: (n, *S) clean inputs, n >= 20. From a few images the threshold is unstable.
            fpr: the false-positive rate, in (0, 1).

        Returns:
            The threshold.

        Raises:
            ValueError: if fpr or n is out of range, a score is NaN, or before ``fit``.
        """
        check_samples(x)
        return self.set_threshold(self.score(x), fpr)

    def set_threshold(self, scores: Tensor, fpr: float = 0.05) -> float:
        """Set the threshold as ``calibrate`` does, from scores (n,) of clean inputs."""
        self.threshold = threshold_at(scores, fpr)
        quartiles = torch.quantile(
            scores.double().cpu(), torch.tensor([0.25, 0.75], dtype=torch.float64)
        )
        self.scale = max(float(quartiles[1] - quartiles[0]), LEAST_SCALE)
        self.fpr = float(fpr)
        return self.threshold


def threshold_at(scores: Tensor, fpr: float) -> float:
    """Return the smallest of n scores that at most a share ``fpr`` of them exceeds.

    Args:
        scores: (n,) scores of clean inputs, n >= 20.
        fpr: the false-positive rate, in (0, 1).

    Raises:
        ValueError: if fpr or n is out of range, or a score is NaN.
    """
    check_number("fpr", fpr)
    if not 0 < fpr < 1:
        raise ValueError(f"fpr must lie in (0, 1), got {fpr!r}")
    if len(scores) < LEAST_CALIBRATION:
        raise ValueError(
            f"calibration needs at least {LEAST_CALIBRATION} clean images, got {len(scores)}"
        )
    if bool(scores.isnan().any()):
        raise ValueError("the scores of clean images must be numbers, got NaN")
    rejected = math.floor(len(scores) * fpr + 1e-9)  # 1e-9: 0.05 is no binary fraction
    return float(scores.sort().values[len(scores) - rejected - 1])
