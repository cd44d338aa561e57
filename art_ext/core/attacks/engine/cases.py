"""Targeted attacks on a class that is chosen per sample: a random one, the easiest or the hardest
of all wrong ones.

References:
    Carlini, Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017 (the
    three cases).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.planning import PlannedRows, current, planning, state_plan
from art_ext.core.attacks.engine.problem import inspector_of
from art_ext.core.checks import check_choice, check_count
from art_ext.core.expectation import Confirmation
from art_ext.core.interruption import AttackInterrupted, ModelStopped
from art_ext.core.keywords import Function
from art_ext.core.oracle import LabelOracle, Model, ScoreOracle
from art_ext.core.result import AttackResult, Callback
from art_ext.core.samples import admit, check_classes, check_ids, check_width, reaches_goal
from art_ext.core.streams import fingerprint, resolve_seed, uniform

CASES = ("best", "average", "worst", "all")
TARGET_BLOCK = 1 << 41  # of the samples' streams; the draws of an attack lie far below


def with_cases(attack: Function) -> Function:
    """Let a targeted attack take ``targets="best" | "average" | "worst" | "all"`` as well as
    classes.
    """

    @functools.wraps(attack)
    def choose(
        model: Model,
        x: Tensor,
        y: Tensor | None = None,
        *,
        targets: Tensor | str | None = None,
        **options: Any,
    ) -> AttackResult:
        if not isinstance(targets, str):
            return attack(model, x, y, targets=targets, **options)
        check_choice("targets", targets, CASES)
        if options.get("targeted"):
            raise ValueError(
                f"y are the true classes where targets={targets!r}: leave targeted=False"
            )
        return _attack_case(attack, model, x, y, targets, options)

    return choose  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class _Rows:
    """One row for each sample and class that is attacked.

    Attributes:
        owner: (M,) int64, the sample of each row.
        place: (M,) int64, the row's column in a table (N, width) of each sample's targets.
        target: (M,) int64, the class to reach.
        width: K - 1, or 1 in the average case.
    """

    owner: Tensor
    place: Tensor
    target: Tensor
    width: int

    def table(self, values: Tensor, count: int, absent: float) -> Tensor:
        """(N, width) the values (M,) of the rows by sample, ``absent`` where there is no row."""
        table = values.new_full((count, self.width), absent)
        table[self.owner, self.place] = values
        return table


def _attack_case(
    attack: Callable[..., AttackResult],
    model: Model,
    x: Tensor,
    y: Tensor | None,
    case: str,
    options: dict[str, Any],
) -> AttackResult:
    """Attack the wrong classes of each sample side by side, and keep the given case of each
    sample.
    """
    if not len(x):
        return _planned(attack, model, x, y, case, options)
    seed = resolve_seed(options.get("seed"))
    names = (
        "outputs",
        "batch_size",
        "clip_values",
        "pad_rows",
        "device",
        "channels_last",
        "compile",
    )
    oracle = ScoreOracle(
        model,
        len(x),
        default_device=x.device,
        inspector=inspector_of(model, options.get("detector"), options.get("outputs", "logits")),
        **{name: options[name] for name in names if name in options},
    )
    samples, _ = admit(oracle, x)
    check_classes("y", y, len(x))
    if isinstance(oracle.inspector, Confirmation) and y is not None:
        oracle.inspector.reaches(y.to(oracle.device))
    ids = options.get("sample_ids")
    check_ids(ids, len(x))
    try:
        with oracle:
            outputs = oracle.clean_outputs(samples)
            clean = oracle.classes(outputs)
            predicted = oracle.predict(outputs)
    except ModelStopped as stop:
        raise _stopped_at_once(attack, x, stop, options, oracle) from stop
    true = clean if y is None else y.to(clean)
    check_width("y", true, oracle)
    ids = fingerprint(samples) if ids is None else ids.to(clean.device)
    # a wrong sample is its own nearest, unless a margin is wanted, or the detector rejects it
    wrong = reaches_goal(predicted, true, False)
    settled = wrong & (case == "best" and not options.get("confidence"))
    rows = _rows(case, true, settled, _classes(oracle), seed, ids)
    budget = options.get("max_queries")
    if budget is not None:
        check_count("max_queries", budget)
        least = oracle.cost * (1 + rows.width) - 1
        if budget <= least:
            raise ValueError(
                f"max_queries must be > {least}, one for each class attacked, got {budget!r}"
            )
        budget = (budget - oracle.cost) // rows.width
    given = {**options, "seed": seed, "max_queries": budget, "sample_ids": ids[rows.owner]}
    if options.get("mask") is not None:
        mask = torch.as_tensor(options["mask"])
        if mask.dim() == x.dim() and len(mask) == len(x) > 1:
            given["mask"] = mask[rows.owner.to(mask.device)]
    latents = options.get("latents")
    if isinstance(latents, Tensor) and latents.dim() and len(latents) == len(x):
        given["latents"] = latents[rows.owner.to(latents.device)]
    if options.get("callback") is not None:
        given["callback"] = _of_samples(options["callback"], rows.owner)
    home = x.device
    true = true.to(home)
    there = _Rows(rows.owner.to(home), rows.place.to(home), rows.target.to(home), rows.width)

    def fold(result: AttackResult) -> AttackResult:
        return _fold(result, there, case, settled.to(home), oracle, samples.to(home))

    try:
        # a targeted attack has no use for y itself, but a generator may have
        attacked = attack(model, x[there.owner], true[there.owner], targets=there.target, **given)
        return fold(attacked)
    except AttackInterrupted as stop:
        done = there.table(stop.finished.to(torch.int64), len(x), 1).bool().all(dim=1)
        raise AttackInterrupted(str(stop), fold(stop.result), done) from stop.__cause__


def _planned(
    attack: Callable[..., AttackResult],
    model: Model,
    x: Tensor,
    y: Tensor | None,
    case: str,
    options: dict[str, Any],
) -> AttackResult:
    """Attack no samples, and plan an attack on each wrong class besides the clean check."""
    whole = current()
    with planning() as one:
        result = attack(model, x, y, **options)
    classes = 2 if case == "average" else getattr(whole, "classes", None)
    if one.rows is not None and classes is not None:
        clean = PlannedRows(getattr(options.get("detector"), "rows", 1))
        rows = one.rows.times(classes - 1).plus(clean)
        state_plan(rows.within(options.get("max_queries")))
    return result


def _stopped_at_once(
    attack: Callable[..., AttackResult],
    x: Tensor,
    stop: ModelStopped,
    options: dict[str, Any],
    oracle: LabelOracle,
) -> AttackInterrupted:
    """Return the error of an attack whose model stopped in the clean check of the cases."""

    def model(rows: Tensor) -> Tensor:
        raise stop

    try:
        attack(model, x, None, **{**options, "detector": None})
    except AttackInterrupted as found:
        result = replace(found.result, queries=oracle.queries.to(x.device))
        return AttackInterrupted(str(stop), result, found.finished)
    raise RuntimeError("an attack ended although its model gives no answers")


def _classes(oracle: LabelOracle) -> int:
    if oracle.num_classes is None:
        raise RuntimeError("the model was not called")
    return oracle.num_classes


def _rows(case: str, true: Tensor, settled: Tensor, classes: int, seed: int, ids: Tensor) -> _Rows:
    """Return the wrong classes of each sample, or one of them. Settled samples have none."""
    count, width, device = len(true), classes - 1, true.device
    places = torch.arange(width, device=device).expand(count, width)
    targets = places + (places >= true.unsqueeze(1))  # all classes but the true one, in order
    if case == "average":
        drawn = drawn_class(seed, ids, width).unsqueeze(1)
        return _Rows(
            torch.arange(count, device=device),
            torch.zeros_like(true),
            targets.gather(1, drawn)[:, 0],
            1,
        )
    owner, place = (~settled).unsqueeze(1).expand(count, width).nonzero().unbind(1)
    return _Rows(owner, place, targets[owner, place], width)


def drawn_class(seed: int, ids: Tensor, width: int) -> Tensor:
    """(N,) int64, the number of the random wrong class of the average case among so many, in
    ascending order.
    """
    drawn = uniform(seed, ids, TARGET_BLOCK, (1,)).squeeze(1) * width
    return drawn.to(torch.int64).clamp(max=width - 1)


def _of_samples(callback: Callback, owner: Tensor) -> Callback:
    """Make a callback that is shown positions of samples, not of rows."""
    return lambda progress: callback(replace(progress, index=owner[progress.index]))


def _fold(
    result: AttackResult, rows: _Rows, case: str, settled: Tensor, oracle: ScoreOracle, x: Tensor
) -> AttackResult:
    """Keep one row per sample: of the smallest value, or of the largest for the worst case. The
    counts are sums.

    A settled sample, which has no row, was adversarial from the start: one query, distance 0. The
    nearest adversarial is that of all classes, or in the worst case that of the class whose nearest
    is farthest. Robust accuracy at other radii reads it.
    """
    if result.value is None or result.x_nearest is None or result.nearest_distance is None:
        raise RuntimeError("the attack does not say which example its rule prefers")
    count, home = len(x), x.device
    chosen = _Choice(rows, case, settled, result.value)
    nearest = _Choice(rows, case, settled, result.nearest_distance)
    already = chosen.picked(result.already_adversarial, settled)
    success = rows.table(result.success.to(torch.int64), count, 0)
    queries = rows.table(result.queries, count, 0)
    # as if the classes were attacked one after another
    first = rows.table(result.queries_to_success, count, -1)
    at_success = torch.where(
        first >= 0, oracle.cost + queries.cumsum(1) - queries + first, torch.iinfo(torch.int64).max
    )
    achieved = (success.all(1) if case == "worst" else success.any(1)) | settled
    at = (at_success.amax(1) if case == "worst" else at_success.amin(1)).masked_fill(
        settled, oracle.cost
    )
    if case == "all":
        at = at.masked_fill(already, oracle.cost)

    def total(values: Tensor, more: Tensor) -> Tensor:
        return more.to(home) + rows.table(values, count, 0).sum(1)

    trace = (
        None
        if result.trace is None
        else {
            name: chosen.picked(values, values.new_full((len(values), count), torch.nan), 1)
            for name, values in result.trace.items()
        }
    )
    zero = torch.zeros(count, device=home)
    folded = replace(
        result,
        x_adv=chosen.picked(result.x_adv, x),
        distance=chosen.picked(result.distance, zero),
        value=chosen.picked(result.value, zero),
        already_adversarial=already,
        lengths=None
        if result.lengths is None
        else chosen.picked(
            result.lengths, result.lengths.new_zeros(count, result.lengths.shape[1])
        ),
        x_nearest=nearest.picked(result.x_nearest, x),
        nearest_distance=nearest.picked(result.nearest_distance, zero),
        success=achieved,
        queries_to_success=torch.where(achieved, at, -1),
        queries=total(result.queries, oracle.queries),
        gradients=total(result.gradients, oracle.gradients),
        wasted_rows=total(result.wasted_rows, oracle.wasted_rows),
        model_rows=None
        if result.model_rows is None or oracle.ledger.model_rows is None
        else total(result.model_rows, oracle.ledger.model_rows),
        trace=trace,
        outside=None if result.outside is None else result.outside.of_samples(rows.owner, count),
    )
    folded = _with_latents(folded, result, nearest, rows)
    return _with_all(folded, result, rows) if case == "all" else folded


def _with_latents(
    folded: AttackResult, result: AttackResult, nearest: _Choice, rows: _Rows
) -> AttackResult:
    """Add the latents of the nearest adversarials, for an attack on the images of a generator."""
    if result.latents is None or result.start_distance is None:
        return folded
    count = len(folded)
    unknown = result.start_distance.new_full((count, 1), torch.nan)

    def total(values: Tensor | None) -> Tensor | None:
        return None if values is None else rows.table(values, count, 0).sum(1)

    return replace(
        folded,
        latents=nearest.picked(result.latents, unknown.expand(-1, result.latents.shape[1])),
        start_distance=nearest.picked(result.start_distance, unknown.squeeze(1)),
        generator_rows=total(result.generator_rows),
        generator_gradients=total(result.generator_gradients),
    )


class _Choice:
    """The row of each sample with the smallest value, or the largest in the worst case.

    Args:
        rows: that were attacked.
        case: of ``CASES``.
        settled: (N,) bool, the samples without a row.
        values: (M,) of the rows.
    """

    def __init__(self, rows: _Rows, case: str, settled: Tensor, values: Tensor) -> None:
        count = len(settled)
        table = rows.table(values, count, torch.inf)
        column = table.argmax(1) if case == "worst" else table.argmin(1)
        number = rows.table(torch.arange(len(values), device=values.device), count, 0)
        self.samples = (~settled).nonzero().squeeze(1)
        self.rows = number.gather(1, column.unsqueeze(1)).squeeze(1)[self.samples]

    def picked(self, values: Tensor, otherwise: Tensor, dim: int = 0) -> Tensor:
        """Values of the chosen rows by sample, ``otherwise`` for those without a row."""
        return otherwise.index_copy(dim, self.samples, values.index_select(dim, self.rows))


def _with_all(folded: AttackResult, result: AttackResult, rows: _Rows) -> AttackResult:
    """Add the examples of all classes to the best case. Every sample has a row for each class."""

    def by_class(values: Tensor) -> Tensor:
        return values.unflatten(0, (len(folded), rows.width)).movedim(1, 0).contiguous()

    trace = {
        **(folded.trace or {}),
        "target": by_class(rows.target),
        "success": by_class(result.success),
    }
    return replace(folded, samples=by_class(result.x_adv), trace=trace)
