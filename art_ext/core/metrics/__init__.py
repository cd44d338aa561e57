"""Robustness measures computed from attack results. No toolkit is needed."""

from art_ext.core.metrics.boundary import (
    BoundaryDistance,
    QueryStatistics,
    adbd,
    clean_accuracy,
    query_statistics,
    robust_accuracy,
    success_rate,
)
from art_ext.core.metrics.cases import case_distortions
from art_ext.core.metrics.chain import (
    Diversity,
    PairedInterval,
    TransferRate,
    acceptance_rate,
    all_or_nothing_success,
    diversity,
    paired_interval,
    transfer_success,
)
from art_ext.core.metrics.chain_statistics import ChainStatistics, chain_statistics
from art_ext.core.metrics.chance import chance_level, chance_warning
from art_ext.core.metrics.curvature import HessianEigenvalue, hessian_eigenvalue
from art_ext.core.metrics.detection import (
    DetectionMetrics,
    Rate,
    RejectionAccuracy,
    detection_metrics,
    rejection_accuracy,
    rejection_by_distance,
    rejection_by_fpr,
)
from art_ext.core.metrics.intervals import wilson
from art_ext.core.metrics.members import EnsembleDiversity, ensemble_diversity
from art_ext.core.metrics.smoothness import (
    LocalLipschitz,
    local_lipschitz,
    loss_increment,
    perturbation_stability,
)
from art_ext.core.metrics.transfer import TransferMatrix, transfer_matrix

__all__ = [
    "BoundaryDistance",
    "ChainStatistics",
    "DetectionMetrics",
    "Diversity",
    "EnsembleDiversity",
    "HessianEigenvalue",
    "LocalLipschitz",
    "PairedInterval",
    "QueryStatistics",
    "Rate",
    "RejectionAccuracy",
    "TransferMatrix",
    "TransferRate",
    "acceptance_rate",
    "adbd",
    "all_or_nothing_success",
    "case_distortions",
    "chain_statistics",
    "chance_level",
    "chance_warning",
    "clean_accuracy",
    "detection_metrics",
    "diversity",
    "ensemble_diversity",
    "hessian_eigenvalue",
    "local_lipschitz",
    "loss_increment",
    "paired_interval",
    "perturbation_stability",
    "query_statistics",
    "rejection_accuracy",
    "rejection_by_distance",
    "rejection_by_fpr",
    "robust_accuracy",
    "success_rate",
    "transfer_matrix",
    "transfer_success",
    "wilson",
]
