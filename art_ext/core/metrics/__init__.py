"""Robustness measures that need no toolkit: they read what an attack gave back."""

from art_ext.core.metrics.boundary import (
    BoundaryDistance,
    QueryStatistics,
    adbd,
    clean_accuracy,
    query_statistics,
    robust_accuracy,
    success_rate,
)
from art_ext.core.metrics.chain import (
    Diversity,
    FoolingRate,
    PairedInterval,
    acceptance_rate,
    all_or_nothing_success,
    diversity,
    paired_interval,
    transfer_success,
)

__all__ = [
    "BoundaryDistance",
    "Diversity",
    "FoolingRate",
    "PairedInterval",
    "QueryStatistics",
    "acceptance_rate",
    "adbd",
    "all_or_nothing_success",
    "clean_accuracy",
    "diversity",
    "paired_interval",
    "query_statistics",
    "robust_accuracy",
    "success_rate",
    "transfer_success",
]
