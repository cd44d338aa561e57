"""The Frank-Wolfe black-box attack: the same steps, with gradients estimated from scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.ball import BallRun, Options, SharedKeywords, spelled_out
from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_count
from art_ext.core.conditional_gradient import ConditionalGradient, check_step
from art_ext.core.estimation import GradientEstimator
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult

if TYPE_CHECKING:
    from typing_extensions import Unpack


@spelled_out
@outside_inference_mode()
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
    **options: Unpack[SharedKeywords],
) -> AttackResult:
    """Frank-Wolfe steps along gradients that symmetric differences of the scores estimate.

    Solves ``min_x f(x) s.t. ||x - x_ori||_p <= eps`` (2.3.1) by Algorithm 2: ``frank_wolfe`` with
    ``q_t = 1 / (2 delta b) sum_i (f(x_t + delta u_i) - f(x_t - delta u_i)) u_i`` (Algorithm 3) for
    the gradient. All samples run side by side, each with directions of its own.

    Differences from the authors' program: the check of each iterate is charged (they do not count
    it), and the sphere's directions have length sqrt(D) as in that program, where the paper prints
    1. As there, probes may leave the box by a few delta, unless they are clipped.

    Args:
        model: an ``nn.Module`` or any callable from (R, *S) to scores (R, K); normalisation lives
            inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``; None takes the model's own
            answer.
        eps: radius of the ball in the units of x (8/255, never 8).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        step_fraction: gamma in (0, 1]. The default pair (.5, .97) is ours; the paper's table is met
            by (.3, .99).
        momentum: beta in [0, 1).
        num_directions: b; an iteration costs 2 b queries and one for its check.
        delta: length of a probe per unit of u, in the units of x.
        sensing: ``"gaussian"`` or ``"sphere"``.
        clip_probes: clip the probes to the box, for a model that takes nothing else.
        schedule: as in ``frank_wolfe``; ``"plateau"`` is the authors' (for untargeted attacks they
            watch the loss that should rise, and slow down when things go well; we watch f).
            ``"inverse_sqrt"`` takes the T that the budget allows.
        momentum_init: as in ``frank_wolfe``.
        box: as in ``frank_wolfe``.
        max_queries: most forward rows per sample. An iteration that does not fit into the rest is
            not begun.
        stop_on_success: a sample leaves at its first success.
        **options: the keywords of ``art_ext.core.ball.Options``.

    Returns:
        An ``AttackResult``. After k iterations ``queries`` is ``1 + k (2 b + 1)``: the clean check,
        the probes and the check of each iterate. ``trace["gap"]`` and ``trace["loss"]`` (T, N), T
        being the iterations that the budget allows, hold the Frank-Wolfe gap of the estimated
        gradient and f at each x_t from which a step was taken.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or a model without scores.
        TypeError: if x is not a floating point tensor.

    References:
        Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial
        attacks", AAAI 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 2 (the equation and
        algorithm numbers).
    """
    check_count("max_queries", max_queries)  # None would be a search without an end
    check_step(step_fraction, momentum, schedule, momentum_init, box)
    run = BallRun(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        oracle=ScoreOracle,
        options=Options(stop_on_success=stop_on_success, max_queries=max_queries, **options),
    )
    estimate = GradientEstimator(
        run, num_directions=num_directions, delta=delta, sensing=sensing, clip_probes=clip_probes
    )
    steps = (max_queries - 1) // (estimate.cost + 1)
    run.trace(steps, "gap", "loss")
    with run.oracle:
        look = run.open(differentiate=False, last=steps == 0)
        method = ConditionalGradient(
            run,
            step_fraction=step_fraction,
            momentum=momentum,
            schedule=schedule,
            momentum_init=momentum_init,
            box=box,
            steps=steps,
        )
        for step in range(steps):
            if not len(run.index):
                break
            ascent, _ = estimate(method.x)
            slope, losses = -ascent, -look.losses  # of f, which is minimised
            run.record("gap", step, method.gap(slope))
            run.record("loss", step, losses)
            look, stay = run.drop(
                run.look(method.step(slope, losses), differentiate=False), last=step + 1 == steps
            )
            method.select(stay)
    return run.result()


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
        page="frank-wolfe-black-box.md",
        random=True,
    )
)
