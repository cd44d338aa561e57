"""The Wilson interval against SciPy's, its defining equation, and what it refuses."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from art_ext.core.metrics import wilson
from art_ext.core.metrics.intervals import paired_difference


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


class TestPairedDifference:
    def test_equals_newcombes_example(self) -> None:
        low, high = paired_difference(36, 12, 2, 0)
        assert (round(low, 4), round(high, 4)) == (0.0569, 0.3404)

    def test_exchanging_the_two_mirrors_it(self) -> None:
        low, high = paired_difference(30, 9, 4, 7)
        assert paired_difference(30, 4, 9, 7) == pytest.approx((-high, -low))

    def test_equal_rates_leave_a_width(self) -> None:
        for counts in ((50, 0, 0, 0), (212, 0, 0, 10), (0, 3, 3, 0), (0, 0, 0, 1)):
            low, high = paired_difference(*counts)
            assert -1 <= low < 0 < high <= 1

    def test_it_covers_the_true_difference(self) -> None:
        chance = np.random.default_rng(0)
        for rates in ((0.4, 0.2, 0.1, 0.3), (0.5, 0.02, 0.05, 0.43), (0.0, 0.0, 0.1, 0.9)):
            draws = chance.multinomial(100, rates, size=1000)
            ends = [paired_difference(*map(int, draw)) for draw in draws]
            covered = np.mean([low <= rates[1] - rates[2] <= high for low, high in ends])
            assert 0.93 <= covered <= 0.99

    def test_no_trial_has_no_interval(self) -> None:
        assert all(map(math.isnan, paired_difference(0, 0, 0, 0)))

    def test_wrong_counts_are_errors(self) -> None:
        with pytest.raises(ValueError, match="only_a must be"):
            paired_difference(1, -1, 0, 0)
