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

__all__ = [
    "BoundaryDistance",
    "QueryStatistics",
    "adbd",
    "clean_accuracy",
    "query_statistics",
    "robust_accuracy",
    "success_rate",
]
