"""OPT: a hard-label attack that descends the distance to the boundary by its differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from art_ext.core.attacks.engine.direction_search import (
    NO_TARGETS,
    UNUSED,
    DirectionOptions,
    DirectionSearch,
    DirectionState,
    run_directions,
)
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult

STANDSTILL = 0.005  # an iteration that gains less ends the search, in widths of the box


@dataclass(eq=False)
class DifferenceState(DirectionState):
    """The search of the B active rows.

    Attributes:
        sampled: (B, D) the best direction among the samples of an iteration.
        sampled_g: (B,) its distance, inf before any.
    """

    sampled: Tensor
    sampled_g: Tensor


class DifferenceSearch(DirectionSearch):
    """Samples whose distances to the boundary are found by a local search."""

    probes = False
    least_alpha = 1e-4
    least_beta = 5e-5

    def begin(self, index: Tensor) -> DifferenceState:
        """Return the state of the samples (B,) at their first random direction."""
        state = super().begin(index)
        return DifferenceState(
            **vars(state),
            sampled=torch.zeros_like(state.best),
            sampled_g=torch.full_like(state.g, torch.inf),
        )

    def weigh(self, state: DirectionState, adversarial: Tensor, value: Tensor) -> Tensor:
        """(B,) differences over beta. A direction without a boundary counts as 0."""
        slope = (value - state.g) / (self.width * state.beta)
        return slope.masked_fill(value == torch.inf, 0.0)

    def sampled(self, state: DirectionState, rows: Tensor, value: Tensor) -> None:
        """Keep the best direction among the samples."""
        own = cast(DifferenceState, state)
        better = rows & (value < own.sampled_g)
        own.sampled = torch.where(better.unsqueeze(1), own.direction, own.sampled)
        own.sampled_g = torch.where(better, value, own.sampled_g)

    def choose(self, state: DirectionState, rows: Tensor) -> None:
        """Take the best sample where it beats the line search, and stop rows that stand still."""
        own = cast(DifferenceState, state)
        better = rows & (own.sampled_g < own.best_g)
        own.best = torch.where(better.unsqueeze(1), own.sampled, own.best)
        own.best_g = torch.where(better, own.sampled_g, own.best_g)
        own.sampled_g = own.sampled_g.masked_fill(rows, torch.inf)
        gain = own.g - own.best_g
        own.stopped = own.stopped | (rows & (gain < STANDSTILL * self.width))


@public(DirectionOptions, without=UNUSED)
def opt(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_starts: int = 10,
    num_directions: int = 5,
    step_size: float = 0.2,
    beta: float = 1e-2,
    **options: Any,
) -> AttackResult:
    """OPT hard-label attack: descend the distance to the decision boundary by its differences.

    Solves ``min_theta g(theta) s.t. ||theta||_inf = 1``, with ``g(theta) = min {r >= 0 :
    label(clip(x + r theta)) != y}``. The best of ``num_starts`` random directions is the start.
    Each iteration estimates the gradient of g by ``1/q sum_i (g(theta + beta u_i) - g(theta)) /
    beta u_i`` over q random directions. A local search finds each distance: it begins at
    g(theta), moves by 1 % until it has passed the boundary, and bisects. A line search follows:
    the step doubles up to 15 times while g falls. Without a first success it is divided by 4, up to
    15 times. The best of the q directions replaces its end where that is nearer. A sample ends
    once an iteration gains less than 0.005 of the width of the box.

    Args:
        model: an ``nn.Module`` or a callable from (R, *S) to scores (R, K) or labels (R,).
            Normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes. None takes the model's own answer to the clean check.
        num_starts: Gaussian directions, each queried once at its own length, in widths of the box.
            One that succeeds and beats the best is bisected. Default: 10.
        num_directions: q, distances for one gradient. Default: 5.
        step_size: alpha, the first step of the line search, without a unit. Later line searches
            begin where the one before ended. Below 1e-4 it becomes 1, and beta a tenth. Default:
            0.2.
        beta: length of a difference, without a unit. Local searches end at a width of beta/500, in
            widths of the box. Default: 0.01.

    Returns:
        An ``AttackResult``. ``x_nearest`` and ``nearest_distance`` hold the nearest verified
        adversarial, inside eps or not. A query is one row through the model: clean check, random
        direction, every step of a local search or bisection. Without an adversarial among the
        random directions a sample ends there, and its ``nearest_distance`` is inf.

    Raises:
        ValueError: for arguments that make no sense, targets, x outside the box, NaN in x or in the
            clean outputs, or labels beyond the model's width.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        This is the L-inf form, which the paper does not print. As in the reference implementation,
        directions have L-inf length 1, and points are clipped to the box. A sample direction
        without a boundary within 20 widths of the box counts as no difference. In the reference
        implementation it makes the estimate infinite. The authors test the goal at the end. Here a
        verified radius inside the ball ends the sample at once. All lengths scale with the width of
        the box.

    References:
        Cheng, Le, Chen, Yi, Zhang, Hsieh, "Query-efficient hard-label black-box attack: an
        optimization-based approach", ICLR 2019.
    """
    return run_directions(
        DifferenceSearch,
        model,
        x,
        y,
        DirectionOptions(**options),
        num_starts=num_starts,
        num_directions=num_directions,
        step_size=step_size,
        beta=beta,
    )


register(
    AttackSpec(
        "opt",
        opt,
        title="OPT",
        access="labels",
        family="minimum-norm",
        summary="Descends the distance to the boundary by its differences, from labels alone.",
        paper=(
            "Cheng, Le, Chen, Yi, Zhang, Hsieh. Query-efficient hard-label black-box attack: an "
            "optimization-based approach. ICLR 2019."
        ),
        page="attacks/opt.md",
        url="https://arxiv.org/abs/1807.04457",
        norms=("linf",),
        no_targets=NO_TARGETS,
        random=True,
        hosts={"art": Shell(name="OPT"), "torchattacks": Shell(name="OPT")},
    )
)
