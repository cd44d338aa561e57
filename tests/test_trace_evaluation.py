"""Distances of RayS at marks in an evaluation: records, figures, resumption and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.core.attacks import rays
from art_ext.core.metrics import adbd
from art_ext.evaluation import evaluate, load_run, read_records
from art_ext.evaluation.analysis.traces import trace_curves
from art_ext.evaluation.report.page import render
from art_ext.storage.records import COLUMNS

MARKS = (5, 20, 100)
ADDED = tuple(f"distance_at_{mark}" for mark in MARKS)


def network(seed):
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 6))
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return made


@pytest.fixture(scope="module")
def data():
    x = torch.rand(40, 12, generator=torch.Generator().manual_seed(1))
    y = network(0)(x).argmax(1)
    y[::5] = (y[::5] + 1) % 6
    return x, y


def run(data, out, **options):
    settings = {"eps": [0.05, 0.1], "attacks": ["pgd", "rays"], "max_queries": 100}
    settings |= {"attack_args": {"rays": {"trace_at": MARKS}, "pgd": {"num_steps": 3}}}
    return evaluate(network(0), data, out, chunk_size=15, **{**settings, **options})


def test_records_and_curves_are_those_of_searches_with_each_budget(data, tmp_path):
    outcome = run(data, tmp_path / "run")
    records = outcome.records
    assert tuple(records.columns) == (*COLUMNS, *ADDED)
    searched = records[(records["attack"] == "rays") & (records["eps"] == 0.1)]
    assert records[records["attack"] == "pgd"][list(ADDED)].isna().all(axis=None)
    curves = trace_curves(load_run(tmp_path / "run"))
    assert [(curve.attack, curve.eps) for curve in curves] == [("rays", 0.05), ("rays", 0.1)]
    for place, mark in enumerate(MARKS):
        alone = rays(network(0), *data, eps=0.1, max_queries=mark, stop_on_success=False)
        found = searched[f"distance_at_{mark}"].to_numpy()
        assert np.array_equal(found, alone.nearest_distance.numpy())
        assert curves[1].held[place] == int((~alone.success & ~alone.already_adversarial).sum())
        assert curves[1].distance[place] == pytest.approx(adbd(alone).value, rel=1e-6)
        assert curves[1].left_out[place] == adbd(alone).left_out
    row = next(one for one in outcome.rows if (one.attack, one.eps) == ("rays", 0.1))
    assert curves[1].held[-1] / curves[1].samples == row.robust_accuracy
    assert curves[1].distance[-1] == pytest.approx(row.adbd, rel=1e-6)
    assert curves[1].correct == 32


def test_a_trace_changes_no_other_column_and_goes_on(data, tmp_path):
    run(data, tmp_path / "run", shard=(1, 3))
    found = run(data, tmp_path / "run").records
    plain = run(data, tmp_path / "plain", attack_args={"pgd": {"num_steps": 3}}).records
    free = ["seconds", *ADDED]
    assert found.drop(columns=free).equals(plain.drop(columns="seconds"))
    whole = run(data, tmp_path / "whole").records
    assert read_records(tmp_path / "run")[list(ADDED)].equals(whole[list(ADDED)])


def test_in_a_cascade_attacks_before_the_search_count(data, tmp_path):
    outcome = run(data, tmp_path / "run", mode="cascade")
    for curve in trace_curves(load_run(tmp_path / "run")):
        row = next(
            one for one in outcome.rows if (one.attack, one.eps) == (curve.attack, curve.eps)
        )
        assert curve.held[-1] / curve.samples == row.robust_accuracy
        assert curve.held[0] <= curve.correct
        assert curve.distance is None, "the search was not given all samples"


def test_the_report_draws_several_models_in_one_figure(data, tmp_path):
    runs = []
    for seed in (0, 1):
        folder = tmp_path / f"net{seed}"
        models = {f"net{seed}": network(seed)}
        arguments = {"rays": {"trace_at": MARKS[seed:]}}
        evaluate(
            models, data, folder, eps=[0.05, 0.1], attacks=["rays"], max_queries=100,
            attack_args=arguments,
        )  # fmt: skip
        assert (folder / "distance_queries.png").read_bytes().startswith(b"\x89PNG")
        runs.append(load_run(folder))
    page = render(runs)
    for title in ("Robust accuracy against queries", "Boundary distance against queries"):
        assert page.count(f"<h3>{title}</h3>") == 1
    assert "data-plain" in page
    part = page[page.index("<h3>Boundary distance against queries") :]
    assert all(f'data-model="net{seed}"' in part for seed in (0, 1))


@pytest.mark.parametrize("trace_at", [(1,), (2, 3), (100,)])
def test_few_marks_are_drawn_too(data, tmp_path, trace_at):
    options = {"attacks": ["rays"], "attack_args": {"rays": {"trace_at": trace_at}}}
    run(data, tmp_path / "run", **options, eps=0.1)
    page = (tmp_path / "run" / "index.html").read_text()
    assert "Robust accuracy against queries" in page
    assert "Boundary distance against queries" not in page, "a single eps stops at the success"


@pytest.mark.parametrize(
    ("trace_at", "message"),
    [
        ((5, 101), r"rays: trace_at must not exceed max_queries=100, got \(5, 101\)"),
        ((20, 5), "rays: trace_at must hold increasing numbers of queries"),
        ("often", "rays: trace_at must hold increasing numbers of queries.*got 'often'"),
    ],
)
def test_marks_are_checked_before_anything_is_written(data, tmp_path, trace_at, message):
    options = {"attacks": ["rays"], "attack_args": {"rays": {"trace_at": trace_at}}}
    with pytest.raises(ValueError, match=message):
        run(data, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
