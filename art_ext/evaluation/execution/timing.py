"""Seconds of a row of a model, measured before a run and outside of its ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.losses import logits_of, margin
from art_ext.core.oracle import GradientOracle, LabelOracle, Model
from art_ext.core.samples import admit
from art_ext.core.streams import global_streams_kept
from art_ext.evaluation.execution.chunks import make_oracle
from art_ext.evaluation.panel.attack import Settings

FIRST = 8  # rows of the first calls
GROWTH = 4  # of the rows from call to call
LONG = 0.5  # seconds of a call after which no larger one is timed
LEAST = 0.1  # seconds of repeated calls, which on a busy machine differ


@dataclass(frozen=True)
class RowTime:
    """The cost of one row of a model in calls of a whole batch.

    Attributes:
        forward: seconds of a row forward.
        backward: seconds by which a row backward takes longer. 0 if no attack needs it.
        classes: number of classes, None for a model that returns labels only.
    """

    forward: float
    backward: float
    classes: int | None

    def seconds(self, forward: float, backward: float) -> float:
        """Return the seconds of so many rows."""
        return forward * self.forward + backward * self.backward


def time_rows(model: Model, x: Tensor, settings: Settings, gradients: bool) -> RowTime:
    """Time one forward and one backward batch of a model.

    A slow model is timed on fewer rows. The global random streams are left as they were.

    Args:
        model: to time.
        x: (K, *S) samples of a batch, K >= 1.
        settings: of the run.
        gradients: True to time the backward batch too.

    Raises:
        Exception: if the model fails, in any way.
    """
    with make_oracle(LabelOracle, model, len(x), settings) as oracle:
        rows, index = _admitted(oracle, x)
        with global_streams_kept(oracle.device):
            forward = _per_row(lambda size: oracle.labels(rows[:size], index[:size]), len(x))
        classes = oracle.num_classes
    if not gradients:
        return RowTime(forward, 0.0, classes)

    def loss(outputs: Tensor, owner: Tensor) -> Tensor:
        return margin(logits_of(outputs, settings.outputs), torch.zeros_like(owner))

    with make_oracle(GradientOracle, model, len(x), settings) as differentiable:
        rows, index = _admitted(differentiable, x)

        def slope(size: int) -> Tensor:
            return differentiable.gradient(rows[:size], index[:size], loss).gradient

        with global_streams_kept(differentiable.device):
            both = _per_row(slope, len(x))
    return RowTime(forward, max(both - forward, 0.0), classes)


def _admitted(oracle: LabelOracle, x: Tensor) -> tuple[Tensor, Tensor]:
    samples, _ = admit(oracle, x)
    return samples, torch.arange(len(x), device=oracle.device)


def _per_row(call: Callable[[int], Tensor], rows: int) -> float:
    """Return the seconds of a row in the largest batch that is not slow."""
    size = min(FIRST, rows)
    _seconds(call, size)  # loads kernels
    seconds = _seconds(call, size)
    while size < rows and seconds < LONG:
        size = min(rows, GROWTH * size)
        seconds = _seconds(call, size)
    total, calls = seconds, 1
    while total < LEAST:
        total += _seconds(call, size)
        calls += 1
    return total / (calls * size)


def _seconds(call: Callable[[int], Tensor], size: int) -> float:
    begun = time.perf_counter()
    call(size).flatten()[:1].cpu()  # waits for the device
    return time.perf_counter() - begun
