"""NES-PGD: projected sign steps along gradients estimated from scores, the baseline of the
black-box attacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.ball import BallRun, Options, SharedKeywords, spelled_out
from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_count, check_positive, check_share
from art_ext.core.conditional_gradient import Plateau
from art_ext.core.estimation import GradientEstimator
from art_ext.core.geometry import unit
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult

if TYPE_CHECKING:
    from typing_extensions import Unpack

SMALLEST_SHARE = 1 / 200  # of the first step size


@spelled_out
@outside_inference_mode()
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
    **options: Unpack[SharedKeywords],
) -> AttackResult:
    """Projected ascent along the momentum of estimated gradients (NES-PGD, the score-based
    variant).

    Solves ``max_x J(x) s.t. ||x - x_ori||_p <= eps`` by ``m_t = mu m_{t-1} + (1 - mu) q(x_t)`` and
    ``x_{t+1} = P(x_t + alpha_t sgn(m_t))``, q being the same antithetic estimate as in
    ``frank_wolfe_black_box``. The step size is halved when the probes' mean loss J is lower than
    four iterations before, down to a 200th. In L2 and L1 the step is ``alpha m / ||m||_p``.

    Args:
        model: an ``nn.Module`` or any callable from (R, *S) to scores (R, K); normalisation lives
            inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``; None takes the model's own
            answer.
        eps: radius of the ball in the units of x (8/255, never 8).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        step_size: alpha, in the units of x.
        momentum: mu in [0, 1).
        num_directions: b; an iteration costs 2 b queries and one for its check.
        delta: length of a probe per unit of u, in the units of x.
        sensing: ``"gaussian"`` or ``"sphere"``.
        clip_probes: clip the probes to the box, for a model that takes nothing else.
        max_queries: most forward rows per sample. An iteration that does not fit into the rest is
            not begun.
        stop_on_success: a sample leaves at its first success.
        **options: the keywords of ``art_ext.core.ball.Options``.

    Returns:
        An ``AttackResult``. After k iterations ``queries`` is ``1 + k (2 b + 1)``.

    Raises:
        ValueError, TypeError: as ``frank_wolfe_black_box``.

    References:
        Ilyas, Engstrom, Athalye, Lin, "Black-box adversarial attacks with limited queries and
        information", ICML 2018.
    """
    check_count("max_queries", max_queries)
    check_positive("step_size", step_size)
    check_share("momentum", momentum)
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
    with run.oracle:
        run.open(differentiate=False, last=steps == 0)
        rows, m = run.x, torch.zeros_like(run.x)
        plateau = Plateau(len(rows), rows.device, improvement=0.0)
        sizes = rows.new_full((len(rows), 1), step_size)
        for step in range(steps):
            if not len(run.index):
                break
            ascent, gain = estimate(rows)
            m = momentum * m + (1 - momentum) * ascent
            halved = (sizes / 2).clamp(min=step_size * SMALLEST_SHARE)
            sizes = torch.where(plateau.flat(-gain).unsqueeze(1), halved, sizes)
            direction = m.sign() if norm == "linf" else unit(m, norm)
            rows = run.feasible(rows + sizes * direction)
            _, stay = run.drop(run.look(rows, differentiate=False), last=step + 1 == steps)
            if stay is not None:
                rows, m, sizes = rows[stay], m[stay], sizes[stay]
                plateau.select(stay)
    return run.result()


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
        page="frank-wolfe-black-box.md",
        random=True,
    )
)
