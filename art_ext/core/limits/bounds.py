"""Bounds on the robustness of any classifier, from a generator's local Lipschitz constants.

References:
    Xiao Zhang, Jinghui Chen, Quanquan Gu, David Evans, "Understanding the intrinsic robustness of
    image distributions using conditional generative models", AISTATS 2020.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_count
from art_ext.core.geometry import Array
from art_ext.core.keywords import public

logger = logging.getLogger("art_ext")

FORMS = ("class-wise", "overall")
SUM_TOLERANCE = 1e-6  # of priors in float32
RATIO_TOLERANCE = 1e-6  # of ratios of float32 numbers, such as alpha / p_i = 1

Numbers = float | Tensor | Sequence[Any] | Array


@dataclass(frozen=True, eq=False)
class Bound:
    """A bound and its conditions. All tensors have one shape and lie on the CPU.

    Attributes:
        value: float64, not clipped. 0-dimensional if all arguments were numbers.
        vacuous: bool, True if the bound says nothing: a bound on robustness is at least 1, or a
            bound on the risk at most 0.
        radius_ok: bool, True if radius * L_i >= eps for all classes. None without a radius.
        warning: the class with the smallest constant, and the radius that would do. Empty if there
            is nothing to warn of.
    """

    value: Tensor
    vacuous: Tensor
    radius_ok: Tensor | None = None
    warning: str = ""


@public()
def intrinsic_robustness_bound(
    *,
    eps: Numbers,
    alpha: Numbers,
    lipschitz: Numbers,
    delta: float = 1e-3,
    priors: Numbers | None = None,
    num_classes: int | None = None,
    form: str = "class-wise",
    radius: float | None = None,
) -> Bound:
    """Compute an upper bound on the L2 robustness of all classifiers with risk at least alpha.

    Images of class i are g_i(z), z ~ N(0, I), and have the probability p_i. Each g_i is
    L_i-Lipschitz in a ball of the given radius around z, with probability 1 - delta over z. Then no
    classifier of the family has a higher robust accuracy at eps (Theorem 4.4.4) than

        class-wise:  1 + delta - sum_i p_i Phi(Phi^-1(alpha) + eps / L_max),
        overall:     1 + delta - min_i p_i Phi(Phi^-1(alpha / p_i) + eps / L_max).

    The family of the class-wise form is smaller. Its classifiers have a risk of at least alpha on
    every class. That of the overall form are those with an overall risk of at least alpha. An
    estimate of L that is too low makes the bound too low. No model is called and no query is made.

    Args:
        eps: radius of the L2 ball, in the units of images in [0, 1]. A number or a tensor.
        alpha: risk of the classifiers without attack, in [0, 1]. A number or a tensor. 0 gives the
            bound 1 + delta. eps, alpha and the leading axes of lipschitz broadcast.
        lipschitz: L, a number, one per class (K,), or (..., K) with the classes on the last axis.
            For several constants that hold for all classes pass (M, 1).
        delta: probability that the Lipschitz condition fails, in [0, 1]. Default: 0.001.
        priors: (K,) p_i, with the sum 1. None: equal classes. The overall form needs them, or
            ``num_classes`` for equal ones.
        num_classes: K of equal classes. Default: the number of priors or of constants.
        form: ``"class-wise"`` or ``"overall"``.
        radius: of the ball in the latent space in which L holds. With it radius * L_i >= eps is
            checked for the smallest L_i, which the theorem needs. A failure is logged. Default:
            not checked.

    Returns:
        A Bound. ``vacuous`` marks values of 1 or more.

    Raises:
        ValueError: if eps or radius is negative, alpha or delta lies outside [0, 1], a constant is
            not finite and > 0, priors are negative or do not sum to 1, numbers of classes or shapes
            do not fit, or alpha / p_i > 1 in the overall form, about which the theorem says
            nothing.

    References:
        Xiao Zhang, Jinghui Chen, Quanquan Gu, David Evans, "Understanding the intrinsic robustness
        of image distributions using conditional generative models", AISTATS 2020.
        Jinghui Chen, dissertation, UCLA 2021 (Theorem 4.4.4).
    """
    check_choice("form", form, FORMS)
    delta = _delta(delta)
    alphas = _within_unit("alpha", alpha)
    constants = _constants(lipschitz)
    shares = _priors(priors, num_classes, constants, needed=form == "overall")
    radii, alphas = _broadcast(_radii(eps), constants, alphas, "alpha")

    shift = (radii / constants.amax(dim=-1)).unsqueeze(-1)
    if form == "class-wise":
        risk = gaussian_expansion(alphas.unsqueeze(-1), shift) * shares
        value = 1 + delta - risk.sum(dim=-1)
    else:
        ratio = _ratios(alphas, shares)
        value = 1 + delta - (shares * gaussian_expansion(ratio, shift)).amin(dim=-1)
    return Bound(value, value >= 1, *_radius_check(radius, radii, constants))


@public()
def in_distribution_risk_bound(
    *,
    eps: Numbers,
    risks: Numbers,
    lipschitz: Numbers,
    priors: Numbers | None = None,
    delta: float = 1e-3,
    radius: float | None = None,
) -> Bound:
    """Compute a lower bound on the in-distribution adversarial risk of one classifier.

    The in-distribution adversarial risk at eps is the probability that an image within eps of
    g_i(z), itself an image of g_i, is misclassified. With Risk_i the risk on class i (Theorem
    4.4.3) it is at least

        sum_i p_i Phi(Phi^-1(Risk_i) + eps / L_i) - delta.

    The adversarial risk without constraint is at least as large. An estimate of L_i that is too low
    makes the bound too high. No model is called and no query is made.

    Args:
        eps: radius of the L2 ball, in the units of images in [0, 1]. A number or a tensor.
        risks: (..., K) risk on each class without attack, in [0, 1], as ``risk_on`` measures it.
            eps and the leading axes of risks and lipschitz broadcast.
        lipschitz: L, a number, one per class (K,), or (..., K) with the classes on the last axis.
        priors: (K,) p_i, with the sum 1. Default: equal classes.
        delta: probability that the Lipschitz condition fails, in [0, 1]. Default: 0.001.
        radius: as for ``intrinsic_robustness_bound``.

    Returns:
        A Bound on the risk. ``vacuous`` marks values of 0 or less. 1 - value is the upper bound on
        the robust accuracy.

    Raises:
        ValueError: as for ``intrinsic_robustness_bound``, and if risks are not one per class.

    References:
        Xiao Zhang, Jinghui Chen, Quanquan Gu, David Evans, "Understanding the intrinsic robustness
        of image distributions using conditional generative models", AISTATS 2020.
        Jinghui Chen, dissertation, UCLA 2021 (Theorem 4.4.3).
    """
    delta = _delta(delta)
    measured = _within_unit("risks", risks)
    if not measured.dim() or not measured.shape[-1]:
        raise ValueError(f"risks must hold one number per class, got shape {tuple(measured.shape)}")
    constants = _constants(lipschitz)
    count = measured.shape[-1]
    if constants.shape[-1] not in (1, count):
        raise ValueError(
            f"lipschitz must be one number or one per class, got {constants.shape[-1]} for the"
            f" risks of {count} classes"
        )
    shares = _priors(priors, count, constants, needed=False)
    leading = measured[..., 0]
    radii, leading = _broadcast(_radii(eps), constants, leading, "risks")

    measured = measured.expand(*leading.shape, count)
    risk = shares * gaussian_expansion(measured, radii.unsqueeze(-1) / constants)
    value = risk.sum(dim=-1) - delta
    return Bound(value, value <= 0, *_radius_check(radius, radii, constants))


def gaussian_expansion(measure: Tensor, radius: Tensor) -> Tensor:
    """Compute Phi(Phi^-1(measure) + radius), the least measure of an expanded set.

    It is the Gaussian isoperimetric inequality (Lemma 4.4.2). Half-spaces attain it.

    Args:
        measure: float64 measures in [0, 1] under a standard Gaussian distribution.
        radius: radii >= 0, which broadcast with them.
    """
    return torch.special.ndtr(torch.special.ndtri(measure) + radius)


def numbers(name: str, value: object) -> Tensor:
    """Return numbers as a float64 tensor on the CPU. Not every device has float64.

    Raises:
        ValueError: if there is something else, or NaN.
    """
    try:
        found = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a number or numbers, got {value!r}") from error
    if found.dtype == torch.bool or found.is_complex():
        raise ValueError(f"{name} must be a number or numbers, got {value!r}")
    # from the value itself, because as_tensor rounds Python's numbers to float32
    found = torch.as_tensor(value, device="cpu", dtype=torch.float64)
    if bool(found.isnan().any()):
        raise ValueError(f"{name} must not be NaN, got {_shown(found, found.isnan())}")
    return found


def _shown(values: Tensor, wrong: Tensor) -> str:
    """Return the first wrong number, and its place among several."""
    first = values[wrong].flatten()[0]
    if not values.dim():
        return f"{float(first):g}"
    place = ", ".join(str(int(index)) for index in wrong.nonzero()[0])
    return f"{float(first):g} at index {place}"


def _within_unit(name: str, value: object) -> Tensor:
    """Return numbers. Raise ValueError unless they lie in [0, 1]."""
    found = numbers(name, value)
    wrong = (found < 0) | (found > 1)
    if bool(wrong.any()):
        raise ValueError(f"{name} must lie in [0, 1], got {_shown(found, wrong)}")
    return found


def _delta(delta: object) -> float:
    """Return a probability. Raise ValueError unless it is one number in [0, 1]."""
    found = _within_unit("delta", delta)
    if found.dim():
        raise ValueError(f"delta must be one number, got shape {tuple(found.shape)}")
    return float(found)


def _radii(eps: object) -> Tensor:
    """Return radii. Raise ValueError unless they are finite and >= 0."""
    found = numbers("eps", eps)
    wrong = (found < 0) | found.isinf()
    if bool(wrong.any()):
        raise ValueError(f"eps must be finite and >= 0, got {_shown(found, wrong)}")
    return found


def _constants(lipschitz: object) -> Tensor:
    """Return constants (..., K), or (1,) for one number.

    Raises:
        ValueError: unless they are finite and > 0.
    """
    found = numbers("lipschitz", lipschitz)
    wrong = (found <= 0) | found.isinf()
    if bool(wrong.any()):
        raise ValueError(f"lipschitz must be finite and > 0, got {_shown(found, wrong)}")
    if not found.numel():
        raise ValueError(f"lipschitz must hold a number, got shape {tuple(found.shape)}")
    return found if found.dim() else found.unsqueeze(0)


def _priors(
    priors: object | None, num_classes: int | None, constants: Tensor, *, needed: bool
) -> Tensor:
    """Return (K,) priors, equal ones for None.

    Raises:
        ValueError: if they are negative, do not sum to 1, or their number fits neither the classes
            nor the constants, or if the number of classes is needed and not given.
    """
    if num_classes is not None:
        check_count("num_classes", num_classes)
    of_constants = constants.shape[-1]
    if priors is None:
        if needed and num_classes is None:
            raise ValueError(
                "form='overall' needs priors, or num_classes for equal classes, got neither"
            )
        count = num_classes or of_constants
        found = torch.full((count,), 1 / count, dtype=torch.float64)
    else:
        found = check_priors(priors, num_classes)
    if of_constants not in (1, len(found)):
        raise ValueError(
            f"lipschitz must be one number or one per class, got {of_constants} for"
            f" {len(found)} classes"
        )
    return found


def check_priors(priors: object, num_classes: int | None = None) -> Tensor:
    """Return (K,) float64 probabilities of the classes.

    Args:
        priors: K numbers. A sum that differs from 1 by rounding is divided out.
        num_classes: K, or None for any.

    Raises:
        ValueError: if they are negative, do not sum to 1, or are not ``num_classes``.
    """
    found = numbers("priors", priors)
    if found.dim() != 1 or not len(found) or num_classes not in (None, len(found)):
        wanted = "K" if num_classes is None else f"{num_classes}"
        raise ValueError(
            f"priors must hold one number per class, shape ({wanted},), got {tuple(found.shape)}"
        )
    if bool((found < 0).any()):
        raise ValueError(f"priors must be >= 0, got {_shown(found, found < 0)}")
    total = float(found.sum())
    if not abs(total - 1) <= SUM_TOLERANCE:
        raise ValueError(f"priors must sum to 1, got the sum {total:.6g}")
    return found / total


def _broadcast(
    radii: Tensor, constants: Tensor, others: Tensor, name: str
) -> tuple[Tensor, Tensor]:
    """Return radii and others, expanded to the shape that they have with the constants.

    Raises:
        ValueError: if the shapes do not fit.
    """
    leading = constants[..., 0]
    try:
        radii, others, _ = torch.broadcast_tensors(radii, others, leading)
    except RuntimeError as error:
        raise ValueError(
            f"eps, {name} and lipschitz must broadcast, got shapes {tuple(radii.shape)},"
            f" {tuple(others.shape)} and {tuple(leading.shape)} without the axis of classes"
        ) from error
    return radii, others


def _ratios(alphas: Tensor, shares: Tensor) -> Tensor:
    """Return alpha / p_i (..., K), with 0 for alpha 0.

    Raises:
        ValueError: if a ratio exceeds 1, naming the class.
    """
    ratio = alphas.unsqueeze(-1) / shares
    ratio = torch.where(alphas.unsqueeze(-1) == 0, 0.0, ratio)
    wrong = ratio > 1 + RATIO_TOLERANCE
    if bool(wrong.any()):
        *place, worst = (int(index) for index in wrong.nonzero()[0])
        raise ValueError(
            f"alpha / p_i must be at most 1 in the overall form, got"
            f" {float(alphas[tuple(place)]):g} / {float(shares[worst]):g} in class {worst}: the"
            " theorem says nothing here"
        )
    return ratio.clamp(max=1)


def _radius_check(
    radius: float | None, radii: Tensor, constants: Tensor
) -> tuple[Tensor | None, str]:
    """Return for each bound whether radius * L_i >= eps for all classes, and a warning."""
    if radius is None:
        return None, ""
    length = numbers("radius", radius)
    if length.dim() or not 0 < float(length) < torch.inf:
        raise ValueError(f"radius must be finite and > 0, got {radius!r}")
    smallest, class_index = constants.expand(*radii.shape, -1).min(dim=-1)
    # products of decimal numbers may fall short by rounding
    fits = length * smallest >= radii * (1 - RATIO_TOLERANCE)
    if bool(fits.all()):
        return fits, ""
    worst = int((radii / smallest).flatten().argmax())
    eps = float(radii.flatten()[worst])
    constant = float(smallest.flatten()[worst])
    owner = f" of class {int(class_index.flatten()[worst])}" if constants.shape[-1] > 1 else ""
    warning = (
        f"radius * L must be at least eps = {eps:g}, got {float(length):g} * {constant:.4g} ="
        f" {float(length) * constant:.4g}{owner}: the bound needs constants of a radius of at least"
        f" {eps / constant:.4g}"
    )
    logger.warning(warning)
    return fits, warning
