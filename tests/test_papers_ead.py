"""Check functions of the tables of EAD and ZOO."""

from __future__ import annotations

import pytest
import torch

from art_ext.benchmarks.papers.cells import estimate
from art_ext.benchmarks.papers.checks import elastic_net, retraining, zoo
from art_ext.benchmarks.papers.checks.common import attacked, cells_of_cases
from art_ext.examples import digits

SHORT = {"num_steps": 20, "search_steps": 2, "initial_const": 1.0}


@pytest.mark.parametrize(
    ("norm", "expected"),
    [("linf", (0.001, 1.0, 0.001)), ("l2", (0.01, 10.0, 0.01)), ("l1", (1.0, 1000.0, 1.0))],
)
def test_grids_are_those_of_table_4(norm, expected):
    found = elastic_net._tried(norm, 1)
    assert tuple(found.values()) == pytest.approx(expected)


def test_each_metric_of_a_case_stands_by_itself():
    model, x, y = digits(n=4)
    result = attacked(model, x, y, {"attack": "ead", "beta": 0.01}, {"ead": SHORT}, targets="all")
    cells = {name: estimate(cell) for name, cell in cells_of_cases(result, x).items()}
    assert cells["best_success"].value >= cells["worst_success"].value
    assert cells["best_success"].n == 4
    for norm in ("l1", "l2", "linf"):
        assert 0 < cells[f"best_{norm}"].value <= cells[f"average_{norm}"].value


def test_retraining_has_a_value_for_each_seed():
    cells = retraining.retraining(
        data="digits",
        images=200,
        epochs=2,
        crafted=2,
        n=4,
        seeds=[0, 1],
        sets={"l2": {"attack": "cw", "step_size": 0.3}},
        variants={"none": [], "both": ["l2"]},
        attacks={"ead": {"attack": "ead"}},
        common={"cw": SHORT, "ead": SHORT},
    )
    assert cells.keys() == {"ead_none", "ead_both"}
    clean = cells["ead_none"]["clean"]
    assert clean.kind == "seeds"
    assert clean.keys.tolist() == [0, 1]
    assert ((clean.values > 0) & (clean.values < 100)).all()


def test_zoo_is_measured_with_and_without_a_technique(monkeypatch):
    def small(name, n, scale):
        model, x, y = digits(n=n)
        larger = torch.nn.functional.interpolate(x, scale_factor=scale, mode="nearest")
        return zoo.Widened(model, scale), larger, y

    monkeypatch.setattr(zoo, "widened", small)
    common = {
        **{"growth": [[0, 4], [10, 8]], "importance": True, "num_steps": 20, "search_steps": 1},
        **{"initial_const": 100.0, "step_size": 0.2, "coordinates": 16, "abort_early": False},
    }
    cells = zoo.techniques(
        "digits", 2, 2, common, {"all": {}, "flat": {"growth": [], "importance": False}}
    )
    assert cells.keys() == {"all", "flat"}
    found = {name: estimate(cell) for name, cell in cells["all"].items()}
    assert found["success"].value >= found["half"].value
    assert found["first"].value <= 20
    del common["growth"], common["importance"]
    shares = zoo.importance("digits", 2, 2, [4, 8], common)
    assert 0 < estimate(shares["area"]["share"]).value <= 100
