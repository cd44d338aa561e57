"""The Frank-Wolfe white-box attack: projection-free steps towards vertices of the ball."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.ball import BallRun, Look, Options, SharedKeywords, spelled_out
from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_count
from art_ext.core.conditional_gradient import ConditionalGradient, check_step
from art_ext.core.geometry import distances, within_ball
from art_ext.core.oracle import Model
from art_ext.core.problem import admit_start
from art_ext.core.result import AttackResult

if TYPE_CHECKING:
    from typing_extensions import Unpack


@spelled_out
@outside_inference_mode()
def frank_wolfe(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    step_fraction: float = 0.5,
    momentum: float = 0.9,
    num_steps: int = 20,
    schedule: str = "constant",
    momentum_init: str = "zero",
    box: str = "clip",
    x_init: Tensor | None = None,
    max_queries: int | None = None,
    stop_on_success: bool = True,
    **options: Unpack[SharedKeywords],
) -> AttackResult:
    """Minimise the attack's loss over the ball by convex steps towards the vertices that a linear
    oracle names.

    Solves ``min_x f(x) s.t. ||x - x_ori||_p <= eps`` (2.3.1), f being minus the loss that ``loss=``
    names: the cross-entropy of the target, or minus that of the label to leave. Algorithm 1 with
    momentum: ``m_t = beta m_{t-1} + (1 - beta) grad f(x_t)``, ``v_t = argmin_v <v, m_t>``,
    ``x_{t+1} = x_t + gamma (v_t - x_t)``. Nothing is projected: the iterates are convex
    combinations of points of the ball, and their distance to x_ori is at most ``eps (1 - (1 -
    gamma)^T)`` with a constant gamma. One step with gamma = 1 is FGSM.

    Differences from the authors' program: its untargeted step runs away from the vertex, only to be
    projected back; ours is the convex step of the paper in both modes. Its L1 step is no linear
    minimisation; ours moves the one coordinate of largest slope.

    Args:
        model: an ``nn.Module`` or a differentiable callable from (R, *S) to scores (R, K);
            normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``; None takes the model's own
            answer.
        eps: radius of the ball in the units of x (8/255, never 8).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        step_fraction: gamma, the share of the way to the vertex, in (0, 1].
        momentum: beta in [0, 1).
        num_steps: most steps T.
        schedule: ``"constant"``, as the authors' white-box program; ``"inverse_sqrt"``, the
            constant ``gamma/sqrt(T)`` of Theorem 2.4.4; ``"plateau"``, as their black-box program:
            gamma until f falls by less than 0.1 % over five iterates, then ``gamma/sqrt(3)``,
            ``gamma/sqrt(4)`` and so on.
        momentum_init: ``"zero"``, as the authors' program (under the sign a bias-corrected
            average), or ``"gradient"``, the printed ``m_{-1} = grad f(x_0)``, which freezes the
            first direction for long.
        box: ``"clip"`` clips each step to the box, as the authors do; ``"vertex"`` takes the vertex
            of the intersection of ball and box, so that the gap in the trace is that of the problem
            solved. In L1 take ``"vertex"``: the ball's own vertices lie far outside the box, and
            clipping leaves little of them.
        x_init: (N, *S) x_0, in the box and within eps of x, checked for one query each; masked
            coordinates take x's values. None starts at x.
        max_queries: most forward rows per sample, the clean check included; None for no limit.
        stop_on_success: a sample leaves at its first success.
        **options: the keywords of ``art_ext.core.ball.Options``.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, and one check per iterate,
            which is at the
        same time the forward of the next gradient; with ``x_init`` one more for its check.
        ``gradients`` counts the iterations, 0 for rows wrong from the start. ``trace["gap"]`` and
        ``trace["loss"]`` (T, N) hold the Frank-Wolfe gap ``max_v <v - x_t, -grad f(x_t)>`` and f at
        each x_t from which a step was taken.

    Raises:
        ValueError: for arguments that make no sense, x or x_init outside the box, x_init outside
            the ball, NaN in x or in the clean outputs, labels beyond the model's width, or a model
            without gradients.
        TypeError: if x is not a floating point tensor.

    References:
        Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial
        attacks", AAAI 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 2 (the equation and
        algorithm numbers).
    """
    check_count("num_steps", num_steps)
    check_step(step_fraction, momentum, schedule, momentum_init, box)
    run = BallRun(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        options=Options(stop_on_success=stop_on_success, max_queries=max_queries, **options),
    )
    run.trace(num_steps, "gap", "loss")
    start = None if x_init is None else _start(run, x_init)
    steps = min(num_steps, run.remaining - (1 if start is None else 2))
    with run.oracle:
        if start is None:
            look = run.open(differentiate=steps > 0, last=steps == 0)
            rows = run.x
        else:
            look, rows = _begin_at(run, start, further=steps > 0)
        method = ConditionalGradient(
            run,
            step_fraction=step_fraction,
            momentum=momentum,
            schedule=schedule,
            momentum_init=momentum_init,
            box=box,
            steps=num_steps,
            start=rows,
        )
        for step in range(steps):
            if not len(run.index):
                break
            slope, losses = -look.ascent(), -look.losses  # of f, which is minimised
            run.record("gap", step, method.gap(slope))
            run.record("loss", step, losses)
            further = step + 1 < steps
            look, stay = run.drop(
                run.look(method.step(slope, losses), differentiate=further), last=not further
            )
            method.select(stay)
    return run.result()


def _start(run: BallRun, x_init: Tensor) -> Tensor:
    """(N, D) the starting points, in ball and box.

    Raises:
        TypeError, ValueError: for points of another shape, outside the box or outside the ball.
    """
    rows = admit_start(run.box, x_init, run.samples.view(run.shape)).flatten(1)
    if run.free is not None:
        rows = torch.where(run.free != 0, rows, run.samples)
    length = distances(rows, run.samples, run.norm)
    outside = ~within_ball(length, run.eps)
    if bool(outside.any()):
        first = int(outside.nonzero()[0])
        raise ValueError(
            f"x_init must lie within eps={run.eps:g} of x in {run.norm}, got"
            f" {float(length[first]):g} in sample {first}: project it first"
        )
    return run.feasible(rows)


def _begin_at(run: BallRun, start: Tensor, *, further: bool) -> tuple[Look, Tensor]:
    """The look at the starting points (N, D) of the samples that are not adversarial already, and
    these points.

    Args:
        run: the samples; this makes their clean check.
        start: the points.
        further: whether a step follows.
    """
    look = run.open(differentiate=False, last=run.remaining == 1)
    if not len(run.index):
        return look, run.x
    rows = start[run.index]
    look, stay = run.drop(run.look(rows, differentiate=further), last=not further)
    return look, rows if stay is None else rows[stay]


register(
    AttackSpec(
        "frank_wolfe",
        frank_wolfe,
        title="Frank-Wolfe",
        access="gradients",
        family="fixed-radius",
        summary=(
            "Moves by convex steps towards the vertex of the ball that the averaged "
            "gradient points to, without projection."
        ),
        paper=(
            "Chen, Zhou, Yi, Gu. A Frank-Wolfe framework for efficient and effective "
            "adversarial attacks. AAAI 2020."
        ),
        page="frank-wolfe.md",
        lengths=("num_steps",),
    )
)
