"""RayS: a hard-label attack that searches sign vectors for the nearest decision boundary.

Letters as in the paper: d is the direction (here a sign vector s in {-1, +1}^D, scaled to unit length), r its decision
boundary radius, D the dimension. Everything runs side by side: each sample of the batch is at its own place of the
search and asks its own next question in each model call.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from art_ext.core.geometry import ClipValues, check_ball, distances, exact_dtype, within_ball
from art_ext.core.oracle import LabelOracle, Model, check_count
from art_ext.core.problem import Problem, admit, check_classes, pose
from art_ext.core.result import AttackResult, Callback, Progress
from art_ext.core.streams import resolve_seed

SPECULATE = ("auto", True, False)


def rays(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = 8 / 255,
    max_queries: int = 10_000,
    norm: str = "linf",
    tol: float = 1e-3,
    early_stop: bool = True,
    hierarchical: bool = True,
    speculate: str | bool = "auto",
    x_init: Tensor | None = None,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
) -> AttackResult:
    """Find the sign direction along which the decision boundary is nearest, from predicted labels alone.

    Solves ``min_{s in {-1,+1}^D} r(s)`` with ``r(s) = min {r >= 0 : label(clip(x + r s/||s||_2)) != y}``: blocks of
    signs are flipped, halving the blocks stage by stage (Algorithm 6), a flip is first tried at the best radius so far
    (the fast check of Algorithm 5) and only then bisected. The search is deterministic: no random number is drawn.

    Where we leave the print: Algorithm 5 compares at the midpoint and keeps the adversarial end (its two branches are
    printed the wrong way round), the last block of a stage is tried too, and below single coordinates the sweep starts
    over until the budget is spent, as the authors' program does. Unlike that program a bisection never overruns the
    budget, and a sample that never changes its label has distance inf.

    Args:
        model: an ``nn.Module`` or a callable from (R, *S) to scores (R, K) or labels (R,); normalisation lives inside.
        x: (N, *S) floats of any shape inside the box: images, tabular rows, sequences.
        y: (N,) true classes; None takes the model's own answer to the clean check.
        eps: radius of the ball in the units of x (8/255, never 8); None counts any adversarial as success.
        max_queries: most forward rows charged to a sample, the clean check included. A bisection that the budget cuts
            keeps its last verified end.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``: how distance and ball are measured. Directions are always sign vectors.
        tol: width at which a bisection ends, as an L2 length along the unit direction; its L-inf width is tol/sqrt(D).
        early_stop: a sample leaves once a direction's bisection ends inside the ball. False spends the whole budget on
            the smallest radius, as the average decision boundary distance (ADBD) asks.
        hierarchical: False flips single coordinates from the start (the naive search of Algorithm 4).
        speculate: ask the questions that a sequential search may come to next in the same model call, where the batch
            is too small to fill ``batch_size``. Results and ``queries`` do not change; rows in vain go to
            ``wasted_rows``. ``"auto"``: for an ``nn.Module`` on a GPU only.
        x_init: (N, *S) starting points, checked for one query each. The search starts from the signs of x_init - x.
        targets: (N,) classes to reach. Needs x_init of these classes, since sign images hardly ever hit a target.
        mask: 0/1 or bool, broadcastable to x; only coordinates where it is nonzero may change, and the blocks split
            these.
        clip_values: the box (lower, upper), numbers or one value per feature.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``; only labels are used.
        batch_size: most rows in one model call; never changes a decision.
        sample_ids: accepted as by every attack; RayS draws no random number, so they change nothing.
        device: where inputs go for models without parameters.
        callback: called with a ``Progress`` after the clean check and after each round of model calls.
        seed: recorded in the result; RayS does not use it.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over batch sizes.

    Returns:
        An ``AttackResult``; ``x_nearest`` and ``distance`` hold the nearest verified adversarial, inside eps or not.
        A query is one row through the model: clean check, check of x_init, fast checks, every step of a bisection.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean outputs, labels beyond
            the model's width, or targets without x_init.
        TypeError: if x is not a floating point tensor.

    References:
        Jinghui Chen, Quanquan Gu, "RayS: A ray searching method for hard-label adversarial attack", KDD 2020.
        Jinghui Chen, dissertation, UCLA 2021, chapter 3 (the equation and algorithm numbers).
    """
    oracle = LabelOracle(
        model,
        len(x),
        outputs=outputs,
        batch_size=batch_size,
        max_queries=max_queries,
        clip_values=clip_values,
        pad_rows=pad_rows,
        device=device,
        default_device=x.device,
    )
    samples, box = admit(oracle, x)
    check_ball(norm, eps, box)
    check_count("max_queries", max_queries)  # None would be a search without an end
    check_search(tol, speculate)
    _check_targets(targets, x_init)
    check_classes("y", y, len(x))
    check_classes("targets", targets, len(x))
    start = None if x_init is None else box.admit(_like("x_init", x_init, samples))
    free = None if mask is None else _free_coordinates(mask, samples)
    seed = resolve_seed(seed)
    with oracle:
        problem = pose(oracle, samples, box, y, targets)
        search = _Search(oracle, problem, norm, eps, tol, early_stop, hierarchical, callback)
        search.prepare(start, free)
        search.run(_speculates(speculate, model, oracle.device))
    return search.result(x.device, seed)


def check_search(tol: float, speculate: str | bool) -> None:
    """Refuse settings of the search that make no sense.

    Raises:
        ValueError: if tol <= 0 or speculate is none of "auto", True and False.
    """
    if not tol > 0:
        raise ValueError(f"tol must be > 0, got {tol!r}")
    if speculate not in SPECULATE:
        raise ValueError(f"speculate must be 'auto', True or False, got {speculate!r}")


def _check_targets(targets: Tensor | None, x_init: Tensor | None) -> None:
    if targets is not None and x_init is None:
        raise ValueError(
            "targeted RayS needs x_init, one input of the target class per sample: from sign images alone the search "
            "hardly ever meets a given class (its authors do not support targets)"
        )


def _like(name: str, value: Tensor, x: Tensor) -> Tensor:
    if not isinstance(value, Tensor) or value.shape != x.shape:
        shape = getattr(value, "shape", type(value).__name__)
        raise ValueError(f"{name} must be a tensor of x's shape {tuple(x.shape)}, got {shape}")
    return value.to(x.device)


def _free_coordinates(mask: Tensor, x: Tensor) -> Tensor:
    """(N or 1, D) bool, the coordinates that may change."""
    mask = torch.as_tensor(mask, device=x.device)
    if mask.is_floating_point() and not bool((mask >= 0).all()):
        raise ValueError(f"mask must hold no negative value and no NaN, got min={float(mask.min())}")
    try:
        mask.expand(x.shape)
    except RuntimeError as error:
        raise ValueError(f"mask must broadcast to x's shape {tuple(x.shape)}, got {tuple(mask.shape)}") from error
    shared = mask.dim() < x.dim() or len(mask) == 1
    shape = (1, *x.shape[1:]) if shared else x.shape
    return mask.expand(shape).flatten(1) != 0


def _speculates(speculate: str | bool, model: Model, device: torch.device) -> bool:
    """Rows cost nothing on a GPU that is not full; on a CPU they cost time, and behind a callable perhaps money."""
    if speculate == "auto":
        return isinstance(model, nn.Module) and device.type == "cuda"
    return bool(speculate)


@dataclass(eq=False)
class _Live:
    """State of the B samples in the batch; row b of every field belongs to the same sample."""

    sample: Tensor  # (B,) position in x
    x: Tensor  # (B, D)
    signs: Tensor  # (B, D) the best direction s so far; 0 on masked coordinates
    rank: Tensor  # (B or 1, D) position of a coordinate among the free ones
    dimension: Tensor  # (B,) free coordinates
    offset: Tensor  # (B, L) number of block flips before each stage of Algorithm 6
    size: Tensor  # (B, L) coordinates in a block of each stage
    flip: Tensor  # (B,) number of the block flip being tried
    radius: Tensor  # (B,) r of the best direction, as an L2 length; inf before the first hit
    bisecting: Tensor  # (B,) the candidate passed its fast check
    low: Tensor  # (B,) ends of the bisection: not adversarial ...
    high: Tensor  # (B,) ... and verified adversarial

    def select(self, rows: Tensor) -> _Live:
        return _Live(*(self._rows(field.name, rows) for field in fields(self)))

    def _rows(self, name: str, rows: Tensor) -> Tensor:
        value: Tensor = getattr(self, name)
        return value if name == "rank" and len(value) == 1 else value[rows]

    def overwrite(self, rows: Tensor, other: _Live) -> None:
        """Put other samples into the places of finished ones."""
        for field in fields(self):
            value: Tensor = getattr(self, field.name)
            if not (field.name == "rank" and len(value) == 1):
                value[rows] = getattr(other, field.name)


class _Search:
    """Algorithms 4 to 6 over N samples, ``batch_size`` of them in the batch at a time."""

    def __init__(
        self,
        oracle: LabelOracle,
        problem: Problem,
        norm: str,
        eps: float | None,
        tol: float,
        early_stop: bool,
        hierarchical: bool,
        callback: Callback | None,
    ) -> None:
        self.oracle, self.problem = oracle, problem
        self.norm, self.eps, self.tol = norm, eps, tol
        self.early_stop, self.hierarchical, self.callback = early_stop, hierarchical, callback
        self.shape = problem.x.shape[1:]
        self.x = problem.x.flatten(1)
        self.lower, self.upper = problem.box.flat_bounds(self.shape)
        self.width = problem.box.width
        self.nearest = self.x.clone()
        self.distance = torch.full((len(self.x),), math.inf, dtype=exact_dtype(oracle.device), device=oracle.device)
        self.queries_to_success = torch.full_like(oracle.queries, -1)
        self.rounds = 0

    # ---- what a sample starts from

    def prepare(self, start: Tensor | None, free: Tensor | None) -> None:
        """Settle the clean check, check the starting points, and lay out the stages of Algorithm 6."""
        every = torch.arange(len(self.x), device=self.x.device)
        self.already = self.problem.met(self.problem.clean, every)
        self._record(every[self.already], self.x[self.already])
        self.start = None if start is None else start.flatten(1)
        if self.start is not None:
            self._check_start(self.start, every[~self.already])
        self.free = free
        columns = self.x.shape[1]
        count = torch.tensor([columns], device=self.x.device) if free is None else free.sum(dim=1)
        self.dimension = count.expand(len(self.x))
        if free is None:
            self.rank = torch.arange(columns, device=self.x.device, dtype=torch.int32).unsqueeze(0)
        else:
            self.rank = (free.cumsum(dim=1) - 1).to(torch.int32)
        # stage l splits d free coordinates into blocks of ceil(d / 2^l); from the stage of single coordinates on
        # (the last one kept here) the sweep over all coordinates repeats
        last = max(0, columns - 1).bit_length()
        stage = torch.arange(0 if self.hierarchical else last, last + 1, device=self.x.device)
        self.size = ((count.unsqueeze(1) + (1 << stage) - 1) >> stage).clamp_(min=1)
        blocks = (count.unsqueeze(1) + self.size - 1) // self.size
        self.offset = blocks.cumsum(dim=1) - blocks

    def _check_start(self, start: Tensor, index: Tensor) -> None:
        """One query for each starting point; those that meet the goal are the first verified adversarials."""
        index = index[self.oracle.remaining(index) > 0]
        if len(index):
            rows = start[index]
            met = self.problem.met(self.oracle.labels(rows.view(-1, *self.shape), index), index)
            self._record(index[met], rows[met])

    def _fresh(self, index: Tensor) -> _Live:
        """Samples at the beginning of their search."""
        x = self.x[index]
        shared = self.free is None or len(self.free) == 1
        own = torch.zeros_like(index) if shared else index
        flip = torch.zeros_like(index)
        if self.start is None:
            signs = torch.ones_like(x)  # the first flip turns them all: +1 everywhere is never tried itself
        else:
            flip -= 1  # a flip of no coordinate: the starting direction itself is tried first
            signs = torch.sign(self.start[index] - x)
            # where x_init agrees with x the sign points out of the box if it can, so that the coordinate stays
            signs = torch.where(signs == 0, torch.where(x <= self.lower, -1.0, 1.0), signs)
        if self.free is not None:
            signs = signs * self.free[own]
        infinite = torch.full_like(x[:, 0], math.inf)
        return _Live(
            sample=index,
            x=x,
            signs=signs,
            rank=self.rank if shared else self.rank[index],
            dimension=self.dimension[index],
            offset=self.offset[own],
            size=self.size[own],
            flip=flip,
            radius=infinite,
            bisecting=torch.zeros_like(index, dtype=torch.bool),
            low=torch.zeros_like(infinite),
            high=infinite.clone(),
        )

    # ---- one round

    def run(self, speculate: bool) -> None:
        """Ask until every sample has met its goal or spent its budget; freed places take the next samples."""
        self._report(torch.arange(len(self.x), device=self.x.device))
        waiting = self._unfinished()
        capacity = self.oracle.batch_size
        live, waiting = self._fresh(waiting[:capacity]), waiting[capacity:]
        while len(live.sample):
            width = max(1, capacity // len(live.sample)) if speculate else 1
            ended = self._ask(live, width)
            spent = self.oracle.remaining(live.sample) <= 0
            # the one place where a round waits for the device: which directions ended, which budgets are spent
            places = (ended | spent).nonzero().squeeze(1)
            if len(places):
                self._end_directions(live, places)
            self.rounds += 1
            self._report(live.sample)
            if len(places):
                live, waiting = self._refill(live, places, waiting)

    def _unfinished(self) -> Tensor:
        able = ~self._finished(torch.arange(len(self.x), device=self.x.device)) & (self.dimension > 0)
        return able.nonzero().squeeze(1)

    def _finished(self, index: Tensor) -> Tensor:
        spent = self.oracle.remaining(index) <= 0
        met = self.queries_to_success[index] >= 0
        return spent | self.already[index] | met if self.early_stop else spent | self.already[index]

    def _refill(self, live: _Live, places: Tensor, waiting: Tensor) -> tuple[_Live, Tensor]:
        gone = self._finished(live.sample[places])
        places = places[gone]
        taken, waiting = waiting[: len(places)], waiting[len(places) :]
        if len(taken):
            live.overwrite(places[: len(taken)], self._fresh(taken))
        if len(places) > len(taken):
            keep = torch.ones_like(live.bisecting)
            keep[places[len(taken) :]] = False
            live = live.select(keep.nonzero().squeeze(1))
        return live, waiting

    def _ask(self, live: _Live, width: int) -> Tensor:
        """One model call: up to ``width`` questions per sample, answered as a sequential search would have asked them.

        A sample at a fast check asks about its next ``width`` block flips; one in a bisection about the nodes of the
        next levels of the bisection tree. Returns (B,) bool, whose direction's bisection ended.
        """
        remaining = self.oracle.remaining(live.sample)
        depth = (width + 1).bit_length() - 1
        tree = _bisection_tree(live.low, live.high, depth)
        question = torch.arange(width, device=live.flip.device)
        ahead = torch.where(live.bisecting.unsqueeze(1), 0, question)
        nodes = tree if tree.shape[1] == width else nn.functional.pad(tree, (0, width - tree.shape[1]))
        radius = torch.where(live.bisecting.unsqueeze(1), nodes, live.radius.unsqueeze(1))
        if width == 1:
            rows = self._rows(live, self._direction(live, live.flip), radius.squeeze(1))
            hit = self._labels_meet(rows, live.sample, speculative=False).unsqueeze(1)
        else:
            useful = self._useful(live, remaining, question, tree.shape[1])
            place, slot = useful.nonzero(as_tuple=True)
            asked = live.select(place)
            flip = (live.flip.unsqueeze(1) + ahead)[place, slot]
            rows = self._rows(asked, self._direction(asked, flip), radius[place, slot])
            hit = torch.zeros_like(useful)
            hit[place, slot] = self._labels_meet(rows, asked.sample, speculative=True)
        used, ended = self._decide(live, hit, tree, depth, remaining)
        if width > 1:
            self.oracle.claim(live.sample, used)
        return ended

    def _labels_meet(self, rows: Tensor, index: Tensor, *, speculative: bool) -> Tensor:
        labels = self.oracle.labels(rows.view(-1, *self.shape), index, speculative=speculative)
        return self.problem.met(labels, index)

    def _useful(self, live: _Live, remaining: Tensor, question: Tensor, nodes: int) -> Tensor:
        """(B, W) bool, the questions a sequential search could come to within its budget and tolerance."""
        level = torch.floor(torch.log2(question + 1.0))
        # a node's interval is high - low halved `level` times; half a tolerance of slack for the rounding of the halves
        wide = ((live.high - live.low).unsqueeze(1) * 0.5**level > 0.5 * self.tol) | (level == 0)
        in_tree = (question < nodes) & (level < remaining.unsqueeze(1)) & wide
        return torch.where(live.bisecting.unsqueeze(1), in_tree, question < remaining.unsqueeze(1))

    def _decide(
        self, live: _Live, hit: Tensor, tree: Tensor, depth: int, remaining: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Walk through the answers (B, W) in sequential order and move the state.

        Returns (B,) int64, the questions a sequential search would have asked, and (B,) bool, whose bisection ended.
        """
        checking = ~live.bisecting
        used, ended = self._bisect(live, hit, tree, depth, remaining)
        accepted = checking & hit.any(dim=1)
        tried = hit.to(torch.uint8).argmax(dim=1)  # misses before the first hit
        missed = torch.where(accepted, tried, remaining.clamp(max=hit.shape[1]))
        live.flip += torch.where(checking, missed, 0)
        used = torch.where(checking, missed + accepted, used)
        # Algorithm 5: the bisection runs between 0 and the best radius; before the first hit, the radius at which the
        # ray has left the box in every coordinate
        saturated = torch.sqrt(live.dimension.to(live.high.dtype)) * self.width
        live.low = torch.where(accepted, 0.0, live.low)
        live.high = torch.where(accepted, torch.minimum(live.radius, saturated), live.high)
        live.bisecting = live.bisecting | accepted
        return used, ended

    def _bisect(
        self, live: _Live, hit: Tensor, tree: Tensor, depth: int, remaining: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Descend the bisection tree along the answers; a first step is made before the tolerance is looked at."""
        node = torch.zeros_like(live.flip)
        used = torch.zeros_like(live.flip)
        ended = torch.zeros_like(live.bisecting)
        for level in range(depth):
            moves = live.bisecting & ~ended & (level < remaining)
            adversarial = hit.gather(1, node.unsqueeze(1)).squeeze(1)
            middle = tree.gather(1, node.unsqueeze(1)).squeeze(1)
            live.high = torch.where(moves & adversarial, middle, live.high)
            live.low = torch.where(moves & ~adversarial, middle, live.low)
            ended = ended | (moves & (live.high - live.low <= self.tol))
            used += moves
            node = 2 * node + 2 - adversarial.to(node.dtype)
        return used, ended

    # ---- directions, rows and records

    def _direction(self, live: _Live, flip: Tensor) -> Tensor:
        """(B, D) the best direction with one block of signs turned: block ``flip`` in the order of Algorithm 6."""
        stage = torch.searchsorted(live.offset[:, 1:].contiguous(), flip.unsqueeze(1), right=True)
        block = flip - live.offset.gather(1, stage).squeeze(1)
        # the last stage repeats; flip -1 stays a block in front of all coordinates, which turns none
        block = torch.where(block < 0, block, block % live.dimension)
        size = live.size.gather(1, stage).squeeze(1)
        first = (block * size).to(torch.int32).unsqueeze(1)
        inside = (live.rank >= first) & (live.rank < first + size.to(torch.int32).unsqueeze(1))
        return torch.where(inside, -live.signs, live.signs)

    def _rows(self, live: _Live, direction: Tensor, radius: Tensor) -> Tensor:
        """(B, D) the points ``clip(x + radius direction/||direction||_2)``.

        The step is one number per row and the signs are +-1, so the product is exact and the row has the same bits
        whenever it is built again. A radius at which the box is left everywhere takes a step that surely does.
        """
        root = torch.sqrt(live.dimension.to(radius.dtype))
        step = torch.where(radius >= root * self.width, 2 * self.width, radius / root)
        return torch.addcmul(live.x, direction, step.unsqueeze(1)).clamp_(self.lower, self.upper)

    def _end_directions(self, live: _Live, places: Tensor) -> None:
        """Accept the directions whose bisection ended, or was cut by the budget, at a smaller radius than the best."""
        better = live.bisecting[places] & (live.high[places] < live.radius[places])
        done = live.select(places)
        direction = self._direction(done, done.flip)
        self._record(done.sample[better], self._rows(done, direction, done.high)[better])
        live.signs[places] = torch.where(better.unsqueeze(1), direction, done.signs)
        live.radius[places] = torch.where(better, done.high, done.radius)
        live.flip[places] += done.bisecting
        live.bisecting[places] = False

    def _record(self, index: Tensor, rows: Tensor) -> None:
        """Keep verified adversarial rows that are nearer than what their samples had, and note who met the goal."""
        distance = distances(rows, self.x[index], self.norm)
        nearer = distance < self.distance[index]
        self.nearest[index[nearer]] = rows[nearer]
        self.distance[index[nearer]] = distance[nearer]
        new = within_ball(distance, self.eps) & (self.queries_to_success[index] < 0)
        self.queries_to_success[index[new]] = self.oracle.queries[index[new]]

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
            distance=self.distance.to(device=device, dtype=torch.float32),
            x_nearest=self.nearest.view_as(self.problem.x).to(device),
            queries=self.oracle.queries.to(device),
            queries_to_success=self.queries_to_success.to(device),
            gradients=self.oracle.gradients.to(device),
            wasted_rows=self.oracle.wasted_rows.to(device),
            norm=self.norm,
            eps=self.eps,
            seed=seed,
            early_stop=self.early_stop,
        )


def _bisection_tree(low: Tensor, high: Tensor, depth: int) -> Tensor:
    """(B, 2^depth - 1) midpoints that ``depth`` bisection steps may visit, node n before its halves 2n+1 and 2n+2.

    Each is computed by the same halvings as in a sequential bisection, so that it has the same bits.
    """
    low, high = low.unsqueeze(1), high.unsqueeze(1)
    levels = []
    for _ in range(depth):
        middle = (low + high) / 2
        levels.append(middle)
        low, high = torch.stack([low, middle], dim=2).flatten(1), torch.stack([middle, high], dim=2).flatten(1)
    return torch.cat(levels, dim=1) if depth > 1 else levels[0]
