"""Losses of a row, from the class scores at an input and at the example crafted from it."""

from art_ext.training.objectives.base import (
    CrossEntropy,
    Mixture,
    Objective,
    OfScores,
    Regularised,
    divergence_terms,
    generalised_terms,
)
from art_ext.training.objectives.losses import (
    ScoreLoss,
    divergence,
    mmc,
    mmlda,
    one_hot,
    rce,
    smoothed_cross_entropy,
    soft_cross_entropy,
)

__all__ = [
    "CrossEntropy",
    "Mixture",
    "Objective",
    "OfScores",
    "Regularised",
    "ScoreLoss",
    "divergence",
    "divergence_terms",
    "generalised_terms",
    "mmc",
    "mmlda",
    "one_hot",
    "rce",
    "smoothed_cross_entropy",
    "soft_cross_entropy",
]
