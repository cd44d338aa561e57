"""Local Lipschitz constants of a conditional generator, one per class.

References:
    Xiao Zhang, Jinghui Chen, Quanquan Gu, David Evans, "Understanding the intrinsic robustness of
    image distributions using conditional generative models", AISTATS 2020 (Algorithm 7).
    Gene Golub, Charles Van Loan, "Matrix computations", 4th edition, 2013 (Lanczos method).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_count, check_positive, check_share
from art_ext.core.keywords import public
from art_ext.core.limits.ascent import climb
from art_ext.core.limits.generator import Generator, GeneratorOracle, check_generator, draw_latents
from art_ext.core.limits.jacobian import spectral_norms
from art_ext.core.limits.neighbours import NEIGHBOURS, Neighbourhood, best_neighbours
from art_ext.core.streams import resolve_seed

ESTIMATORS = ("sampled", "spectral", "ascent")
UNITS = ("mapped", "raw")


@dataclass(frozen=True, eq=False)
class GeneratorLipschitz:
    """Estimates of C classes, all from below. Tensors lie on the CPU.

    Attributes:
        classes: the classes, in the order of the first axes.
        value: (C,) float64 constants, the mean over the repeats.
        deviation: (C,) float64 standard deviation over the repeats. NaN for one repeat.
        repeats: (C, R) float64 constants of the repeats, each an order statistic.
        local: (C, R, S) float32 local constants of the latents, in the order of their numbers.
        residual: (C, R, S) float32 ``||J' J v - s^2 v|| / s^2``. None without the spectral norm.
        rank: of the order statistic, ceil((1 - delta) S). 1 is the smallest local constant.
        is_largest: True if the rank is S, so that the value is the largest local constant.
        rows: (C,) int64 forward rows of the generator.
        backward_rows: (C,) int64 backward rows of the generator.
        probe_rows: forward rows of the check before the first class.
        seconds: (C,) float64.
        estimator: ``"sampled"``, ``"spectral"`` or ``"ascent"``.
        differentiation: ``"torch.func"`` or ``"double backward"``. None without the spectral norm.
        units: ``"mapped"`` or ``"raw"``.
        seed: key of the draws, also of a fresh one.
    """

    classes: tuple[int, ...]
    value: Tensor
    deviation: Tensor
    repeats: Tensor
    local: Tensor
    residual: Tensor | None
    rank: int
    is_largest: bool
    rows: Tensor
    backward_rows: Tensor
    probe_rows: int
    seconds: Tensor
    estimator: str
    differentiation: str | None
    units: str
    seed: int


@public()
def generator_lipschitz(
    generator: Generator,
    *,
    classes: Sequence[int] | None = None,
    radius: float = 0.5,
    delta: float = 1e-3,
    num_latents: int = 1000,
    num_neighbours: int = 2000,
    estimator: str = "sampled",
    neighbours: str = "ball",
    num_iterations: int = 20,
    num_steps: int = 30,
    repeats: int = 1,
    image_range: tuple[float, float] | None = (0.0, 1.0),
    lipschitz_units: str = "mapped",
    memory_mb: float = 200,
    device: torch.device | str | None = None,
    seed: int = 0,
) -> GeneratorLipschitz:
    """Estimate the local Lipschitz constant of a generator for each class, from below.

    For latents z_1, ..., z_S ~ N(0, I) and the images g(z) of one class, the value is the
    ceil((1 - delta) S)-th smallest of the local constants

        L_i = max ||g(z') - g(z_i)||_2 / ||z' - z_i||_2  over  0 < ||z' - z_i||_2 <= radius.

    An estimator finds a lower bound of each L_i. A bound on robustness that is built on such a
    constant may be too low.

    ``"sampled"`` takes the largest ratio of N random neighbours (Algorithm 7). In many dimensions
    it is far too small, since a random direction is nearly orthogonal to the one that matters.
    ``"spectral"`` takes the spectral norm of the Jacobian at z_i, the limit of the ratio as z' goes
    to z_i along the top singular vector. It holds for every radius. ``"ascent"`` takes the largest
    ratio found by projected gradient ascent from the best neighbour and from a short step along
    the top singular vector, and is never below the other two.

    No classifier is called and no query is made. The generator runs in eval mode without parameter
    gradients, and all flags are restored. A latent is keyed by (seed, class, number), and its
    neighbours by (seed, latent, number), so that neither the size of a block nor the order of the
    classes changes a value. Repeat r has the latents r S to (r + 1) S - 1.

    Args:
        generator: module or callable from latents (N, d) float32 and classes (N,) int64 to images
            (N, *S), with the attributes ``latent_dim`` and ``num_classes``.
        classes: the classes to estimate. Default: all.
        radius: of the ball in the latent space, > 0. Default: 0.5.
        delta: share of latents that may have a larger local constant, in [0, 1). Default: 0.001.
            If delta S < 1, the value is the largest local constant, and ``is_largest`` says so.
        num_latents: S. Default: 1000.
        num_neighbours: N, of each latent. ``"spectral"`` does not use it. Default: 2000.
        estimator: ``"sampled"``, ``"spectral"`` or ``"ascent"``. Default: ``"sampled"``.
        neighbours: ``"ball"``, uniform in the ball, or ``"orthant"``, its positive orthant only,
            as in the reference implementation. Default: ``"ball"``.
        num_iterations: products with the Jacobian and with its transpose, for the spectral norm.
            More than d + 1 are not made. Default: 20.
        num_steps: steps of the ascent. Default: 30.
        repeats: number of estimates, each from other latents. Default: 1.
        image_range: the range of the generator's images, mapped to [0, 1]. None: neither mapped nor
            checked. Default: (0, 1).
        lipschitz_units: ``"mapped"``, of images in [0, 1], or ``"raw"``, of the generator's own
            images, as in the paper. Default: ``"mapped"``.
        memory_mb: mebibytes that the images and latents of one block may take, without the
            generator's own. Default: 200.
        device: device of the latents, for generators without parameters.
        seed: key of all draws, >= 0. None: a fresh one.

    Returns:
        A GeneratorLipschitz. Sampled: N + 1 forward rows per latent. Spectral: 2 forward
        rows, one backward row, and two per iteration. Ascent: those of both, and 2 num_steps + 3
        forward and 2 num_steps + 2 backward rows.

    Raises:
        ValueError: if an argument is out of range, the images lie outside ``image_range`` or are
            not finite, the generator ignores z or y, or it is not differentiable and the estimator
            needs gradients.

    Differences from the paper:
        The percentile is an order statistic and not interpolated between two. For S = 1000 and
        delta = 0.001 it is the second largest local constant, and an interpolated percentile lies
        between it and the third largest or the largest, by the rule. The neighbours fill the whole
        ball as in the text, where the reference implementation draws positive offsets only. Images
        are mapped to [0, 1] first, so that the constant of a generator with images in [-1, 1] is
        half the paper's. Neighbours nearer than 0.001 radius are left out, because float32 rounds
        their ratio.

    References:
        Xiao Zhang, Jinghui Chen, Quanquan Gu, David Evans, "Understanding the intrinsic robustness
        of image distributions using conditional generative models", AISTATS 2020 (Algorithm 7).
        Jinghui Chen, dissertation, UCLA 2021 (Section 4.7.1).
        Gene Golub, Charles Van Loan, "Matrix computations", 4th edition, 2013 (Lanczos method).
    """
    check_choice("estimator", estimator, ESTIMATORS)
    check_choice("neighbours", neighbours, NEIGHBOURS)
    check_choice("lipschitz_units", lipschitz_units, UNITS)
    check_positive("radius", radius)
    check_share("delta", delta)
    counts = {
        "num_latents": num_latents,
        "num_neighbours": num_neighbours,
        "num_iterations": num_iterations,
        "num_steps": num_steps,
        "repeats": repeats,
    }
    for name, count in counts.items():
        check_count(name, count)
    seed = resolve_seed(seed, least=0)
    oracle = GeneratorOracle(generator, image_range=image_range, memory_mb=memory_mb, device=device)
    chosen = _chosen_classes(classes, oracle.num_classes)
    hood = Neighbourhood(radius, neighbours, num_neighbours, seed)
    plan = _Plan(estimator, hood, num_iterations, num_steps, num_latents, repeats)
    with oracle:
        check_generator(oracle, seed=seed)
        probe_rows = oracle.rows
        found = [_estimate(oracle, plan, one) for one in chosen]

    scale = oracle.scale if lipschitz_units == "raw" else 1.0
    local = torch.stack([one.local for one in found]) * scale
    rank = _rank(delta, num_latents)
    values = local.kthvalue(rank, dim=2).values.double()
    residuals = [one.residual for one in found if one.residual is not None]
    return GeneratorLipschitz(
        classes=chosen,
        value=values.mean(dim=1),
        deviation=values.std(dim=1) if repeats > 1 else torch.full_like(values[:, 0], math.nan),
        repeats=values,
        local=local,
        residual=torch.stack(residuals) if residuals else None,
        rank=rank,
        is_largest=rank == num_latents,
        rows=torch.tensor([one.rows for one in found]),
        backward_rows=torch.tensor([one.backward_rows for one in found]),
        probe_rows=probe_rows,
        seconds=torch.tensor([one.seconds for one in found], dtype=torch.float64),
        estimator=estimator,
        differentiation=found[0].differentiation,
        units=lipschitz_units,
        seed=seed,
    )


class _Plan(NamedTuple):
    """Settings of an estimate, with the names of ``generator_lipschitz``."""

    estimator: str
    hood: Neighbourhood
    num_iterations: int
    num_steps: int
    num_latents: int
    repeats: int


class _ClassEstimate(NamedTuple):
    """The local constants of one class, on the CPU, with the attributes of GeneratorLipschitz."""

    local: Tensor
    residual: Tensor | None
    differentiation: str | None
    rows: int
    backward_rows: int
    seconds: float


def _estimate(oracle: GeneratorOracle, plan: _Plan, chosen: int) -> _ClassEstimate:
    """Estimate the local constants of one class, for all repeats at once."""
    began = time.perf_counter()
    rows = oracle.rows
    backward_rows = oracle.backward_rows
    index = torch.arange(plan.repeats * plan.num_latents, device=oracle.device)
    y = torch.full_like(index, chosen)
    z = draw_latents(oracle.latent_dim, y, index, plan.hood.seed)

    values: list[Tensor] = []
    starts: list[Tensor] = []
    residual = None
    differentiation = None
    if plan.estimator != "spectral":
        nearby = best_neighbours(oracle, z, y, plan.hood)
        values.append(nearby.values)
        starts.append(nearby.offsets)
    if plan.estimator != "sampled":
        spectrum, differentiation = spectral_norms(
            oracle, z, y, num_iterations=plan.num_iterations, seed=plan.hood.seed
        )
        residual = spectrum.residuals.cpu().unflatten(0, (plan.repeats, plan.num_latents))
        values.append(spectrum.values)
        starts.append(spectrum.directions)
    if plan.estimator == "ascent":
        values.append(
            climb(oracle, z, y, starts, radius=plan.hood.radius, num_steps=plan.num_steps)
        )
    local = torch.stack(values).amax(dim=0).cpu()
    wrong = int((~local.isfinite()).sum())
    if wrong:
        raise ValueError(
            f"the local constants must be finite, got NaN or infinity at {wrong} of {len(local)}"
            f" latents of class {chosen}"
        )
    return _ClassEstimate(
        local.unflatten(0, (plan.repeats, plan.num_latents)),
        residual,
        differentiation,
        oracle.rows - rows,
        oracle.backward_rows - backward_rows,
        time.perf_counter() - began,
    )


def _rank(delta: float, num_latents: int) -> int:
    """Return ceil((1 - delta) S), exact for the decimals of delta."""
    return math.ceil(num_latents * (1 - Fraction(str(float(delta)))))


def _chosen_classes(classes: Sequence[int] | None, num_classes: int) -> tuple[int, ...]:
    """Return the classes to estimate.

    Raises:
        ValueError: if one is not a class of the generator, or is named twice.
    """
    if classes is None:
        return tuple(range(num_classes))
    chosen = tuple(classes)
    for one in chosen:
        check_count("a class", one, least=0)
        if one >= num_classes:
            raise ValueError(
                f"classes must be among the generator's, 0 to {num_classes - 1}, got {one}"
            )
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"classes must name at least one class, and each once, got {chosen}")
    return tuple(int(one) for one in chosen)
