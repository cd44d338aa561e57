"""One round of RayS: the next query of every sample, or its next queries at once.

Letters as in the paper: d is the direction (here a sign vector s in {-1, +1}^D, scaled to unit
length), r its decision boundary radius, D the dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks._rays_blocks import Blocks
from art_ext.core.attacks._rays_trace import DistanceTrace
from art_ext.core.attacks.engine.label_search import ActiveRows
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import keep
from art_ext.core.inspection import REJECTED, Inspector
from art_ext.core.oracle import LabelOracle
from art_ext.core.samples import reaches_goal


@dataclass(eq=False)
class RayState(ActiveRows):
    """The search of the B active rows, each at its own place of Algorithms 4 to 6.

    Between two bisections a sample is at its fast checks. Both ends are then the radius to check.

    Attributes:
        goal: (B,) class to leave or to reach.
        x: (B, D) clean input.
        signs: (B, D) the best direction s so far, 0 on masked coordinates.
        flip: (B,) number of the block being tried.
        radius: (B,) r of the best direction, as an L2 length, inf before the first success.
        bisecting: (B,) bool, the candidate passed its fast check.
        low: (B,) end of the bisection that is not adversarial.
        high: (B,) its verified adversarial end.
    """

    goal: Tensor
    x: Tensor
    signs: Tensor
    flip: Tensor
    radius: Tensor
    bisecting: Tensor
    low: Tensor
    high: Tensor


class Rays:
    """The points on the rays, as vectors (D,).

    Args:
        problem: the samples.
        start: (N, D) points to start from, or None.
        free: (N or 1, D) bool, the coordinates that may change. None if all may.
        blocks: the order of the flips.

    Attributes:
        root: (U,) ``||s||_2``, the square root of the number of free coordinates. U = 1 if all
            samples share them, else N.
        reach: (U,) radius at which a ray has left the box in every free coordinate.
        edge: (U,) radius at which a ray leaves the ball. None without eps or a detector.
    """

    def __init__(
        self, problem: Problem, start: Tensor | None, free: Tensor | None, blocks: Blocks
    ) -> None:
        self.problem = problem
        self.free = free
        self.blocks = blocks
        # the mask binds the starting point too
        self.start = start if start is None or free is None else torch.where(free, start, problem.x)
        self.width = problem.box.width
        self.root = blocks.count.to(problem.x.dtype).sqrt()
        self.reach = self.root * self.width
        self.edge: Tensor | None = None
        if isinstance(problem.oracle.inspector, Inspector) and problem.eps is not None:
            # in units of eps, the L2 length of a sign vector on the ball
            length = {"linf": self.root, "l2": torch.ones_like(self.root), "l1": 1 / self.root}
            self.edge = torch.minimum(problem.radius * length[problem.norm], self.reach)

    def begin(self, index: Tensor) -> RayState:
        """Return the state of the samples (B,) at the beginning of their search."""
        x = self.problem.x[index]
        if self.start is None:
            # flip 1 turns all signs, so that +1 everywhere is never tried itself: the authors'
            # program starts so too
            signs = torch.ones_like(x)
            flip = torch.ones_like(index)
        else:
            signs = torch.sign(self.start[index] - x)
            flip = torch.zeros_like(index)
            # where x_init agrees with x the sign points out of the box if it can, so that the
            # coordinate does not change
            signs = torch.where(signs == 0, torch.where(x <= self.problem.low, -1.0, 1.0), signs)
        if self.free is not None:
            signs = signs * (self.free if self.blocks.shared else self.free[index])
        reach = (self.reach if self.blocks.shared else self.reach[index]).expand(len(index))
        return RayState(
            sample=index,
            goal=self.problem.goal.labels[index],
            x=x,
            signs=signs,
            flip=flip,
            radius=reach.new_full(reach.shape, math.inf),
            bisecting=torch.zeros_like(index, dtype=torch.bool),
            low=reach.clone(),
            high=reach.clone(),
        )

    def edge_of(self, sample: Tensor) -> Tensor:
        """(B,) the radii at which the rays of some samples (B,) leave the ball."""
        if self.edge is None:
            raise RuntimeError("the search has no ball to go to")
        return self.edge if self.blocks.shared else self.edge[sample]

    def directions(self, sample: Tensor, signs: Tensor, flip: Tensor) -> Tensor:
        """(B, D) the best directions of some samples (B,) with the block of a flip (B,) turned."""
        return self.blocks.factors(sample, flip).mul_(signs)

    def points(self, x: Tensor, sample: Tensor, direction: Tensor, radius: Tensor) -> Tensor:
        """(B, D) the points ``clip(x + radius direction/||direction||_2)`` of some samples (B,).

        The step is one number per row and the signs are +-1, so the product is exact and the row
        has the same bits whenever it is built again. A radius at which the box is left everywhere
        takes a step that surely leaves it.
        """
        root = self.root if self.blocks.shared else self.root[sample]
        reach = self.reach if self.blocks.shared else self.reach[sample]
        step = (radius / root).masked_fill_(radius >= reach, 2 * self.width)
        points = torch.addcmul(x, direction, step.unsqueeze(1))
        return points.clamp_(self.problem.low, self.problem.high)  # type: ignore[arg-type]


class Rounds:
    """Model calls for the active rows.

    Args:
        oracle: the ledger.
        rays: the points to query.
        targeted: as in the problem.
        tol: width at which a bisection ends.
        trace: of the search. None: it keeps none.
    """

    def __init__(
        self,
        oracle: LabelOracle,
        rays: Rays,
        targeted: bool,
        tol: float,
        trace: DistanceTrace | None = None,
    ) -> None:
        self.oracle = oracle
        self.rays = rays
        self.targeted = targeted
        self.tol = tol
        self.trace = trace

    def query(self, state: RayState) -> Tensor:
        """One model call with the next query of every row: a fast check, or a step of its
        bisection.

        Returns:
            (B,) bool, True where a bisection ended.
        """
        middle = (state.low + state.high).mul_(0.5)
        labels = self._labels(state, state.flip, middle)
        success = reaches_goal(labels, state.goal, self.targeted)
        # Algorithm 5, mended: the adversarial end is kept. Nothing moves at a fast check.
        state.high = torch.where(success, middle, state.high)
        state.low = torch.where(success, state.low, middle)
        # tested after the step: one is always made
        ended = state.bisecting & (state.high - state.low <= self.tol)
        self._move_nearer(state, self._too_far(state, labels))
        self._accept(state, success)
        state.flip += ~state.bisecting
        return ended

    def query_ahead(self, state: RayState, width: int) -> Tensor:
        """Query up to ``width`` rows ahead per sample. Charged are those that ``query`` would have
        made.

        A row at a fast check queries its next ``width`` blocks, as if each but the last failed. A
        row in a bisection queries the nodes of the next levels of the bisection tree.

        Returns:
            (B,) bool, True where a bisection ended.
        """
        remaining = self.oracle.ledger.remaining(state.sample)
        if self.trace is not None:  # no further than the next mark
            remaining = torch.minimum(remaining, self.trace.remaining(state.sample))
        levels = (width + 1).bit_length() - 1
        tree = bisection_tree(state.low, state.high, levels)
        row, number = self._useful(state, width, tree.shape[1], remaining).nonzero(as_tuple=True)
        candidates = keep(state, row)
        radius = tree[row, number.clamp(max=tree.shape[1] - 1)]
        flip = candidates.flip + torch.where(candidates.bisecting, 0, number)
        labels = self._labels(candidates, flip, radius, speculative=True)
        success = torch.zeros(len(remaining), width, dtype=torch.bool, device=remaining.device)
        far = success.clone()
        success[row, number] = reaches_goal(labels, candidates.goal, self.targeted)
        far[row, number] = self._too_far(candidates, labels)

        # a sequential search goes on elsewhere behind the first of either
        first = (success | far).to(torch.uint8).argmax(dim=1)
        found = success.gather(1, first.unsqueeze(1)).squeeze(1)
        nearer = far.gather(1, first.unsqueeze(1)).squeeze(1)
        failures = torch.where(found, first, remaining.clamp(max=width))
        failures = torch.where(nearer, first + 1, failures)
        steps, ended = self._descend(state, success, tree, levels, remaining)
        used = torch.where(state.bisecting, steps, failures + found)
        state.flip += torch.where(state.bisecting, 0, failures)
        self._move_nearer(state, nearer)
        self._accept(state, found)
        self.oracle.ledger.claim(state.sample, used)
        return ended

    def _labels(
        self, state: RayState, flip: Tensor, radius: Tensor, *, speculative: bool = False
    ) -> Tensor:
        """(B,) answers to the points at some radius along some flip."""
        direction = self.rays.directions(state.sample, state.signs, flip)
        points = self.rays.points(state.x, state.sample, direction, radius)
        return self.oracle.labels(
            self.rays.problem.shaped(points), state.sample, speculative=speculative, fresh=True
        )

    def _too_far(self, state: RayState, labels: Tensor) -> Tensor:
        """(B,) bool, True where the detector rejected a fast check before the first success,
        outside the ball.
        """
        if self.rays.edge is None:
            return torch.zeros_like(state.bisecting)
        outside = (state.radius == math.inf) & (state.high > self.rays.edge_of(state.sample))
        return (labels == REJECTED) & ~state.bisecting & outside

    def _move_nearer(self, state: RayState, rows: Tensor) -> None:
        """Halve the radius of the next fast check of some rows (B,) bool, down to that of the ball.

        Detectors reject most rows far from x, where the search begins.
        """
        if self.rays.edge is not None:
            half = torch.maximum(state.high / 2, self.rays.edge_of(state.sample))
            state.high = torch.where(rows, half, state.high)
            state.low = torch.where(rows, half, state.low)

    def _accept(self, state: RayState, success: Tensor) -> None:
        """Enter the bisection behind a successful fast check: between 0 and the best radius.

        Before the first success that is the radius of that check: one at which the ray has left
        the box in every coordinate, or with a detector a smaller one.
        """
        bisecting = state.bisecting | success
        state.low.masked_fill_(bisecting ^ state.bisecting, 0.0)
        state.bisecting = bisecting

    def _useful(self, state: RayState, width: int, nodes: int, remaining: Tensor) -> Tensor:
        """(B, W) bool, the queries that a sequential search could come to within its budget
        and tolerance.
        """
        number = torch.arange(width, device=remaining.device)
        level = torch.floor(torch.log2(number + 1.0))
        # a node's interval is high - low halved `level` times; half a tolerance of slack for the
        # rounding of the halves
        wide = (state.high - state.low).unsqueeze(1) * 0.5**level > 0.5 * self.tol
        in_tree = (number < nodes) & (level < remaining.unsqueeze(1)) & (wide | (level == 0))
        return torch.where(state.bisecting.unsqueeze(1), in_tree, number < remaining.unsqueeze(1))

    def _descend(
        self, state: RayState, success: Tensor, tree: Tensor, levels: int, remaining: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Walk down the bisection tree along the answers.

        Returns:
            (B,) int64, the steps made, and (B,) bool, True where a bisection ended.
        """
        steps = torch.zeros_like(state.flip)
        node = torch.zeros_like(steps)
        ended = torch.zeros_like(state.bisecting)
        for _ in range(levels):
            moves = state.bisecting & ~ended & (steps < remaining)
            adversarial = success.gather(1, node.unsqueeze(1)).squeeze(1)
            middle = tree.gather(1, node.unsqueeze(1)).squeeze(1)
            state.high = torch.where(moves & adversarial, middle, state.high)
            state.low = torch.where(moves & ~adversarial, middle, state.low)
            ended = ended | (moves & (state.high - state.low <= self.tol))
            steps = steps + moves
            node = 2 * node + 2 - adversarial.long()
        return steps, ended


def bisection_tree(low: Tensor, high: Tensor, levels: int) -> Tensor:
    """(B, 2^levels - 1) midpoints that the next bisection steps may visit, node n before its halves
    2n+1 and 2n+2.

    Each is computed by the same halvings as in a sequential bisection, so that it has the same
    bits.
    """
    low, high = low.unsqueeze(1), high.unsqueeze(1)
    tree = middle = (low + high) / 2
    for _ in range(levels - 1):
        low, high = (
            torch.stack([low, middle], dim=2).flatten(1),
            torch.stack([middle, high], dim=2).flatten(1),
        )
        middle = (low + high) / 2
        tree = torch.cat([tree, middle], dim=1)
    return tree
