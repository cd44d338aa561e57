"""Planned rows of every attack against the ledger, on a network whose output is constant."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import registry
from art_ext.core.attacks.engine.planning import PlannedRows, planning
from art_ext.core.attacks.registry import AttackSpec
from art_ext.core.result import AttackResult
from art_ext.testing.toy import digits

CLASSES = 10
# forward and backward rows at the default arguments
FIXED = {
    "fgsm": (2, 1),
    "i_fgsm": (11, 10),
    "mi_fgsm": (11, 10),
    "pgd": (42, 40),
    "m_pgd": (42, 40),
    "sign_gradient": (41, 40),
    "ai_fgsm": (101, 100),
    "hmcam": (101, 100),
    "frank_wolfe": (21, 20),
    "auto_pgd": (102, 100),
}
BUDGET = 300
# fewer steps of attacks that would take long, and the model's answers that they then need
SHORT: dict[str, dict[str, Any]] = {
    "cw": {"num_steps": 20, "search_steps": 3},
    "ead": {"num_steps": 20, "search_steps": 3},
    "zoo": {"num_steps": 6, "search_steps": 2, "coordinates": 5},
    "i_fgm": {"num_steps": 2, "resolution": 0.05},
    "in_distribution": {"num_steps": 10, "search_steps": 2, "init_steps": 2},
}


class Constant(nn.Module):
    """Returns the same scores for every input, with a gradient of zero."""

    def forward(self, rows: Tensor) -> Tensor:
        scores = torch.zeros(len(rows), CLASSES)
        scores[:, 0] = 2  # no one-hot row
        return scores + 0 * rows.flatten(1).sum(dim=1, keepdim=True)


def images(z: Tensor, classes: Tensor) -> Tensor:
    """Make images of the digits' shape from latents."""
    return torch.sigmoid(z.sum(dim=1)).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


images.latent_dim = 3  # type: ignore[attr-defined]
images.num_classes = CLASSES  # type: ignore[attr-defined]


def run(spec: AttackSpec, count: int, **arguments: Any) -> AttackResult:
    """Attack some digits of one class, all of which the network classifies correctly."""
    x = digits(20)[0][:count]
    y = torch.zeros(count, dtype=torch.int64)
    supplied = [images for _ in spec.resources]
    keywords = {"norm": spec.norms[0]} if "norm" not in arguments else {}
    result = spec.function(Constant(), *supplied, x, y, eps=0.1, seed=0, **keywords, **arguments)
    assert isinstance(result, AttackResult)
    return result


def planned(spec: AttackSpec, **arguments: Any) -> PlannedRows:
    """Return the plan of an attack, which calls no model."""
    with planning(CLASSES) as found:
        run(spec, 0, **arguments)
    assert found.rows is not None, f"{spec.name} states no plan"
    return found.rows


def ledger(result: AttackResult) -> tuple[int, int]:
    """Return the rows of the sample that took the most."""
    return int(result.queries.max()), int(result.gradients.max())


@pytest.mark.parametrize("name", FIXED)
def test_fixed_schedules_are_planned_exactly(name: str) -> None:
    spec = registry.get(name)
    found = planned(spec)
    assert (found.forward, found.backward) == FIXED[name]
    assert ledger(run(spec, 3)) == FIXED[name]


def arguments_of(spec: AttackSpec) -> dict[str, Any]:
    budget = {spec.budget: BUDGET} if spec.access != "gradients" and spec.name != "zoo" else {}
    return {**budget, **SHORT.get(spec.name, {})}


@pytest.mark.parametrize("name", [one.name for one in registry.specs() if one.name not in FIXED])
def test_no_attack_exceeds_its_plan(name: str) -> None:
    spec = registry.get(name)
    arguments = arguments_of(spec)
    found = planned(spec, **arguments)
    forward, backward = ledger(run(spec, 3, **arguments))
    assert forward <= found.forward
    assert backward <= found.backward
    assert (found.backward > 0) == (spec.access == "gradients")


def test_the_budget_of_rays_is_its_plan() -> None:
    spec = registry.get("rays")
    assert planned(spec, max_queries=BUDGET) == PlannedRows(BUDGET, 0)
    assert ledger(run(spec, 3, max_queries=BUDGET)) == (BUDGET, 0)


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("pgd", {"num_steps": 3, "num_restarts": 2}, (9, 6)),
        ("pgd", {"num_steps": 30, "max_queries": 7}, (7, 5)),
        ("auto_pgd", {"num_steps": 5, "num_targets": 3, "num_restarts": 2}, (37, 30)),
        ("auto_pgd", {"num_steps": 2, "num_targets": 50}, (28, 18)),
        ("auto_pgd", {"norm": "l1", "larger_balls": True, "num_steps": 10}, (12, 10)),
        ("hmcam", {"num_steps": 3, "num_transitions": 4, "start": "uniform"}, (14, 12)),
        ("nes", {"max_queries": 60, "num_directions": 4}, (55, 0)),
        ("square", {"max_queries": 60}, (60, 0)),
        ("cw", {"num_steps": 5, "search_steps": 2, "abort_early": False}, (11, 10)),
        ("ead", {"num_steps": 5, "search_steps": 2, "abort_early": False}, (19, 9)),
        (
            "zoo",
            {"num_steps": 3, "search_steps": 2, "coordinates": 4, "abort_early": False},
            (39, 0),
        ),
        (
            "cw",
            {"num_steps": 2, "search_steps": 1, "targets": "best", "abort_early": False},
            (28, 18),
        ),
    ],
)
def test_arguments_change_the_plan(
    name: str, arguments: dict[str, Any], wanted: tuple[int, int]
) -> None:
    spec = registry.get(name)
    found = planned(spec, **arguments)
    assert found.forward == wanted[0]
    assert found.backward >= wanted[1]
    assert ledger(run(spec, 3, **arguments)) == wanted


def test_a_sample_that_falls_late_stays_inside_the_plan_of_i_fgm() -> None:
    class Ramp(nn.Module):
        """The class changes at a mean of 0.9."""

        def forward(self, rows: Tensor) -> Tensor:
            mean = rows.flatten(1).mean(dim=1, keepdim=True)
            return torch.cat([0.9 - mean, mean - 0.9], dim=1)

    spec = registry.get("i_fgm")
    x = torch.zeros(2, 1, 8, 8)
    y = torch.zeros(2, dtype=torch.int64)
    for search in ("bisection", "grid"):
        arguments = {"num_steps": 3, "resolution": 0.01, "search": search}
        with planning() as found:
            spec.function(Ramp(), x[:0], y[:0], **arguments)
        result = spec.function(Ramp(), x, y, **arguments)
        assert found.rows is not None
        assert int(result.queries.max()) <= found.rows.forward
        assert int(result.gradients.max()) <= found.rows.backward


def test_plans_are_made_only_where_they_are_wanted() -> None:
    with planning() as outer:
        run(registry.get("pgd"), 0)
        run(registry.get("fgsm"), 0)
    assert outer.rows == PlannedRows(44, 41), "the loops of one attack add up"
    with planning() as other:
        pass
    assert other.rows is None
