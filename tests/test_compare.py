"""Two runs compared sample by sample."""

from __future__ import annotations

import csv
import io
import json
import math
from fractions import Fraction
from typing import Any

import pytest

from art_ext.evaluation.analysis.compare import compare, mcnemar, to_csv, to_json, to_text


def kinds(found: Any) -> list[tuple[Any, ...]]:
    return [
        (one.eps, one.kind, one.index_a, one.index_b, one.attacks) for one in found.disagreements
    ]


def test_who_broke_what(make_run: Any) -> None:
    a = make_run(
        {"m": {"x": {0.1: {1}, 0.2: {1, 2, 3}}, "y": {0.1: set(), 0.2: {3}}}},
        wrong={"m": {0}},
        name="a",
    )
    b = make_run({"m": {"z": {0.1: {1, 4}, 0.2: {2}}}}, wrong={"m": {5}}, name="b")
    found = compare(a, b)
    small, large = found.pairs
    assert (small.samples, small.clean_a, small.clean_b, small.robust_a, small.robust_b) == (
        10,
        0.9,
        0.9,
        0.8,
        0.7,
    )
    assert (small.both, small.neither, small.only_a, small.only_b) == (1, 6, 1, 2)
    assert (large.both, large.neither, large.only_a, large.only_b) == (2, 4, 2, 2)
    assert kinds(found) == [
        (None, "clean", 0, 0, ""),
        (None, "clean", 5, 5, ""),
        (0.1, "only A", 0, 0, "misclassified"),
        (0.1, "only B", 4, 4, "z"),
        (0.1, "only B", 5, 5, "misclassified"),
        (0.2, "only A", 0, 0, "misclassified"),
        (0.2, "only A", 3, 3, "x, y"),
        (0.2, "only B", 4, 4, "z"),
        (0.2, "only B", 5, 5, "misclassified"),
    ]
    wrong = found.disagreements[0]
    assert (wrong.id, wrong.label, wrong.prediction_a, wrong.prediction_b) == (1000, 0, 1, 0)
    assert found.notes == []


def test_a_run_agrees_with_itself(make_run: Any) -> None:
    one = make_run({"m": {"x": {0.1: {1, 2}}}, "n": {"x": {0.1: {3}}}}, wrong={"m": {0}})
    found = compare(one, one)
    assert found.disagreements == []
    counts = [(pair.model, pair.only_a, pair.only_b, pair.p_value) for pair in found.pairs]
    assert counts == [("m", 0, 0, 1), ("n", 0, 0, 1)]


def test_samples_meet_by_their_ids(make_run: Any) -> None:
    a = make_run({"m": {"x": {0.1: {0, 1}}}}, samples=5, ids=[7, 7, 8, 9, 10], name="a")
    b = make_run({"m": {"x": {0.1: {3, 4}}}}, samples=6, ids=[11, 10, 9, 7, 8, 7], name="b")
    found = compare(a, b)
    assert found.pairs[0].samples == 5
    assert found.notes == ["1 sample is in B only"]
    assert kinds(found) == [(0.1, "only A", 1, 5, "x"), (0.1, "only B", 2, 4, "x")], (
        "of twins the second is the second"
    )


def test_models_meet_by_their_names(make_run: Any) -> None:
    a = make_run({"m": {"x": {0.1: {1}, 0.3: {1}}}, "alone": {"x": {0.1: {2}, 0.3: {2}}}}, name="a")
    b = make_run({"other": {"x": {0.1: {4}}}, "m": {"x": {0.1: {3}}}}, name="b")
    found = compare(a, b)
    assert [pair.model for pair in found.pairs] == ["m"]
    assert kinds(found) == [(0.1, "only A", 1, 1, "x"), (0.1, "only B", 3, 3, "x")]
    assert found.notes == [
        "eps 0.3 is in A only",
        "model alone is in A only",
        "model other is in B only",
    ]
    (pair,) = compare(make_run({"p": {"x": {0.1: {1}}}}), make_run({"q": {"x": {0.1: {1}}}})).pairs
    assert pair.model == "p / q", "of single models the names do not matter"


@pytest.mark.parametrize(
    ("options", "broken", "message"),
    [
        (
            {"ids": list(range(10))},
            {"m": {"x": {0.1: {1}}}},
            "share samples, but no image of digits in a is one",
        ),
        (
            {"labels": [1] * 10},
            {"m": {"x": {0.1: {1}}}},
            "agree in their labels, but 10 of digits in a are others",
        ),
        (
            {"norm": "l2"},
            {"m": {"x": {0.1: {1}}}},
            "agree in their norm, got L-infinity in a, L2 in b",
        ),
        (
            {"targeted": "random"},
            {"m": {"x": {0.1: {1}}}},
            "agree in their targets, got none in a, random in b",
        ),
        ({}, {"m": {"x": {8 / 255: {1}}}}, "an eps in common, got 0.1 and 8/255"),
        ({}, {"p": {"x": {0.1: {1}}}, "q": {"x": {0.1: {1}}}}, "a model in common, got m and p, q"),
    ],
)
def test_what_does_not_compare_is_refused(
    make_run: Any, options: Any, broken: Any, message: str
) -> None:
    a = make_run({"m": {"x": {0.1: {1}}}}, name="a")
    with pytest.raises(ValueError, match=message):
        compare(a, make_run(broken, name="b", **options))


def test_mcnemar_by_its_definition() -> None:
    assert [mcnemar(0, 0), mcnemar(3, 3), mcnemar(0, 1), mcnemar(0, 9)] == [1, 1, 1, 2 / 512]
    for only_a, only_b in ((2, 11), (40, 71), (900, 1100)):
        outcomes = only_a + only_b
        extreme = [k for k in range(outcomes + 1) if abs(2 * k - outcomes) >= only_b - only_a]
        expected = Fraction(sum(math.comb(outcomes, k) for k in extreme), 2**outcomes)
        assert (
            mcnemar(only_a, only_b)
            == mcnemar(only_b, only_a)
            == pytest.approx(float(expected), rel=1e-12)
        )


def test_what_is_printed_and_kept(make_run: Any) -> None:
    a = make_run({"m": {"x": {0.1: {1, 2, 3}}}}, name="a")
    found = compare(a, make_run({"m": {"x": {0.1: set()}}}, name="b"))
    text = to_text(found, 2)
    assert "| m     | 0.1 |      10 | 100.0 % | 100.0 % |   70.0 % |  100.0 % |" in text
    assert text.count("only A") == 2
    assert text.endswith("1 more disagreement: --out FILE.csv keeps all")
    assert to_text(found, 2, kept="x.csv").endswith("1 more disagreement: all are in x.csv")
    assert "only A" not in to_text(found, 0)
    assert "more" not in to_text(found, 3)
    lines = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert [(line["kind"], line["index_a"], line["id"], line["attacks"]) for line in lines] == [
        ("only A", str(index), str(1000 + index), "x") for index in (1, 2, 3)
    ]
    kept = json.loads(to_json(found))
    assert kept["pairs"][0]["p_value"] == 0.25
    assert [one["index_b"] for one in kept["disagreements"]] == [1, 2, 3]


def test_the_text_has_class_names_and_positions(make_run: Any) -> None:
    a = make_run({"m": {"x": {0.1: {1}}}}, wrong={"m": {0}})
    b = make_run({"m": {"x": {0.1: set()}}})
    found = compare(a, b)
    text = to_text(found, 50, names=["cat", "dog"])
    assert "| m     | only A | 0.1 |        1 | cat   | cat     | cat     | x " in text
    assert "| m     | clean  |     |        0 | cat   | dog     | cat     |" in text
    assert "1001" not in text
    assert "| 1001 |" in to_text(found, 50, ids=True)
    moved = make_run({"m": {"x": {0.1: set()}}}, ids=[1009, *range(1000, 1009)])
    assert "position A | position B" in to_text(compare(a, moved), 50)
