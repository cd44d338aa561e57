"""Auto-PGD: ascent within a ball by steps whose sizes follow from the progress, and the same at
several classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.options import FixedRadiusOptions
from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.rivals import MALT_CANDIDATES, Rivals
from art_ext.core.attacks.engine.square_search import METHODS, Layout
from art_ext.core.attacks.engine.stages import Searched, Surveyed
from art_ext.core.attacks.engine.state import State
from art_ext.core.attacks.engine.successes import check_restarts
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_choice, check_count, check_flag
from art_ext.core.geometry import largest_entries, project_l1_box, unit
from art_ext.core.keywords import public
from art_ext.core.losses import Loss
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult

FIRST_LENGTH = 2.0  # eta, in eps
SEARCHED_LENGTH = 0.5  # the same, from the best point of a search
SEARCHED_SHARE = 0.8  # p of the search's first window, as AutoAttack has it
MOMENTUM = 0.25  # share of the last move that is repeated: 1 - alpha
RHO = 0.75  # fewer ascents than this share of the steps since the last checkpoint halve the step
# in L1, shares of all coordinates, then of those that have moved
FIRST_SPARSITY, SPARSITY = 0.2, 1 / 1.5
SHRINKING = 0.95  # in L1, a sparsity below this share of the last one starts the step size again
LARGER_SHARE = 30  # % of the steps in each of the balls of 3 eps and 2 eps


def checkpoints(num_steps: int) -> list[int]:
    """Return the steps ``ceil(p_j T)``, j >= 1, after which step sizes are reconsidered."""
    last, now = 0, 22  # p_{j-1} and p_j, in hundredths
    found = set()
    while now <= 100:
        found.add(-(-now * num_steps // 100))
        last, now = now, now + max(now - last - 3, 6)
    return sorted(found)


@dataclass(eq=False)
class AutoPgdState(State):
    """The progress of one ascent.

    Attributes:
        rows, previous: (R, D) the iterate from which the next step is taken, and the one before.
        gradient: (R, D) at rows.
        losses: (R,) there.
        best, best_gradient, best_loss: the point of highest loss so far, (R, D), (R, D), (R,).
        length: (R, 1) eta.
        ascents: (R,) how many steps since the last checkpoint ascended.
        known: (R,) the highest loss at the last checkpoint.
        halved: (R,) bool, True if eta was halved there.
        sparsity: (R,) in L1, how many coordinates the best point had moved there.
        checkpoint: the step of the last checkpoint.
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
    sparsity: Tensor
    checkpoint: int = 0


class AutoPgd(Method[AutoPgdState]):
    """Ascents in L-inf or L2, from random points.

    Args:
        num_steps: T.
        num_restarts: ascents of each phase.
        rivals: the other classes to attack in turn. None ascends one loss.
        length: the first eta, in eps.
    """

    starts_at_input = False
    compares_losses = True

    def __init__(
        self,
        num_steps: int,
        num_restarts: int = 1,
        rivals: Rivals | None = None,
        length: float = FIRST_LENGTH,
    ) -> None:
        self.num_steps = num_steps
        self.num_restarts = num_restarts
        self.rivals = rivals
        self.length = length
        self.checkpoints = checkpoints(num_steps)

    def see_clean(self, problem: Problem, outputs: Tensor, owner: Tensor) -> None:
        """Rank the other classes by score."""
        if self.rivals is not None:
            self.rivals.see_clean(problem, outputs, owner)
            self.preparation = self.rivals.queries

    def prepare(self, problem: Problem) -> None:
        """Rank the other classes by score and slope."""
        if self.rivals is not None:
            self.rivals.rank(problem)

    def num_trajectories(self, num_restarts: int) -> int:
        """Count the ascents of all phases, one phase for each rival."""
        return num_restarts * (1 if self.rivals is None else self.rivals.number())

    most_trajectories = num_trajectories

    def planned_rows(self, num_restarts: int) -> PlannedRows:
        """Return the most answers and gradients of a sample, with those of the ranking."""
        found = super().planned_rows(num_restarts)
        return found if self.rivals is None else found.plus(self.rivals.planned_rows())

    def next_loss(self, problem: Problem, trajectory: int) -> Loss | None:
        """Return the loss of the next rival, at the beginning of its phase."""
        phase, restart = divmod(trajectory, self.num_restarts)
        if self.rivals is None or not self.rivals.seen or restart:
            return None
        return self.rivals.loss_of(problem, self.rivals.ranked[:, phase])

    def init(self, problem: Problem, trajectory: int) -> AutoPgdState:
        """Draw a random point."""
        phase, restart = divmod(trajectory, self.num_restarts)
        return self.begin(problem, problem.random_start(restart, phase))

    def begin(self, problem: Problem, rows: Tensor) -> AutoPgdState:
        """Return the state before an ascent from rows (R, D)."""
        x = problem.x
        lowest = x.new_full((len(x),), -torch.inf)
        return AutoPgdState(
            x=rows,
            rows=x,
            previous=x,
            gradient=x,
            losses=lowest,
            best=x,
            best_gradient=x,
            best_loss=lowest,
            length=self._first_length(problem, lowest).unsqueeze(1),
            ascents=torch.zeros_like(lowest),
            known=lowest,
            halved=torch.zeros_like(problem.index, dtype=torch.bool),
            sparsity=torch.full_like(lowest, FIRST_SPARSITY / SPARSITY * x.shape[1]),
        )

    def observe(
        self, problem: Problem, state: AutoPgdState, answers: Answers, t: int
    ) -> AutoPgdState:
        """Enter the candidates and their answers, and adapt the step at a checkpoint."""
        losses = answers.losses.nan_to_num(nan=-torch.inf)
        better = losses > state.best_loss
        chosen = better.unsqueeze(1)
        if t:
            torch.where(chosen, state.x, state.best, out=state.best)
        else:
            state.best = state.x.clone()
        state.best_loss = torch.where(better, losses, state.best_loss)
        state.ascents = state.ascents + (losses > state.losses)
        state.previous = state.rows
        state.rows = state.x
        state.losses = losses
        if answers.slope is None:  # the last iterate
            return state
        gradient = state.gradient = answers.gradient
        if t:
            torch.where(chosen, gradient, state.best_gradient, out=state.best_gradient)
        else:
            state.best_gradient = gradient.clone()
            state.known = losses
            state.ascents = torch.zeros_like(state.ascents)
        if t in self.checkpoints:
            back = self.adapt(problem, state, t - state.checkpoint).unsqueeze(1)
            state.rows = torch.where(back, state.best, state.rows)
            state.gradient = torch.where(back, state.best_gradient, state.gradient)
            state.losses = torch.where(back.squeeze(1), state.best_loss, state.losses)
            state.checkpoint = t
        return state

    def adapt(self, problem: Problem, state: AutoPgdState, steps: int) -> Tensor:
        """Halve eta where so many steps brought too little: (R,) bool, True for rows that return to
        their best point.
        """
        stuck = ~state.halved & (state.best_loss <= state.known)
        state.halved = (state.ascents < RHO * steps) | stuck
        state.length = torch.where(state.halved.unsqueeze(1), state.length / 2, state.length)
        state.known = state.best_loss
        state.ascents = torch.zeros_like(state.ascents)
        return state.halved

    def step(self, problem: Problem, state: AutoPgdState, answers: Answers, t: int) -> AutoPgdState:
        """Return the next iterates, with a share of the last move."""
        gradient = state.gradient
        direction = gradient.sign() if problem.norm == "linf" else unit(gradient, problem.norm)
        target = problem.feasible_(torch.addcmul(state.rows, state.length, direction))
        if t:
            last_move = state.rows - state.previous
            moved = state.rows.lerp(target, 1 - MOMENTUM).add_(last_move, alpha=MOMENTUM)
            target = problem.feasible_(moved)
        state.x = target
        return state

    def end(self, state: AutoPgdState, answers: Answers) -> tuple[Tensor, Tensor]:
        """Return the point of highest loss."""
        return state.best, state.best_loss

    def _first_length(self, problem: Problem, like: Tensor) -> Tensor:
        return torch.full_like(like, self.length * problem.radius)


class SparseAutoPgd(AutoPgd):
    """Ascents in L1."""

    def __init__(self, num_steps: int, num_restarts: int = 1, rivals: Rivals | None = None) -> None:
        super().__init__(num_steps, num_restarts, rivals)
        interval = max(num_steps // 25, 1)
        self.checkpoints = list(range(interval, num_steps + 1, interval))

    def _first_length(self, problem: Problem, like: Tensor) -> Tensor:
        return super()._first_length(problem, like) / 2

    def adapt(self, problem: Problem, state: AutoPgdState, steps: int) -> Tensor:
        """Adapt sparsity and eta: (R,) bool, True for rows that return to their best point."""
        moved = (state.best != problem.x).sum(dim=1).to(state.sparsity.dtype)
        shrunk = moved < SHRINKING * state.sparsity
        shorter = (state.length / 1.5).clamp(min=problem.radius / 10)
        state.length = torch.where(shrunk.unsqueeze(1), problem.radius, shorter)
        state.sparsity = moved
        return shrunk

    def step(self, problem: Problem, state: AutoPgdState, answers: Answers, t: int) -> AutoPgdState:
        """Return the next iterates, along the largest entries of the gradient."""
        # what the box lets move: a coordinate held at a face would take the place of one that is
        # free
        at_face = torch.where(
            state.gradient > 0, state.rows >= problem.high, state.rows <= problem.low
        )
        gradient = state.gradient.masked_fill(at_face, 0.0)
        size = gradient.abs()
        count = (state.sparsity * SPARSITY).to(torch.int64).clamp(min=1)
        least = largest_entries(size, count)[0].gather(1, count.unsqueeze(1) - 1)
        signs = gradient.sign().masked_fill_(size < least, 0.0)
        direction = signs / signs.abs().sum(dim=1, keepdim=True).clamp(min=1)
        state.x = self.into(problem, torch.addcmul(state.rows, state.length, direction))
        return state

    def into(self, problem: Problem, rows: Tensor) -> Tensor:
        """Project rows (R, D) onto the intersection of ball and box."""
        delta = rows - problem.x
        room = torch.where(delta > 0, problem.high - problem.x, problem.x - problem.low)
        return problem.clip(problem.x + project_l1_box(delta, problem.radius, room))


class LargerBalls(SparseAutoPgd):
    """Ascents in L1 in the balls of 3 eps, 2 eps and eps, each from the projection of the best
    point in the ball before. Only candidates in the last one count.
    """

    def __init__(self, num_steps: int, num_restarts: int = 1, rivals: Rivals | None = None) -> None:
        super().__init__(num_steps, num_restarts, rivals)
        larger = LARGER_SHARE * num_steps // 100
        self.begins = (0, larger, 2 * larger)  # the candidates that enter each ball
        self.parts = [SparseAutoPgd(n) for n in (larger, larger, num_steps - 2 * larger)]

    def counts(self, t: int) -> bool:
        """Count the candidates in the last ball."""
        return t >= self.begins[-1]

    def init(self, problem: Problem, trajectory: int) -> AutoPgdState:
        """Draw a random point in the first ball."""
        return super().init(self._at(problem, 0)[1], trajectory)

    def step(self, problem: Problem, state: AutoPgdState, answers: Answers, t: int) -> AutoPgdState:
        """Return the next iterates, or the projections where the next ball begins."""
        part, ball, begin = self._at(problem, t + 1)
        if t + 1 == begin:
            return part.begin(ball, self.into(ball, state.best))
        return part.step(ball, state, answers, t - begin)

    def observe(
        self, problem: Problem, state: AutoPgdState, answers: Answers, t: int
    ) -> AutoPgdState:
        """Enter the candidates and their answers into the ascent in their ball."""
        part, ball, begin = self._at(problem, t)
        return part.observe(ball, state, answers, t - begin)

    def _at(self, problem: Problem, t: int) -> tuple[SparseAutoPgd, Problem, int]:
        """Return the ascent of the candidates t, the problem in its ball, and its first ones."""
        place = sum(t >= begin for begin in self.begins) - 1
        ball = replace(problem, radius=(len(self.begins) - place) * problem.radius)
        return self.parts[place], ball, self.begins[place]


@public(FixedRadiusOptions, FixedRadius)
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
    target_ranking: str | None = None,
    malt_candidates: int = MALT_CANDIDATES,
    max_queries: int | None = None,
    stop_on_success: bool = True,
    num_restarts: int = 1,
    survey_steps: int = 0,
    search_queries: int = 0,
    larger_balls: bool = False,
    keep_samples: bool = False,
    **options: Any,
) -> AttackResult:
    """Auto-PGD: momentum steps that halve, sample by sample, where they bring no progress.

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
    1.5. eta begins at eps and is divided by 1.5 down to eps / 10. Where k fell by more than 5 %,
    eta returns to eps, and the sample to its best point.

    Args:
        num_steps: T, the steps of each ascent. Default: 100.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            or a callable from the model's outputs (r, K) and the positions (r,) of their samples in
            x to (r,) numbers. With ``num_targets`` one of ``"margin"``, ``"probability_margin"``,
            ``"dlr"`` and ``"score"`` of the target. Default: None, the cross-entropy, or with
            ``num_targets`` the margin.
        num_targets: m > 0 attacks the first m other classes of the ranking (all, if there are
            fewer) in turn. Each phase has a start of its own and T
            steps, and ascends ``z_t - z_y``, ``p_t - p_y`` of the softmax with
            ``loss="probability_margin"``, ``(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)`` with
            ``loss="dlr"``, the k-th largest score being ``z_(k)``, or ``z_t`` with
            ``loss="score"``. For scores that are minus squared distances to centres, the last
            descends the distance to the target's. Any misclassification is a success. Default: 0.
        target_ranking: of these classes. ``"score"``: the highest at the clean input first.
            ``"malt"``: the smallest ``(z_y - z_t) / ||grad (z_y - z_t)||_q`` there first, q being
            the dual of the norm, which is the distance to class t if the model is linear. Default:
            None, MALT for models of more than ten classes.
        malt_candidates: C, the classes of highest score that MALT ranks. All others follow them by
            score. Default: 100.
        stop_on_success: True stops a sample at its first success. Default: True.
        num_restarts: R, ascents from R random points, in each phase. The first one is that of
            ``num_restarts=1``. Of a phase the best outcome of each sample counts: a success before
            a failure, then the higher loss. A later phase, which ascends another loss, wins over an
            earlier one with the same outcome. Default: 1.
        survey_steps: S > 0 gives each of the m targets S steps only, and T steps to the one that
            came nearest, by the loss. Default: 0, T steps for each target.
        search_queries: Q > 0 begins the ascent at the best point of a ``square`` search of the same
            loss, of Q queries and with p = 0.8, at eta = eps / 2. It reaches samples that no
            random start does, because the gradients around the input are small or mislead. L1 has
            no such search. Default: 0, no search.
        larger_balls: True ascends in L1 in the ball of 3 eps for the first 30 % of the steps of
            each ascent, in that of 2 eps for the next 30 %, and then in that of eps. Each ball
            begins at the projection of the best point of the one before, which is one of the
            steps. No point of a larger ball counts as a success. Without effect in L-inf and L2,
            and with fewer than 4 steps. Default: False.
        keep_samples: True returns the end of each ascent in ``samples`` (R, N, *S), or (m R, N,
            *S), phase by phase: the last iterate that succeeded, or the point of highest loss. A
            sample that left early repeats its last end. Default: False.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, here
            the point of highest loss. Default: ``"input"``.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, and in each phase the
        start and T iterates, each of which is at the same time the forward of the next gradient.
        Without a success these are ``T + 2`` queries and T gradients, or ``1 + m R (T + 1)`` and
        ``m R T`` with m targets and R restarts. A survey takes ``1 + m (S + 1) + T + 1``
        queries and ``m S + T`` gradients. MALT takes one query and ``min(C, K - 1)`` gradients
        more, a search Q queries. Rows that are adversarial from the start take 1 and 0.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, the model has no gradient, or targets to
            reach, or a search, come together with ``num_targets``.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        Survey and search are not part of it. Starts are uniform in the ball, in L1 too, where the
        second paper begins in larger balls (``larger_balls``). Among the largest entries only
        coordinates count that the box lets move. The margin that ``num_targets`` ascends is not
        divided by a difference of other scores, as the first paper's targeted loss is.

    References:
        Croce, Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks", ICML 2020 (Auto-PGD). Croce, Hein, "Mind the box: l1-APGD for
        sparse adversarial attacks on image classifiers", ICML 2021 (the L1 variant). Xie et al.,
        "Towards million-scale adversarial robustness evaluation with stronger individual attacks",
        CVPR 2025 (the probability margin). Melamed, Yehudai, Shamir, "MALT powers up adversarial
        attacks", NeurIPS 2024 (the ranking).
    """
    check_count("num_steps", num_steps)
    check_count("num_targets", num_targets, least=0)
    check_restarts(num_restarts)
    check_flag("larger_balls", larger_balls)
    _check_stages(norm, survey_steps, search_queries, num_targets, num_restarts)
    rivals = None
    if num_targets:
        _check_targets(num_targets, options)
        own = "margin" if loss is None else loss
        rivals = Rivals(num_targets, own, target_ranking, malt_candidates)
    else:
        _check_no_ranking(target_ranking, malt_candidates)
    driver = FixedRadius(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        loss="margin" if num_targets else "ce" if loss is None else loss,
        stop_on_success=stop_on_success,
        max_queries=max_queries,
        **options,
    )
    kind = AutoPgd if norm != "l1" else LargerBalls if larger_balls else SparseAutoPgd
    method = _method(kind, x, norm, num_steps, num_restarts, rivals, survey_steps, search_queries)
    return driver.run(method, num_restarts=num_restarts, keep_ends=keep_samples)


def _method(
    kind: type[AutoPgd],
    x: Tensor,
    norm: str,
    num_steps: int,
    num_restarts: int,
    rivals: Rivals | None,
    survey_steps: int,
    search_queries: int,
) -> Method[Any]:
    if survey_steps and rivals is not None:
        return Surveyed(kind(survey_steps, rivals=rivals), kind(num_steps), rivals)
    if search_queries:
        search = METHODS[norm](
            layout=Layout.of(x.shape[1:]), p_init=SEARCHED_SHARE, max_queries=search_queries + 1
        )
        return Searched(search, AutoPgd(num_steps, length=SEARCHED_LENGTH))
    return kind(num_steps, num_restarts, rivals)


def _check_stages(
    norm: str, survey_steps: int, search_queries: int, num_targets: int, num_restarts: int
) -> None:
    check_count("survey_steps", survey_steps, least=0)
    check_count("search_queries", search_queries, least=0)
    given = f"got num_targets={num_targets} and num_restarts={num_restarts}"
    if survey_steps and (not num_targets or num_restarts > 1):
        raise ValueError(
            "survey_steps needs num_targets >= 1 and num_restarts=1, because one long ascent"
            f" follows the short ones, {given}"
        )
    if search_queries and (num_targets or num_restarts > 1):
        raise ValueError(
            "search_queries needs num_targets=0 and num_restarts=1, because one ascent follows the"
            f" search, {given}"
        )
    if search_queries:
        check_choice("the norm of a search (search_queries)", norm, tuple(METHODS))


def _check_no_ranking(target_ranking: str | None, malt_candidates: int) -> None:
    """Raise ValueError for arguments of a ranking of classes without ``num_targets``."""
    for name, value, default in (
        ("target_ranking", target_ranking, None),
        ("malt_candidates", malt_candidates, MALT_CANDIDATES),
    ):
        if value != default:
            raise ValueError(f"{name}={value!r} needs num_targets, the number of classes to attack")


def _check_targets(num_targets: int, options: dict[str, Any]) -> None:
    if options.get("targeted") or options.get("targets") is not None:
        raise ValueError(
            "num_targets must be 0 in a targeted attack, whose classes are given, got"
            f" {num_targets}"
        )
    if options.get("criterion") is not None:
        raise ValueError("criterion must be None with num_targets, which needs class scores")


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
        page="attacks/auto-pgd.md",
        random=True,
        url="https://arxiv.org/abs/2003.01690",
        hosts={
            "art": Shell(name="AutoPGD"),
            "torchattacks": Shell(reason="torchattacks has it as APGD and APGDT"),
        },
    )
)
