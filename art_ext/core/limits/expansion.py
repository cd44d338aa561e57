"""Checks of the theory: expansions of error regions, and sets whose expansion is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_count, check_number
from art_ext.core.keywords import public
from art_ext.core.limits.bounds import Numbers, gaussian_expansion, numbers

KINDS = ("half-space", "ball", "complement", "slabs")
DISTANCES = 1 << 20  # numbers of a temporary
BISECTIONS = 200  # more than float64 resolves


@dataclass(frozen=True, eq=False)
class Expansion:
    """Share of latents within a radius of a misclassified one.

    Attributes:
        radius: float64, of the shape that was given, on the CPU as the other tensors.
        share: float64 share of the latents, for each radius.
        risk: share of the misclassified latents.
        least: Phi(Phi^-1(risk) + radius), which the expansion of any set has at least.
    """

    radius: Tensor
    share: Tensor
    risk: float
    least: Tensor


@public()
def empirical_expansion(latents: Tensor, wrong: Tensor, radius: Numbers) -> Expansion:
    """Measure how many latents lie within a radius of a misclassified latent.

    The share of latents z with min_{z' wrong} ||z - z'||_2 <= radius estimates the measure of the
    expanded error region from below, because the sample holds a few points of that region only. In
    many dimensions the share hardly exceeds the risk, also where the true expansion is large. A
    share below ``least`` is therefore no contradiction. No model is called and no query is made.

    Args:
        latents: (N, d) floats of one class, drawn from the standard Gaussian distribution.
        wrong: (N,) bool, the latents whose image is misclassified.
        radius: of the latent space, >= 0. A number or a tensor.

    Raises:
        ValueError: if there is no latent, one holds NaN or infinity, shapes or types do not fit, or
            a radius is negative.

    References:
        Jinghui Chen, dissertation, UCLA 2021 (Lemma 4.4.2). Christer Borell, "The Brunn-Minkowski
        inequality in Gauss space", 1975.
    """
    _check_latents(latents, wrong)
    radii = numbers("radius", radius)
    if bool((radii < 0).any()):
        raise ValueError(f"radius must be >= 0, got {float(radii.min()):g}")
    distance = _distances(latents.detach(), wrong.to(latents.device)).cpu().double()
    share = (distance <= radii.unsqueeze(-1)).double().mean(dim=-1)
    risk = wrong.double().mean().cpu()
    return Expansion(radii, share, float(risk), gaussian_expansion(risk, radii))


def _check_latents(latents: Tensor, wrong: Tensor) -> None:
    """Raise ValueError unless latents are finite floats (N, d), and wrong is bool (N,)."""
    for name, given in (("latents", latents), ("wrong", wrong)):
        if not isinstance(given, Tensor):
            raise ValueError(f"{name} must be a tensor, got {type(given).__name__}")
    if latents.dim() != 2 or not len(latents) or not latents.is_floating_point():
        raise ValueError(
            f"latents must be floats of shape (N, d) with N >= 1, got {latents.dtype} of shape"
            f" {tuple(latents.shape)}"
        )
    if wrong.dtype != torch.bool or wrong.shape != latents.shape[:1]:
        raise ValueError(
            f"wrong must be bool of shape ({len(latents)},), got {wrong.dtype} of shape"
            f" {tuple(wrong.shape)}"
        )
    unusable = int((~latents.isfinite()).any(dim=1).sum())
    if unusable:
        raise ValueError(
            f"latents must be finite, got NaN or infinity in {unusable} of {len(latents)} rows"
        )


def _distances(latents: Tensor, wrong: Tensor) -> Tensor:
    """Return (N,) distances of latents to the nearest wrong one, inf without any."""
    errors = latents[wrong]
    if not len(errors):
        return torch.full((len(latents),), math.inf, device=latents.device)
    parts = latents.split(max(1, DISTANCES // len(errors)))
    # a matrix product would cancel for latents that are close
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(one, errors, compute_mode=exact).amin(dim=1) for one in parts])


@dataclass(frozen=True)
class GaussianSet:
    """Set of given standard Gaussian measure whose expansion has a closed form.

    With u = <w, z> along the unit vector w = (1, ..., 1) / sqrt(d), and thresholds that give the
    measure, the sets are

        half-space:  u >= t,
        ball:        ||z|| <= t,
        complement:  ||z|| >= t,
        slabs:       s <= |u| <= t, with half of the tails P(|u| >= s) beyond t.

    The half-space attains the isoperimetric inequality, and the others exceed it.

    Attributes:
        kind: ``"half-space"``, ``"ball"``, ``"complement"`` or ``"slabs"``.
        measure: probability of the set, between 0 and 1, below 0.5 for slabs.
        dim: d, number of dimensions.
        threshold: t. ``inner`` is s, for slabs only.

    Raises:
        ValueError: if an argument is out of range.
    """

    kind: str
    measure: float
    dim: int
    threshold: float = field(init=False)
    inner: float = field(init=False, default=math.nan)

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_number("measure", self.measure)
        check_count("dim", self.dim)
        most = 0.5 if self.kind == "slabs" else 1.0
        if not 0 < self.measure < most:
            raise ValueError(
                f"measure must lie between 0 and {most:g} for kind={self.kind!r},"
                f" got {self.measure!r}"
            )
        if self.kind == "half-space":
            self._set("threshold", -_quantile(self.measure))
        elif self.kind == "slabs":
            self._set("threshold", -_quantile(self.measure / 2))
            self._set("inner", -_quantile(self.measure))
        else:
            inside = self.measure if self.kind == "ball" else 1 - self.measure
            self._set("threshold", _chi_quantile(inside, self.dim))

    def distance(self, z: Tensor) -> Tensor:
        """Return (N,) distances of latents (N, d) to the set, 0 inside."""
        if self.kind == "ball":
            outside = z.norm(dim=1) - self.threshold
        elif self.kind == "complement":
            outside = self.threshold - z.norm(dim=1)
        elif self.kind == "half-space":
            outside = self.threshold - self.along(z)
        else:
            tail = self.along(z).abs()
            outside = torch.maximum(self.inner - tail, tail - self.threshold)
        return outside.clamp(min=0)

    def along(self, z: Tensor) -> Tensor:
        """Return (N,) coordinates u of latents (N, d)."""
        return z.sum(dim=1) / math.sqrt(self.dim)

    def expanded(self, radius: Numbers) -> Tensor:
        """Return the measure of all points within a radius of the set, as float64."""
        radii = numbers("radius", radius)
        if self.kind == "half-space":
            return gaussian_expansion(numbers("measure", self.measure), radii)
        if self.kind == "ball":
            return _chi_below(self.threshold + radii, self.dim)
        if self.kind == "complement":
            return 1 - _chi_below((self.threshold - radii).clamp(min=0), self.dim)
        inner = (self.inner - radii).clamp(min=0)
        return 2 * (torch.special.ndtr(-inner) - torch.special.ndtr(-self.threshold - radii))

    def _set(self, name: str, value: float) -> None:
        object.__setattr__(self, name, value)


def _quantile(share: float) -> float:
    return float(torch.special.ndtri(torch.tensor(share, dtype=torch.float64)))


def _chi_below(radius: Tensor, dim: int) -> Tensor:
    """Return P(||z|| <= radius) in dim dimensions."""
    half = torch.tensor(dim / 2, dtype=torch.float64)
    return torch.special.gammainc(half, radius.square() / 2)


def _chi_quantile(share: float, dim: int) -> float:
    """Return the radius with P(||z|| <= radius) = share, by bisection."""
    low = 0.0
    high = math.sqrt(dim) + 40.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        inside = float(_chi_below(torch.tensor(middle, dtype=torch.float64), dim))
        low, high = (middle, high) if inside < share else (low, middle)
    return high
