"""Samples with pseudo-labels that take a share of each minibatch, with a weight of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_ext.core.calling import ModelCall
from art_ext.core.checks import check_count, check_fraction
from art_ext.core.networks import frozen_eval, model_device
from art_ext.core.outputs import as_tensor, read_outputs
from art_ext.core.samples import check_samples


@dataclass(frozen=True)
class ExtraRows:
    """Places and weight of the extra samples, which follow the others of a run.

    Attributes:
        first: number of the other samples, and position of the first extra one.
        count: number of extra samples.
        others: rows of a minibatch that are no extra ones.
        rows: extra rows of a minibatch.
        weight: of an extra row. Other rows have 1.
    """

    first: int
    count: int
    others: int
    rows: int
    weight: float

    @staticmethod
    def of(
        samples: int, count: int, batch_size: int, share: float, weight: float
    ) -> ExtraRows | None:
        """Return the places of ``count`` extra samples behind ``samples`` others. None without any.

        Raises:
            ValueError: if the share rounds to no row, or to all rows, of a minibatch.
        """
        if not count:
            return None
        rows = round(batch_size * share)
        if not 0 < rows < batch_size:
            raise ValueError(
                f"extra_share must leave rows of both kinds in a minibatch of {batch_size}, got"
                f" {share}, which is {rows} extra rows"
            )
        return ExtraRows(samples, count, batch_size - rows, rows, weight)

    def beside(self, others: int) -> int:
        """Return the extra rows beside so many others. A shorter minibatch has fewer."""
        return round(others * self.rows / self.others)

    def positions(self, seed: int, first: int, count: int) -> Tensor:
        """Return (count,) positions of the extra samples that a run draws.

        It draws all of them in a random order, then all in another order, and so on.

        Args:
            seed: of the order.
            first: number of extra samples that were drawn before.
            count: number to draw.
        """
        begin = first // self.count
        orders = [
            torch.randperm(self.count, generator=torch.Generator().manual_seed(_key(seed, cycle)))
            for cycle in range(begin, (first + count - 1) // self.count + 1)
        ]
        skipped = first - begin * self.count
        return self.first + torch.cat(orders)[skipped : skipped + count]

    def weights(self, positions: Tensor) -> Tensor:
        """Return (r,) float32 weights of samples by their positions (r,)."""
        return torch.where(positions < self.first, 1.0, self.weight)


def _key(seed: int, cycle: int) -> int:
    """Return the seed of an order. It is below 0, those of the other samples are not."""
    return -1 - (seed * 1_000_003 + cycle)


def pseudo_labels(
    model: Any, x: Tensor, *, min_confidence: float = 0.0, batch_size: int = 256
) -> tuple[Tensor, Tensor]:
    """Label samples with the predictions of a model, for ``train(extra_data=...)``.

        ``y = argmax_c f(x)_c``, kept if ``max_c softmax(f(x))_c >= min_confidence``.

    Args:
        model: ``nn.Module`` or callable from (R, *S) to logits (R, C). A network is run in eval
            mode, and gets its modes back.
        x: (N, *S) unlabelled samples, inside the box of the model, as a tensor or an array.
        min_confidence: smallest probability of the predicted class, in [0, 1]. 0 keeps every
            sample.
        batch_size: rows of a call.

    Returns:
        The kept samples (M, *S), and their classes (M,) int64, both on the device of x. Each sample
        costs one forward row.

    Raises:
        TypeError: if x is neither a tensor nor an array.
        ValueError: for a number out of range, no samples, outputs that are no finite logits, and
            if no sample is confident enough.

    References:
        Carmon, Raghunathan, Schmidt, Liang, Duchi, "Unlabeled data improves adversarial
        robustness", NeurIPS 2019.
    """
    check_fraction("min_confidence", min_confidence)
    check_count("batch_size", batch_size)
    if not callable(model):
        raise ValueError(f"model must be an nn.Module or a callable, got {type(model).__name__}")
    found = as_tensor(x)
    x = x if found is None else found
    check_samples(x)
    if not len(x):
        raise ValueError("x must hold at least one sample, got none")
    call = ModelCall(model)
    parts = []
    with frozen_eval(model), torch.no_grad():
        for rows in x.split(batch_size):
            placed = rows.to(model_device(model, None, rows.device))
            parts.append(read_outputs(call(placed), len(rows), "logits").float())
    confidence, y = torch.cat(parts).softmax(dim=1).max(dim=1)
    if bool(confidence.isnan().any()):
        sample = int(confidence.isnan().nonzero()[0])
        raise ValueError(f"the model returns no finite logits, first in sample {sample}")
    kept = (confidence >= min_confidence).to(x.device)
    if not bool(kept.any()):
        raise ValueError(
            f"min_confidence must be at most {float(confidence.max()):.4g}, the largest confidence"
            f" of a sample, got {min_confidence}"
        )
    return x[kept], y.to(x.device)[kept]
