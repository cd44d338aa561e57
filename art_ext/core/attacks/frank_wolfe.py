"""The Frank-Wolfe white-box attack: projection-free steps towards vertices of the ball.

References:
    Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial attacks",
    AAAI 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 2 (the equation and algorithm
    numbers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.options import FixedRadiusOptions
from art_ext.core.attacks.engine.plateau import Plateau
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import SampleError, check_choice, check_count, check_number, check_share
from art_ext.core.geometry import distances, linear_minimiser, within_ball
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult
from art_ext.core.samples import admit_start

SCHEDULES = ("constant", "inverse_sqrt", "plateau")


@dataclass(eq=False)
class FrankWolfeState(State):
    """The iterates, their momentum, and the progress that sets the step size.

    Attributes:
        m: (R, D) the momentum.
        plateau: the latest losses.
        decaying_since: (R,) int64, the step at which the losses were flat for the first time, -1
            before.
    """

    m: Tensor
    plateau: Plateau
    decaying_since: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class FrankWolfe(Method[FrankWolfeState]):
    """``x_{t+1} = x_t + gamma_t (v_t - x_t)`` with ``v_t = argmin_{v in X} <v, m_t>`` (Algorithm 1,
    lines 4 to 7).

    X is the ball around the clean input. With ``box="vertex"`` it is the ball's intersection with
    the box, otherwise the step is clipped to the box, which moves no coordinate away from the clean
    input. Either way the iterate is a convex combination of points of the ball and needs no
    projection.

    Attributes:
        num_steps: T, the most steps.
        step_fraction: gamma, the fraction of the way to the vertex, in (0, 1].
        momentum: beta of ``m_t = beta m_{t-1} + (1 - beta) grad f(x_t)``, in [0, 1).
        schedule: ``"constant"``, as the authors' white-box program. ``"inverse_sqrt"``: the
            constant ``gamma / sqrt(T)`` of Theorem 2.4.4. ``"plateau"``, as their black-box
            program: gamma until f falls by less than 0.1 % over five iterates, then ``gamma /
            sqrt(3)``, ``gamma / sqrt(4)``, and so on.
        momentum_init: ``"zero"``, as the reference implementation (under the sign a bias-corrected
            average), or ``"gradient"``, the printed ``m_{-1} = grad f(x_0)``, which freezes the
            first direction for long. Default: zero.
        box: ``"clip"`` clips each step to the box, as the authors do. ``"vertex"`` takes the vertex
            of the intersection of ball and box, so that the gap in the trace is that of the problem
            solved. In L1 take ``"vertex"``: the ball's own vertices lie far outside the box, and
            clipping leaves little of them. Default: clip.
        start: (N, D) x_0. None starts at the inputs.
        stop_on_success: True stops a sample at its first success. Default: True.
    """

    num_steps: int
    step_fraction: float
    momentum: float
    schedule: str
    momentum_init: str = "zero"
    box: str = "clip"
    start: Tensor | None = None

    def __post_init__(self) -> None:
        check_number("step_fraction", self.step_fraction)
        if not 0 < self.step_fraction <= 1:
            raise ValueError(
                "step_fraction must lie in (0, 1], of the way to the vertex, got"
                f" {self.step_fraction!r}"
            )
        check_share("momentum", self.momentum)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("momentum_init", self.momentum_init, ("zero", "gradient"))
        check_choice("box", self.box, ("clip", "vertex"))

    @property
    def starts_at_input(self) -> bool:  # type: ignore[override]  # read only here
        """True without starting points."""
        return self.start is None

    def init(self, problem: Problem, trajectory: int) -> FrankWolfeState:
        """Return the starting points, without momentum."""
        return FrankWolfeState(
            x=problem.x if self.start is None else self.start[problem.index],
            m=torch.zeros_like(problem.x),
            plateau=Plateau.empty(problem.x),
            decaying_since=torch.full_like(problem.index, -1),
        )

    def step(
        self, problem: Problem, state: FrankWolfeState, answers: Answers, t: int
    ) -> FrankWolfeState:
        """Return the next iterates. f is minus the gain, and is minimised."""
        slope = self.slope(problem, state, answers, t)
        losses = -answers.losses
        problem.record("gap", t, self.gap(problem, state.x, slope))
        problem.record("loss", t, losses)
        before = slope if t == 0 and self.momentum_init == "gradient" else state.m
        m = (1 - self.momentum) * slope  # line 4
        m = (
            before.mul(self.momentum).add_(m)
            if before is slope
            else before.mul_(self.momentum).add_(m)
        )
        plateau, since, fraction = self._fraction(state, losses, t)
        # x + gamma (v - x), which for gamma = 1 is v to the bit
        moved = torch.lerp(state.x, self.vertex(problem, m), fraction)
        # with the vertex inside the box, only rounding can leave it
        return FrankWolfeState(problem.clip_(moved), m, plateau, since)

    def slope(self, problem: Problem, state: FrankWolfeState, answers: Answers, t: int) -> Tensor:
        """(R, D) the gradient of f at the iterates."""
        return -answers.gradient

    def vertex(self, problem: Problem, m: Tensor) -> Tensor:
        """(R, D) the vertices of X that minimise ``<v, m>``."""
        room = None
        if self.box == "vertex":
            room = torch.where(m > 0, problem.x - problem.low, problem.high - problem.x)
        return linear_minimiser(m, problem.norm, problem.radius, room).add_(problem.x)

    def gap(self, problem: Problem, x: Tensor, slope: Tensor) -> Tensor:
        """(R,) the Frank-Wolfe gap ``max_{v in X} <v - x_t, -grad f(x_t)>`` (section 2.4.1), 0 at
        stationary points.
        """
        return (x - self.vertex(problem, slope)).mul_(slope).sum(dim=1)

    def _fraction(
        self, state: FrankWolfeState, losses: Tensor, t: int
    ) -> tuple[Plateau, Tensor, Any]:
        """Return the plateau, the step since which gamma decays, and gamma_t (number or column)."""
        plateau, since = state.plateau, state.decaying_since
        if self.schedule == "constant":
            return plateau, since, self.step_fraction
        if self.schedule == "inverse_sqrt":
            return plateau, since, self.step_fraction / math.sqrt(max(1, self.num_steps))
        if t:  # the window begins with x_1
            plateau, flat = plateau.enter(losses)
            since = torch.where(since < 0, torch.where(flat, t, -1), since)
        age = (t - since + 3).to(torch.float32)
        shorter = torch.where(since < 0, 1.0, age.rsqrt())
        return plateau, since, (self.step_fraction * shorter).unsqueeze(1)


@public(FixedRadiusOptions, FrankWolfe, FixedRadius)
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
    **options: Any,
) -> AttackResult:
    """Frank-Wolfe white-box attack with momentum.

    Solves ``min_x f(x) s.t. ||x - x_ori||_p <= eps`` (2.3.1), f being minus the loss that ``loss=``
    names: the cross-entropy of the target, or minus that of the label to leave. Algorithm 1 with
    momentum: ``m_t = beta m_{t-1} + (1 - beta) grad f(x_t)``, ``v_t = argmin_v <v, m_t>``,
    ``x_{t+1} = x_t + gamma (v_t - x_t)``. Nothing is projected: the iterates are convex
    combinations of points of the ball, and their distance to x_ori is at most ``eps (1 - (1 -
    gamma)^T)`` with a constant gamma. One step with gamma = 1 is FGSM.

    Args:
        num_steps: T, the most steps. Default: 20.
        step_fraction: gamma, the fraction of the way to the vertex, in (0, 1]. Default: 0.5.
        momentum: beta, in [0, 1). Default: 0.9.
        x_init: x_0, (N, *S), in the box and within eps of x, checked for one query each. Masked
            coordinates take x's values. Default: None, x.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, and one check per iterate,
        which is at the same time the forward of the next gradient. With ``x_init`` there is one
        more for its check. ``gradients`` counts the iterations, 0 for rows that are adversarial
        from the start. ``trace["gap"]`` and ``trace["loss"]`` (T, N) hold the Frank-Wolfe gap
        ``max_v <v - x_t, -grad f(x_t)>`` and f at each x_t from which a step was taken.

    Raises:
        ValueError: if an argument is out of range, x or x_init leaves the box, x_init leaves the
            ball, x or the clean outputs hold NaN, a label has no column in the outputs, or the
            model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The authors' untargeted step moves away from the vertex and is then projected back. This
        implementation takes the paper's convex step in both modes. The authors' L1 step is no
        linear minimisation. This one moves the one coordinate of largest slope.

    References:
        Chen, Zhou, Yi, Gu, "A Frank-Wolfe framework for efficient and effective adversarial
        attacks", AAAI 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 2 (the equation and
        algorithm numbers).
    """
    check_count("num_steps", num_steps)
    method = FrankWolfe(
        num_steps=num_steps,
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
        stop_on_success=stop_on_success,
        max_queries=max_queries,
        **options,
    )
    if x_init is not None:
        method = replace(method, start=_start(driver.problem, x_init))
    driver.open_trace(num_steps, "gap", "loss")
    return driver.run(method)


def _start(problem: Problem, x_init: Tensor) -> Tensor:
    """(N, D) the starting points, in ball and box.

    Raises:
        TypeError, ValueError: for points of another shape, outside the box or outside the ball.
    """
    samples = problem.x.view(problem.shape)
    rows = admit_start(problem.box, x_init, samples).reshape(problem.x.shape)
    if problem.mask is not None:
        rows = torch.where(problem.mask != 0, rows, problem.x)
    length = distances(rows, problem.x, problem.norm)
    outside = ~within_ball(length, problem.eps)
    if bool(outside.any()):
        first = int(outside.nonzero()[0])
        raise SampleError(
            f"x_init must lie within eps={problem.eps:g} of x in {problem.norm}, got"
            f" {float(length[first]):g} in sample {{sample}}: project it first",
            first,
        )
    return problem.feasible(rows)


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
        page="attacks/frank-wolfe.md",
        url="https://arxiv.org/abs/1811.10828",
        hosts={
            "art": Shell(
                name="FrankWolfe",
                summary="White-box attack that moves towards vertices of the ball, unprojected.",
                parameters=(
                    "norm eps eps_step momentum max_iter targeted schedule momentum_init box loss"
                    " outputs stop_on_success on_failure max_queries batch_size seed verbose probe"
                ),
                defaults={"max_iter": 100},
                texts={
                    "norm": 'np.inf, "inf", 1 or 2. For 1 take ``box="vertex"``.',
                    "eps_step": (
                        "gamma, the fraction of the way to the vertex that a step goes, in (0, 1]."
                        " No length, unlike the ``eps_step`` of ART's own attacks."
                    ),
                    "max_iter": ("most steps, by ART's custom 100 (the paper's program takes 20)."),
                    "seed": "recorded only. This attack draws no random number.",
                },
            ),
            "torchattacks": Shell(
                name="FW",
                summary=(
                    "Frank-Wolfe (Chen et al., 2020): white-box steps towards vertices of the"
                    " ball, without projection."
                ),
                parameters=(
                    "norm eps alpha momentum steps schedule momentum_init box loss stop_on_success"
                    " on_failure max_queries batch_size probe"
                ),
                texts={
                    "alpha": (
                        "gamma, the fraction of the way to the vertex that a step goes, in (0, 1]."
                        " No length."
                    )
                },
                example="eps=8/255, steps=20",
            ),
        },
    )
)
