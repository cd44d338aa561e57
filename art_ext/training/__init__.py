"""Robust training: one loop, and a recipe per method. Needs the extra ``train`` (Accelerate).

from art_ext.training import BackwardSmoothing, train

recipe = BackwardSmoothing(eps=8 / 255)
result = train(model, (x, y), recipe, epochs=100, schedule="piecewise", validation=0.02)
"""

from art_ext.training.analysis import TrajectoryShift, trajectory_shift
from art_ext.training.callbacks import (
    TrackHessian,
    TrackLipschitz,
    TrackLossIncrement,
    TrackStability,
)
from art_ext.training.cost import Cost
from art_ext.training.extra import pseudo_labels
from art_ext.training.fixed_set import FixedSet, fixed_set
from art_ext.training.heads import Head, IdentityHead, MaxMahalanobis, ReverseLogits
from art_ext.training.history import EpochEnd
from art_ext.training.loop import train
from art_ext.training.options import TrainingOptions
from art_ext.training.recipes import (
    RECIPES,
    Adp,
    Atcd,
    BackwardSmoothing,
    Cat,
    Distillation,
    Fast,
    FastPlus,
    FastTrades,
    Free,
    GradAlign,
    Mmc,
    Mmlda,
    Natural,
    Pgd,
    Rce,
    Recipe,
    Trades,
    War,
    Yopo,
    YopoTrades,
    find_recipe,
    load_recipe,
    make_recipe,
)
from art_ext.training.result import TrainingResult
from art_ext.training.zeta import measure_zeta

__all__ = [
    "RECIPES",
    "Adp",
    "Atcd",
    "BackwardSmoothing",
    "Cat",
    "Cost",
    "Distillation",
    "EpochEnd",
    "Fast",
    "FastPlus",
    "FastTrades",
    "FixedSet",
    "Free",
    "GradAlign",
    "Head",
    "IdentityHead",
    "MaxMahalanobis",
    "Mmc",
    "Mmlda",
    "Natural",
    "Pgd",
    "Rce",
    "Recipe",
    "ReverseLogits",
    "TrackHessian",
    "TrackLipschitz",
    "TrackLossIncrement",
    "TrackStability",
    "Trades",
    "TrainingOptions",
    "TrainingResult",
    "TrajectoryShift",
    "War",
    "Yopo",
    "YopoTrades",
    "find_recipe",
    "fixed_set",
    "load_recipe",
    "make_recipe",
    "measure_zeta",
    "pseudo_labels",
    "train",
    "trajectory_shift",
]
