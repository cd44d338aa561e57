"""Confidence intervals of counted rates."""

from __future__ import annotations

import math
from statistics import NormalDist

from art_ext.core.checks import check_count, check_number


def wilson(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the Wilson score interval of ``count`` successes in ``total`` independent trials.

    With p = count / total, n = total and z the normal quantile at (1 + confidence) / 2, its ends
    are the rates q with |p - q| = z sqrt(q (1 - q) / n):

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).

    It stays inside [0, 1], and has a positive width even if none or all succeeded.

    Args:
        count: number of successes.
        total: number of trials. 0 gives (NaN, NaN), as for other rates of no sample.
        confidence: probability that such an interval covers the true rate, between 0 and 1.

    Returns:
        (low, high).

    Raises:
        ValueError: if the numbers are not counts, count exceeds total, or confidence lies outside
            (0, 1).

    References:
        Edwin B. Wilson, "Probable inference, the law of succession, and statistical inference",
        1927.
    """
    check_count("total", total, least=0)
    check_count("count", count, least=0)
    if count > total:
        raise ValueError(f"count must not exceed total={total}, got {count}")
    check_number("confidence", confidence)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}")
    if not total:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = count / total
    middle = rate + z**2 / (2 * total)
    spread = z * math.sqrt(rate * (1 - rate) / total + (z / (2 * total)) ** 2)
    scale = 1 + z**2 / total
    # at the ends of [0, 1] the formula is exact, floating point is not
    low = 0.0 if count == 0 else (middle - spread) / scale
    high = 1.0 if count == total else (middle + spread) / scale
    return low, high


def paired_difference(
    both: int, only_a: int, only_b: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Compute a score interval of the difference of two rates over the same trials.

    The difference is that of a's rate p_a = (both + only_a) / n and b's rate p_b. With the Wilson
    intervals (l, u) of both rates and the correlation phi of the trials, its ends are

        p_a - p_b - sqrt((p_a - l_a)^2 - 2 phi (p_a - l_a) (u_b - p_b) + (u_b - p_b)^2),
        p_a - p_b + sqrt((u_a - p_a)^2 - 2 phi (u_a - p_a) (p_b - l_b) + (p_b - l_b)^2).

    A positive phi is corrected for continuity.

    Args:
        both, neither: numbers of trials with a success of both, and of none.
        only_a, only_b: numbers of trials with a success of one alone.
        confidence: probability that such an interval covers the true difference, between 0 and 1.

    Returns:
        (low, high), inside [-1, 1]. Without a trial (NaN, NaN).

    Raises:
        ValueError: if the numbers are not counts, or confidence lies outside (0, 1).

    References:
        Robert G. Newcombe, "Improved confidence intervals for the difference between binomial
        proportions based on paired data", 1998 (method 10).
    """
    counts = {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}
    for name, count in counts.items():
        check_count(name, count, least=0)
    total = sum(counts.values())
    if not total:
        return math.nan, math.nan
    rate_a = (both + only_a) / total
    rate_b = (both + only_b) / total
    low_a, high_a = wilson(both + only_a, total, confidence)
    low_b, high_b = wilson(both + only_b, total, confidence)
    product = both * neither - only_a * only_b
    margins = (both + only_a) * (neither + only_b) * (both + only_b) * (neither + only_a)
    corrected = max(product - total / 2, 0.0) if product > 0 else float(product)
    phi = corrected / math.sqrt(margins) if margins else 0.0

    def distance(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    difference = rate_a - rate_b
    low = difference - distance(rate_a - low_a, high_b - rate_b)
    high = difference + distance(high_a - rate_a, rate_b - low_b)
    return max(-1.0, low), min(1.0, high)
