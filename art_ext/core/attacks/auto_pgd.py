"""Auto-PGD: ascent within a ball by steps whose sizes follow from the progress, and the same at
several classes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.ascent import random_start
from art_ext.core.attacks.engine.successes import check_restarts
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.ball import BallRun, Look, Options, spelled_out
from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_count
from art_ext.core.geometry import project_l1_box, unit
from art_ext.core.losses import Loss, logits_of
from art_ext.core.oracle import Judge, Model
from art_ext.core.result import AttackResult
from art_ext.core.run import RunKeywords

if TYPE_CHECKING:
    from typing_extensions import Unpack

MOMENTUM = 0.25  # share of the last move that is repeated: 1 - alpha
RHO = 0.75  # fewer ascents than this share of the steps since the last checkpoint halve the step
# in L1, shares of all coordinates, then of those that have moved
FIRST_SPARSITY, SPARSITY = 0.2, 1 / 1.5
SHRINKING = 0.95  # in L1, a sparsity below this share of the last one starts the step size anew


class Keywords(RunKeywords, total=False):
    """The fields of ``Options`` that ``auto_pgd`` does not name itself, for type checkers."""

    targets: Tensor | None
    criterion: Judge | None
    on_failure: str


@spelled_out
@outside_inference_mode()
def auto_pgd(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 100,
    loss: str | Loss | None = None,
    num_targets: int = 0,
    max_queries: int | None = None,
    stop_on_success: bool = True,
    num_restarts: int = 1,
    keep_samples: bool = False,
    **options: Unpack[Keywords],
) -> AttackResult:
    """Ascend the loss within a ball by momentum steps that halve, sample by sample, where they
    bring no progress.

    Approximates ``max_x' J(x') s.t. ||x' - x||_p <= eps`` from a random start by ``z = P(x_t + eta
    s(grad J(x_t)))`` and ``x_{t+1} = P(x_t + 0.75 (z - x_t) + 0.25 (x_t - x_{t-1}))``, s being the
    sign in L-inf and ``g / ||g||_2`` in L2 (Algorithm 1 of the first paper). eta begins at 2 eps.
    At the checkpoints ``ceil(p_j T)``, with ``p_0 = 0``, ``p_1 = 0.22`` and ``p_{j+1} = p_j +
    max(p_j - p_{j-1} - 0.03, 0.06)``, a sample's eta is halved and it returns to its point of
    highest loss if fewer than 3/4 of the steps since the last checkpoint ascended, or if neither
    eta nor the highest loss has changed there and since.

    In L1 (the second paper) a step moves along the signs of the ``k`` largest entries of the
    gradient only, by eta in all, and P is the projection onto the intersection of ball and box. At
    every 25th part of the steps k becomes the number of coordinates that the best point moves, over
    1.5; eta, which begins at eps, is divided by 1.5 down to eps / 10, or returns to eps, and the
    sample to its best point, where k fell by more than 5 %.

    Differences from the papers: starts are uniform in the ball, in L1 too, where the second paper
        begins in larger balls;
    among the largest entries we count only coordinates that the box lets move; and the margin that
    ``num_targets`` ascends is not divided by a difference of other scores, as the first paper's
    targeted loss is.

    Args:
        model: an ``nn.Module`` or a differentiable callable from (R, *S) to scores (R, K);
            normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``; None takes the model's own
            answer.
        eps: radius of the ball in the units of x (8/255, never 8).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        num_steps: T, of each phase.
        loss: as ``art_ext.core.ball.Options`` explains it; None takes ``"ce"``, or with
            ``num_targets`` the margin of the target, to which only ``"margin"`` may name another.
        num_targets: m > 0 attacks the m other classes that score highest at the clean input (all,
            if there are fewer) in turn, highest first: each phase has a start of its own and T
            steps, and ascends ``z_t - z_y``. Any misclassification is a success.
        max_queries: most forward rows per sample, the clean check included; None for no limit.
        stop_on_success: a sample leaves at its first success.
        num_restarts: R, ascents from R random points, in each phase. The first one is that of
            ``num_restarts=1``. Of a phase the best outcome of each sample counts: a success before
            a failure, then the higher loss. A later phase, which ascends another loss, wins over an
            earlier one with the same outcome.
        keep_samples: return the end of each ascent in ``samples`` (R, N, *S), or (m R, N, *S),
            phase by phase: the last iterate that succeeded, or the point of highest loss. A sample
            that left early repeats its last end.
        **options: the keywords of ``art_ext.core.ball.Options``. The last iterate, which
            ``on_failure="last"`` shows, is here the point of highest loss.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, and in each phase the
            start and T iterates,
        each of which is at the same time the forward of the next gradient. Without a success these
        are ``T + 2`` queries and T gradients, or ``1 + m R (T + 1)`` and ``m R T`` with m targets
        and R restarts; 1 and 0 for rows wrong from the start.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, a model without gradients, or targets to reach
            together with ``num_targets``.
        TypeError: if x is not a floating point tensor.

    References:
        Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020 (Auto-PGD). Croce, Hein, "Mind the box: l1-APGD for
        sparse adversarial attacks on image classifiers", ICML 2021 (the L1 variant).
    """
    check_count("num_steps", num_steps)
    check_count("num_targets", num_targets, least=0)
    check_restarts(num_restarts)
    _check_targets(num_targets, loss, options)
    if loss is None:
        loss = "margin" if num_targets else "ce"
    run = Rivals(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        num_targets=num_targets,
        options=Options(
            loss=loss, stop_on_success=stop_on_success, max_queries=max_queries, **options
        ),
    )
    with run.oracle:
        run.open(differentiate=False, last=run.remaining == 1)
        for number in run.trajectories(run.phases() * num_restarts, keep_ends=keep_samples):
            phase, restart = divmod(number, num_restarts)
            if num_targets and not restart:
                run.aim(phase)
            _climb(run, num_steps, restart, phase)
    return run.result()


def _check_targets(num_targets: int, loss: str | Loss | None, options: Keywords) -> None:
    if not num_targets:
        return
    if options.get("targeted") or options.get("targets") is not None:
        raise ValueError(
            "num_targets must be 0 in a targeted attack, whose classes are given, got"
            f" {num_targets}"
        )
    if loss not in (None, "margin"):
        raise ValueError(
            "loss must be 'margin' or None with num_targets, which ascends the target's, got"
            f" {loss!r}"
        )
    if options.get("criterion") is not None:
        raise ValueError("criterion must be None with num_targets, which needs class scores")


class Rivals(BallRun):
    """A run that may turn from one rival class of a sample to the next.

    Attributes:
        rivals: (N, K) the other classes, those that score highest at the clean input first.
    """

    rivals: Tensor | None = None

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float,
        norm: str,
        num_targets: int,
        options: Options,
    ) -> None:
        super().__init__(model, x, y, eps=eps, norm=norm, options=options)
        self.num_targets = num_targets

    def judge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """As any run does; the clean check ranks the classes."""
        if self.num_targets and self.spent == 1:
            others = outputs.scatter(1, self.goal.index_select(0, owner).unsqueeze(1), -torch.inf)
            ranks = others.argsort(dim=1, descending=True, stable=True)[
                :, : min(self.num_targets, others.shape[1] - 1)
            ]
            if self.rivals is None:
                self.rivals = ranks.new_zeros(len(self.goal), ranks.shape[1])
            self.rivals[owner] = ranks
        return super().judge(outputs, owner)

    def phases(self) -> int:
        """How many ascents there are: one for each rival, if any."""
        return 1 if self.rivals is None else self.rivals.shape[1]

    def aim(self, phase: int) -> None:
        """Ascend the margin of this rival from now on."""
        if self.rivals is None:  # there is no sample
            return
        pairs = torch.stack([self.goal, self.rivals[:, phase]], dim=1)

        def gain(outputs: Tensor, index: Tensor) -> Tensor:
            return (
                logits_of(outputs, self.outputs)
                .gather(1, pairs.index_select(0, index))
                .diff(dim=1)
                .squeeze(1)
            )

        self.ascend_another_loss(gain)


def _climb(run: Rivals, num_steps: int, restart: int, phase: int) -> None:
    """One ascent of T steps from a random start."""
    if not len(run.index):
        return
    rows = random_start(run, restart, phase)
    path = SparsePath(run, num_steps) if run.norm == "l1" else Path(run, num_steps)
    for step in range(num_steps + 1):
        further = step < num_steps and run.remaining > 1
        look = run.look(rows, differentiate=further)
        path.note(rows, look)
        run.rows, run.losses = path.state.best, path.state.best_loss
        _, stay = run.drop(look, last=not further)
        if not further or not len(run.index):
            return
        path.select(stay)
        rows = path.step()


def checkpoints(num_steps: int) -> list[int]:
    """The steps ``ceil(p_j T)``, j >= 1, after which step sizes are reconsidered."""
    last, now = 0, 22  # p_{j-1} and p_j, in hundredths
    found = set()
    while now <= 100:
        found.add(-(-now * num_steps // 100))
        last, now = now, now + max(now - last - 3, 6)
    return sorted(found)


@dataclass
class State:
    """What an ascent knows of the R live samples.

    Attributes:
        rows, previous: (R, D) the iterate from which the next step is taken, and the one before.
        gradient: (R, D) at rows.
        losses: (R,) there.
        best, best_gradient, best_loss: the point of highest loss so far, (R, D), (R, D), (R,).
        length: (R, 1) eta.
        ascents: (R,) how many steps since the last checkpoint ascended.
        known: (R,) the highest loss at the last checkpoint.
        halved: (R,) bool, whether eta was halved there.
        moved: (R,) in L1, how many coordinates the best point had moved there.
    """

    rows: Tensor
    previous: Tensor
    gradient: Tensor
    losses: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    length: Tensor
    ascents: Tensor
    known: Tensor
    halved: Tensor
    moved: Tensor


class Path:
    """One ascent in L-inf or L2; ``note`` what the model said to an iterate, and ``step`` to the
    next.
    """

    def __init__(self, run: BallRun, num_steps: int) -> None:
        self.run, self.taken, self.last_checkpoint = run, -1, 0
        self.checkpoints = checkpoints(num_steps)
        count, start = len(run.index), run.x.new_full((len(run.index),), -torch.inf)
        self.state = State(
            rows=run.x,
            previous=run.x,
            gradient=run.x,
            losses=start,
            best=run.x,
            best_gradient=run.x,
            best_loss=start,
            length=torch.full_like(start, 2 * run.radius).unsqueeze(1),
            ascents=torch.zeros_like(start),
            known=start,
            halved=torch.zeros(count, dtype=torch.bool, device=start.device),
            moved=torch.zeros_like(start),
        )

    def select(self, stay: Tensor | None) -> None:
        """Keep the samples at these positions; None keeps all."""
        if stay is not None:
            self.state = State(*(getattr(self.state, field.name)[stay] for field in fields(State)))

    def note(self, rows: Tensor, look: Look) -> None:
        """Enter the iterate (R, D) and the look at it, and adapt the step at a checkpoint."""
        state, gradient = self.state, look.gradient
        self.taken += 1
        losses = look.losses.nan_to_num(nan=-torch.inf)
        better = losses > state.best_loss
        chosen = better.unsqueeze(1)
        state.best = torch.where(chosen, rows, state.best) if self.taken else rows
        state.best_loss = torch.where(better, losses, state.best_loss)
        state.ascents = state.ascents + (losses > state.losses)
        state.previous, state.rows, state.losses = state.rows, rows, losses
        if gradient is None:  # the last iterate
            return
        state.gradient = gradient
        state.best_gradient = (
            torch.where(chosen, gradient, state.best_gradient) if self.taken else gradient
        )
        if not self.taken:
            state.known, state.ascents = losses, torch.zeros_like(state.ascents)
        elif self.taken in self.checkpoints:
            back = self.adapt(self.taken - self.last_checkpoint).unsqueeze(1)
            state.rows = torch.where(back, state.best, state.rows)
            state.gradient = torch.where(back, state.best_gradient, state.gradient)
            state.losses = torch.where(back.squeeze(1), state.best_loss, state.losses)
            self.last_checkpoint = self.taken

    def adapt(self, steps: int) -> Tensor:
        """Halve eta where so many steps brought too little: (R,) bool, who returns to the best
        point.
        """
        state = self.state
        stuck = ~state.halved & (state.best_loss <= state.known)
        state.halved = (state.ascents < RHO * steps) | stuck
        state.length = torch.where(state.halved.unsqueeze(1), state.length / 2, state.length)
        state.known, state.ascents = state.best_loss, torch.zeros_like(state.ascents)
        return state.halved

    def step(self) -> Tensor:
        """The next iterates (R, D)."""
        state, run = self.state, self.run
        direction = state.gradient.sign() if run.norm == "linf" else unit(state.gradient, run.norm)
        target = run.feasible(torch.addcmul(state.rows, state.length, direction))
        if not self.taken:
            return target
        moved = state.rows.lerp(target, 1 - MOMENTUM).add_(
            state.rows - state.previous, alpha=MOMENTUM
        )
        return run.feasible(moved)


class SparsePath(Path):
    """One ascent in L1."""

    def __init__(self, run: BallRun, num_steps: int) -> None:
        super().__init__(run, num_steps)
        interval = max(num_steps // 25, 1)
        self.checkpoints = list(range(interval, num_steps + 1, interval))
        self.state.length = self.state.length / 2
        self.state.moved = torch.full_like(
            self.state.moved, FIRST_SPARSITY / SPARSITY * run.x.shape[1]
        )

    def adapt(self, steps: int) -> Tensor:
        """Adapt sparsity and eta: (R,) bool, who returns to the best point."""
        state, radius = self.state, self.run.radius
        moved = (state.best != self.run.x).sum(dim=1).to(state.moved.dtype)
        shrunk = moved < SHRINKING * state.moved
        shorter = (state.length / 1.5).clamp(min=radius / 10)
        state.length = torch.where(shrunk.unsqueeze(1), radius, shorter)
        state.moved = moved
        return shrunk

    def step(self) -> Tensor:
        """The next iterates (R, D)."""
        state, run = self.state, self.run
        # what the box lets move: a coordinate held at a face would take the place of one that is
        # free
        held = torch.where(state.gradient > 0, state.rows >= run.high, state.rows <= run.low)
        gradient = state.gradient.masked_fill(held, 0.0)
        size = gradient.abs()
        count = (state.moved * SPARSITY).to(torch.int64).clamp(min=1).unsqueeze(1)
        least = size.sort(dim=1, descending=True).values.gather(1, count - 1)
        direction = unit(torch.where(size >= least, gradient, 0.0).sign(), "l1")
        delta = torch.addcmul(state.rows, state.length, direction) - run.x
        room = torch.where(delta > 0, run.high - run.x, run.x - run.low)
        return run.clip(run.x + project_l1_box(delta, run.radius, room))


register(
    AttackSpec(
        "auto_pgd",
        auto_pgd,
        title="Auto-PGD",
        access="gradients",
        family="fixed-radius",
        summary=(
            "Takes momentum steps whose length halves, sample by sample, where they bring"
            " no progress."
        ),
        paper=(
            "Croce, Hein. Reliable evaluation of adversarial robustness with an ensemble "
            "of diverse parameter-free attacks. ICML 2020."
        ),
        page="auto-pgd.md",
        random=True,
        lengths=("num_steps", "num_targets", "num_restarts"),
    )
)
