"""The bounds against the published rows, SciPy, their monotony, and bad input."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from scipy.stats import norm

from art_ext.core.limits import in_distribution_risk_bound, intrinsic_robustness_bound

EPS = (1.0, 2.0, 3.0)


def values(**arguments: object) -> list[float]:
    return intrinsic_robustness_bound(**arguments).value.tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("alpha", "lipschitz", "row"),
    [
        (0.015, 11.0, (0.9822, 0.9776, 0.9721)),  # published as 98.2 97.8 97.2
        (0.15, 14.9, (0.8348, 0.8175, 0.7992)),  # published as 83.5 81.8 80.0
        (0.015, 5.5, (0.9776, 0.9656, 0.9489)),  # the constant of images in [0, 1]
    ],
)
def test_class_wise_rows(alpha: float, lipschitz: float, row: tuple[float, ...]) -> None:
    assert values(eps=EPS, alpha=alpha, lipschitz=lipschitz) == pytest.approx(row, abs=1e-4)


def test_overall_row() -> None:
    found = values(eps=EPS, alpha=0.015, lipschitz=11.0, form="overall", num_classes=10)
    assert found == pytest.approx((0.9838, 0.9814, 0.9787), abs=1e-4)


def test_five_percent_at_the_ratio_one() -> None:
    bound = intrinsic_robustness_bound(eps=1, alpha=0.05, lipschitz=1, delta=0.0)
    assert bound.value.shape == ()
    assert float(bound.value) == pytest.approx(0.7405, abs=1e-4)


def test_equals_scipy_in_both_forms() -> None:
    eps = torch.tensor([0.0, 0.3, 1.0, 7.0]).unsqueeze(1)
    alpha = torch.tensor([1e-6, 0.01, 0.1], dtype=torch.float64)
    priors = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    constants = torch.tensor([2.0, 3.5, 1.0], dtype=torch.float64)
    shift = eps.double().numpy() / 3.5
    found = intrinsic_robustness_bound(
        eps=eps, alpha=alpha, lipschitz=constants, priors=priors, delta=0.02
    )
    expected = 1.02 - norm.cdf(norm.ppf(alpha.numpy()) + shift)
    assert found.value.dtype == torch.float64
    torch.testing.assert_close(found.value, torch.tensor(expected), atol=1e-10, rtol=0)

    found = intrinsic_robustness_bound(
        eps=eps, alpha=alpha, lipschitz=constants, priors=priors, delta=0.02, form="overall"
    )
    terms = [p * norm.cdf(norm.ppf(alpha.numpy() / p) + shift) for p in priors.tolist()]
    expected = 1.02 - torch.stack([torch.as_tensor(term) for term in terms]).amin(0)
    torch.testing.assert_close(found.value, expected, atol=1e-10, rtol=0)


def test_the_smallest_class_is_not_always_the_minimum_of_the_overall_form() -> None:
    # all errors in one class: the worst choice depends on eps, so a fixed class would be wrong
    priors = [0.1, 0.9]
    for eps in (0.0, 0.5, 2.0, 6.0):
        terms = [p * norm.cdf(norm.ppf(0.05 / p) + eps) for p in priors]
        found = intrinsic_robustness_bound(
            eps=eps, alpha=0.05, lipschitz=1, priors=priors, form="overall", delta=0
        )
        assert float(found.value) == pytest.approx(1 - min(terms), abs=1e-12)


def test_overall_is_never_below_class_wise() -> None:
    # the family of the overall form contains that of the class-wise form
    eps = torch.linspace(0, 5, 11).unsqueeze(1)
    alpha = torch.linspace(0, 0.1, 6)
    arguments = {"eps": eps, "alpha": alpha, "lipschitz": 2.0, "num_classes": 10}
    overall = intrinsic_robustness_bound(**arguments, form="overall").value  # type: ignore[arg-type]
    class_wise = intrinsic_robustness_bound(**arguments).value  # type: ignore[arg-type]
    assert bool((overall >= class_wise - 1e-12).all())


@pytest.mark.parametrize("form", ["class-wise", "overall"])
def test_monotony(form: str) -> None:
    eps = torch.linspace(0, 6, 13).view(-1, 1, 1)
    alpha = torch.linspace(0.001, 0.09, 9).view(1, -1, 1)
    constants = torch.linspace(2, 20, 8).unsqueeze(1)  # eight constants, each for all classes
    value = intrinsic_robustness_bound(
        eps=eps, alpha=alpha, lipschitz=constants, form=form, num_classes=10
    ).value
    assert value.shape == (13, 9, 8)
    assert bool((value.diff(dim=0) < 0).all())
    assert bool((value.diff(dim=1) < 0).all())
    assert bool((value[1:].diff(dim=2) > 0).all())


def test_no_perturbation_and_no_risk() -> None:
    assert values(eps=0, alpha=[0.0, 0.2, 1.0], lipschitz=3, delta=0.01) == pytest.approx(
        [1.01, 0.81, 0.01], abs=1e-12
    )
    for form in ("class-wise", "overall"):
        bound = intrinsic_robustness_bound(
            eps=5.0, alpha=[0.0, 0.01], lipschitz=1, form=form, num_classes=10
        )
        assert bound.value[0] == 1 + 1e-3
        assert bound.vacuous.tolist() == [True, False]


def test_python_numbers_are_not_rounded_to_float32() -> None:
    assert float(intrinsic_robustness_bound(eps=0, alpha=0.1, lipschitz=1, delta=0).value) == 0.9


def test_float32_priors_and_risks_at_the_limit_are_accepted() -> None:
    alpha = torch.tensor(0.1)  # slightly more than 0.1 in float64
    bound = intrinsic_robustness_bound(
        eps=1, alpha=alpha, lipschitz=1, priors=torch.full((10,), 0.1), form="overall", delta=0
    )
    assert float(bound.value) == pytest.approx(0.9, abs=1e-6)


def test_the_radius_is_checked_for_the_smallest_constant(caplog: pytest.LogCaptureFixture) -> None:
    constants = [11.0, 7.8, 9.3]
    good = intrinsic_robustness_bound(eps=[1, 2, 3.9], alpha=0.015, lipschitz=constants, radius=0.5)
    assert good.radius_ok is not None
    assert good.radius_ok.tolist() == [True, True, True]  # 0.5 * 7.8 = 3.9
    assert not good.warning
    assert not caplog.records

    with caplog.at_level(logging.WARNING, logger="art_ext"):
        bad = intrinsic_robustness_bound(
            eps=[1, 2, 4], alpha=0.015, lipschitz=constants, radius=0.5
        )
    assert bad.radius_ok is not None
    assert bad.radius_ok.tolist() == [True, True, False]
    assert "of class 1" in bad.warning
    assert "at least 0.5128" in bad.warning  # 4 / 7.8
    assert [record.message for record in caplog.records] == [bad.warning]


def test_halved_constants_need_a_larger_radius() -> None:
    bound = intrinsic_robustness_bound(eps=EPS, alpha=0.015, lipschitz=[5.5, 3.9], radius=0.5)
    assert bound.radius_ok is not None
    assert bound.radius_ok.tolist() == [True, False, False]


def test_the_risk_bound_equals_scipy() -> None:
    risks = torch.tensor([0.0, 0.02, 0.3], dtype=torch.float64)
    constants = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    priors = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    eps = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    found = in_distribution_risk_bound(
        eps=eps, risks=risks, lipschitz=constants, priors=priors, delta=0.01
    )
    shift = (eps.unsqueeze(1) / constants).numpy()
    expected = (priors.numpy() * norm.cdf(norm.ppf(risks.numpy()) + shift)).sum(1) - 0.01
    torch.testing.assert_close(found.value, torch.tensor(expected), atol=1e-10, rtol=0)
    # without perturbation it is the overall risk less delta
    assert float(found.value[0]) == pytest.approx(0.02 * 0.3 + 0.3 * 0.2 - 0.01)
    assert not found.vacuous.any()


def test_a_classifier_without_errors_has_a_vacuous_risk_bound() -> None:
    bound = in_distribution_risk_bound(eps=[0, 9.0], risks=[0.0, 0.0], lipschitz=1.0)
    assert bound.value.tolist() == [-1e-3, -1e-3]
    assert bound.vacuous.all()


def test_equal_risks_and_constants_give_the_class_wise_form() -> None:
    of_class = intrinsic_robustness_bound(eps=EPS, alpha=0.03, lipschitz=6.0)
    of_risk = in_distribution_risk_bound(eps=EPS, risks=[0.03] * 4, lipschitz=[6.0] * 4)
    torch.testing.assert_close(of_class.value, 1 - of_risk.value, atol=1e-12, rtol=0)


def test_several_classifiers_at_once() -> None:
    risks = torch.rand(5, 10, generator=torch.Generator().manual_seed(0))
    together = in_distribution_risk_bound(eps=1.0, risks=risks, lipschitz=2.0)
    apart = [
        float(in_distribution_risk_bound(eps=1.0, risks=r, lipschitz=2.0).value) for r in risks
    ]
    assert together.value.tolist() == pytest.approx(apart, abs=1e-14)


GOOD = {"eps": 1.0, "alpha": 0.01, "lipschitz": 2.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": -0.1}, r"alpha must lie in \[0, 1\], got -0.1"),
        ({"alpha": [0.1, 1.5]}, r"alpha must lie in \[0, 1\], got 1.5 at index 1"),
        ({"alpha": math.nan}, "alpha must not be NaN"),
        ({"alpha": "low"}, "alpha must be a number or numbers, got 'low'"),
        ({"alpha": True}, "alpha must be a number or numbers, got True"),
        ({"eps": -1}, "eps must be finite and >= 0, got -1"),
        ({"eps": [1.0, math.inf]}, "eps must be finite and >= 0, got inf at index 1"),
        ({"eps": math.nan}, "eps must not be NaN"),
        ({"lipschitz": 0}, "lipschitz must be finite and > 0, got 0"),
        ({"lipschitz": [1.0, -2.0]}, "lipschitz must be finite and > 0, got -2 at index 1"),
        ({"lipschitz": [1.0, math.nan]}, "lipschitz must not be NaN, got nan at index 1"),
        ({"lipschitz": []}, "lipschitz must hold a number"),
        ({"delta": 1.5}, r"delta must lie in \[0, 1\], got 1.5"),
        ({"delta": [0.1, 0.2]}, r"delta must be one number, got shape \(2,\)"),
        ({"form": "classwise"}, "form must be one of .*did you mean 'class-wise'"),
        ({"form": "overall"}, "form='overall' needs priors, or num_classes"),
        ({"priors": [0.5, 0.6]}, "priors must sum to 1, got the sum 1.1"),
        ({"priors": [1.5, -0.5]}, "priors must be >= 0, got -0.5 at index 1"),
        ({"priors": 1.0}, r"priors must hold one number per class, shape \(K,\), got \(\)"),
        (
            {"priors": [0.5, 0.5], "num_classes": 3},
            r"priors must hold one number per class, shape \(3,\), got \(2,\)",
        ),
        (
            {"priors": [0.5, 0.5], "lipschitz": [1.0, 2.0, 3.0]},
            "lipschitz must be one number or one per class, got 3 for 2 classes",
        ),
        ({"num_classes": 0}, "num_classes must be an integer >= 1, got 0"),
        (
            {"alpha": 0.15, "form": "overall", "num_classes": 10},
            "got 0.15 / 0.1 in class 0: the theorem says nothing here",
        ),
        (
            {"alpha": 0.3, "form": "overall", "priors": [0.8, 0.2]},
            "got 0.3 / 0.2 in class 1: the theorem says nothing here",
        ),
        (
            {"alpha": 0.3, "form": "overall", "priors": [1.0, 0.0]},
            "got 0.3 / 0 in class 1: the theorem says nothing here",
        ),
        ({"radius": 0}, "radius must be finite and > 0, got 0"),
        ({"radius": math.nan}, "radius must not be NaN"),
        ({"eps": [1, 2], "alpha": [0.1, 0.2, 0.3]}, "eps, alpha and lipschitz must broadcast"),
    ],
)
def test_bad_input(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        intrinsic_robustness_bound(**{**GOOD, **wrong})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"risks": 0.1}, "risks must hold one number per class"),
        ({"risks": []}, "risks must hold one number per class"),
        ({"risks": [0.1, 2.0]}, r"risks must lie in \[0, 1\], got 2 at index 1"),
        ({"risks": [0.1, math.nan]}, "risks must not be NaN, got nan at index 1"),
        ({"lipschitz": [1.0, 2.0, 3.0]}, "got 3 for the risks of 2 classes"),
        ({"priors": [0.2, 0.3, 0.5]}, r"shape \(2,\), got \(3,\)"),
        ({"eps": -1}, "eps must be finite and >= 0"),
    ],
)
def test_bad_input_of_the_risk_bound(wrong: dict[str, object], message: str) -> None:
    arguments = {"eps": 1.0, "risks": [0.1, 0.2], "lipschitz": 2.0, **wrong}
    with pytest.raises(ValueError, match=message):
        in_distribution_risk_bound(**arguments)  # type: ignore[arg-type]


def test_a_misspelt_keyword_names_the_nearest() -> None:
    with pytest.raises(TypeError, match="did you mean 'lipschitz'"):
        intrinsic_robustness_bound(eps=1, alpha=0.1, lipshitz=1)  # type: ignore[call-arg]
