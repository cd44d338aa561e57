"""The trace of RayS against searches whose budget is each of its marks."""

from __future__ import annotations

import pytest
import torch

from art_ext.core.attacks import rays
from art_ext.core.detection import make_detector
from art_ext.core.result import AttackResult
from tests.test_rays import half_spaces

MARKS = (1, 2, 5, 17, 40, 41, 99, 200)
SAMPLES = 24


@pytest.fixture
def problem():
    """A model, samples and labels, some of which are wrong."""
    generator = torch.Generator().manual_seed(0)
    model = half_spaces(20, seed=1, classes=5)
    x = torch.rand(SAMPLES, 20, generator=generator)
    y = model(x).argmax(1)
    y[::7] = (y[::7] + 1) % 5
    return model, x, y


OPTIONS = {
    "stop at success": {},
    "whole budget": {"stop_on_success": False},
    "few places": {"stop_on_success": False, "batch_size": 7},
    "speculation": {"stop_on_success": False, "speculate": True},
    "few places, speculation": {"speculate": True, "batch_size": 50},
    "start": {"x_init": torch.linspace(0, 1, SAMPLES * 20).view(SAMPLES, 20)},
    "mask": {"mask": torch.arange(20) % 3 > 0, "stop_on_success": False, "norm": "l2"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_mark_is_the_distance_of_a_search_with_that_budget(problem, options):
    shared = {"eps": 0.1, **options}
    result = rays(*problem, max_queries=MARKS[-1], trace_at=MARKS, **shared)
    distance = result.trace["distance"]
    assert distance.shape == (len(MARKS), SAMPLES)
    assert bool((distance[1:] <= distance[:-1]).all())
    assert torch.equal(distance[-1], result.nearest_distance)
    wrong = result.already_adversarial
    assert bool((distance[0] == torch.where(wrong, 0.0, torch.inf)).all())
    for mark, row in zip(MARKS, distance, strict=True):
        alone = rays(*problem, max_queries=mark, **shared)
        assert torch.equal(row, alone.nearest_distance), mark


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_trace_changes_nothing_else(problem, options):
    with_trace = rays(*problem, max_queries=200, trace_at=MARKS, eps=0.1, **options)
    without = rays(*problem, max_queries=200, eps=0.1, **options)
    assert without.trace is None
    same = ["x_adv", "x_nearest", "queries", "queries_to_success", "nearest_distance", "distance"]
    if not options.get("speculate"):  # rows are asked ahead up to the next mark only
        same.append("wasted_rows")
    for name in same:
        assert torch.equal(getattr(with_trace, name), getattr(without, name)), name


def test_a_detector_s_rows_count(digits):
    x = digits[0][:12]
    model = half_spaces(64, seed=1)
    y = model(x).argmax(1)
    detector = make_detector("feature_squeezing", {}).fit(model, x, y)
    detector.calibrate(digits[0][:40], 0.2)
    rows = detector.rows
    marks = (rows, 3 * rows + 1, 20 * rows - 1, 60 * rows)
    shared = {"eps": 0.2, "detector": detector, "stop_on_success": False}
    result = rays(model, x, y, max_queries=marks[-1], trace_at=marks, **shared)
    for mark, row in zip(marks, result.trace["distance"], strict=True):
        alone = rays(model, x, y, max_queries=mark, **shared)
        assert torch.equal(row, alone.nearest_distance), mark


def test_traces_are_saved_and_joined(problem, tmp_path):
    model, x, y = problem
    whole = rays(model, x, y, max_queries=100, trace_at=[10, 100], seed=0)
    parts = [
        rays(model, x[part], y[part], max_queries=100, trace_at=[10, 100], seed=0)
        for part in (slice(10), slice(10, None))
    ]
    joined = AttackResult.cat(parts)
    assert torch.equal(joined.trace["distance"], whole.trace["distance"])
    whole.save(tmp_path / "result.safetensors")
    read = AttackResult.load(tmp_path / "result.safetensors")
    assert torch.equal(read.trace["distance"], whole.trace["distance"])


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ((100, 100), r"increasing numbers of queries such as \(100, 300, 1000\), got \(100, 100\)"),
        ((300, 100), r"increasing numbers.*got \(300, 100\)"),
        ((100, 1001), r"trace_at must not exceed max_queries=1000, got \(100, 1001\)"),
        ((), r"increasing numbers of queries.*got \(\)"),
        (100, "increasing numbers of queries.*got 100"),
        ("100", "increasing numbers of queries.*got '100'"),
        ((0, 5), "trace_at must be an integer >= 1, got 0"),
        ((1.5, 5), "trace_at must be an integer >= 1, got 1.5"),
    ],
)
def test_marks_that_make_no_sense(problem, marks, message):
    with pytest.raises(ValueError, match=message):
        rays(*problem, max_queries=1000, trace_at=marks)
