"""Our detectors for ART.

Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from art.estimators.classification import PyTorchClassifier
from art.estimators.estimator import BaseEstimator

from art_ext.core.detection.confidence import Confidence, NonMaximalEntropy
from art_ext.core.detection.kernel_density import KernelDensity
from art_ext.core.detection.knn import KNN
from art_ext.core.detection.mahalanobis import Mahalanobis
from art_ext.core.detection.squeezers import Squeezer
from art_ext.core.detection.squeezing import FeatureSqueezing
from art_ext.detectors.shell import CoreDetector

__all__ = [
    "ConfidenceDetector",
    "FeatureSqueezingDetector",
    "KNNDetector",
    "KernelDensityDetector",
    "MahalanobisDetector",
    "NonMaximalEntropyDetector",
]


class ConfidenceDetector(CoreDetector):
    """Low confidence of the prediction.

    ``art_ext.core.detection.Confidence`` documents the method. ``detector`` is the fitted one.

    | Paper link: https://arxiv.org/abs/1610.02136
    """

    _kind = Confidence
    defence_params: ClassVar[list[str]] = ["fpr", "calibration", "outputs", "seed"]

    def __init__(
        self,
        classifier: BaseEstimator,
        fpr: float = 0.05,
        calibration: float = 0.2,
        outputs: str = "logits",
        seed: int = 0,
    ) -> None:
        """Create the detector.

        Args:
            classifier: any ART classifier. Its preprocessing defences are applied.
            fpr: false-positive rate at which ``fit`` sets the threshold, in (0, 1).
            calibration: share of x that ``fit`` draws at random to set the threshold, in (0, 1).
            outputs: ``"logits"`` or ``"probabilities"``: the outputs of the classifier.
            seed: key of all random choices.
        """
        super().__init__(classifier, fpr=fpr, calibration=calibration, outputs=outputs, seed=seed)


class FeatureSqueezingDetector(CoreDetector):
    """Disagreement of the model with itself on squeezed copies of the input.

    ``art_ext.core.detection.FeatureSqueezing`` documents the method. ``detector`` is the fitted
    one.

    | Paper link: https://arxiv.org/abs/1704.01155
    """

    _kind = FeatureSqueezing
    defence_params: ClassVar[list[str]] = ["squeezers", "fpr", "calibration", "outputs", "seed"]

    def __init__(
        self,
        classifier: BaseEstimator,
        squeezers: str | Sequence[Squeezer | str] = "mnist",
        fpr: float = 0.05,
        calibration: float = 0.2,
        outputs: str = "logits",
        seed: int = 0,
    ) -> None:
        """Create the detector.

        Args:
            classifier: any ART classifier. Its preprocessing defences are applied.
            squeezers: name of a preset, or squeezers, each as an object or as a text such as
                ``"median(size=2)"``. Presets: ``"mnist"`` is 1 bit and a 2 x 2 median,
                ``"cifar10"`` 5 bits, a 2 x 2 median and non-local means (13, 3, 2). Default:
                ``"mnist"``.
            fpr: false-positive rate at which ``fit`` sets the threshold, in (0, 1).
            calibration: share of x that ``fit`` draws at random to set the threshold, in (0, 1).
            outputs: ``"logits"`` or ``"probabilities"``: the outputs of the classifier.
            seed: key of all random choices.
        """
        super().__init__(
            classifier,
            squeezers=squeezers,
            fpr=fpr,
            calibration=calibration,
            outputs=outputs,
            seed=seed,
        )


class NonMaximalEntropyDetector(CoreDetector):
    """Low entropy of the classes that are not predicted.

    ``art_ext.core.detection.NonMaximalEntropy`` documents the method. ``detector`` is the fitted
    one.

    | Paper link: https://arxiv.org/abs/1706.00633
    """

    _kind = NonMaximalEntropy
    defence_params: ClassVar[list[str]] = ["fpr", "calibration", "outputs", "seed"]

    def __init__(
        self,
        classifier: BaseEstimator,
        fpr: float = 0.05,
        calibration: float = 0.2,
        outputs: str = "logits",
        seed: int = 0,
    ) -> None:
        """Create the detector.

        Args:
            classifier: any ART classifier. Its preprocessing defences are applied.
            fpr: false-positive rate at which ``fit`` sets the threshold, in (0, 1).
            calibration: share of x that ``fit`` draws at random to set the threshold, in (0, 1).
            outputs: ``"logits"`` or ``"probabilities"``: the outputs of the classifier.
            seed: key of all random choices.
        """
        super().__init__(classifier, fpr=fpr, calibration=calibration, outputs=outputs, seed=seed)


class KernelDensityDetector(CoreDetector):
    """Low density of the features among training features of the predicted class.

    ``art_ext.core.detection.KernelDensity`` documents the method. ``detector`` is the fitted one.

    | Paper link: https://arxiv.org/abs/1703.00410
    """

    _kind = KernelDensity
    defence_params: ClassVar[list[str]] = [
        "num_kernels",
        "sigma2",
        "layer",
        "fpr",
        "calibration",
        "outputs",
        "seed",
    ]

    def __init__(
        self,
        classifier: PyTorchClassifier,
        num_kernels: int = 1000,
        sigma2: float | str = "median",
        layer: str | None = None,
        fpr: float = 0.05,
        calibration: float = 0.2,
        outputs: str = "logits",
        seed: int = 0,
    ) -> None:
        """Create the detector.

        Args:
            classifier: a ``PyTorchClassifier``, from whose network the features come.
            num_kernels: kernels of a class, drawn at random from its training images. A class with
                fewer gives all. Default: 1000.
            sigma2: bandwidth, the square of a length in the units of the features, or ``"median"``:
                the median of the squared distances between kernels of one class. The authors use
                3.846 for networks trained by cross-entropy and 0.385 for reverse cross-entropy.
            layer: name of the module whose output the features are. None: the input of the last
                linear layer.
            fpr: false-positive rate at which ``fit`` sets the threshold, in (0, 1).
            calibration: share of x that ``fit`` draws at random to set the threshold, in (0, 1).
            outputs: ``"logits"`` or ``"probabilities"``: the outputs of the classifier.
            seed: key of all random choices.
        """
        super().__init__(
            classifier,
            num_kernels=num_kernels,
            sigma2=sigma2,
            layer=layer,
            fpr=fpr,
            calibration=calibration,
            outputs=outputs,
            seed=seed,
        )


class KNNDetector(CoreDetector):
    """Distance of the features to the k-th nearest training features.

    ``art_ext.core.detection.KNN`` documents the method. ``detector`` is the fitted one.

    | Paper link: https://arxiv.org/abs/2204.06507
    """

    _kind = KNN
    defence_params: ClassVar[list[str]] = [
        "k",
        "num_features",
        "layer",
        "fpr",
        "calibration",
        "outputs",
        "seed",
    ]

    def __init__(
        self,
        classifier: PyTorchClassifier,
        k: int = 50,
        num_features: int = 10_000,
        layer: str | None = None,
        fpr: float = 0.05,
        calibration: float = 0.2,
        outputs: str = "logits",
        seed: int = 0,
    ) -> None:
        """Create the detector.

        Args:
            classifier: a ``PyTorchClassifier``, from whose network the features come.
            k: rank of the neighbour, at least 1. Default: 50.
            num_features: training features to keep, drawn at random. Default: 10,000.
            layer: name of the module whose output the features are. None: the input of the last
                linear layer.
            fpr: false-positive rate at which ``fit`` sets the threshold, in (0, 1).
            calibration: share of x that ``fit`` draws at random to set the threshold, in (0, 1).
            outputs: ``"logits"`` or ``"probabilities"``: the outputs of the classifier.
            seed: key of all random choices.
        """
        super().__init__(
            classifier,
            k=k,
            num_features=num_features,
            layer=layer,
            fpr=fpr,
            calibration=calibration,
            outputs=outputs,
            seed=seed,
        )


class MahalanobisDetector(CoreDetector):
    """Distance of the features to the nearest class mean, under a covariance that classes share.

    ``art_ext.core.detection.Mahalanobis`` documents the method. ``detector`` is the fitted one.

    | Paper link: https://arxiv.org/abs/1807.03888
    """

    _kind = Mahalanobis
    defence_params: ClassVar[list[str]] = [
        "shrinkage",
        "layer",
        "fpr",
        "calibration",
        "outputs",
        "seed",
    ]

    def __init__(
        self,
        classifier: PyTorchClassifier,
        shrinkage: float | str = "ledoit-wolf",
        layer: str | None = None,
        fpr: float = 0.05,
        calibration: float = 0.2,
        outputs: str = "logits",
        seed: int = 0,
    ) -> None:
        """Create the detector.

        Args:
            classifier: a ``PyTorchClassifier``, from whose network the features come.
            shrinkage: ``"ledoit-wolf"``, or the weight of the identity in [0, 1].
            layer: name of the module whose output the features are. None: the input of the last
                linear layer.
            fpr: false-positive rate at which ``fit`` sets the threshold, in (0, 1).
            calibration: share of x that ``fit`` draws at random to set the threshold, in (0, 1).
            outputs: ``"logits"`` or ``"probabilities"``: the outputs of the classifier.
            seed: key of all random choices.
        """
        super().__init__(
            classifier,
            shrinkage=shrinkage,
            layer=layer,
            fpr=fpr,
            calibration=calibration,
            outputs=outputs,
            seed=seed,
        )
