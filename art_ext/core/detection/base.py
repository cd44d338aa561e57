"""The interface of detectors."""

from __future__ import annotations

import os
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from art_ext.core.checks import check_count, listed
from art_ext.core.detection.scoring import Answers, Scoring, given, raw_answers
from art_ext.core.features import FeatureTap
from art_ext.core.geometry import ClipValues
from art_ext.core.identity import describe_samples
from art_ext.core.losses import logits_of
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.samples import check_classes
from art_ext.core.streams import fingerprint
from art_ext.core.thresholds import threshold_of

__all__ = ["Answers", "Detector", "given"]

LEAST_CALIBRATION = 20  # images, below which no threshold is set
LEAST_SCALE = 1e-12  # a spread of scores, below which they count as equal
PROBES = 8  # images that a saved detector keeps, to compare the answers of a callable
Self = TypeVar("Self", bound="Detector")


class Detector(Scoring):
    """A score of an input that is larger for adversarial ones, and a threshold.

    An input is rejected if its score exceeds the threshold. ``fit`` binds the model and learns from
    clean training data. ``calibrate`` sets the threshold at a false-positive rate.

    A subclass defines ``name`` and ``measure``, and where it needs them ``variants`` and ``learn``.
    Each argument of its constructor is kept in an attribute of the same name.

    Attributes:
        needs_data: whether ``fit`` needs training data.
        attack_loss: the loss of attacks that know the detector and leave the choice to it:
            ``"selective"``, ``"penalty"``, ``"hinges"`` for detectors with variants, or
            ``"density"`` for those with ``class_excess``.
        learned: names of the attributes that ``learn`` sets, each a tensor.
        threshold: the largest accepted score. None before ``calibrate``.
        scale: interquartile range of the calibration scores, the unit of penalties in attacks.
        fpr: the false-positive rate that the threshold was set at. None before ``calibrate``.
        data: digests of the training and the calibration data, by ``"fit"`` and ``"calibration"``.
        probe: (n, *S) some of the inputs, n <= 8. None before ``fit`` and ``calibrate``.
        calibration_ids: (n,) int64 fingerprints of the inputs of ``calibrate``. None before it.
    """

    needs_data: ClassVar[bool] = False
    attack_loss: ClassVar[str] = "selective"
    learned: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.threshold: float | None = None
        self.scale = 1.0
        self.fpr: float | None = None
        self.data: dict[str, str] = {}
        self.probe: Tensor | None = None
        self.calibration_ids: Tensor | None = None

    def learn(self, outputs: Tensor, features: Tensor | None, y: Tensor) -> None:
        """Learn from clean training data.

        Args:
            outputs: (N, K) logits.
            features: (N, F), or None for a detector that needs none.
            y: (N,) int64 true classes.
        """
        raise NotImplementedError(f"{type(self).__name__} needs data and must define learn")

    def class_excess(self, features: Tensor | None, classes: Tensor) -> Tensor:
        """Return (r,) how suspicious features (r, F) are as those of classes (r,), at most 0 for
        typical ones.

        Detectors with ``attack_loss = "density"`` define it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no densities of classes")

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

        An earlier threshold is dropped. Each training input is one query.

        Args:
            model: an ``nn.Module``, or a callable from (R, *S) to class scores (R, K). Detectors
                that need features take an ``nn.Module`` only.
            x: (N, *S) clean training inputs. May be None for a detector that needs no data.
            y: (N,) true classes. May be None where x may be.
            outputs: what the model returns, ``"logits"`` or ``"probabilities"``.
            batch_size: maximum number of rows in one call of the model. Default: 256.
            clip_values: the box (lower, upper) of the inputs.
            device: device of the inputs, for models without parameters.

        Returns:
            The detector itself.

        Raises:
            ValueError: if the model shows too little, or the data do not suffice, hold NaN or leave
                the box.
        """
        check_count("batch_size", batch_size)
        self.model = model
        self.outputs = outputs
        self.batch_size = batch_size
        self.clip_values = clip_values
        self.device = device
        self.threshold = None
        self.fpr = None
        self.data = {}
        self.shape = None
        self.probe = None
        self.calibration_ids = None
        self.check_model(model)
        if x is not None:
            self.check_inputs(x)
        if not self.needs_data:
            return self
        if x is None or y is None:
            raise ValueError(f"{self.name} must be fitted to training data, got none")
        check_classes("y", y, len(x))
        learn_from(self, x, y.to(torch.int64))
        self.data["fit"] = describe_samples(x, y)
        self._keep(x)
        return self

    def check_model(self, model: Model) -> None:
        """Raise ValueError if the detector cannot work with the model.

        Raises:
            ValueError: if it returns labels only, or hides the features that the detector needs.
        """
        if self.outputs == "labels":
            raise ValueError(f"{self.name} needs scores, but outputs='labels' shows classes only")
        ScoreOracle(model, 0, outputs=self.outputs)
        if self.needs_features:
            FeatureTap(model, self.layer)

    def calibrate(self, x: Tensor, fpr: float = 0.05) -> float:
        """Set the threshold so that at most a share ``fpr`` of clean inputs is rejected.

        The threshold is the (n - floor(n fpr))-th smallest of n scores. Use clean images that
        neither the model nor the detector was trained on, and that are not attacked, drawn at
        random: ``art_ext.core.detection.calibration.drawn`` does so.

        Args:
            x: (n, *S) clean inputs, n >= 20. Below 1,000 the threshold is not reliable.
            fpr: the false-positive rate, in (0, 1). Default: 0.05.

        Returns:
            The threshold.

        Raises:
            ValueError: if fpr or n is out of range, x holds NaN or leaves the box, a score is NaN,
                or before ``fit``.
        """
        threshold = self.set_threshold(self.score(x), fpr)
        self.data["calibration"] = describe_samples(x, torch.zeros(len(x), dtype=torch.int64))
        self.calibration_ids = fingerprint(x).cpu()
        self._keep(x)
        return threshold

    def _keep(self, x: Tensor) -> None:
        """Keep the shape of inputs (n, *S), and some of the first inputs that are seen."""
        self.shape = tuple(x.shape[1:])
        if self.probe is None:
            self.probe = x[:PROBES].detach().float().cpu()

    def set_threshold(self, scores: Tensor, fpr: float = 0.05) -> float:
        """Set the threshold as ``calibrate`` does, from scores (n,) of clean inputs.

        Raises:
            ValueError: as ``calibrate``.
        """
        if len(scores) < LEAST_CALIBRATION:
            raise ValueError(
                f"calibration needs at least {LEAST_CALIBRATION} clean images, got {len(scores)}"
            )
        self.threshold = threshold_of(scores, fpr)
        ordered = scores.detach().float().sort().values
        low, high = (float(ordered[int(share * (len(scores) - 1))]) for share in (0.25, 0.75))
        self.scale = max(high - low, LEAST_SCALE)
        self.fpr = float(fpr)
        return self.threshold

    def accepts(self, scores: Tensor) -> Tensor:
        """Return (r,) bool, True where a score is at most the threshold. NaN is not.

        Raises:
            ValueError: before ``calibrate``.
        """
        if self.threshold is None:
            raise ValueError(f"{self.name} has no threshold: call calibrate(x) first")
        return scores.float() <= self.threshold

    def detect(self, x: Tensor) -> Tensor:
        """Return (N,) bool, True where an input (N, *S) is rejected: its score > threshold.

        Raises:
            ValueError: before ``fit`` or ``calibrate``.
        """
        return ~self.accepts(self.score(x))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the detector to one safetensors file, without the model. The write is atomic.

        The metadata hold its name, arguments and threshold as JSON, and digests of model and data.

        Raises:
            ValueError: before ``fit``.
            OSError: if the folder does not exist or cannot be written.
        """
        from art_ext.core.detection.saving import write_detector

        write_detector(self, path)

    @classmethod
    def load(
        cls: type[Self],
        path: str | os.PathLike[str],
        model: Model,
        *,
        batch_size: int = 256,
        device: torch.device | str | None = None,
    ) -> Self:
        """Read a detector that ``save`` wrote, for the same model.

        Args:
            path: the file.
            model: the model that the detector was fitted to.
            batch_size: maximum number of rows in one call of the model. Default: 256.
            device: device of the inputs, for models without parameters.

        Returns:
            A detector of the class that the file names. ``Detector.load`` takes any class in the
            list. A class of your own loads its own files.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if ``save`` did not write it, or it belongs to another model or class.
        """
        from art_ext.core.detection.saving import read_detector

        return read_detector(cls, path, model, batch_size=batch_size, device=device)


def learn_from(detector: Detector, x: Tensor, y: Tensor) -> None:
    """Send training data (N, *S) through the model, and let a detector learn from the answers.

    Raises:
        ValueError: without data, or for a class that the model does not have.
    """
    if not len(x):
        raise ValueError(f"{detector.name} must be fitted to training data, got no image")
    with detector.oracle(len(x)) as oracle:
        index = torch.arange(len(x), device=oracle.device)
        found = [
            (logits_of(outputs, oracle.outputs), features)
            for _, _, outputs, features in raw_answers(detector, oracle, x.detach(), index)
        ]
        outputs = torch.cat([logits for logits, _ in found])
        features = torch.cat([given(one) for _, one in found]) if detector.needs_features else None
        if int(y.max()) >= outputs.shape[1]:
            raise ValueError(
                f"y must hold class indices below {outputs.shape[1]}, the model's width, got"
                f" {int(y.max())}"
            )
        with torch.no_grad():
            detector.learn(outputs, features, y.to(oracle.device))


def class_counts(name: str, y: Tensor, num_classes: int) -> Tensor:
    """Return (K,) int64 numbers of training images of each class of the model.

    Raises:
        ValueError: if a class has none.
    """
    found = torch.bincount(y, minlength=num_classes)
    missing = listed(str(label) for label in (found == 0).nonzero().flatten().cpu().tolist())
    if missing:
        raise ValueError(
            f"{name} needs training images of every class, got none of class {missing}"
        )
    return found
