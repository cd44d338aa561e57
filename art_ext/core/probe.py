"""Probe of a model: randomness, and dependence on the other rows of a call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from art_ext.core.calling import HALF_TYPES
from art_ext.core.expectation import expectation_in
from art_ext.core.geometry import ClipValues
from art_ext.core.interruption import ModelStopped
from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.outputs import predicted_classes
from art_ext.core.result import AttackResult
from art_ext.core.samples import admit
from art_ext.core.streams import global_streams_kept

logger = logging.getLogger("art_ext")

SAMPLES = 8
COMPANY = 4  # least number of samples at which each can get other rows beside it
TOLERANCE = 1e-4  # largest change of a score that counts as rounding, over its row's range
EPSILONS = 8  # the same for half types, and for the largest score, in machine epsilons


@dataclass(frozen=True, eq=False)
class ModelProbe:
    """Outcome of :func:`probe_model` for S samples.

    Attributes:
        randomised: (S,) bool: the output changed when the same batch was repeated.
        batch_dependent: (S,) bool: the output changed with the other samples of the batch, and not
            by chance.
        largest_change: the largest change of a score, divided by the range of its row. For labels,
            1 if one changed.
        rows: number of rows that the probe sent through the model.
        rows_of_sample: (S,) int64, the same by sample.
    """

    randomised: Tensor
    batch_dependent: Tensor
    largest_change: float
    rows: int
    rows_of_sample: Tensor

    def charge(self, result: AttackResult) -> AttackResult:
        """Return the result with the probe's rows added to its ``wasted_rows``."""
        wasted = result.wasted_rows.clone()
        wasted[: len(self.rows_of_sample)] += self.rows_of_sample.to(wasted.device)
        return replace(result, wasted_rows=wasted)

    def warn(self) -> None:
        """Log a warning for each kind of dependence that was found."""
        count = len(self.randomised)
        for flags, message in (
            (self.randomised, RANDOMISED),
            (self.batch_dependent, BATCH_DEPENDENT),
        ):
            if bool(flags.any()):
                logger.warning("%d of %d samples: %s", int(flags.sum()), count, message)


RANDOMISED = (
    "the model's outputs change when the same samples are repeated. A success may be one"
    " lucky draw: attack art_ext.core.Expectation(model), the average over many draws, and do not"
    " rely on rays, zoo and other search attacks"
)
BATCH_DEPENDENT = (
    "the model's outputs change with the other samples of a batch, as with BatchNorm without"
    " running statistics, centring by the batch or attention over it. Verdicts hold for the batch"
    " that they were found in: make the model treat its rows independently"
)


def probe_model(
    model: Model,
    x: Tensor,
    *,
    outputs: str = "logits",
    clip_values: ClipValues | None = (0.0, 1.0),
    batch_size: int = 256,
    device: torch.device | str | None = None,
    samples: int = SAMPLES,
    first: Tensor | None = None,
) -> ModelProbe:
    """Compare a model's outputs for the same samples, repeated and in other batches.

    The other batches are the two halves of a permutation. Fewer than four samples are only
    repeated. Scores differ if one changes by more than 1e-4 of its row's range (8 machine epsilons
    for half types), labels if they change. PyTorch's random streams are restored. Modules run in
    eval mode.

    Args:
        model: an ``nn.Module``, or a callable from (R, *S) to scores or labels.
        x: (N, *S) inputs in the box.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        clip_values: the box (lower, upper).
        batch_size: maximum number of rows in one call of the model. With 1, every row is alone.
        device: device of the inputs, for models without parameters.
        samples: maximum number of samples to probe.
        first: known outputs for these samples, from a call of the same rows. The first call
            is then omitted.

    Raises:
        TypeError, ValueError: if x leaves the box, or the model's outputs do not fit.
    """
    part = x[:samples]
    oracle = _AnsweringOracle(
        model,
        len(part),
        outputs=outputs,
        batch_size=batch_size,
        clip_values=clip_values,
        device=device,
        default_device=x.device,
    )
    part, _ = admit(oracle, part)
    count = len(part)
    everything = torch.arange(count, device=oracle.device)
    nothing = torch.zeros(count, dtype=torch.bool, device=oracle.device)
    if not count:
        return ModelProbe(nothing, nothing, 0.0, 0, oracle.queries)
    # an attack draws the same numbers after a probe
    with oracle, global_streams_kept(oracle.device):
        known = oracle.answers(part, everything) if first is None else first.to(oracle.device)
        randomised, change = _changes(oracle, known, oracle.answers(part, everything))
        other = nothing
        if count >= COMPANY:
            halves = (everything[::2], everything[1::2])
            answers = torch.cat([oracle.answers(part[half], half) for half in halves])
            order = torch.cat(halves)
            other, moved = _changes(oracle, known, answers[order.argsort()])
            change = max(change, moved)
    if outputs == "labels" and bool(randomised.any()):
        other = nothing  # random labels agree by chance, and differ the third time
    rows = oracle.queries + oracle.wasted_rows
    return ModelProbe(randomised, other & ~randomised, change, int(rows.sum()), rows)


class _AnsweringOracle(LabelOracle):
    """Oracle of scores and labels alike."""

    begins_draws = False  # repeated draws would look deterministic

    def answers(self, rows: Tensor, index: Tensor) -> Tensor:
        """Return (R, classes) scores or (R,) labels of rows (R, *S), for one query each."""
        self.ledger.charge(index)
        return self.passes.forward(rows, index).clone()  # a model may return the same memory again


def _changes(oracle: LabelOracle, first: Tensor, again: Tensor) -> tuple[Tensor, float]:
    """Return (S,) bool: samples whose output differs, and the largest change."""
    if oracle.outputs == "labels":
        differ = predicted_classes(first, "labels") != predicted_classes(again, "labels")
        return differ, float(differ.any())
    tolerance = _tolerance(oracle)
    first = first.float()
    again = again.float()
    equal = (first == again) | (first.isnan() & again.isnan())  # infinity less itself is NaN
    change = torch.where(equal, 0.0, (first - again).abs()).nan_to_num(nan=torch.inf).amax(dim=1)
    finite = first.isfinite()
    highest = first.masked_fill(~finite, -torch.inf).amax(dim=1)
    lowest = first.masked_fill(~finite, torch.inf).amin(dim=1)
    spread = (highest - lowest).clamp_min(0)
    # where two scores nearly tie, their rounding is not small beside their difference
    rounding = (
        EPSILONS * torch.finfo(torch.float32).eps * first.masked_fill(~finite, 0).abs().amax()
    )
    largest = torch.where(change == 0, 0.0, change / spread)
    return change > tolerance * spread + rounding, float(largest.amax())


def _tolerance(oracle: LabelOracle) -> float:
    """Return the fraction of a row's range that rounding may change, by the dtypes of the model."""
    types = {oracle.reader.output_dtype}
    if isinstance(oracle.model, nn.Module):
        types |= {parameter.dtype for parameter in oracle.model.parameters()}
    return max(
        [TOLERANCE, *(EPSILONS * torch.finfo(one).eps for one in types if one in HALF_TYPES)]
    )


class ProbeOnce:
    """Probe of each model at most once, for an attack object that is called many times.

    A copy starts again.
    """

    def __init__(self) -> None:
        self._owners: list[Callable[[], Any]] = []

    def __call__(self, owner: object, model: Model, x: Tensor, **options: Any) -> ModelProbe | None:
        """Probe the model of an owner and log the findings.

        Return None if it was probed before, x is empty, the model stops, or it is or contains an
        ``Expectation``, whose answers are known to change.

        Args:
            owner: object that identifies the model.
            model: the model to probe.
            x, **options: as for ``probe_model``.
        """
        if not len(x) or any(known() is owner for known in self._owners):
            return None
        if expectation_in(model) is not None:
            return None
        try:
            found = probe_model(model, x, **options)
        except ModelStopped:
            return None  # the attack says so, with what is verified
        try:
            self._owners.append(ref(owner))
        except TypeError:  # an object without weak references
            self._owners.append(lambda: owner)
        found.warn()
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._owners = []
