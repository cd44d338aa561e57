"""Gradients from scores alone, by symmetric differences along random directions.

References:
    Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial attacks",
    AAAI 2020, Algorithm 3. Ilyas et al., "Black-box adversarial attacks with limited queries and
    information", ICML 2018 (NES, antithetic).
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from art_ext.core.ball import BallRun
from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.geometry import row_norms
from art_ext.core.streams import normal

logger = logging.getLogger("art_ext")

SENSING = ("gaussian", "sphere")


class GradientEstimator:
    """``q(x) = 1 / (2 delta b) sum_i (f(x + delta u_i) - f(x - delta u_i)) u_i`` (Algorithm 3), 2 b
    queries.

    The u_i are standard Gaussian, or uniform on the sphere of radius sqrt(D), so that ``E[u u^T] =
    I`` for both and a linear f is estimated without bias. (The paper's sphere has radius 1 and the
    factor D instead, which is the same with delta divided by sqrt(D); its authors' program scales
    as we do.) Masked coordinates are not probed.

    Args:
        run: the samples; its oracle is asked for scores only.
        num_directions: b.
        delta: length of a probe, in the units of x, per unit of u.
        sensing: ``"gaussian"`` or ``"sphere"``.
        clip_probes: whether probes are clipped to the box.

    Raises:
        ValueError: for arguments that make no sense.
    """

    def __init__(
        self,
        run: BallRun,
        *,
        num_directions: int,
        delta: float,
        sensing: str,
        clip_probes: bool = False,
    ) -> None:
        check_count("num_directions", num_directions)
        check_positive("delta", delta)
        check_choice("sensing", sensing, SENSING)
        self.run, self.count, self.delta, self.sensing = run, num_directions, delta, sensing
        self.clip_probes = clip_probes
        self.cost = 2 * num_directions
        self.rounds = 0

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Estimates (R, D) of the gradient of the gain at the live samples' iterates (R, D), and
        means (R,) of the gain over the probes."""
        run = self.run
        block = max(1, run.oracle.batch_size // self.cost)
        slopes, means = torch.empty_like(rows), rows.new_empty(len(rows))
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            u = self._directions(run.index[part], rows.shape[1], part)
            values = self._probe(rows[part], u, run.index[part])
            # sums along one dimension only: over two they would round differently for a single
            # sample
            means[part] = ((values[0] + values[1]).mean(dim=1) / 2).to(torch.float32)
            weight = ((values[0] - values[1]) / (2 * self.delta * self.count)).to(torch.float32)
            if not self.rounds and not bool(weight.isfinite().all()):
                logger.warning(
                    "the model returns NaN or infinity for some probes: clip_probes=True keeps them"
                    " in the box"
                )
            # a direction whose probes say nothing must not spoil the momentum for good
            weight = torch.nan_to_num(weight, nan=0.0, posinf=0.0, neginf=0.0)
            slopes[part] = torch.einsum("rb,rbd->rd", weight, u)
        self.rounds += 1
        run.spent += self.cost
        return slopes, means

    def _directions(self, index: Tensor, features: int, part: slice) -> Tensor:
        """(r, b, D) sensing vectors, from blocks of the samples' streams of their own."""
        run = self.run
        steps = self.rounds * self.count + torch.arange(self.count, device=index.device)
        ids = run.ids[index].repeat_interleave(self.count)
        u = normal(run.seed, ids, steps.repeat(len(index)), (features,))
        if run.free is not None:
            free = run.free[part] if len(run.free) > 1 else run.free
            u = u * free.expand(len(index), features).repeat_interleave(self.count, dim=0)
        if self.sensing == "sphere":
            size = float(features) if run.free is None else (u != 0).sum(dim=1, keepdim=True)
            u = u * (
                torch.as_tensor(size).sqrt() / row_norms(u, "l2").clamp(min=1e-12).unsqueeze(1)
            )
        return u.view(len(index), self.count, features)

    def _probe(self, rows: Tensor, u: Tensor, index: Tensor) -> Tensor:
        """(2, r, b) gains at both ends of every probe."""
        run = self.run
        steps = self.delta * u
        probes = torch.stack([rows.unsqueeze(1) + steps, rows.unsqueeze(1) - steps])
        if self.clip_probes:
            probes = run.clip(probes)
        owner = index.repeat_interleave(self.count).repeat(2)
        _, gains = run.oracle.evaluate(probes.view(-1, *run.shape[1:]), owner, run.gain)
        return gains.view(2, len(index), self.count)
