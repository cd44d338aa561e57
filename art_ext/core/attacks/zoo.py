"""ZOO: zeroth order optimisation, coordinate by coordinate, from scores alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks._zoo_descent import SOLVERS, Descent
from art_ext.core.attacks._zoo_spaces import Schedule
from art_ext.core.attacks.engine.cases import with_cases
from art_ext.core.attacks.engine.constant_search import ConstantSearch
from art_ext.core.attacks.engine.minimum_norm import MinimumNorm
from art_ext.core.attacks.engine.options import NEEDS_GRADIENTS, MinimumNormOptions
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.keywords import public
from art_ext.core.oracle import Model, ScoreOracle
from art_ext.core.result import AttackResult


@public(MinimumNormOptions, ConstantSearch, MinimumNorm, without=NEEDS_GRADIENTS)
@with_cases
def zoo(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = None,
    norm: str = "l2",
    solver: str = "adam",
    num_steps: int = 1000,
    search_steps: int = 9,
    initial_const: float = 1e-2,
    step_size: float = 1e-2,
    coordinates: int = 128,
    h: float = 1e-4,
    use_tanh: bool = False,
    confidence: float = 0.0,
    resize: int | Sequence[int] | Mapping[int, int] | None = None,
    importance: bool | int = False,
    reset_adam: bool = True,
    abort_early: bool | str = "always",
    abort_window: int | None = None,
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    **options: Any,
) -> AttackResult:
    """Minimise the objective of C&W from scores alone, by difference quotients.

    Solves ``min_y ||D(y)||_2^2 + c f(x + D(y)) s.t. x + D(y) in the box`` (14). f is that of (10)
    and (11): ``max(max_{i != t} log F_i - log F_t, -kappa)`` for a target t, and ``max(log F_y -
    max_{i != y} log F_i, -kappa)`` untargeted. In each iteration, every sample draws coordinates of
    its own without replacement. It estimates ``g_i = (f(y + h e_i) - f(y - h e_i)) / 2h`` (12), and
    takes a step of Adam (Algorithm 2) or Newton (Algorithm 3) along them. All samples run side by
    side. c is searched per sample, each time from x itself.

    Differences from the reference implementation: kappa is part of f, and of the success test in
    logarithms, as in the paper. The distortion is known, so it is differentiated in closed form. f
    is subtracted in float64. The iterate that ends an optimisation is not probed.

    Differences from the paper, all as in the reference implementation: Newton's second derivative
    is at least .1 where it is positive. Adam's small constant stands outside the root. Where the
    second derivative is not positive, the step is that of the gradient, as in the paper.

    Args:
        model: an ``nn.Module`` or any callable from (R, *S) to scores (R, K). Normalisation lives
            inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``. None takes the model's own
            answer.
        eps: radius in ``norm`` within which an adversarial counts as success, in the units of x.
            None counts any.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``: how ``distance`` and eps are measured.
        solver: ``"adam"``, ``"newton"``, or ``"adam-newton"``: Newton where the second derivative
            is positive.
        num_steps: iterations of each optimisation.
        search_steps: optimisations per sample, each with its own c.
        initial_const: c of the first optimisation, > 0.
        step_size: eta, the learning rate of Adam, or the factor of a Newton step.
        coordinates: B, how many are probed and moved in one iteration.
        h: distance of the probes, in the units of x (of the transformed variable with use_tanh).
            Models in float32 answer with an error of 1e-7 of their scores, which ``"newton"``
            divides by h^2: give it .01 or more there.
        use_tanh: move in a space without a box, as ``cw`` does, rather than clip to the box. Where
            inputs lie on the edge of the box, as in MNIST, the derivative vanishes there: leave it
            off.
        confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have.
        resize: the side s of a smaller space (C, s, s), scaled up bilinearly, for images (C, H, W).
            A mapping from iterations to sides, such as ``{0: 32, 2000: 64, 10000: 128}``, enlarges
            the space then, and a sequence of sides wherever a sample's loss stands still. None
            moves the pixels themselves.
        importance: draw coordinates in proportion to the largest change so far in each of 8 x 8
            regions, whenever the space has been enlarged, so that True needs several sizes. A
            number n > 1 also every n iterations. One draw in a hundred is uniform.
        reset_adam: forget the moments of Adam at the first success of an optimisation.
        abort_early: give a sample's optimisation up where its loss stands still: ``"always"``,
            True: unless it has a success by then, or False: never.
        abort_window: iterations between two comparisons of the loss. None takes a tenth of
            num_steps.
        targets: (N,) classes to reach, or a case (``"best"``, ``"worst"``, ``"average"``,
            ``"all"``) as in ``ead``.
        max_queries: most forward rows per sample. None for no limit. An iteration that does not fit
            is not begun.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check, the check of each iterate,
        and its 2 B probes, which lie up to h outside the box where it is clipped. ``trace`` is as
        in ``ead``.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or a model without scores.
        TypeError: if x is not a floating point tensor.

    References:
        Chen, Zhang, Sharma, Yi, Hsieh, "ZOO: zeroth order optimization based black-box attacks to
        deep neural networks without training substitute models", AISec 2017. Sharma, master's
        thesis, 2018, chapter 3 (the equation and algorithm numbers).
    """
    check_choice("solver", solver, SOLVERS)
    check_count("coordinates", coordinates)
    check_positive("step_size", step_size)
    check_positive("h", h)
    if not isinstance(importance, bool):
        check_count("importance", importance)
    if importance and resize is None:
        raise ValueError(
            "importance needs resize: the shares of the draws come from a scaled image"
        )
    search = ConstantSearch(
        num_steps=num_steps,
        search_steps=search_steps,
        initial_const=initial_const,
        abort_early=abort_early,
        window=abort_window,
    )
    run = MinimumNorm(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        confidence=confidence,
        oracle=ScoreOracle,
        targets=targets,
        max_queries=max_queries,
        **options,
    )
    schedule = Schedule.of(resize, x.shape[1:])
    if importance is True and len(schedule.sides) == 1:
        raise ValueError(
            "importance=True takes the shares of the draws when the space is enlarged, which one"
            f" size never is: got resize={resize!r}. Take several sizes, such as resize=(8, 16), or"
            " importance=n for every n iterations"
        )
    path = Descent(
        run,
        schedule,
        solver=solver,
        step_size=step_size,
        coordinates=coordinates,
        h=h,
        use_tanh=use_tanh,
        importance=importance,
        reset_adam=reset_adam,
    )
    run.name = "zoo"
    run.plan(lambda: path.planned_rows(search))
    with run.running():
        # the check of the start, its probes, and the check of where they lead
        least = path.state.cost() + 2
        if max_queries is not None and len(least):
            run.warn_if_short(1 + int(least.min()), max_queries)
        run.open(run.hinge, differentiate=False, least=least)
        path.keep(run.problem.index)
        search.open(run)
        while len(run.problem.index):
            answers = run.visit(path.state.images, path.probes.hinge, False)
            hinge = answers.losses
            distortion = path.distortion()
            stuck, ended = search.judge(
                search.at.const * hinge + distortion,
                answers.success,
                spared=path.spaces.can_grow(path.state),
            )
            run.found.record(run.problem, path.state.images, answers.success, distortion)
            finished = search.close(ended)
            path.state.restart(ended)
            remaining = run.drop(
                finished | run.short_of(path.state.cost() + 1 + ended.to(torch.int64))
            )
            if remaining is not None:
                path.keep(remaining)
                search.keep(remaining)
                hinge, stuck, ended = hinge[remaining], stuck[remaining], ended[remaining]
            path.advance(search, ~ended, hinge, stuck)
    return run.result()


register(
    AttackSpec(
        "zoo",
        zoo,
        title="ZOO",
        access="scores",
        family="minimum-norm",
        summary=(
            "Minimises the L2 distortion from scores, by difference quotients along a few"
            " coordinates at a time."
        ),
        paper=(
            "Chen, Zhang, Sharma, Yi, Hsieh. ZOO: zeroth order optimization based black-"
            "box attacks to deep neural networks without training substitute models. "
            "AISec 2017."
        ),
        page="attacks/zoo.md",
        random=True,
        tanh="use_tanh",
        url="https://arxiv.org/abs/1708.03999",
        hosts={
            "art": Shell(
                name="ZooPyTorch",
                model="classifier",
                summary=(
                    "Score-based attack: the objective of C&W, minimised by difference quotients"
                    " along a few coordinates at a time."
                ),
                notes=(
                    "Its probes may leave them by ``variable_h``, unless ``use_tanh`` or"
                    " ``resize``. It follows the paper. ART's own ``ZooAttack`` takes no"
                    " logarithms, can only brighten images in [0, 1], and with ``use_resize``"
                    " attacks copies of them, scaled down and up again. The defaults are the"
                    " paper's, because with those of ART's own (10 iterations, one c of .001)"
                    " hardly any sample succeeds. They cost up to 2.3 million predictions per"
                    " sample, fewer where ``abort_early`` ends them: ``max_queries`` sets the"
                    " limit."
                ),
                parameters=(
                    "confidence targeted learning_rate max_iter binary_search_steps initial_const"
                    " abort_early resize importance nb_parallel batch_size variable_h verbose"
                    " solver use_tanh reset_adam abort_window norm eps outputs max_queries seed"
                    " probe"
                ),
                defaults={"batch_size": 256},
                texts={
                    "learning_rate": "eta, of Adam or Newton.",
                    "max_iter": (
                        "iterations of each optimisation. One costs ``2 nb_parallel + 1``"
                        " predictions."
                    ),
                    "resize": (
                        "side of a smaller image that is attacked and scaled up. A sequence of"
                        " sides, or a mapping from iterations to sides, enlarges it on the way (the"
                        " ``use_resize`` of ART's own is ``{0: 32, 2000: 64, 10000: 128}``). None"
                        " moves the features themselves. The estimator's ``channels_first`` says"
                        " where the channels are."
                    ),
                    "batch_size": (
                        "most rows in one prediction. 256 hold the probes of one sample."
                    ),
                },
            ),
            "torchattacks": Shell(
                name="ZOO",
                summary=(
                    "ZOO (Chen et al., 2017): the objective of C&W from logits alone, by difference"
                    " quotients along coordinates."
                ),
                measure="L2",
                parameters=(
                    "kappa lr binary_search_steps max_iterations abort_early initial_const"
                    " n_coordinates h solver use_tanh resize importance reset_adam abort_window"
                    " norm eps max_queries batch_size seed probe"
                ),
                defaults={"kappa": 0},
                texts={
                    "lr": "eta, of Adam or Newton.",
                    "max_iterations": (
                        "iterations of each optimisation. One costs 2 n_coordinates + 1 rows."
                    ),
                },
                example="max_iterations=1000, binary_search_steps=5",
                shown="attack.last_result.queries",
            ),
        },
    )
)
