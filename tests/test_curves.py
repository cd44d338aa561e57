"""Curves of robust accuracy: properties on random records, and agreement with the table."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from art_ext.core.geometry import BALL_TOLERANCE
from art_ext.core.metrics.intervals import wilson
from art_ext.data import load_data
from art_ext.evaluation import Member, Panel, evaluate, merge
from art_ext.evaluation.analysis import curves as curves_of_runs
from art_ext.evaluation.analysis.blocks import WORST_CASE, blocks_of, collect
from art_ext.evaluation.analysis.compare import compare
from art_ext.evaluation.analysis.curves import curves, to_csv, value_at, worst_case_radii
from art_ext.evaluation.analysis.radii import adversarial
from art_ext.evaluation.analysis.records import load_run
from art_ext.evaluation.analysis.table import decisive, summarise, verdicts

ATTACKS = {"x": False, "y": False, "z": True}  # True for a search for the nearest adversarial
FAST = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def random_records(draw: st.DrawFn) -> dict[str, Any]:
    """Draw radii, attacks, mode, misclassified samples and the outcome of each attack."""
    samples = draw(st.integers(1, 8))
    eps = sorted(draw(st.sets(st.sampled_from([0.05, 0.1, 0.2, 8 / 255]), min_size=1)))
    attacks = draw(st.lists(st.sampled_from(list(ATTACKS)), min_size=1, max_size=3, unique=True))
    # of each sample: at, just inside and just outside of attacked radii, and anywhere
    places = st.one_of(
        st.floats(1e-4, 0.4),
        st.sampled_from([one + shift for one in eps for shift in (0, -1e-8, 5e-7, 2e-6)]),
        st.just(float("inf")),
    )
    return {
        "eps": eps,
        "wrong": draw(st.lists(st.booleans(), min_size=samples, max_size=samples)),
        "mode": draw(st.sampled_from(["independent", "cascade"])),
        "found": {
            (attack, one): np.array(
                draw(st.lists(places, min_size=samples, max_size=samples)), dtype=np.float32
            )
            for attack in attacks
            for one in eps
        },
    }


def run_of(make_run: Any, drawn: dict[str, Any], attacks: Any = None) -> Any:
    """Build the run of drawn records, or of some of its attacks."""
    chosen = {key: one for key, one in drawn["found"].items() if not attacks or key[0] in attacks}
    samples = len(drawn["wrong"])
    wrong = set(np.flatnonzero(drawn["wrong"]).tolist())
    broken: dict[str, dict[float, set[int]]] = {}
    for (attack, eps), found in chosen.items():
        hit = found.astype(float) <= eps + BALL_TOLERANCE
        broken.setdefault(attack, {})[eps] = set(np.flatnonzero(hit).tolist())
    one = make_run(
        {"m": broken},
        samples=samples,
        wrong={"m": wrong},
        mode=drawn["mode"],
        nearest=tuple(name for name in broken if ATTACKS[name]),
    )
    records = one.records
    for (attack, eps), found in chosen.items():
        own = ((records["attack"] == attack) & (records["eps"] == eps)).to_numpy()
        rows = records[own]
        tried = rows["attacked"].to_numpy() & ~rows["already_adversarial"].to_numpy()
        far = np.where(rows["already_adversarial"], 0, np.where(tried, found, np.inf))
        if ATTACKS[attack]:
            records.loc[own, "nearest_distance"] = far
        clean = rows["already_adversarial"].to_numpy()
        records.loc[own, "distance"] = np.where(rows["success"] | clean, far, np.inf)
    blocks = blocks_of(records)
    return replace(one, blocks=blocks, rows=summarise(blocks, one.run))


def every_radius(drawn: dict[str, Any], end: float) -> list[float]:
    found = np.concatenate(list(drawn["found"].values())).astype(float)
    inside = found[found <= end]
    return [0.0, end, *inside.tolist(), *(0.999 * inside).tolist()]


@FAST
@given(drawn=random_records())
def test_the_curve_agrees_with_the_table(make_run: Any, drawn: dict[str, Any]) -> None:
    one = run_of(make_run, drawn)
    (verdict,) = verdicts(one.blocks, one.run)
    worst, *others = curves(one)
    assert value_at(worst, 0).robust == verdict.clean_accuracy
    marks = [(point.robust, point.low, point.high) for point in worst.points]
    assert [point.eps for point in worst.points] == drawn["eps"]
    assert marks == [decisive(each) for each in verdict.worst]
    for curve in others:
        assert [(point.eps, point.robust, point.low, point.high) for point in curve.points] == [
            (row.eps, row.robust_accuracy, row.robust_low, row.robust_high)
            for row in one.rows
            if row.attack == curve.attack
        ]


@FAST
@given(drawn=random_records())
def test_the_curve_never_rises_and_bounds_each_attack(make_run: Any, drawn: dict[str, Any]) -> None:
    worst, *others = curves(run_of(make_run, drawn))
    for curve in (worst, *others):
        assert (np.diff(curve.radius) > 0).all()
        assert (np.diff(curve.held) <= 0).all()
        assert curve.radius[0] == 0
        assert curve.radius[-1] == curve.end > max(drawn["eps"])
        assert {point.eps for point in curve.points} <= set(curve.radius)
        for radius in every_radius(drawn, curve.end):
            assert value_at(worst, radius).held <= value_at(curve, radius).held


@FAST
@given(drawn=random_records())
def test_the_curve_counts_the_records(make_run: Any, drawn: dict[str, Any]) -> None:
    """A verified adversarial counts from its distance on, a success from its own eps on."""
    one = run_of(make_run, drawn)
    (worst, *_) = curves(one)
    records = one.records
    for radius in worst.radius.tolist():
        hit = records["already_adversarial"] | (
            records["success"] & (np.minimum(records["distance"], records["eps"]) <= radius)
        )
        hit |= records["nearest_distance"] <= radius
        if radius in drawn["eps"]:
            far = records[["distance", "nearest_distance"]].min(axis=1)
            hit |= far <= radius + BALL_TOLERANCE
        at_least = int((~hit.groupby(records["index"]).any()).sum())
        # what lies in the tolerance of an attacked eps counts there already
        near = any(0 < radius - eps <= BALL_TOLERANCE for eps in drawn["eps"])
        held = value_at(worst, radius).held
        assert held == at_least or (near and held < at_least)


@FAST
@given(drawn=random_records(), data=st.data())
def test_more_records_lie_nowhere_higher(
    make_run: Any, drawn: dict[str, Any], data: st.DataObject
) -> None:
    names = list(dict.fromkeys(attack for attack, _ in drawn["found"]))
    some = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    drawn = {**drawn, "mode": "independent"}
    (fewer, *_), (more, *_) = (curves(run_of(make_run, drawn, one)) for one in (some, names))
    for radius in every_radius(drawn, more.end):
        assert value_at(more, radius).held <= value_at(fewer, radius).held


@FAST
@given(drawn=random_records(), data=st.data())
def test_merged_shards_are_the_whole_run(
    make_run: Any, drawn: dict[str, Any], data: st.DataObject
) -> None:
    one = run_of(make_run, drawn)
    cut = data.draw(st.integers(0, len(drawn["wrong"])))
    first = one.records["index"] < cut
    shards = [part for part in (one.records[first], one.records[~first]) if len(part)]
    merged = replace(one, blocks=collect(reversed(shards)))
    assert to_csv(curves(merged)) == to_csv(curves(one))


@FAST
@given(drawn=random_records())
def test_the_file_holds_what_is_drawn(make_run: Any, drawn: dict[str, Any]) -> None:
    drawn_curves = curves(run_of(make_run, drawn))
    rows = list(csv.DictReader(io.StringIO(to_csv(drawn_curves))))
    assert list(rows[0]) == ["model", "attack", "radius", "robust", "low", "high", "measured"]
    for curve in drawn_curves:
        own = [row for row in rows if row["attack"] == curve.attack]
        assert [float(row["radius"]) for row in own] == curve.radius.tolist()
        for row in own:
            there = value_at(curve, float(row["radius"]))
            assert (there.robust, there.low, there.high) == tuple(
                float(row[name]) for name in ("robust", "low", "high")
            )
            assert (there.low, there.high) == wilson(there.held, curve.samples)
        marks = {0.0, *(point.eps for point in curve.points)}
        assert all(row["measured"] == "1" for row in own if float(row["radius"]) in marks)


@FAST
@given(drawn=random_records())
def test_the_comparison_counts_as_the_curve(make_run: Any, drawn: dict[str, Any]) -> None:
    one = run_of(make_run, drawn)
    other = replace(one, folder=one.folder / "again")
    (worst, *_) = curves(one)
    for pair in compare(one, other).pairs:
        assert pair.robust_a == value_at(worst, pair.eps).robust
        assert (pair.only_a, pair.only_b) == (0, 0)


def test_what_was_found_at_a_larger_eps_counts_at_a_smaller_one(make_run: Any) -> None:
    one = make_run({"m": {"x": {0.1: set(), 0.2: {1, 2}}}})
    found = one.records.assign(distance=np.where(one.records["index"] == 1, 0.09, 0.15))
    blocks = blocks_of(found)
    assert adversarial(blocks, "m", 0.1).nonzero()[0].tolist() == [1]
    assert [row.robust_accuracy for row in summarise(blocks, one.run)] == [0.9, 0.8]
    assert worst_case_radii(blocks, "m")[:4].tolist() == [np.inf, 0.09, 0.15, np.inf]


def test_a_success_counts_at_its_own_eps(make_run: Any) -> None:
    one = make_run({"m": {"x": {8 / 255: {3}}}})
    found = one.records.assign(distance=np.float32(8 / 255) * np.float32(1.0001))
    assert worst_case_radii(blocks_of(found), "m")[3] == 8 / 255


@pytest.mark.parametrize(
    ("mode", "stopped", "measured"),
    [("independent", False, True), ("independent", True, False), ("cascade", False, False)],
)
def test_a_full_search_of_all_samples_measures_all_radii(
    make_run: Any, mode: str, stopped: bool, measured: bool
) -> None:
    one = make_run({"m": {"x": {0.1: {1}}, "z": {0.1: {2}}}}, mode=mode, nearest=("z",))
    one.run["settings"]["stop_on_success"] = stopped
    worst, first, second = curves(one)
    assert worst.measured.tolist() == [measured and radius < 0.1 for radius in worst.radius]
    assert not first.measured.any()
    assert second.measured.any() == measured
    assert worst.attack == WORST_CASE


def test_curves_of_many_samples_have_few_steps(
    make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves_of_runs, "STEPS", 20)
    one = make_run({"m": {"x": {0.1: set(range(200))}, "y": {0.1: set(range(300))}}}, samples=400)
    chance = np.random.default_rng(0)
    distance = np.where(one.records["success"], chance.uniform(0, 0.1, 800), np.inf)
    many = replace(one, blocks=blocks_of(one.records.assign(distance=distance)))
    worst, *others = curves(many)
    nearest = pd.Series(distance).groupby(one.records["index"]).min()
    assert len(worst.radius) <= 20 + 3
    for radius, held in zip(worst.radius, worst.held, strict=True):
        assert held == (nearest > radius).sum()
    for curve in others:
        for radius in np.linspace(0, worst.end, 301):
            assert value_at(worst, radius).held <= value_at(curve, radius).held


def test_a_radius_outside_of_the_curve_is_an_error(make_run: Any) -> None:
    (worst, *_) = curves(make_run({"m": {"x": {0.1: {1}}}}))
    with pytest.raises(ValueError, match=r"radius must lie between 0 and 0\.11, got 0\.2"):
        value_at(worst, 0.2)


def test_an_adversarial_at_no_distance_is_not_misclassified(make_run: Any) -> None:
    """A randomised model may answer otherwise for the very input."""
    one = make_run({"m": {"x": {0.1: {3}}}})
    blocks = blocks_of(one.records.assign(distance=np.where(one.records["success"], 0.0, np.inf)))
    worst, _ = curves(replace(one, blocks=blocks))
    assert value_at(worst, 0).robust == 1
    assert value_at(worst, 1e-6).robust == 0.9


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["independent", "cascade"])
@pytest.mark.parametrize("stop", [True, False])
def test_real_runs(linear_net: nn.Module, tmp_path: Path, mode: str, stop: bool) -> None:
    """Curves of a run agree with its table, its records and its file, and with those of shards."""
    options: dict[str, Any] = {
        "eps": (0.02, 0.05, 0.1),
        "panel": Panel("own", mode, tuple(map(Member, ("pgd", "rays", "frank_wolfe")))),
        "max_queries": 200,
        "stop_on_success": stop,
        "chunk_size": 10,
    }
    data = load_data("digits").first(60)
    for shard in range(2):
        evaluate(linear_net, data, tmp_path / f"{shard}", shard=(shard, 2), **options)
    outcome = evaluate(linear_net, data, tmp_path / "whole", **options)
    merge([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    one = load_run(tmp_path / "whole")
    text = (tmp_path / "whole" / "curves.csv").read_text()
    assert text == to_csv(curves(one))
    assert text == (tmp_path / "merged" / "curves.csv").read_text()
    worst, *others = curves(one)
    (verdict,) = outcome.verdicts
    assert value_at(worst, 0).robust == verdict.clean_accuracy
    assert [point.robust for point in worst.points] == [
        each.robust_accuracy for each in verdict.worst
    ]
    by_row = {(row.attack, row.eps): row.robust_accuracy for row in one.rows}
    for curve in others:
        for point in curve.points:
            assert point.robust == by_row[curve.attack, point.eps]
        for radius in worst.radius:
            assert value_at(worst, radius).held <= value_at(curve, radius).held
    rows = one.records[(one.records["attack"] == "rays")]
    tried = (rows["attacked"] | rows["already_adversarial"]).groupby(rows["index"]).any()
    assert worst.measured.any() == (tried.all() and not stop)
    assert tried.all() or mode == "cascade"
