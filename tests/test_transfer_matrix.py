"""Transfer between the members of an ensemble, against models whose answer is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import pgd
from art_ext.core.metrics import transfer_matrix, transfer_success, wilson


class Side(nn.Module):
    """Says 1 where its coordinate lies above 0.5, with a gradient in that coordinate only."""

    def __init__(self, coordinate: int, shift: float = 0.0) -> None:
        super().__init__()
        self.coordinate = coordinate
        self.shift = shift
        self.rows = 0

    def forward(self, rows: Tensor) -> Tensor:
        assert not self.training, "a model must run in eval mode"
        self.rows += len(rows)
        lead = 20 * (rows[:, self.coordinate] - 0.5 - self.shift)
        return torch.stack([-lead, lead], dim=1)


def points(count: int = 40) -> tuple[Tensor, Tensor]:
    """(count, 3) points between .2 and .45 in all coordinates, of class 0."""
    generator = torch.Generator().manual_seed(0)
    return 0.2 + 0.25 * torch.rand(count, 3, generator=generator), torch.zeros(
        count, dtype=torch.int64
    )


SETTINGS: dict[str, Any] = {"eps": 0.1, "num_steps": 10, "seed": 0}


def test_models_of_different_coordinates_do_not_transfer_and_equal_ones_do() -> None:
    x, y = points()
    models = [Side(0), Side(1), Side(0)]
    # it starts at x, so that a coordinate without a gradient stays as it is
    found = transfer_matrix(models, x, y, attack="i_fgsm", **SETTINGS)
    reach = float((x[:, 0] > 0.4).double().mean())
    assert 0 < reach < 1
    assert found.success[0].tolist() == pytest.approx([reach, 0.0, reach])
    assert found.success[2].tolist() == pytest.approx([reach, 0.0, reach])
    own = float((x[:, 1] > 0.4).double().mean())
    assert found.success[1].tolist() == pytest.approx([0.0, own, 0.0])
    assert found.off_diagonal == pytest.approx(2 * reach / 6)
    assert found.diagonal == pytest.approx((2 * reach + own) / 3)
    assert found.count == 40
    low, high = wilson(round(reach * 40), 40)
    assert (float(found.low[0, 0]), float(found.high[0, 0])) == pytest.approx((low, high))


def test_the_entries_are_those_of_each_attack_and_of_transfer_success() -> None:
    generator = torch.Generator().manual_seed(3)
    models = [nn.Sequential(nn.Flatten(), nn.Linear(9, 4, bias=False)) for _ in range(3)]
    with torch.no_grad():  # the others are close to the first, and not equal
        for place, model in enumerate(models):
            for own, first in zip(model.parameters(), models[0].parameters(), strict=True):
                scale = 0.3 if place else 1.0
                noise = scale * torch.randn(own.shape, generator=generator)
                own.copy_(first + noise if place else noise)
    x = torch.rand(60, 1, 3, 3, generator=generator)
    y = models[0](x).argmax(1)
    found = transfer_matrix(models, x, y, **SETTINGS)
    right = torch.stack([model(x).argmax(1) == y for model in models]).all(dim=0)
    assert torch.equal(found.counted, right)
    assert 20 < found.count < 60
    for place, model in enumerate(models):
        result = pgd(model, x[right], y[right], on_failure="last", **SETTINGS)
        assert float(found.success[place, place]) == pytest.approx(
            float(result.success.double().mean())
        )
        for other, tried in enumerate(models):
            wanted = transfer_success(result.x_adv, x[right], y[right], tried)
            assert float(found.success[place, other]) == pytest.approx(wanted.share)


def test_samples_that_one_model_misclassifies_are_not_counted() -> None:
    x, y = points()
    found = transfer_matrix([Side(0), Side(0, shift=-0.2)], x, y, **SETTINGS)
    assert torch.equal(found.counted, x[:, 0] <= 0.3)
    assert found.count == int((x[:, 0] <= 0.3).sum()) > 0


def test_no_sample_that_counts_is_nan_and_attacks_nothing() -> None:
    x, y = points()
    models = [Side(0), Side(0, shift=-1.0)]
    found = transfer_matrix(models, x, y, **SETTINGS)
    assert found.count == 0
    assert found.success.isnan().all()
    assert math.isnan(found.off_diagonal)
    assert [model.rows for model in models] == [40, 40]


@pytest.mark.parametrize("changes", [{"eps": -1}, {"num_steps": 0}], ids=str)
def test_arguments_are_checked_also_where_no_sample_counts(changes: dict[str, Any]) -> None:
    x, y = points()
    with pytest.raises(ValueError, match=next(iter(changes))):
        transfer_matrix([Side(0), Side(0, shift=-1.0)], x, y, **{**SETTINGS, **changes})


def test_each_model_is_attacked_once_and_by_any_attack() -> None:
    x, y = points(10)
    models = [Side(0), Side(1)]
    found = transfer_matrix(models, x, y, attack="rays", eps=0.3, max_queries=60, seed=1)
    assert found.success.diagonal().tolist() == [1.0, 1.0]
    calls = Side(0)
    transfer_matrix([calls, Side(1)], x, y, **SETTINGS)
    # the clean check, 1 + 11 queries of the attack, and the examples of both
    assert calls.rows == 10 * (1 + 12 + 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": [Side(0)]}, "models must be a list of two models or more, got 1"),
        ({"models": Side(0)}, "models must be a list of two models or more, got Side"),
        ({"attack": "pgdd"}, "attack must be one of .* got 'pgdd' .did you mean 'pgd'"),
        ({"targeted": True}, "counts misclassified examples, got targeted"),
        ({"y": torch.zeros(3, dtype=torch.int64)}, r"y must have shape \(40,\)"),
        ({"eps": None}, "eps"),
    ],
    ids=str,
)
def test_bad_input(changes: dict, message: str) -> None:
    x, y = points()
    given = {"models": [Side(0), Side(1)], "x": x, "y": y, **SETTINGS, **changes}
    with pytest.raises(ValueError, match=message):
        transfer_matrix(given.pop("models"), given.pop("x"), given.pop("y"), **given)


def test_a_missing_radius_and_an_unknown_argument_are_named() -> None:
    x, y = points()
    with pytest.raises(ValueError, match=r"the attack pgd needs eps, such as eps=0\.1"):
        transfer_matrix([Side(0), Side(1)], x, y)
    with pytest.raises(TypeError, match=r"'steps' .did you mean 'num_steps'"):
        transfer_matrix([Side(0), Side(1)], x, y, eps=0.1, steps=3)
