"""Losses of a row, from the class scores at an input and at the example crafted from it."""

from art_ext.training.objectives.base import (
    CrossEntropy,
    Objective,
    Regularised,
    divergence_terms,
    generalised_terms,
)
from art_ext.training.objectives.losses import (
    divergence,
    one_hot,
    smoothed_cross_entropy,
    soft_cross_entropy,
)

__all__ = [
    "CrossEntropy",
    "Objective",
    "Regularised",
    "divergence",
    "divergence_terms",
    "generalised_terms",
    "one_hot",
    "smoothed_cross_entropy",
    "soft_cross_entropy",
]
