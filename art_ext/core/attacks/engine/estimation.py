"""Gradients from scores alone, by symmetric differences along random directions.

References:
    Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial attacks",
    AAAI 2020, Algorithm 3. Ilyas et al., "Black-box adversarial attacks with limited queries and
    information", ICML 2018 (NES, antithetic).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.geometry import row_norms
from art_ext.core.streams import normal

logger = logging.getLogger("art_ext")

SENSING = ("gaussian", "sphere")


@dataclass(frozen=True, kw_only=True)
class GradientEstimator:
    """``q(x) = 1 / (2 delta b) sum_i (f(x + delta u_i) - f(x - delta u_i)) u_i`` (Algorithm 3), 2 b
    queries.

    The u_i are standard Gaussian, or uniform on the sphere of radius sqrt(D), so that ``E[u u^T] =
    I`` for both and a linear f is estimated without bias. The paper's sphere has radius 1 and the
    factor D instead, which is the same with delta divided by sqrt(D). Its reference implementation
    scales as this one does. Masked coordinates are not probed.

    Attributes:
        num_directions: b, >= 1. An iteration costs 2 b queries and one for its check. Default: 25.
        delta: length of a probe per unit of u, in the units of x.
        sensing: ``"gaussian"`` or ``"sphere"``, the law of the directions. Default: gaussian.
        clip_probes: True clips the probes to the box, for a model that takes nothing else. Default:
            False.
    """

    num_directions: int
    delta: float
    sensing: str = "gaussian"
    clip_probes: bool = False

    def __post_init__(self) -> None:
        check_count("num_directions", self.num_directions)
        check_positive("delta", self.delta)
        check_choice("sensing", self.sensing, SENSING)

    @property
    def cost(self) -> int:
        """Queries of one estimate."""
        return 2 * self.num_directions

    def __call__(self, problem: Problem, rows: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Estimate the gradient of the gain.

        Args:
            problem: the active rows.
            rows: (R, D) their iterates.
            t: number of the step, which chooses the directions.

        Returns:
            (R, D) estimates, and (R,) means of the gain over the probes.
        """
        block = max(1, problem.oracle.batch_size // self.cost)
        slopes = torch.empty_like(rows)
        means = rows.new_empty(len(rows))
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            u = self._directions(problem, part, t)
            values = self._probe(problem, rows[part], u, problem.index[part])
            # sums along one dimension only: over two they would round differently for a single
            # sample
            means[part] = ((values[0] + values[1]).mean(dim=1) / 2).to(torch.float32)
            weight = (values[0] - values[1]) / (2 * self.delta * self.num_directions)
            weight = weight.to(torch.float32)
            if not t and not bool(weight.isfinite().all()):
                logger.warning(
                    "the model returns NaN or infinity for some probes: clip_probes=True keeps them"
                    " in the box"
                )
            # a direction whose probes say nothing must not spoil the momentum for good
            weight = torch.nan_to_num(weight, nan=0.0, posinf=0.0, neginf=0.0)
            slopes[part] = torch.einsum("rb,rbd->rd", weight, u)
        return slopes, means

    def _directions(self, problem: Problem, part: slice, t: int) -> Tensor:
        """(r, b, D) sensing vectors, from blocks of the samples' streams of their own."""
        count, features = self.num_directions, problem.x.shape[1]
        ids = problem.ids[part]
        steps = t * count + torch.arange(count, device=ids.device)
        u = normal(problem.seed, ids.repeat_interleave(count), steps.repeat(len(ids)), (features,))
        if problem.mask is not None:
            u = u * problem.mask[part].repeat_interleave(count, dim=0)
        if self.sensing == "sphere":
            size = float(features) if problem.mask is None else (u != 0).sum(dim=1, keepdim=True)
            radius = torch.as_tensor(size).sqrt()
            u = u * (radius / row_norms(u, "l2").clamp(min=1e-12).unsqueeze(1))
        return u.view(len(ids), count, features)

    def _probe(self, problem: Problem, rows: Tensor, u: Tensor, index: Tensor) -> Tensor:
        """(2, r, b) gains at both ends of every probe."""
        steps = self.delta * u
        probes = torch.stack([rows.unsqueeze(1) + steps, rows.unsqueeze(1) - steps])
        if self.clip_probes:
            probes = problem.clip(probes)
        owner = index.repeat_interleave(self.num_directions).repeat(2)
        _, gains = problem.scores.evaluate(problem.shaped(probes), owner, problem.gain)
        return gains.view(2, len(index), self.num_directions)
