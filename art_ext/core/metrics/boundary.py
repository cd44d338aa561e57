"""How far the decision boundary is, how many samples an attack broke, and what that cost it.

All functions read an untargeted ``AttackResult``: ``already_adversarial`` are the misclassified
    samples. Shares of
nothing (no sample, or no success to average over) are NaN.
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
    """The average decision boundary distance (ADBD) of a model on some samples.

    Attributes:
        value: mean distance of the nearest adversarial found, in the units of x; NaN if no sample
            counts.
        left_out: samples for which no adversarial was found at all; they are not in the mean.
        count: samples in the mean, the misclassified ones (distance 0) included.
    """

    value: float
    left_out: int
    count: int


@dataclass(frozen=True)
class QueryStatistics:
    """Queries until success, over the correctly classified samples that the attack broke.

    Attributes:
        count: number of these samples.
        mean, median: of the queries, the clean check included; NaN if there is no success.
        mean_without_check, median_without_check: the same less the one query of the clean check.
    """

    count: int
    mean: float
    median: float
    mean_without_check: float
    median_without_check: float


def adbd(result: AttackResult) -> BoundaryDistance:
    """Average decision boundary distance: mean ``result.nearest_distance``, with 0 for
    misclassified samples.

    Samples with distance inf are left out and counted.

    Raises:
        ValueError: for results whose distances are not those of a search for the nearest
            adversarial: the attack left samples at their first success, or never looks past eps.

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
    """Share of all samples that the model classifies correctly before the attack."""
    return exact_mean(~result.already_adversarial)


def robust_accuracy(result: AttackResult, eps: float | None = None) -> float:
    """Share of all samples that are classified correctly and that the attack did not break.

    It bounds the true robust accuracy from above: a stronger attack may break more.

    Args:
        result: of an untargeted attack.
        eps: radius of the ball. None takes the verdicts of the attack at its own eps; another
            radius is read from ``result.nearest_distance``.

    Raises:
        ValueError: if eps is negative or NaN, or differs from the attack's and the distances say
            nothing about it.
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
    """Share of the correctly classified samples that the attack broke (attack success rate)."""
    return exact_mean(result.success[~result.already_adversarial])


def query_statistics(result: AttackResult) -> QueryStatistics:
    """Mean and median queries until success, over ``success & ~already_adversarial``, with and
    without the check.
    """
    broken = result.success & ~result.already_adversarial
    queries = result.queries_to_success[broken].tolist()
    if not queries:
        return QueryStatistics(0, math.nan, math.nan, math.nan, math.nan)
    # of an even number of values the papers take the mean of the middle two, which torch.median
    # does not
    mean = fmean(queries)
    median = float(median_of(queries))
    return QueryStatistics(len(queries), mean, median, mean - 1, median - 1)


def _nearest_distance(result: AttackResult, what: str) -> Tensor:
    """Distances of the nearest adversarials that the whole budget could find.

    Raises:
        ValueError: if the attack stopped early, or never looks past its eps.
    """
    if result.stop_on_success:
        raise ValueError(
            f"{what} needs a search for the nearest adversarial: run the attack with"
            " stop_on_success=False"
        )
    if result.nearest_distance is None:
        raise ValueError(
            f"{what} needs an attack that looks past its eps for the nearest adversarial, such as"
            " rays"
        )
    return result.nearest_distance
