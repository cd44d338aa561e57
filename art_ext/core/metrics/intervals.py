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
