"""Measurements of the tables of RayS and Frank-Wolfe that are no runs of evaluate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from art_ext.benchmarks.papers.cells import Cell, Estimate, estimate, margin
from art_ext.benchmarks.papers.checks import rays as checks
from art_ext.benchmarks.papers.checks.frank_wolfe import theorem_rates
from art_ext.benchmarks.papers.claims import parse_claim
from art_ext.benchmarks.papers.measures import cell_of
from art_ext.benchmarks.papers.running import NotRunError, _checked
from art_ext.benchmarks.papers.schema import Check
from art_ext.benchmarks.papers.tables import read_tables
from art_ext.core.attacks import rays

EPS = 0.3


class Threshold(nn.Module):
    """Class 1 where the mean pixel exceeds a half, and rows that have been seen."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(x))
        mean = x.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


@pytest.fixture
def threshold(monkeypatch) -> Threshold:
    """Let the checks see a network whose boundary is known, and six samples."""
    model = Threshold()
    level = torch.tensor([0.45, 0.4, 0.1, 0.55, 0.6, 0.6])
    x = level.reshape(6, 1, 1, 1).expand(6, 1, 4, 4).contiguous()
    # the last one is misclassified
    found = (model, x, torch.tensor([0, 0, 0, 1, 1, 0]), torch.arange(6) < 5)
    monkeypatch.setattr(checks, "_samples", lambda network, data, n: found)
    return model


def first(attack: str, **options):
    settings = {"attack": attack, "network": "", "data": "", "n": 6, "eps": EPS}
    return checks.first_success(rows={"row": settings}, seed=0, **options)["row"]


def test_hop_skip_jump_counts_every_row_of_a_sample(threshold):
    pytest.importorskip("foolbox")
    row = first("hop_skip_jump", max_queries=400, batch=1, within=[400])
    assert row["success"].keys.tolist() == [0, 1, 2, 3, 4]
    # sample 2 is .4 away from the boundary
    assert row["success"].values.tolist() == row["within_400"].values.tolist() == [1, 1, 0, 1, 1]
    assert row["queries"].keys.tolist() == [0, 1, 3, 4]
    assert row["queries_all"].values[2] == 400
    assert np.isinf(row["first_queries"].values).tolist() == [False, False, True, False, False]
    # one clean check of each sample, which the fixture has made, is counted too
    assert sum(threshold.rows) == row["queries_all"].values.sum() - 5
    assert {*threshold.rows} == {1}


def test_hop_skip_jump_finds_the_distance_to_the_boundary(threshold):
    pytest.importorskip("foolbox")
    row = first("hop_skip_jump", max_queries=600, batch=6, stop_on_success=False)
    assert row["queries_all"].values.tolist() == [600] * 5
    np.testing.assert_allclose(row["adbd"].values, [0.05, 0.1, 0.4, 0.05, 0.1, 0], atol=0.02)
    assert row["robust"].values.tolist() == [0, 0, 1, 0, 0, 0]


def test_rays_is_counted_up_to_its_first_adversarial(threshold):
    row = first("rays", max_queries=300, batch=1)
    x = torch.full((1, 1, 4, 4), 0.45)
    whole = rays(Threshold(), x, torch.tensor([0]), eps=EPS, max_queries=300)
    assert row["success"].values.tolist() == [1, 1, 0, 1, 1]
    assert row["queries"].values[0] < int(whole.queries_to_success[0])


def test_distances_along_the_budget(threshold):
    settings = {"network": "", "data": "", "n": 6, "eps": EPS}
    row = checks.along_the_budget(rows={"row": settings}, queries=[2, 40])["row"]
    assert row["robust_2"].values.tolist() == [1, 1, 1, 1, 1, 0]
    assert row["robust_40"].values.tolist() == [0, 0, 1, 0, 0, 0]
    assert row["adbd_2"].keys.tolist() == [3, 4, 5]  # the others have no adversarial yet
    np.testing.assert_allclose(row["adbd_40"].values, [0.05, 0.1, 0.4, 0.05, 0.1, 0], atol=0.01)


def test_a_check_without_its_package_is_not_run(threshold, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "foolbox", None)
    rows = {"hsja": {"attack": "hop_skip_jump", "network": "", "data": "", "n": 6, "eps": EPS}}
    check = Check("rays:first_success", {"rows": rows, "max_queries": 9, "seed": 0, "batch": 1})
    with pytest.raises(NotRunError, match="needs foolbox"):
        _checked(check)


def test_the_first_samples_are_compared_at_equal_success():
    keys = np.arange(100)
    fast = Cell("first", keys, np.where(keys < 91, 10.0, np.inf))
    slow = Cell("first", keys, np.where(keys < 95, 20.0, np.inf))
    assert estimate(fast).value == 10
    claim = parse_claim("fast.q < slow.q", ["q"], {"fast": {}, "slow": {}})
    found = margin(claim[0], {("fast", "q"): fast, ("slow", "q"): slow})
    assert found.value == 10
    # in half of the resamples fewer than 91 % succeed
    assert estimate(Cell("first", keys, np.where(keys < 80, 1.0, np.inf))).value == np.inf


def test_distances_are_of_attacks_that_search_them():
    records = pd.DataFrame(
        {
            "index": [0, 1, 2],
            "label": [1, 1, 1],
            "clean_prediction": [1, 0, 1],
            "nearest_distance": [0.2, np.inf, np.inf],
            "attacked": [True, False, True],
            "already_adversarial": [False, True, False],
            "success": [True, False, False],
            "queries_to_success": [7, -1, -1],
        }
    )
    column = read_tables()["rays-3.5"].columns["adbd"]
    assert estimate(cell_of(column, records)).value == pytest.approx(0.1)
    none = records.assign(nearest_distance=np.nan)
    assert estimate(cell_of(column, none)).n == 0
    first_queries = replace(column, measure="first_queries")
    assert cell_of(first_queries, records).values.tolist() == [7, np.inf]


@pytest.mark.parametrize("black_box", [False, True])
def test_the_gap_falls_at_the_rate_of_the_theorems(black_box):
    found = theorem_rates(
        radii={"linf": 0.2, "l2": 0.5},
        steps=[4, 8, 16],
        samples=6,
        inputs=8,
        hidden=12,
        momentum=0.9,
        black_box=black_box,
        seed=0,
    )
    for columns in found.values():
        exponent: Estimate = estimate(columns["exponent"])
        assert exponent.low > 0.5
        assert (columns["last"].values < columns["first"].values).all()
