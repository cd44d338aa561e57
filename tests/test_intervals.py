"""The Wilson interval against SciPy's, its defining equation, and what it refuses."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats  # type: ignore[import-untyped]

from art_ext.core.metrics import wilson


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize(
    ("count", "total"), [(0, 1), (1, 1), (0, 200), (1, 200), (4, 194), (189, 200), (200, 200)]
)
def test_equals_scipys(count: int, total: int, confidence: float) -> None:
    expected = stats.binomtest(count, total).proportion_ci(confidence, method="wilson")
    assert wilson(count, total, confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


@pytest.mark.parametrize(("count", "total"), [(3, 7), (50, 10_000)])
def test_its_ends_are_the_shares_that_a_score_test_just_keeps(count: int, total: int) -> None:
    z = NormalDist().inv_cdf(0.975)
    for end in wilson(count, total):
        assert abs(count / total - end) == pytest.approx(z * math.sqrt(end * (1 - end) / total))


def test_counting_the_failures_mirrors_it() -> None:
    low, high = wilson(7, 40)
    assert wilson(33, 40) == pytest.approx((1 - high, 1 - low))


def test_none_and_all_touch_the_ends_exactly_and_leave_a_width() -> None:
    for total in (1, 3, 7, 49, 1000):
        assert wilson(0, total)[0] == 0.0 < wilson(0, total)[1] < 1.0
        assert 0.0 < wilson(total, total)[0] < 1.0 == wilson(total, total)[1]


def test_a_share_of_nothing_is_nan() -> None:
    assert all(math.isnan(end) for end in wilson(0, 0))


def test_counts_of_numpy_are_counts() -> None:
    assert wilson(np.int64(3), np.int64(9)) == wilson(3, 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 5), "count must be an integer >= 0, got -1"),
        ((6, 5), "count must not exceed total=5, got 6"),
        ((1.0, 5), "count must be an integer"),
        ((0, -1), "total must be an integer >= 0, got -1"),
        ((1, 5, 0.0), "confidence must lie between 0 and 1, got 0.0"),
        ((1, 5, 1.0), "confidence must lie between 0 and 1, got 1.0"),
        ((1, 5, math.nan), "confidence must lie between 0 and 1, got nan"),
        ((1, 5, "95%"), "confidence must be a number"),
    ],
)
def test_refuses(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wilson(*arguments)  # type: ignore[arg-type]
