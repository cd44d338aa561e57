"""Distances to the decision boundary along directions, and the random directions themselves.

Letters as in the papers of OPT and Sign-OPT: theta is a direction of L-inf length 1, g its distance
to the boundary, alpha the length of a step and beta that of a difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks.engine.label_search import ActiveRows
from art_ext.core.attacks.engine.nearest import NearestAdversarials
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.streams import normal

START, SAMPLE, GROW, SHRINK = range(4)  # stages of a search
TOL = 1e-5  # width at which the bisection of a random direction ends, in widths of the box
SHARE = 500  # beta over the width at which other bisections end
STRIDE = 0.01  # share of the radius that a local search steps by
FAR = 20.0  # radius at which a local search gives up, in widths of the box


@dataclass(eq=False)
class DirectionState(ActiveRows):
    """The search of the B active rows, each at its own place.

    Attributes:
        x: (B, D) clean input.
        stage: (B,) int64: random directions, samples around theta, line search up or down.
        number: (B,) int64, of the direction in its stage, from 0.
        draws: (B,) int64, random directions drawn so far.
        stopped: (B,) bool, nothing is left to try.
        direction: (B, D) the direction of the next query, of length 1.
        radius: (B,) of the next query.
        low: (B,) largest radius below the boundary along it, -1 before any.
        high: (B,) its smallest verified adversarial radius, inf before any.
        noise: (B, D) the random direction u of a sample.
        theta: (B, D) the direction of the present iteration.
        g: (B,) its distance to the boundary.
        slope: (B, D) the estimated gradient of g.
        best: (B, D) the best direction of the line search, or of the random ones.
        best_g: (B,) its distance, inf before any.
        alpha, beta: (B,) the step sizes.
    """

    x: Tensor
    stage: Tensor
    number: Tensor
    draws: Tensor
    stopped: Tensor
    direction: Tensor
    radius: Tensor
    low: Tensor
    high: Tensor
    noise: Tensor
    theta: Tensor
    g: Tensor
    slope: Tensor
    best: Tensor
    best_g: Tensor
    alpha: Tensor
    beta: Tensor


class Boundary:
    """Intervals that hold the boundary along the directions of the active rows.

    Args:
        problem: the samples.
        found: the adversarials so far.
        probes: True: a sample is one query, whose interval is of no interest.
        stop_on_success: True: a verified radius inside the ball ends an interval.
    """

    def __init__(
        self, problem: Problem, found: NearestAdversarials, probes: bool, stop_on_success: bool
    ) -> None:
        self.problem = problem
        self.found = found
        self.probes = probes
        self.stop_on_success = stop_on_success
        self.width = problem.box.width

    def points(self, state: DirectionState, radius: Tensor) -> Tensor:
        """(B, D) the points at some radii (B,) along the directions, clipped to the box."""
        points = torch.addcmul(state.x, state.direction, radius.unsqueeze(1))
        return self.problem.clip_(points)

    def enter(self, state: DirectionState) -> None:
        """Enter the adversarials at the verified ends of the directions."""
        verified = state.high < torch.inf
        if self.probes:
            verified &= state.stage != SAMPLE
        points = self.points(state, torch.where(verified, state.high, 0.0))
        self.found.enter(state.sample, state.x, points, verified)

    def narrow(self, state: DirectionState, adversarial: Tensor) -> Tensor:
        """Narrow the interval of each row by its answer, and choose the radius of its next query.

        Returns:
            (B,) bool, True where the distance along the direction is known.
        """
        radius = state.radius
        starts = state.stage == START
        # a random direction beyond the best radius is queried there next
        again = starts & adversarial & (radius > state.best_g)
        state.high = torch.where(adversarial & ~again, radius, state.high)
        state.low = torch.where(adversarial, state.low, radius)
        above = state.high < torch.inf
        below = state.low >= 0
        middle = (state.low + state.high) / 2
        tol = torch.where(starts, self.width * TOL, self.width / SHARE * state.beta)
        narrow = (middle <= state.low) | (middle >= state.high) | (state.high - state.low <= tol)
        ended = above & below & narrow
        step = torch.where(above, (1 - STRIDE) * state.high, (1 + STRIDE) * state.low)
        ended |= ~above & (step > FAR * self.width) & ~starts
        ended |= starts & ~adversarial & ~above
        if self.stop_on_success and self.problem.eps is not None:
            ended |= state.high <= self.problem.radius
        if self.probes:
            ended |= state.stage == SAMPLE
        state.radius = torch.where(above & below, middle, torch.where(again, state.best_g, step))
        return ended


def random_directions(problem: Problem, sample: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """(b, D) Gaussian directions scaled to length 1, and their lengths (b,) before.

    Args:
        problem: the samples.
        sample: (b,) positions in x.
        draws: (b,) the number of the direction among those of its sample.
    """
    ids = problem.ids.index_select(0, sample)
    noise = normal(problem.seed, ids, draws, (problem.x.shape[1],))
    noise = problem.masked(noise, sample)
    length = lengths(noise)
    return noise.div_(length.unsqueeze(1)), length


def lengths(rows: Tensor) -> Tensor:
    """(B,) L-inf norms of rows (B, D), in a tenth of the time of PyTorch's norm."""
    return rows.abs().amax(dim=1) if rows.shape[1] else rows.new_zeros(len(rows))
