"""Robustness measures against numbers worked out by hand, and ADBD against the closed form of a
linear model.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.core.attacks import rays
from art_ext.core.metrics import (
    adbd,
    clean_accuracy,
    query_statistics,
    robust_accuracy,
    success_rate,
)
from art_ext.core.result import AttackResult

INF = math.inf


def result(**changes: object) -> AttackResult:
    """Six samples: one misclassified, three broken at eps 0.3, one found outside eps, one never
    found.
    """
    found = AttackResult(
        x_adv=torch.zeros(6, 2),
        success=torch.tensor([True, True, True, True, False, False]),
        already_adversarial=torch.tensor([True, False, False, False, False, False]),
        distance=torch.tensor([0.0, 0.2, 0.2, 0.3, INF, INF]),
        x_nearest=torch.zeros(6, 2),
        nearest_distance=torch.tensor([0.0, 0.1, 0.2, 0.3, 0.5, INF]),
        queries=torch.tensor([1, 50, 50, 50, 50, 50]),
        queries_to_success=torch.tensor([1, 5, 8, 40, -1, -1]),
        gradients=torch.zeros(6, dtype=torch.int64),
        wasted_rows=torch.zeros(6, dtype=torch.int64),
        norm="linf",
        eps=0.3,
        seed=0,
        stop_on_success=False,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def linear_model(weight: torch.Tensor) -> nn.Module:
    """Two classes, told apart by the sign of ``weight @ x - 0.5 sum(weight)``."""
    layer = nn.Linear(len(weight), 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.zeros_like(weight), weight]))
        layer.bias.copy_(torch.stack([torch.tensor(0.0), -0.5 * weight.sum()]))
    return layer


class TestBoundaryDistance:
    def test_misclassified_count_zero_and_the_never_found_are_left_out(self) -> None:
        found = adbd(result())
        assert found.value == pytest.approx((0 + 0.1 + 0.2 + 0.3 + 0.5) / 5)
        assert (found.left_out, found.count) == (1, 5)

    def test_a_misclassified_row_is_zero_whatever_its_distance_says(self) -> None:
        odd = result(nearest_distance=torch.tensor([INF, 0.1, 0.2, 0.3, 0.5, INF]))
        assert adbd(odd).value == pytest.approx(0.22)

    def test_nothing_found_is_nan(self) -> None:
        nothing = result(
            nearest_distance=torch.full((6,), INF),
            already_adversarial=torch.zeros(6, dtype=torch.bool),
        )
        found = adbd(nothing)
        assert math.isnan(found.value)
        assert (found.left_out, found.count) == (6, 0)

    def test_refuses_an_early_stopped_result(self) -> None:
        with pytest.raises(ValueError, match="stop_on_success=False"):
            adbd(result(stop_on_success=True))

    def test_refuses_an_attack_that_never_looks_past_eps(self) -> None:
        with pytest.raises(ValueError, match="searches beyond its eps"):
            adbd(result(x_nearest=None, nearest_distance=None))

    def test_linear_model_closed_form(self) -> None:
        generator = torch.Generator().manual_seed(0)
        weight = torch.tensor([1.0, -2.0, 0.5, 1.5, -1.0, 0.7, -0.3, 2.0])
        # no clipping between here and the boundary
        x = 0.5 + 0.1 * (2 * torch.rand(20, 8, generator=generator) - 1)
        y = ((x - 0.5) @ weight > 0).long()
        y[0] = 1 - y[0]  # misclassified
        optimum = ((x - 0.5) @ weight).abs() / weight.abs().sum()
        optimum[0] = 0.0
        tol = 1e-4
        attacked = rays(linear_model(weight), x, y, max_queries=400, stop_on_success=False, tol=tol)
        found = adbd(attacked)
        assert found.count == 20
        assert -1e-6 <= found.value - float(optimum.mean()) <= tol / math.sqrt(8)


class TestShares:
    def test_shares(self) -> None:
        assert clean_accuracy(result()) == pytest.approx(5 / 6)
        assert robust_accuracy(result()) == pytest.approx(2 / 6)
        assert success_rate(result()) == pytest.approx(3 / 5)

    @pytest.mark.parametrize(
        ("eps", "held"), [(0.0, 5), (0.05, 5), (0.1, 4), (0.25, 3), (0.3, 2), (0.6, 1)]
    )
    def test_robust_accuracy_at_other_radii_is_read_from_the_distance(
        self, eps: float, held: int
    ) -> None:
        assert robust_accuracy(result(), eps) == pytest.approx(held / 6)

    def test_an_early_stopped_result_knows_its_own_radius_only(self) -> None:
        stopped = result(stop_on_success=True)
        assert robust_accuracy(stopped, 0.3) == robust_accuracy(stopped) == pytest.approx(2 / 6)
        with pytest.raises(
            ValueError, match=r"at eps=0\.1 of an attack at eps=0\.3 .*stop_on_success=False"
        ):
            robust_accuracy(stopped, 0.1)

    def test_a_filled_ball_knows_its_own_radius_only(self) -> None:
        with pytest.raises(ValueError, match="searches beyond its eps"):
            robust_accuracy(result(x_nearest=None, nearest_distance=None), 0.1)

    @pytest.mark.parametrize("eps", [-0.1, math.nan])
    def test_refuses_a_radius_that_is_none(self, eps: float) -> None:
        with pytest.raises(ValueError, match="eps must be >= 0, got"):
            robust_accuracy(result(), eps)

    def test_shares_of_nothing_are_nan(self) -> None:
        wrong = result(
            already_adversarial=torch.ones(6, dtype=torch.bool),
            success=torch.ones(6, dtype=torch.bool),
        )
        assert math.isnan(success_rate(wrong))
        assert robust_accuracy(wrong) == clean_accuracy(wrong) == 0.0


class TestQueries:
    def test_over_the_broken_that_were_right(self) -> None:
        statistics = query_statistics(result())
        assert statistics.count == 3
        assert (statistics.mean, statistics.median) == (pytest.approx(53 / 3), 8)
        assert (statistics.mean_without_check, statistics.median_without_check) == (
            pytest.approx(50 / 3),
            7,
        )

    def test_the_median_of_an_even_number_lies_between(self) -> None:
        two = result(success=torch.tensor([True, True, True, False, False, False]))
        assert query_statistics(two).median == np.median([5, 8]) == 6.5

    def test_without_success_nan(self) -> None:
        none = query_statistics(result(success=torch.tensor([True] + [False] * 5)))
        assert none.count == 0
        assert all(
            math.isnan(value) for value in (none.mean, none.median, none.median_without_check)
        )


class TestArtEvaluation:
    def test_agrees_with_core_and_keeps_the_result(self) -> None:
        from art.estimators.classification import PyTorchClassifier
        from art.evaluations.evaluation import Evaluation

        from art_ext.evaluation.adbd import ADBD

        model = linear_model(torch.tensor([1.0, -2.0, 0.5, 1.5]))
        x = torch.rand(12, 4, generator=torch.Generator().manual_seed(1))
        y = torch.tensor([0, 1] * 6)
        classifier = PyTorchClassifier(
            model,
            nn.CrossEntropyLoss(),
            input_shape=(4,),
            nb_classes=2,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        evaluation = ADBD(max_queries=60, verbose=False)
        assert isinstance(evaluation, Evaluation)
        found = evaluation.evaluate(classifier, x.numpy(), np.eye(2)[y.numpy()])
        core = rays(model, x, y, eps=None, max_queries=60, stop_on_success=False)
        assert found == adbd(core)
        assert evaluation.last_result is not None
        assert evaluation.last_result.nearest_distance is not None
        assert core.nearest_distance is not None
        assert torch.equal(evaluation.last_result.nearest_distance, core.nearest_distance)
        assert bool(core.already_adversarial.any())
