"""The search behind RayS: the state of many samples, each at its own place of Algorithms 4 to 6.

Letters as in the paper: d is the direction (here a sign vector s in {-1, +1}^D, scaled to unit
    length), r its decision
boundary radius, D the dimension. Everything runs side by side: each sample of the batch asks its
    own next question in
each model call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.geometry import distances, distortions, within_ball
from art_ext.core.oracle import LabelOracle
from art_ext.core.problem import Problem
from art_ext.core.result import AttackResult, Callback, Progress, measured

_LARGEST_TABLE = 1 << 20


@dataclass(eq=False)
class Live:
    """State of the B samples in the batch; row b of every field belongs to the same sample."""

    sample: Tensor  # (B,) position in x
    x: Tensor  # (B, D)
    signs: Tensor  # (B, D) the best direction s so far; 0 on masked coordinates
    root: Tensor  # (B,) ||s||_2, the square root of the number of free coordinates
    reach: Tensor  # (B,) radius at which a ray has left the box in every free coordinate
    flip: Tensor  # (B,) number of the block being tried
    radius: Tensor  # (B,) r of the best direction, as an L2 length; inf before the first hit
    bisecting: Tensor  # (B,) the candidate passed its fast check
    low: Tensor  # (B,) ends of the bisection: not adversarial ...
    high: Tensor  # (B,) ... and verified adversarial

    def select(self, rows: Tensor) -> Live:
        """The state of some samples, or of one several times."""
        return Live(*[value.index_select(0, rows) for value in vars(self).values()])

    def overwrite(self, rows: Tensor, other: Live) -> None:
        """Put other samples into the places of finished ones."""
        for name, value in vars(self).items():
            value.index_copy_(0, rows, getattr(other, name))


class Blocks:
    """The order of the block flips (Algorithm 6), for all samples or, with a mask of its own each,
    for every sample.

    Stage l splits d free coordinates into blocks of ceil(d / 2^l). From the stage of single
    coordinates on, the sweep over all of them repeats. Flip 0 turns nothing: it serves to try a
    starting direction itself.
    """

    def __init__(
        self,
        columns: int,
        free: Tensor | None,
        hierarchical: bool,
        flips: int,
        device: torch.device,
    ) -> None:
        if free is None:
            self.count = torch.tensor([columns], device=device)
            rank = torch.arange(columns, device=device).unsqueeze(0)
        else:
            self.count, rank = free.sum(dim=1), free.cumsum(dim=1) - 1
        self.shared = len(rank) == 1
        # (U, D) twice the position of a coordinate among the free ones, U = 1 or N; such floats are
        # exact
        self.rank = 2 * rank.to(torch.float32 if columns < 1 << 22 else torch.int64)
        last = max(0, columns - 1).bit_length()
        stage = torch.arange(0 if hierarchical else last, last + 1, device=device)
        count = self.count.unsqueeze(1)
        self.size = ((count + (1 << stage) - 1) >> stage).clamp_(min=1)  # (U, L)
        blocks = (count + self.size - 1) // self.size
        self.offset = 1 + blocks.cumsum(dim=1) - blocks  # (U, L) number of a stage's first flip
        # looked up in every round, so tabulated where one row serves all samples
        self.table: tuple[Tensor, Tensor] | None = None
        if self.shared and flips <= _LARGEST_TABLE:
            every = torch.arange(flips, device=device)
            self.table = self._place(torch.zeros_like(every), every)

    def turning(self, sample: Tensor, flip: Tensor) -> Tensor:
        """(B, D) factors that turn the signs of each sample's block: -1 on it, +1 elsewhere."""
        if self.table is not None:
            middle, size = self.table[0].index_select(0, flip), self.table[1].index_select(0, flip)
        else:
            middle, size = self._place(torch.zeros_like(sample) if self.shared else sample, flip)
        # |2 rank - (first + last)| - size is at most -1 on the block and at least 1 off it.
        # Arithmetic of floats takes a fifth of the time of comparisons and torch.where, and this is
        # done for every row of every model call.
        rank = self.rank if self.shared else self.rank[sample]
        return (
            (rank - middle.unsqueeze(1))
            .abs_()
            .sub_(size.unsqueeze(1))
            .clamp_(-1, 1)
            .to(torch.float32)
        )

    def _place(self, row: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) the sum of a block's first and last position, and (B,) its size."""
        stage = torch.searchsorted(self.offset[row, 1:], flip.unsqueeze(1), right=True)
        block = flip - self.offset[row].gather(1, stage).squeeze(1)
        size = self.size[row].gather(1, stage).squeeze(1)
        first = block % self.count[row].clamp(min=1) * size  # the last stage repeats
        nothing = flip == 0
        middle = torch.where(nothing, -1, 2 * first + size - 1)
        return middle.to(self.rank.dtype), torch.where(nothing, 0, size).to(self.rank.dtype)


class Search:
    """Algorithms 4 to 6 over N samples, ``batch_size`` of them in the batch at a time."""

    def __init__(
        self,
        oracle: LabelOracle,
        problem: Problem,
        start: Tensor | None,
        free: Tensor | None,
        *,
        norm: str,
        eps: float | None,
        tol: float,
        stop_on_success: bool,
        hierarchical: bool,
        callback: Callback | None,
    ) -> None:
        self.oracle, self.problem = oracle, problem
        self.norm, self.eps, self.tol = norm, eps, tol
        self.stop_on_success, self.callback = stop_on_success, callback
        self.shape = problem.x.shape[1:]
        self.x = problem.x.flatten(1)
        self.free = free
        self.start = None if start is None else start.flatten(1)
        if self.start is not None and free is not None:
            # the mask binds the starting point too
            self.start = torch.where(free, self.start, self.x)
        self.lower, self.upper = problem.box.flat_bounds(self.shape)
        self.width = problem.box.width
        device = self.x.device
        flips = int(oracle.max_queries or 0) + 2
        self.blocks = Blocks(self.x.shape[1], free, hierarchical, flips, device)
        self.nearest = self.x.clone()
        self.distance = torch.full(
            (len(self.x),), math.inf, dtype=geometry.exact_dtype(device), device=device
        )
        self.queries_to_success = torch.full_like(oracle.queries, -1)
        self.every = torch.arange(len(self.x), device=device)
        self.already = problem.met(problem.clean, self.every)
        # the goal met by the input, or no coordinate to change
        self.idle = self.already | (self.blocks.count == 0)
        self._record(self.every, self.x, self.x, self.already)
        self.rounds = 0

    # ---- what a sample starts from

    def _check_start(self, start: Tensor) -> None:
        """One query for each starting point; those that meet the goal are the first verified
        adversarials.
        """
        index = self._unfinished()
        self._record(index, self.x[index], start[index], self._meets(start[index], index))

    def _fresh(self, index: Tensor) -> Live:
        """Samples at the beginning of their search."""
        x = self.x[index]
        if self.start is None:
            # flip 1 turns all signs, so that +1 everywhere is never tried itself: the authors'
            # program starts so too
            signs, flip = torch.ones_like(x), torch.ones_like(index)
        else:
            signs, flip = torch.sign(self.start[index] - x), torch.zeros_like(index)
            # where x_init agrees with x the sign points out of the box if it can, so that the
            # coordinate stays
            signs = torch.where(signs == 0, torch.where(x <= self.lower, -1.0, 1.0), signs)
        shared = torch.zeros_like(index) if self.blocks.shared else index
        if self.free is not None:
            signs = signs * self.free[shared]
        root = self.blocks.count[shared].to(x.dtype).sqrt()
        infinite = torch.full((len(index),), math.inf, dtype=x.dtype, device=x.device)
        return Live(
            sample=index,
            x=x,
            signs=signs,
            root=root,
            reach=root * self.width,
            flip=flip,
            radius=infinite,
            bisecting=torch.zeros_like(index, dtype=torch.bool),
            low=torch.zeros_like(infinite),
            high=infinite.clone(),
        )

    # ---- the loop

    def run(self, speculate: bool) -> None:
        """Ask until every sample has met its goal or spent its budget; freed places take the
        next samples.
        """
        if self.start is not None:
            self._check_start(self.start)
        self._report(self.every)
        waiting = self._unfinished()
        capacity = self.oracle.batch_size
        live, waiting = self._fresh(waiting[:capacity]), waiting[capacity:]
        while len(live.sample):
            width = max(1, capacity // len(live.sample)) if speculate else 1
            ended, spent = self._ask(live) if width == 1 else self._ask_ahead(live, width)
            self.rounds += 1
            # here, and in the oracle's check of the budget, a round waits for the device
            places = (ended | spent).nonzero().squeeze(1)
            gone = self._end_directions(live, places, spent) if len(places) else places
            self._report(live.sample)
            if len(gone):
                live, waiting = self._refill(live, gone, waiting)

    def _finished(self, index: Tensor) -> Tensor:
        """(M,) bool: nothing to search, no budget left or, with early stop, the goal met."""
        over = (self.oracle.remaining(index) <= 0) | self.idle[index]
        return over | (self.queries_to_success[index] >= 0) if self.stop_on_success else over

    def _unfinished(self) -> Tensor:
        """(M,) samples that want a search."""
        return (~self._finished(self.every)).nonzero().squeeze(1)

    def _refill(self, live: Live, gone: Tensor, waiting: Tensor) -> tuple[Live, Tensor]:
        """Put waiting samples into the places of finished ones; without any left the batch
        shrinks.
        """
        taken, waiting = waiting[: len(gone)], waiting[len(gone) :]
        if len(taken):
            live.overwrite(gone[: len(taken)], self._fresh(taken))
        if len(gone) > len(taken):
            keep = torch.ones_like(live.bisecting)
            keep[gone[len(taken) :]] = False
            live = live.select(keep.nonzero().squeeze(1))
        return live, waiting

    # ---- one round

    def _ask(self, live: Live) -> tuple[Tensor, Tensor]:
        """One model call with the next question of every sample: a fast check, or a step of its
        bisection.

        Returns (B,) bool, whose bisection ended, and (B,) bool, whose budget is spent.
        """
        spent = self.oracle.remaining(live.sample) <= 1
        middle = (live.low + live.high) / 2
        hit = self._probe(live, live.flip, torch.where(live.bisecting, middle, live.radius))
        # Algorithm 5, mended: the adversarial end is kept. Samples at a fast check get their ends
        # in _accept.
        live.high = torch.where(hit, middle, live.high)
        live.low = torch.where(hit, live.low, middle)
        # looked at after the step: one is always made
        ended = live.bisecting & (live.high - live.low <= self.tol)
        live.flip += ~(hit | live.bisecting)
        self._accept(live, hit & ~live.bisecting)
        return ended, spent

    def _ask_ahead(self, live: Live, width: int) -> tuple[Tensor, Tensor]:
        """The same with up to ``width`` questions per sample; charged are those that ``_ask`` would
        have asked.

        A sample at a fast check asks about its next ``width`` blocks, as if each but the last were
        a miss; one in a bisection about the nodes of the next levels of the bisection tree.
        """
        remaining = self.oracle.remaining(live.sample)
        levels = (width + 1).bit_length() - 1
        tree = bisection_tree(live.low, live.high, levels)
        place, question = self._useful(live, width, tree.shape[1], remaining).nonzero(as_tuple=True)
        asked = live.select(place)
        node = tree[place, question.clamp(max=tree.shape[1] - 1)]
        radius = torch.where(asked.bisecting, node, asked.radius)
        flip = asked.flip + torch.where(asked.bisecting, 0, question)
        hit = torch.zeros(len(remaining), width, dtype=torch.bool, device=remaining.device)
        hit[place, question] = self._probe(asked, flip, radius, speculative=True)

        found = hit.any(dim=1)
        misses = torch.where(found, hit.to(torch.uint8).argmax(dim=1), remaining.clamp(max=width))
        steps, ended = self._descend(live, hit, tree, levels, remaining)
        used = torch.where(live.bisecting, steps, misses + found)
        live.flip += torch.where(live.bisecting, 0, misses)
        self._accept(live, found & ~live.bisecting)
        self.oracle.claim(live.sample, used)
        return ended, remaining <= used

    def _probe(
        self, asked: Live, flip: Tensor, radius: Tensor, *, speculative: bool = False
    ) -> Tensor:
        """(R,) bool, whether the rows at some radius along some flips meet the goal of their
        samples.
        """
        rows = self._rows(asked, self.blocks.turning(asked.sample, flip).mul_(asked.signs), radius)
        return self._meets(rows, asked.sample, speculative=speculative)

    def _meets(self, rows: Tensor, index: Tensor, *, speculative: bool = False) -> Tensor:
        """(R,) bool, whether rows (R, D), which nobody needs afterwards, meet the goal of their
        samples.
        """
        shaped = rows.view(-1, *self.shape)
        labels = self.oracle.labels(shaped, index, speculative=speculative, fresh=True)
        return self.problem.met(labels, index)

    def _useful(self, live: Live, width: int, nodes: int, remaining: Tensor) -> Tensor:
        """(B, W) bool, the questions that a sequential search could come to within its budget
        and tolerance.
        """
        question = torch.arange(width, device=remaining.device)
        level = torch.floor(torch.log2(question + 1.0))
        # a node's interval is high - low halved `level` times; half a tolerance of slack for the
        # rounding of the halves
        wide = ((live.high - live.low).unsqueeze(1) * 0.5**level > 0.5 * self.tol) | (level == 0)
        in_tree = (question < nodes) & (level < remaining.unsqueeze(1)) & wide
        return torch.where(live.bisecting.unsqueeze(1), in_tree, question < remaining.unsqueeze(1))

    def _descend(
        self, live: Live, hit: Tensor, tree: Tensor, levels: int, remaining: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Walk down the bisection tree along the answers.

        Returns (B,) int64, the steps made, and (B,) bool, whose bisection ended.
        """
        node = steps = torch.zeros_like(live.flip)
        ended = torch.zeros_like(live.bisecting)
        for _ in range(levels):
            moves = live.bisecting & ~ended & (steps < remaining)
            adversarial = hit.gather(1, node.unsqueeze(1)).squeeze(1)
            middle = tree.gather(1, node.unsqueeze(1)).squeeze(1)
            live.high = torch.where(moves & adversarial, middle, live.high)
            live.low = torch.where(moves & ~adversarial, middle, live.low)
            ended = ended | (moves & (live.high - live.low <= self.tol))
            steps = steps + moves
            node = 2 * node + 2 - adversarial.long()
        return steps, ended

    def _accept(self, live: Live, accepted: Tensor) -> None:
        """Enter the bisection behind a fast check that hit: between 0 and the best radius.

        Before the first hit that is the radius at which the ray has left the box in every
        coordinate.
        """
        live.high = torch.where(accepted, torch.minimum(live.radius, live.reach), live.high)
        live.low = torch.where(accepted, 0.0, live.low)
        live.bisecting = live.bisecting | accepted

    def _rows(self, live: Live, direction: Tensor, radius: Tensor) -> Tensor:
        """(B, D) the points ``clip(x + radius direction/||direction||_2)``.

        The step is one number per row and the signs are +-1, so the product is exact and the row
        has the same bits whenever it is built again. A radius at which the box is left everywhere
        takes a step that surely leaves it.
        """
        step = torch.where(radius >= live.reach, 2 * self.width, radius / live.root).unsqueeze(1)
        return torch.addcmul(live.x, direction, step).clamp_(self.lower, self.upper)  # type: ignore[arg-type]

    # ---- what is kept

    def _end_directions(self, live: Live, places: Tensor, spent: Tensor) -> Tensor:
        """Accept the directions whose bisection ended, or was cut by the budget, at a smaller
        radius than the best.

        Returns the places of the samples that are finished: budget spent or, with early stop, goal
            met.
        """
        done = live.select(places)
        better = done.bisecting & (done.high < done.radius)
        direction = self.blocks.turning(done.sample, torch.where(better, done.flip, 0)).mul_(
            done.signs
        )
        met = self._record(done.sample, done.x, self._rows(done, direction, done.high), better)
        live.signs.index_copy_(0, places, direction)
        live.radius.index_copy_(0, places, torch.where(better, done.high, done.radius))
        live.flip.index_copy_(0, places, done.flip + done.bisecting)
        live.bisecting.index_fill_(0, places, False)
        gone = spent.index_select(0, places)
        return places[gone | met if self.stop_on_success else gone]

    def _record(self, index: Tensor, x: Tensor, rows: Tensor, verified: Tensor) -> Tensor:
        """Keep those verified rows that are nearer than what their samples x had.

        Returns (M,) bool, who has met the goal, now or before.
        """
        before = self.distance.index_select(0, index)
        distance = torch.where(verified, distances(rows, x, self.norm), math.inf)
        nearer = distance < before
        self.nearest.index_copy_(
            0, index, torch.where(nearer.unsqueeze(1), rows, self.nearest.index_select(0, index))
        )
        self.distance.index_copy_(0, index, torch.minimum(distance, before))
        since = self.queries_to_success.index_select(0, index)
        new = within_ball(distance, self.eps) & (since < 0)
        since = torch.where(new, self.oracle.queries.index_select(0, index), since)
        self.queries_to_success.index_copy_(0, index, since)
        return since >= 0

    def _report(self, index: Tensor) -> None:
        if self.callback is not None:
            self.callback(
                Progress(
                    step=self.rounds,
                    index=index,
                    distance=self.distance[index].to(torch.float32),
                    queries=self.oracle.queries[index],
                    finished=self._finished(index),
                    success=self.queries_to_success[index] >= 0,
                )
            )

    def result(self, device: torch.device, seed: int) -> AttackResult:
        """The outcome in the caller's terms, on the caller's device."""
        success = within_ball(self.distance, self.eps)
        x_adv = torch.where(success.unsqueeze(1), self.nearest, self.x)
        return AttackResult(
            x_adv=x_adv.view_as(self.problem.x).to(device),
            success=success.to(device),
            already_adversarial=self.already.to(device),
            x_nearest=self.nearest.view_as(self.problem.x).to(device),
            nearest_distance=self.distance.to(device=device, dtype=torch.float32),
            queries=self.oracle.queries.to(device),
            queries_to_success=self.queries_to_success.to(device),
            gradients=self.oracle.gradients.to(device),
            wasted_rows=self.oracle.wasted_rows.to(device),
            norm=self.norm,
            eps=self.eps,
            seed=seed,
            stop_on_success=self.stop_on_success,
            **measured(distortions(x_adv, self.x), success, self.norm, device),
        )


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
