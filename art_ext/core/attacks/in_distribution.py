"""The in-distribution attack: the nearest adversarial among the images of a generator."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from art_ext.core.attacks._latent_descent import LatentAdam
from art_ext.core.attacks._latent_driver import LatentMinimumNorm
from art_ext.core.attacks._latent_starts import Starts
from art_ext.core.attacks.engine.cases import with_cases
from art_ext.core.attacks.engine.constant_search import ConstantSearch
from art_ext.core.attacks.engine.options import MinimumNormOptions
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_choice
from art_ext.core.keywords import public
from art_ext.core.limits.generator import Generator
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult

NORMS = ("l2",)


@public(
    MinimumNormOptions, Starts, LatentAdam, ConstantSearch, LatentMinimumNorm, without=("mask",)
)
def in_distribution(
    model: Model,
    generator: Generator,
    x: Tensor,
    y: Tensor | None = None,
    *,
    latents: Tensor | None = None,
    eps: float | None = None,
    norm: str = "l2",
    initialisation: str = "both",
    num_restarts: int = 3,
    init_steps: int = 300,
    init_step_size: float = 0.05,
    num_steps: int = 300,
    search_steps: int = 5,
    initial_const: float = 1.0,
    confidence: float = 0.0,
    step_size: float = 5e-2,
    distance: str = "squared",
    warm_start: bool = False,
    abort_early: bool | str = True,
    image_range: tuple[float, float] | None = (0.0, 1.0),
    targets: Tensor | str | None = None,
    max_queries: int | None = None,
    **options: Any,
) -> AttackResult:
    """In-distribution attack: the nearest adversarial among the images of a generator.

    Solves ``min_z D(G(z, y), x) + c max(0, kappa - margin(G(z, y)))`` by Adam on the latents z,
    with a search over c per sample, and keeps the adversarial of the smallest
    ``||G(z, y) - x||_2``. The margin is that of ``cw``, negative before the decision boundary.

    Args:
        x: inputs, (N, *S), float, inside ``clip_values``. The generator makes images of this shape.
        y: true classes, (N,), which are also what the generator is given, or the classes to reach
            if ``targeted``. The generator then gets the model's prediction of x, and so it does
            without y. Default: None, the model's prediction.
        eps: L2 radius within which an adversarial counts as success, in the units of x. Default:
            None, any adversarial counts.
        norm: of ``distance`` in the result and of eps, ``"l2"``, which is the only one. Default:
            l2.
        num_steps: iterations of each optimisation, >= 1. Default: 300.
        search_steps: optimisations per sample and start, each with its own c, >= 1. Default: 5.
        initial_const: the first c, > 0. Default: 1.

    Returns:
        An ``AttackResult``. Where ``success`` holds, x_adv is exactly ``G(latents, y)``. A query is
        one row forward of the model: the clean check and one for each iteration. Rows of the
        generator are counted apart, in ``generator_rows`` and ``generator_gradients``: one of each
        for an iteration or a step of ``init_steps``, one row for the last image of each restart,
        and one row for the check of given latents. ``start_distance`` is the distance of x to the
        nearest start. ``trace`` is as in ``ead``. With ``initialisation="both"`` and given latents
        it has the steps from the given latents first, and ``max_queries`` is shared evenly between
        the two starts.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x, images or clean outputs
            hold NaN, a label has no column in the outputs, the model or the generator has no
            gradient, their numbers of classes or the shapes of images and inputs differ, latents
            are missing or have another shape, or their images are not x.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The text has D = ``||.||_2`` (``distance="plain"``) and 10,000 iterations, the reference
        implementation ``||.||_2^2``, 100 iterations and 4 values of c, both with a step of .01. In
        the 300 iterations here such steps end far from the nearest adversarial. Unlike the
        reference implementation, an optimisation is given up per sample, not per batch, each one
        starts again (``warm_start=True`` carries z over, as the reference implementation does), and
        starts are optimised with Adam. The reference implementation recreates its SGD at each start
        step, so that its momentum never acts.

    References:
        Jinghui Chen, "Evaluating and understanding adversarial robustness in deep learning",
        dissertation, UCLA 2021, section 4.7.2. Carlini, Wagner, "Towards evaluating the robustness
        of neural networks", IEEE S&P 2017 (the search).
    """
    check_choice("norm", norm, NORMS)
    return _attack(
        model,
        x,
        y,
        generator=generator,
        latents=latents,
        eps=eps,
        starts=Starts(
            initialisation=initialisation,
            num_restarts=num_restarts,
            init_steps=init_steps,
            init_step_size=init_step_size,
        ),
        search=ConstantSearch(
            num_steps=num_steps,
            search_steps=search_steps,
            initial_const=initial_const,
            abort_early=abort_early,
        ),
        confidence=confidence,
        descent={"step_size": step_size, "distance": distance, "warm_start": warm_start},
        image_range=image_range,
        targets=targets,
        max_queries=max_queries,
        **options,
    )


@with_cases
def _attack(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    search: ConstantSearch,
    descent: dict[str, Any],
    **options: Any,
) -> AttackResult:
    """Attack the samples x of a model.

    Args:
        model, x, y: as for ``in_distribution``.
        search: over c.
        descent: keywords of ``LatentAdam``.
        **options: of ``LatentMinimumNorm``.
    """
    driver = LatentMinimumNorm(model, x=x, y=y, **options)
    start = driver.latents[:0]
    return driver.run(LatentAdam(images=driver.images, start=start, **descent), search)


register(
    AttackSpec(
        "in_distribution",
        in_distribution,
        title="In-distribution",
        access="gradients",
        family="minimum-norm",
        summary="Finds the nearest adversarial among the images of a conditional generator.",
        paper=(
            "Chen. Evaluating and understanding adversarial robustness in deep learning."
            " Dissertation, UCLA 2021."
        ),
        page="attacks/in-distribution.md",
        norms=NORMS,
        random=True,
        resources=("generator",),
        hosts={
            "art": Shell(reason="it needs a generator besides the classifier"),
            "torchattacks": Shell(reason="it needs a generator besides the model"),
        },
    )
)
