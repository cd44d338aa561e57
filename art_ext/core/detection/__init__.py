"""Detectors of adversarial examples: a score of an input, and a threshold."""

from art_ext.core.detection.base import Answers, Detector
from art_ext.core.detection.confidence import Confidence
from art_ext.core.detection.squeezing import FeatureSqueezing

__all__ = ["Answers", "Confidence", "Detector", "FeatureSqueezing"]
