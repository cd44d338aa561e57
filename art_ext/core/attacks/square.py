"""The Square attack: random search over square patches, from scores alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.options import NEEDS_GRADIENTS, FixedRadiusOptions, affordable
from art_ext.core.attacks.engine.square_search import METHODS, Layout
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_choice, check_count
from art_ext.core.keywords import public
from art_ext.core.losses import Loss
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult

P_INIT = {"linf": 0.05, "l2": 0.1}


@public(FixedRadiusOptions, FixedRadius, without=NEEDS_GRADIENTS)
def square(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    p_init: float | None = None,
    loss: str | Loss | None = None,
    max_queries: int = 10_000,
    stop_on_success: bool = True,
    **options: Any,
) -> AttackResult:
    """Square score-based attack: random search over square windows of the image.

    Solves ``max_x L(x) s.t. ||x - x_ori||_p <= eps`` by Algorithm 1: a candidate differs from the
    best point so far in a window of random place, and replaces it if L is higher. The window holds
    the share p of the pixels. p is halved at the candidates 10, 50, 200, 500, 1000, 2000, 4000,
    6000 and 8000 of 10,000, and proportionally for another ``max_queries``. All samples run side by
    side, each with windows of its own.

    L-inf (Algorithm 2): the first candidate is ``x_ori + eps s`` with one sign s for each channel
    and column. Each further one sets a window to ``x_ori + eps s``, with one sign for each
    channel. All is clipped to the box.

    L2 (Algorithm 3): ``eta`` is a pyramid in one half of a window and minus a pyramid in the other,
    of length 1. The first candidate has ``+-eta`` in each of 5 x 5 tiles. Each further one clears a
    second window W2 of the perturbation v. In W1 each channel becomes ``+-eta + v_W1 / ||v_W1||``,
    scaled to the length a with ``a^2 = ||v_{W1 u W2}||^2 + (eps^2 - ||v||^2) / C``. Thus ``||v|| =
    eps`` until the box cuts it. A pixel at a bound of the box has 0 in the sum where it would leave
    the box. Windows fall into the middle more often than to the border.

    Args:
        model: ``nn.Module``, or any callable from (R, *S) to class scores (R, K). Normalisation
            lives inside.
        x: inputs, (N, *S), float, inside ``clip_values``. The last two axes of S are height and
            width, all before them channels, as in (C, H, W). A vector (D,) is one row of D pixels.
        norm: of the ball, ``"linf"`` or ``"l2"``. Default: linf.
        p_init: p, the share of the pixels in the first window, in (0, 1]. Default: None, the
            paper's 0.05 in L-inf and 0.1 in L2. Robust models need more. AutoAttack takes 0.8.
        loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``, ``"dlr"``,
            or a callable from the model's outputs (r, K) and the positions (r,) of their samples in
            x to (r,) numbers. A callable is ascended as it is, targeted or not. Default: None, the
            paper's: the margin, and the cross-entropy of a target.
        max_queries: N, most forward rows per sample. Default: 10,000.
        stop_on_success: True stops a sample at its first success. Otherwise the point of highest
            loss is reported if it is a success, and else the last candidate that was one. Default:
            True.
        on_failure: content of ``x_adv`` where nothing succeeded, ``"input"`` or ``"last"``, the
            point of highest loss. Default: ``"input"``.

    Returns:
        An ``AttackResult``. ``queries`` counts the clean check, and one for each candidate.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model returns no scores.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        In L-inf a window that would change nothing gets the opposite signs, so that no query is
        lost on it. In L2 the paper scales the bump first and cuts it by the box afterwards. On a
        black background half of each bump is lost then. Here a pixel that could only leave the box
        takes no part, and the others get the whole length. The paper draws all places alike. In L2
        this implementation takes the mean of two draws along each axis, unless the plane has one
        row. The L2 tiles are equal rectangles in the middle of the plane. The clean check is
        charged. On planes that are not square, a square that is longer than the shorter axis
        becomes a rectangle. It fills this axis and the share p of the other.

    References:
        Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box
        adversarial attack via random search", ECCV 2020.
    """
    check_count("max_queries", max_queries)  # None would be a search without an end
    check_choice("norm", norm, tuple(METHODS))
    if loss is None:
        targeted = options.get("targeted", False) or options.get("targets") is not None
        loss = "ce" if targeted else "margin"
    driver = FixedRadius(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        oracle=ScoreOracle,
        loss=loss,
        stop_on_success=stop_on_success,
        max_queries=max_queries,
        **options,
    )
    method = METHODS[norm](
        layout=Layout.of(x.shape[1:]),
        p_init=P_INIT[norm] if p_init is None else p_init,
        max_queries=affordable(max_queries, options.get("detector")),
    )
    return driver.run(method)


register(
    AttackSpec(
        "square",
        square,
        title="Square",
        access="scores",
        family="fixed-radius",
        summary="Changes random square windows, and keeps what raises the loss.",
        paper=(
            "Andriushchenko, Croce, Flammarion, Hein. Square Attack: a query-efficient black-box "
            "adversarial attack via random search. ECCV 2020."
        ),
        url="https://arxiv.org/abs/1912.00049",
        page="attacks/square.md",
        norms=tuple(METHODS),
        random=True,
        hosts={
            "art": Shell(name="Square"),
            "torchattacks": Shell(reason="torchattacks has Square itself"),
        },
    )
)
