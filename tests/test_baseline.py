"""Models against a baseline: paired differences, distances, and samples that one of them loses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from art_ext.core.metrics.intervals import paired_difference
from art_ext.evaluation.analysis.baseline import CELLS, MOST, against, find_baseline
from art_ext.evaluation.analysis.compare import compare, mcnemar
from art_ext.evaluation.analysis.together import name_apart


def two_runs(make_run: Any, **other: Any) -> list[Any]:
    first = make_run(
        {"m": {"x": {0.1: {1}, 0.2: {1, 2, 3}}}}, wrong={"m": {0}}, name="a", samples=12
    )
    second = make_run(
        {"m": {"x": {0.1: {1, 4}, 0.2: {2, 4, 5}}}},
        **{"wrong": {"m": {6}}, "name": "b", "samples": 12, **other},
    )
    return name_apart([first, second])


def test_differences_are_paired(make_run: Any) -> None:
    (one,) = against(two_runs(make_run))
    clean, small, large = one.entries
    assert (clean.eps, small.eps, large.eps) == (None, 0.1, 0.2)
    assert (clean.value, clean.baseline) == (11 / 12, 11 / 12)
    assert (large.value, large.baseline) == (7 / 12, 8 / 12)
    assert large.paired is not None
    assert large.paired.difference == pytest.approx(-1 / 12)
    # the baseline alone loses 0 and 3, the model alone 4, 5 and 6, and both lose 1 and 2
    assert (one.lost_by_model, one.lost_by_baseline) == (3, 2)
    assert (large.paired.low, large.paired.high) == paired_difference(5, 2, 3, 2)
    assert large.paired.p_value == mcnemar(2, 3)


def test_differences_are_those_of_compare(make_run: Any) -> None:
    first, second = two_runs(make_run)
    (one,) = against([first, second])
    pairs = compare(first, second).pairs
    for pair, entry in zip(pairs, one.entries[1:], strict=True):
        assert (pair.eps, pair.robust_b, pair.robust_a) == (entry.eps, entry.value, entry.baseline)
        assert entry.paired is not None
        assert pair.p_value == entry.paired.p_value


def test_repeated_and_shuffled_samples_meet_by_their_ids(make_run: Any) -> None:
    ids = [7, 7, 3, 9]
    first = make_run({"m": {"x": {0.1: {0, 2}}}}, samples=4, ids=ids, name="a")
    second = make_run({"n": {"x": {0.1: {1, 2}}}}, samples=4, ids=[3, 7, 7, 9], name="b")
    (one,) = against([first, second])
    assert [(lost.model, lost.index, lost.other_index) for lost in one.lost] == [
        ("n", 2, 1),
        ("m", 2, 0),
    ]


@pytest.mark.parametrize(
    ("other", "clean", "robust"),
    [
        ({"ids": list(range(12))}, "other samples: 0 of 12", "other samples"),
        ({"labels": [0] * 11 + [1]}, "other labels of 1 sample", "other labels"),
        ({"targeted": "next"}, "other targets", "other targets"),
        ({"norm": "l2"}, "", "L2 instead of L-infinity"),
    ],
)
def test_reasons_for_no_comparison(
    make_run: Any, other: dict[str, Any], clean: str, robust: str
) -> None:
    (one,) = against(two_runs(make_run, **other))
    first, *others = one.entries
    assert first.reason.startswith(clean)
    assert (first.paired is None) == bool(clean)
    assert all(entry.reason.startswith(robust) and entry.paired is None for entry in others)
    assert one.distances is None
    assert one.lost == ()
    assert all(0 <= entry.value <= 1 for entry in one.entries)


def test_an_eps_that_the_baseline_lacks(make_run: Any) -> None:
    first = make_run({"m": {"x": {0.1: {1}}}}, name="a")
    second = make_run({"n": {"x": {0.1: {1}, 0.3: {2}}}}, name="b")
    (one,) = against([first, second])
    assert [entry.reason for entry in one.entries] == [
        "",
        "",
        "the baseline was not attacked at 0.3",
    ]
    assert one.eps == 0.1


def test_models_of_one_run_are_compared_too(make_run: Any) -> None:
    one = make_run({"m": {"x": {0.1: {1}}}, "n": {"x": {0.1: {1, 2}}}})
    assert [(each.model, each.lost_by_model) for each in against([one])] == [("n", 1)]
    assert [each.model for each in against([one], "n")] == ["m"]
    assert against([make_run({"m": {"x": {0.1: {1}}}})]) == []


def test_distances_are_counted_in_cells(make_run: Any) -> None:
    one = make_run({"m": {"x": {0.1: {1}}}, "n": {"x": {0.1: {1, 2}}}}, wrong={"m": {0}})
    (each,) = against([one])
    assert each.distances is not None
    counts = each.distances.counts
    near = int(0.09 / each.distances.end * CELLS)
    assert counts.shape == (CELLS + 1, CELLS + 1)
    assert counts.sum() == 10
    assert (counts[near, near], counts[CELLS, near], counts[0, CELLS]) == (1, 1, 1)
    assert counts[CELLS, CELLS] == 7


def test_lost_samples_are_the_first_of_each_kind(make_run: Any) -> None:
    many = {"m": {"x": {0.1: set(range(20, 60))}}, "n": {"x": {0.1: set(range(20))}}}
    (each,) = against([make_run(many, samples=80)])
    assert [lost.index for lost in each.lost] == [*range(6), *range(20, 26)]
    assert len(each.lost) == MOST
    few = {"m": {"x": {0.1: set(range(20, 60))}}, "n": {"x": {0.1: {3}}}}
    (each,) = against([make_run(few, samples=80)])
    assert [lost.index for lost in each.lost] == [3, *range(20, 31)]


def test_an_unknown_baseline_names_the_nearest_model(make_run: Any) -> None:
    one = make_run({"natural": {"x": {0.1: {1}}}, "robust": {"x": {0.1: {1, 2}}}})
    with pytest.raises(ValueError, match=r"'natural', 'robust', got 'rubost' .*mean 'robust'"):
        find_baseline([one], "rubost")


def test_thousands_of_disagreements_have_the_same_p_value() -> None:
    for n in (1000, 2000):
        assert mcnemar(n, n + 90) == pytest.approx(mcnemar(n + 90, n))
    exact, summed = mcnemar(960, 1040), mcnemar(961, 1040)
    assert 0.9 < exact / summed < 1.1


def test_merged_runs_match_their_samples(make_run: Any, tmp_path: Path) -> None:
    one = make_run({"m": {"x": {0.1: {1, 2}}}})
    other = replace(one, folder=tmp_path)
    (each,) = against(name_apart([one, other]))
    assert all(entry.paired and entry.paired.difference == 0 for entry in each.entries)
    assert each.distances is not None
    assert np.trace(each.distances.counts) == 10
