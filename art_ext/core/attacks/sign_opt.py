"""Sign-OPT: a hard-label attack that descends the distance to the boundary by signs."""

from __future__ import annotations

from typing import Any

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


class SignSearch(DirectionSearch):
    """Samples that are one query each: the sign of the difference of two distances."""

    probes = True
    least_alpha = 1e-6
    least_beta = 1e-8

    def weigh(self, state: DirectionState, adversarial: Tensor, value: Tensor) -> Tensor:
        """(B,) signs: an adversarial at the radius g means that the boundary is nearer."""
        return torch.where(adversarial, -1.0, 1.0)


@public(DirectionOptions, without=UNUSED)
def sign_opt(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_starts: int = 100,
    num_directions: int = 200,
    step_size: float = 0.2,
    beta: float = 1e-3,
    **options: Any,
) -> AttackResult:
    """Sign-OPT hard-label attack: descend the distance to the decision boundary by the signs of its
    differences.

    Solves ``min_theta g(theta) s.t. ||theta||_inf = 1``, with ``g(theta) = min {r >= 0 :
    label(clip(x + r theta)) != y}``. The best of ``num_starts`` random directions is the start.
    Each iteration estimates the gradient of g by ``1/k sum_i sgn(g(theta + beta u_i) - g(theta))
    u_i`` over k random directions. One query at the radius g(theta) along the renormalised ``theta
    + beta u_i`` tells the sign. A line search follows: the step doubles up to 15 times while g
    falls. Without a first success it is divided by 4, up to 15 times.

    Args:
        model: an ``nn.Module`` or a callable from (R, *S) to scores (R, K) or labels (R,).
            Normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes. None takes the model's own answer to the clean check.
        num_starts: Gaussian directions, each queried once at its own length, in widths of the box.
            One that succeeds and beats the best is bisected. Default: 100.
        num_directions: k, queries for one gradient. Default: 200.
        step_size: alpha, the first step of the line search, without a unit. Later line searches
            begin where the one before ended. Below 1e-6 it becomes 1, and beta a tenth. Default:
            0.2.
        beta: length of a difference, without a unit. The bisections of a line search end at a width
            of beta/500, in widths of the box. Default: 0.001.

    Returns:
        An ``AttackResult``. ``x_nearest`` and ``nearest_distance`` hold the nearest verified
        adversarial, inside eps or not. A query is one row through the model: clean check, random
        direction, sign, every step of a local search or bisection. Without an adversarial among
        the random directions a sample ends there, and its ``nearest_distance`` is inf.

    Raises:
        ValueError: for arguments that make no sense, targets, x outside the box, NaN in x or in the
            clean outputs, or labels beyond the model's width.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        This is the L-inf form, which the paper does not print. As in the reference implementation,
        directions have L-inf length 1, points are clipped to the box, and the estimate is a mean
        and not a sum. A search also ends where rounding leaves no midpoint. The authors test the
        goal after each iteration. Here a verified radius inside the ball ends the sample at once.
        All lengths scale with the width of the box.

    References:
        Cheng, Singh, Chen, Chen, Liu, Hsieh, "Sign-OPT: a query-efficient hard-label adversarial
        attack", ICLR 2020.
    """
    return run_directions(
        SignSearch,
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
        "sign_opt",
        sign_opt,
        title="Sign-OPT",
        access="labels",
        family="minimum-norm",
        summary="Descends the distance to the boundary by signs of differences, from labels alone.",
        paper=(
            "Cheng, Singh, Chen, Chen, Liu, Hsieh. Sign-OPT: a query-efficient hard-label "
            "adversarial attack. ICLR 2020."
        ),
        page="attacks/opt.md",
        url="https://arxiv.org/abs/1909.10773",
        norms=("linf",),
        no_targets=NO_TARGETS,
        random=True,
        hosts={"art": Shell(name="SignOPT"), "torchattacks": Shell(name="SignOPT")},
    )
)
