"""Boundary distance, accuracy, success rate and queries of an attack result.

All functions take an untargeted ``AttackResult``, whose ``already_adversarial`` samples are the
misclassified ones. Fractions and means over no sample are NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from statistics import median as median_of

import torch
from torch import Tensor

from art_ext.core.geometry import exact_mean, within_ball
from art_ext.core.result import AttackResult


@dataclass(frozen=True)
class BoundaryDistance:
    """Average decision boundary distance (ADBD) of a model on some samples.

    Attributes:
        value: mean distance of the nearest adversarial found, in the units of x. NaN if no sample
            counts.
        left_out: number of samples without any adversarial found. They are not in the mean.
        count: number of samples in the mean, the misclassified ones (distance 0) included.
    """

    value: float
    left_out: int
    count: int


@dataclass(frozen=True)
class QueryStatistics:
    """Queries until success, over the correctly classified samples with a success.

    Attributes:
        count: number of these samples.
        mean: of the queries, the clean check included. NaN without a success.
        median: of the same queries.
        mean_without_check: mean without the query of the clean check.
        median_without_check: median without that query.
    """

    count: int
    mean: float
    median: float
    mean_without_check: float
    median_without_check: float


def adbd(result: AttackResult) -> BoundaryDistance:
    """Compute the average decision boundary distance.

    It is the mean of ``result.nearest_distance``, with 0 for misclassified samples. Samples with
    distance inf are omitted and counted.

    Args:
        result: of an attack that searches the nearest adversarial and spent its whole budget.

    Raises:
        ValueError: if the distances are not those of a search for the nearest adversarial. The
            attack stopped at the first success, or it does not search beyond eps.

    References:
        Jinghui Chen, Quanquan Gu, "RayS: A ray searching method for hard-label adversarial attack",
        KDD 2020.
    """
    nearest = _nearest_distance(result, "adbd")
    distance = torch.where(result.already_adversarial, 0.0, nearest)
    found = distance.isfinite()
    return BoundaryDistance(
        exact_mean(distance[found]), left_out=int((~found).sum()), count=int(found.sum())
    )


def clean_accuracy(result: AttackResult) -> float:
    """Compute the fraction of all samples that are classified correctly before the attack.

    Args:
        result: of any attack.
    """
    return exact_mean(~result.already_adversarial)


def robust_accuracy(result: AttackResult, eps: float | None = None) -> float:
    """Compute the fraction of all samples that are classified correctly without a success.

    It bounds the true robust accuracy from above, because a stronger attack may succeed more often.

    Args:
        result: of an untargeted attack.
        eps: radius of the ball. None takes the verdicts of the attack at its own eps. Another
            radius is read from ``result.nearest_distance``.

    Raises:
        ValueError: if eps is negative or NaN, or differs from the attack's and the distances do not
            cover it.
    """
    if eps is None or eps == result.eps:
        return exact_mean(~(result.already_adversarial | result.success))
    if not eps >= 0:
        raise ValueError(f"eps must be >= 0, got {eps!r}")
    nearest = _nearest_distance(
        result, f"robust accuracy at eps={eps:g} of an attack at eps={result.eps}"
    )
    return exact_mean(~(result.already_adversarial | within_ball(nearest, eps)))


def success_rate(result: AttackResult) -> float:
    """Compute the fraction of the correctly classified samples with a success.

    Args:
        result: of any attack.
    """
    return exact_mean(result.success[~result.already_adversarial])


def query_statistics(result: AttackResult) -> QueryStatistics:
    """Compute mean and median queries until success, over ``success & ~already_adversarial``.

    Both are given with and without the clean check.

    Args:
        result: of any attack.
    """
    success = result.success & ~result.already_adversarial
    queries = result.queries_to_success[success].tolist()
    if not queries:
        return QueryStatistics(0, math.nan, math.nan, math.nan, math.nan)
    # the papers' median of an even number of values is the mean of the middle two, unlike
    # torch.median's
    mean = fmean(queries)
    median = float(median_of(queries))
    return QueryStatistics(len(queries), mean, median, mean - 1, median - 1)


def _nearest_distance(result: AttackResult, what: str) -> Tensor:
    """Return the distances of the nearest adversarials that the whole budget could find.

    Raises:
        ValueError: if the attack stopped early, or does not search beyond its eps.
    """
    if result.stop_on_success:
        raise ValueError(
            f"{what} needs a search for the nearest adversarial: run the attack with"
            " stop_on_success=False"
        )
    if result.nearest_distance is None:
        raise ValueError(
            f"{what} needs an attack that searches beyond its eps for the nearest adversarial, such"
            " as rays"
        )
    return result.nearest_distance
