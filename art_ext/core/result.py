"""What an attack gives back, and what it tells while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Outcome of one attack on N samples; every tensor has N rows and lies on the device of the input.

    Attributes:
        x_adv: (N, *S) float32 in the box. Where ``success`` holds, the very tensor that fooled the model; elsewhere the
            input after the cast to float32 (or, with ``on_failure="last"``, the last iterate).
        success: (N,) bool. Misclassified or target hit, inside the box, and ``||x_adv - x|| <= eps + 1e-6`` in float64.
        already_adversarial: (N,) bool. The goal was met by the clean input: one query, distance 0.
        distance: (N,) float32, distance of the nearest verified adversarial, inside eps or not; inf if none. Attacks
            that fill a given ball do not look for near ones: theirs is the distance of x_adv.
        x_nearest: (N, *S) that adversarial, or the input where none was found; None if the method never looks past eps.
        queries: (N,) int64, forward rows charged to the sample, the clean check included.
        queries_to_success: (N,) int64, the charge at which the sample met the goal; -1 if it never did.
        gradients: (N,) int64, backward rows.
        wasted_rows: (N,) int64, rows evaluated in vain: speculation and padding.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        eps: radius of the ball in the units of x; None if any verified adversarial counts.
        seed: what keyed the random stream.
        early_stop: whether a sample left the search at its first success.
        samples: (S, N, *S) the states of a chain, for methods that draw one; the input for rows already adversarial.
        trace: what a method measured on its way, by name, each (steps, N); NaN where a sample had left.
    """

    x_adv: Tensor
    success: Tensor
    already_adversarial: Tensor
    distance: Tensor
    x_nearest: Tensor | None
    queries: Tensor
    queries_to_success: Tensor
    gradients: Tensor
    wasted_rows: Tensor
    norm: str
    eps: float | None
    seed: int | None
    early_stop: bool
    samples: Tensor | None = None
    trace: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.success)

    @staticmethod
    def cat(results: Sequence[AttackResult]) -> AttackResult:
        """Join the results of chunks or shards of one data set, in the order given.

        Raises:
            ValueError: if there is nothing to join, or if norm, eps, seed or early_stop differ.
        """
        if not results:
            raise ValueError("results must hold at least one AttackResult, got none")
        joined: dict[str, object] = {}
        for name in (field.name for field in fields(AttackResult)):
            values = [getattr(result, name) for result in results]
            if name == "trace" and all(values):
                joined[name] = {key: torch.cat([value[key] for value in values], dim=1) for key in values[0]}
            elif all(isinstance(value, Tensor) for value in values):
                joined[name] = torch.cat(values, dim=1 if name == "samples" else 0)
            elif all(value == values[0] for value in values[1:]):
                joined[name] = values[0]
            else:
                raise ValueError(f"results of one attack must agree in {name}, got {values}")
        return AttackResult(**joined)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Progress:
    """What a callback sees after each round of model calls: one entry per sample still in the batch.

    Attributes:
        step: number of the round, from 0 (the clean check, which reports every sample).
        index: (B,) int64, positions of the samples in x.
        distance: (B,) float32, distance of the nearest adversarial so far; inf if none.
        queries: (B,) int64, queries charged so far.
        finished: (B,) bool, the sample leaves the batch after this round.
        success: (B,) bool, the sample has met the goal.
        samples: (B, *S) the states of a chain that has just made a transition, for methods that draw one.
    """

    step: int
    index: Tensor
    distance: Tensor
    queries: Tensor
    finished: Tensor
    success: Tensor
    samples: Tensor | None = None


Callback = Callable[[Progress], None]
