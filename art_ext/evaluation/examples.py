"""A few samples whose adversarials the report shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.result import AttackResult
from art_ext.data import Dataset
from art_ext.evaluation.panel import Settings

COLUMNS = 6


@dataclass(frozen=True, eq=False)
class Found:
    """An adversarial of one example.

    Attributes:
        x: (*S) the image.
        label: what the model takes it for.
        distance: from the original.
        success: whether it lies within eps.
    """

    x: Tensor
    label: int
    distance: float
    success: bool


def choose(y: Tensor, right: Tensor) -> Tensor:
    """(K,) positions of at most six samples to show: classes take turns, the first sample of each comes first.

    Args:
        y: (N,) labels.
        right: (N,) bool, classified correctly by every model; the others are shown only if there is none.
    """
    candidates = right.nonzero().squeeze(1) if bool(right.any()) else torch.arange(len(y))
    labels = y[candidates]
    turn = torch.empty_like(labels)
    for label in labels.unique():
        members = labels == label
        turn[members] = torch.arange(int(members.sum()))
    order = sorted(range(len(candidates)), key=list(zip(turn.tolist(), labels.tolist(), strict=True)).__getitem__)
    return candidates[torch.tensor(order[:COLUMNS], dtype=torch.int64)]


class Examples:
    """The adversarials of the chosen samples, gathered as chunks end.

    Attributes:
        index: (K,) positions in the data.
        found: by model and attack, what was found for each position; positions without an adversarial are missing.
    """

    def __init__(self, data: Dataset, index: Tensor, settings: Settings) -> None:
        self.data, self.index, self.settings = data, index, settings
        self.found: dict[tuple[str, str], dict[int, Found]] = {}

    def collect(self, model_name: str, attack: str, offset: int, model: Model, result: AttackResult) -> None:
        """Keep what a chunk that begins at offset found, and ask the model once more what it sees.

        Of several radii the last one that ran is kept.
        """
        kept = self.found.setdefault((model_name, attack), {})
        inside = (self.index >= offset) & (self.index < offset + len(result))
        for position in self.index[inside].tolist():
            kept.pop(position, None)
        rows = self.index[inside].to(result.success.device) - offset
        images = result.x_adv if result.x_nearest is None else result.x_nearest
        rows = rows[result.distance[rows].isfinite() & ~result.already_adversarial[rows]]
        if not len(rows):
            return
        labels = self._labels(model, images[rows])
        for row, label in zip(rows.tolist(), labels, strict=True):
            kept[row + offset] = Found(images[row].cpu(), label, float(result.distance[row]), bool(result.success[row]))

    def _labels(self, model: Model, images: Tensor) -> list[int]:
        oracle = LabelOracle(
            model, len(images), outputs=self.settings.outputs, batch_size=self.settings.batch_size,
            device=self.settings.device,
        )  # fmt: skip
        with oracle:
            found: list[int] = oracle.clean_labels(images.to(oracle.device)).tolist()
        return found
