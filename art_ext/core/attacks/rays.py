"""RayS: a hard-label attack that searches sign vectors for the nearest decision boundary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from art_ext.core.attacks._rays_search import Search
from art_ext.core.attacks._rays_trace import check_marks
from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.attacks.engine.planning import PlannedRows, state_plan
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_count, check_number
from art_ext.core.detection.base import Detector
from art_ext.core.geometry import ClipValues, free_coordinates
from art_ext.core.interruption import interruptible
from art_ext.core.keywords import public
from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.result import AttackResult, Callback
from art_ext.core.samples import admit_start


@public(None, AttackOptions)
def rays(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float | None = 8 / 255,
    max_queries: int = 10_000,
    norm: str = "linf",
    tol: float = 1e-3,
    stop_on_success: bool = True,
    hierarchical: bool = True,
    speculate: str | bool = "auto",
    trace_at: Sequence[int] | None = None,
    x_init: Tensor | None = None,
    targets: Tensor | None = None,
    mask: Tensor | None = None,
    clip_values: ClipValues = (0.0, 1.0),
    outputs: str = "logits",
    batch_size: int = 256,
    sample_ids: Tensor | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    pad_rows: int = 0,
    channels_last: bool = False,
    compile: bool = False,
    detector: Detector | None = None,
) -> AttackResult:
    """Find the sign direction along which the decision boundary is nearest, from predicted labels
    alone.

    Solves ``min_{s in {-1,+1}^D} r(s)`` with ``r(s) = min {r >= 0 : label(clip(x + r s/||s||_2)) !=
    y}`` (3.3.4). The signs of a block of coordinates are flipped, and the blocks are halved stage
    by stage (Algorithm 6). A flip is first tried at the best radius so far (the fast check of
    Algorithm 5). If it succeeds there, its radius is found by bisection. No random number is drawn.

    Differences from the paper: The two branches of Algorithm 5 are printed the wrong way round.
    This function compares at the midpoint and keeps the adversarial end. The last block of a stage
    is tried too. After the stage of single coordinates, the sweep over them repeats until the
    budget is spent, as in the reference implementation. Unlike in the reference implementation, a
    bisection never exceeds the budget, and a sample that never changes its label has
    ``nearest_distance`` inf.

    Args:
        model: an ``nn.Module`` or a callable from (R, *S) to scores (R, K) or labels (R,).
            Normalisation lives inside.
        x: (N, *S) floats of any shape inside the box: images, tabular rows, sequences.
        y: (N,) true classes. None takes the model's own answer to the clean check.
        eps: radius of the ball in the units of x (8/255, never 8). None counts any adversarial as
            success.
        max_queries: most forward rows charged to a sample, the clean check included. A bisection
            that the budget cuts keeps its last verified end.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``: how distance and ball are measured. Directions are
            always sign vectors.
        tol: width at which a bisection ends, as an L2 length along the unit direction. Its L-inf
            width is tol/sqrt(D).
        stop_on_success: a sample ends once a direction's bisection ends inside the ball. False
            spends the whole budget on the smallest radius, as the average decision boundary
            distance (ADBD) asks. Default: True.
        hierarchical: False flips single coordinates from the start (the naive search of Algorithm
            4).
        speculate: make the queries that a sequential search may come to next in the same model
            call, where the batch is too small to fill ``batch_size``. Results and ``queries`` do
            not change. Rows in vain go to ``wasted_rows``. ``"auto"``: for an ``nn.Module`` on a
            GPU only.
        trace_at: (M,) increasing numbers of queries within the budget. ``trace["distance"]``
            (M, N) then holds the distance of the nearest verified adversarial after so many
            queries, as a search with that budget returns it: inf before the first success. A sample
            that ends earlier keeps its last distance. It costs no query. None: no trace.
        x_init: (N, *S) starting points, checked for one query each. Masked coordinates take x's
            values. The search starts from the signs of x_init - x.
        targets: (N,) classes to reach. y says nothing then. Needs x_init of these classes, since
            sign images hardly ever reach a target.
        mask: 0/1 or bool, broadcastable to x. Only coordinates where it is nonzero may change, and
            the blocks split these.
        clip_values: the box (lower, upper), numbers or one value per feature.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``. Only
            labels are used.
        batch_size: most rows in one model call. It never changes a decision.
        sample_ids: accepted as by every attack. RayS draws no random number, so they change
            nothing.
        device: where inputs go for models without parameters.
        callback: called with a ``Progress`` after the clean check and after each round of model
            calls.
        seed: recorded in the result. RayS does not use it.
        pad_rows: pad smaller model calls to this many rows, for bit-for-bit equal results over
            batch sizes.
        detector: fitted to the model, and calibrated. A success must then also be accepted by the
            detector, whose squeezed copies of a row are queries too. Its answer to a rejected row
            is a further class that is no goal. Where it rejects a fast check before the first
            success, the next one is made at half the radius, but not inside the ball of eps.

    Returns:
        An ``AttackResult``. ``x_nearest`` and ``nearest_distance`` hold the nearest verified
        adversarial, inside eps or not. A query is one row through the model: clean check, check of
        x_init, fast checks, every step of a bisection.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or targets without x_init.
        TypeError: if x is not a floating point tensor.

    References:
        Jinghui Chen, Quanquan Gu, "RayS: A ray searching method for hard-label adversarial attack",
        KDD 2020. Jinghui Chen, dissertation, UCLA 2021, chapter 3 (the equation and algorithm
        numbers).
    """
    check_count("max_queries", max_queries)  # None would be a search without an end
    check_search(tol, speculate)
    check_marks(trace_at, max_queries)
    _check_targets(targets, x_init)
    problem = Problem.of(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        options=AttackOptions(
            targets=targets,
            mask=mask,
            max_queries=max_queries,
            clip_values=clip_values,
            outputs=outputs,
            batch_size=batch_size,
            sample_ids=sample_ids,
            device=device,
            seed=seed,
            pad_rows=pad_rows,
            channels_last=channels_last,
            compile=compile,
            detector=detector,
        ),
        oracle=LabelOracle,
    )
    samples = problem.shaped(problem.x)
    search = Search(
        problem,
        None if x_init is None else admit_start(problem.box, x_init, samples).flatten(1),
        None if mask is None else free_coordinates(mask, samples),
        tol=tol,
        stop_on_success=stop_on_success,
        hierarchical=hierarchical,
        speculate=_speculates(speculate, model, problem.oracle.device),
        callback=callback,
        trace_at=trace_at,
    )
    state_plan(PlannedRows(max_queries))
    with interruptible(problem.oracle, lambda: search.interim(x.device)):
        search.run()
    return search.result(x.device)


def check_search(tol: float, speculate: str | bool) -> None:
    """Raise ValueError unless the settings of the search make sense.

    Raises:
        ValueError: if tol is no number > 0, or speculate is none of "auto", True and False.
    """
    check_number("tol", tol)
    if not tol > 0:
        raise ValueError(f"tol must be > 0, got {tol!r}")
    if not isinstance(speculate, bool) and speculate != "auto":
        raise ValueError(f"speculate must be 'auto', True or False, got {speculate!r}")


def _check_targets(targets: Tensor | None, x_init: Tensor | None) -> None:
    if targets is not None and x_init is None:
        raise ValueError(
            "targeted RayS needs x_init, one input of the target class per sample: from sign images"
            " alone the search hardly ever meets a given class (its authors do not support targets)"
        )


def _speculates(speculate: str | bool, model: Model, device: torch.device) -> bool:
    """Decide on speculation. Rows cost nothing on a GPU that is not full. On a CPU they cost time,
    and behind a callable perhaps money.
    """
    if speculate == "auto":
        return isinstance(model, nn.Module) and device.type == "cuda"
    return bool(speculate)


register(
    AttackSpec(
        "rays",
        rays,
        title="RayS",
        access="labels",
        family="minimum-norm",
        summary=(
            "Searches the sign direction with the nearest decision boundary, from "
            "predicted labels alone."
        ),
        paper=(
            "Chen, Gu. RayS: a ray searching method for hard-label adversarial attack. KDD 2020."
        ),
        page="attacks/rays.md",
        no_targets=(
            "the search needs a starting image of the target class for every sample "
            "(x_init of the Python function)"
        ),
        url="https://arxiv.org/abs/2006.12792",
        hosts={
            "art": Shell(
                name="RayS",
                summary="Hard-label attack that searches sign directions for the nearest boundary.",
                parameters=(
                    "eps max_queries norm batch_size stop_on_success verbose tol hierarchical"
                    " speculate targeted seed probe"
                ),
                defaults={"batch_size": 256},
                texts={
                    "speculate": (
                        'query ahead to fill small batches. ``"auto"`` never does behind an ART'
                        " estimator."
                    ),
                    "targeted": (
                        "reach y instead of leaving it. ``generate`` then needs ``x_adv_init`` of"
                        " these classes."
                    ),
                },
                inputs={"x_adv_init": "x_init"},
                replaced={"speculate": {"auto": False}},  # a prediction may cost time or money
            ),
            "torchattacks": Shell(
                name="RayS",
                summary=(
                    "RayS (Chen and Gu, 2020): hard-label attack that searches sign directions for"
                    " the nearest decision boundary."
                ),
                parameters=(
                    "norm eps max_queries stop_on_success tol hierarchical speculate batch_size"
                    " probe"
                ),
                example="eps=8/255, max_queries=1000",
                shown="attack.last_result.queries",
            ),
        },
    )
)
