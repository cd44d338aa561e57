"""Detectors, for editors and type checkers.

Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those instead.
"""

from art_ext.core.detection import registry as registry
from art_ext.core.detection.base import Detector as Detector
from art_ext.core.detection.confidence import Confidence as Confidence
from art_ext.core.detection.confidence import NonMaximalEntropy as NonMaximalEntropy
from art_ext.core.detection.kernel_density import KernelDensity as KernelDensity
from art_ext.core.detection.knn import KNN as KNN
from art_ext.core.detection.mahalanobis import Mahalanobis as Mahalanobis
from art_ext.core.detection.registry import DetectorSpec as DetectorSpec
from art_ext.core.detection.registry import make_detector as make_detector
from art_ext.core.detection.scoring import Answers as Answers
from art_ext.core.detection.squeezing import FeatureSqueezing as FeatureSqueezing

__all__: list[str]
