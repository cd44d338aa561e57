"""NES-PGD: projected sign steps along gradients estimated from scores, the baseline of the
black-box attacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.estimation import GradientEstimator
from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.options import NEEDS_GRADIENTS, FixedRadiusOptions, affordable
from art_ext.core.attacks.engine.plateau import Plateau
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_count, check_positive, check_share
from art_ext.core.geometry import unit
from art_ext.core.keywords import public
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult

SMALLEST_SHARE = 1 / 200  # of the first step size


@dataclass(eq=False)
class NesState(State):
    """The iterates, their momentum and their step sizes.

    Attributes:
        m: (R, D) the momentum.
        sizes: (R, 1) alpha_t.
        plateau: the latest losses of the probes.
    """

    m: Tensor
    sizes: Tensor
    plateau: Plateau


@dataclass(frozen=True, kw_only=True)
class Nes(Method[NesState]):
    """``m_t = mu m_{t-1} + (1 - mu) q(x_t)`` and ``x_{t+1} = P(x_t + alpha_t sgn(m_t))``.

    Attributes:
        estimator: of the gradient.
        num_steps: that the budget allows.
        step_size: the first alpha.
        momentum: mu.
    """

    estimator: GradientEstimator
    num_steps: int
    step_size: float
    momentum: float
    needs_gradient = False

    def __post_init__(self) -> None:
        check_positive("step_size", self.step_size)
        check_share("momentum", self.momentum)

    @property
    def queries_per_step(self) -> int:  # type: ignore[override]  # read only here
        """Queries of one estimate."""
        return self.estimator.cost

    def init(self, problem: Problem, trajectory: int) -> NesState:
        """Return the inputs, without momentum."""
        return NesState(
            x=problem.x,
            m=torch.zeros_like(problem.x),
            sizes=problem.x.new_full((len(problem.x), 1), self.step_size),
            plateau=Plateau.empty(problem.x),
        )

    def step(self, problem: Problem, state: NesState, answers: Answers, t: int) -> NesState:
        """Return the next iterates. The step is halved where the probes' loss has not risen."""
        ascent, gain = self.estimator(problem, state.x, t)
        m = self.momentum * state.m + (1 - self.momentum) * ascent
        plateau, flat = state.plateau.enter(-gain, improvement=0.0)
        halved = (state.sizes / 2).clamp(min=self.step_size * SMALLEST_SHARE)
        sizes = torch.where(flat.unsqueeze(1), halved, state.sizes)
        direction = m.sign() if problem.norm == "linf" else unit(m, problem.norm)
        return NesState(problem.feasible(state.x + sizes * direction), m, sizes, plateau)


@public(FixedRadiusOptions, GradientEstimator, FixedRadius, without=NEEDS_GRADIENTS)
def nes(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    step_size: float = 0.01,
    momentum: float = 0.9,
    num_directions: int = 25,
    delta: float = 1e-3,
    sensing: str = "gaussian",
    clip_probes: bool = False,
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    **options: Any,
) -> AttackResult:
    """NES-PGD score-based attack: projected ascent along the momentum of estimated gradients.

    Solves ``max_x J(x) s.t. ||x - x_ori||_p <= eps`` by ``m_t = mu m_{t-1} + (1 - mu) q(x_t)`` and
    ``x_{t+1} = P(x_t + alpha_t sgn(m_t))``, q being the same antithetic estimate as in
    ``frank_wolfe_black_box``. The step size is halved when the probes' mean loss J is lower than
    four iterations before, down to a 200th. In L2 and L1 the step is ``alpha m / ||m||_p``.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        step_size: alpha, in the units of x. Default: 0.01.
        momentum: mu, in [0, 1). Default: 0.9.
        delta: length of a probe per unit of u, in the units of x. Default: 1e-3.
        max_queries: most forward rows per sample. An iteration that does not fit into the rest is
            not begun. Default: 10,000.
        stop_on_success: True stops a sample at its first success. Default: True.

    Returns:
        An ``AttackResult``. After k iterations ``queries`` is ``1 + k (2 b + 1)``.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    References:
        Ilyas, Engstrom, Athalye, Lin, "Black-box adversarial attacks with limited queries and
        information", ICML 2018.
    """
    check_count("max_queries", max_queries)
    estimator = GradientEstimator(
        num_directions=num_directions, delta=delta, sensing=sensing, clip_probes=clip_probes
    )
    method = Nes(
        estimator=estimator,
        num_steps=(affordable(max_queries, options.get("detector")) - 1) // (estimator.cost + 1),
        step_size=step_size,
        momentum=momentum,
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
    return driver.run(method)


register(
    AttackSpec(
        "nes",
        nes,
        title="NES",
        access="scores",
        family="fixed-radius",
        summary=("Takes projected sign steps along a gradient that is estimated from scores."),
        paper=(
            "Ilyas, Engstrom, Athalye, Lin. Black-box adversarial attacks with limited "
            "queries and information. ICML 2018."
        ),
        page="attacks/frank-wolfe-black-box.md",
        random=True,
        url="https://arxiv.org/abs/1804.08598",
        hosts={"art": Shell(name="NES"), "torchattacks": Shell(name="NES")},
    )
)
