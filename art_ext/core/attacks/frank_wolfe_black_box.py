"""The Frank-Wolfe black-box attack: the same steps, with gradients estimated from scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from art_ext.core.attacks.engine.estimation import GradientEstimator
from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Answers
from art_ext.core.attacks.engine.options import NEEDS_GRADIENTS, FixedRadiusOptions, affordable
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.frank_wolfe import FrankWolfe, FrankWolfeState
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_count
from art_ext.core.keywords import public
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult


@dataclass(frozen=True, kw_only=True, eq=False)
class FrankWolfeBlackBox(FrankWolfe):
    """Frank-Wolfe steps along estimated gradients (Algorithm 2).

    Attributes:
        estimator: of the gradient.
    """

    estimator: GradientEstimator
    needs_gradient = False

    @property
    def queries_per_step(self) -> int:  # type: ignore[override]  # read only here
        """Queries of one estimate."""
        return self.estimator.cost

    def slope(self, problem: Problem, state: FrankWolfeState, answers: Answers, t: int) -> Tensor:
        """(R, D) the estimate of the gradient of f at the iterates."""
        return -self.estimator(problem, state.x, t)[0]


@public(FixedRadiusOptions, FrankWolfe, GradientEstimator, FixedRadius, without=NEEDS_GRADIENTS)
def frank_wolfe_black_box(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    step_fraction: float = 0.5,
    momentum: float = 0.97,
    num_directions: int = 25,
    delta: float = 0.01,
    sensing: str = "gaussian",
    clip_probes: bool = False,
    schedule: str = "plateau",
    momentum_init: str = "zero",
    box: str = "clip",
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    **options: Any,
) -> AttackResult:
    """Frank-Wolfe score-based attack, along gradients estimated by symmetric differences.

    Solves ``min_x f(x) s.t. ||x - x_ori||_p <= eps`` (2.3.1) by Algorithm 2: ``frank_wolfe`` with
    ``q_t = 1 / (2 delta b) sum_i (f(x_t + delta u_i) - f(x_t - delta u_i)) u_i`` (Algorithm 3) for
    the gradient. All samples run side by side, each with directions of its own.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        step_fraction: gamma, the fraction of the way to the vertex, in (0, 1]. Default: 0.5. With
            momentum 0.97 that is our choice. The pair (0.3, 0.99) reproduces the paper's table.
        momentum: beta, in [0, 1). Default: 0.97.
        delta: length of a probe per unit of u, in the units of x. Default: 0.01.
        max_queries: most forward rows per sample. An iteration that does not fit into the rest is
            not begun. Default: 10,000.

    Returns:
        An ``AttackResult``. After k iterations ``queries`` is ``1 + k (2 b + 1)``: the clean check,
        the probes and the check of each iterate. ``trace["gap"]`` and ``trace["loss"]`` (T, N), T
        being the iterations that the budget allows, hold the Frank-Wolfe gap of the estimated
        gradient and f at each x_t from which a step was taken.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The reference implementation does not count the check of each iterate. It is charged here.
        The sphere's directions have length sqrt(D) as in the reference implementation, where the
        paper has 1. As there, probes may leave the box by a few delta, unless they are clipped. For
        untargeted attacks the authors' ``"plateau"`` watches the loss that should rise, and slows
        down when things go well. This one watches f. ``"inverse_sqrt"`` takes the T that the budget
        allows.

    References:
        Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial
        attacks", AAAI 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 2 (the equation and
        algorithm numbers).
    """
    check_count("max_queries", max_queries)  # None would be a search without an end
    estimator = GradientEstimator(
        num_directions=num_directions, delta=delta, sensing=sensing, clip_probes=clip_probes
    )
    method = FrankWolfeBlackBox(
        estimator=estimator,
        num_steps=(affordable(max_queries, options.get("detector")) - 1) // (estimator.cost + 1),
        step_fraction=step_fraction,
        momentum=momentum,
        schedule=schedule,
        momentum_init=momentum_init,
        box=box,
    )
    driver = FixedRadius(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        oracle=ScoreOracle,
        stop_on_success=stop_on_success,
        max_queries=max_queries,
        **options,
    )
    driver.open_trace(method.num_steps, "gap", "loss")
    return driver.run(method)


register(
    AttackSpec(
        "frank_wolfe_black_box",
        frank_wolfe_black_box,
        title="Frank-Wolfe black-box",
        access="scores",
        family="fixed-radius",
        summary=(
            "Frank-Wolfe with a gradient that is estimated from the scores at pairs of "
            "points around the iterate."
        ),
        paper=(
            "Chen, Zhou, Yi, Gu. A Frank-Wolfe framework for efficient and effective "
            "adversarial attacks. AAAI 2020."
        ),
        page="attacks/frank-wolfe-black-box.md",
        random=True,
        url="https://arxiv.org/abs/1811.10828",
        hosts={
            "art": Shell(
                name="FrankWolfeBlackBox",
                summary="Score-based attack: Frank-Wolfe steps along estimated gradients.",
                notes=(
                    "Its probes may leave them by about ``delta``, unless ``clip_probes`` is True."
                ),
                parameters=(
                    "norm eps eps_step momentum max_queries targeted nb_directions delta sensing"
                    " clip_probes schedule momentum_init box loss outputs stop_on_success"
                    " on_failure batch_size seed verbose probe"
                ),
                texts={
                    "norm": 'np.inf, "inf", 1 or 2. For 1 take ``box="vertex"``.',
                    "eps_step": (
                        "gamma, the fraction of the way to the vertex that a step goes, in (0, 1]."
                        " No length, unlike the ``eps_step`` of ART's own attacks."
                    ),
                },
            ),
            "torchattacks": Shell(
                name="FWBlack",
                summary=(
                    "Black-box Frank-Wolfe (Chen et al., 2020): the same steps along gradients"
                    " estimated from logits."
                ),
                parameters=(
                    "norm eps alpha momentum max_queries n_directions delta sensing clip_probes"
                    " schedule momentum_init box loss stop_on_success on_failure batch_size seed"
                    " probe"
                ),
                texts={
                    "alpha": (
                        "gamma, the fraction of the way to the vertex that a step goes, in (0, 1]."
                        " No length."
                    )
                },
                example="eps=8/255, max_queries=5000",
                shown="attack.last_result.queries",
            ),
        },
    )
)
