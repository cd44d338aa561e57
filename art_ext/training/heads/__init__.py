"""Heads: the way from a network's raw output to class scores."""

from art_ext.training.heads.base import (
    Head,
    HeadedModel,
    IdentityHead,
    adaptive_attacks,
    apply_head,
    heads_of,
)
from art_ext.training.heads.centres import max_mahalanobis_centres
from art_ext.training.heads.distilled import DistilledHead
from art_ext.training.heads.max_mahalanobis import MaxMahalanobis, MaxMahalanobisHead
from art_ext.training.heads.mean_probability import MeanProbability, MeanProbabilityHead
from art_ext.training.heads.networks import replace_last_linear
from art_ext.training.heads.registry import HEADS, rebuild_head, with_heads
from art_ext.training.heads.reverse import ReverseLogits, ReverseLogitsHead

__all__ = [
    "HEADS",
    "DistilledHead",
    "Head",
    "HeadedModel",
    "IdentityHead",
    "MaxMahalanobis",
    "MaxMahalanobisHead",
    "MeanProbability",
    "MeanProbabilityHead",
    "ReverseLogits",
    "ReverseLogitsHead",
    "adaptive_attacks",
    "apply_head",
    "heads_of",
    "max_mahalanobis_centres",
    "rebuild_head",
    "replace_last_linear",
    "with_heads",
]
