"""Samples whose adversarials the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

COLUMNS = 6
KEPT_SAMPLES = 192  # the first chunks that hold so many samples keep examples
NOT_SHOWN = -1  # the class of an adversarial that is kept and not shown


@dataclass(frozen=True, eq=False)
class Found:
    """An adversarial of one example.

    Attributes:
        x: (*S) the image.
        label: the predicted class.
        distance: from the original.
        success: True if it lies within eps.
    """

    x: Tensor
    label: int
    distance: float
    success: bool


@dataclass(frozen=True, eq=False)
class Examples:
    """The samples that the report shows, with the adversarials that each attack found for them.

    Attributes:
        index: positions in the data.
        originals: by position, the image (*S).
        labels: by position, its class.
        found: by model and attack, in the order of the panel, the adversarial for each position.
            Positions without an adversarial are missing.
    """

    index: list[int]
    originals: dict[int, Tensor]
    labels: dict[int, int]
    found: dict[tuple[str, str], dict[int, Found]] = field(default_factory=dict)


def holds_examples(start: int) -> bool:
    """Return True if the chunk that begins at this position keeps samples for the report."""
    return start < KEPT_SAMPLES


def choose(y: Tensor, right: Tensor) -> Tensor:
    """(K,) positions of at most six samples to show. Classes alternate, in the order of the
    samples.

    Args:
        y: (N,) labels.
        right: (N,) bool, classified correctly by every model. The others are shown only if there is
            none.
    """
    candidates = right.nonzero().squeeze(1) if bool(right.any()) else torch.arange(len(y))
    labels = y[candidates]
    turn = torch.empty_like(labels)
    for label in labels.unique():
        members = labels == label
        turn[members] = torch.arange(int(members.sum()))
    order = sorted(
        range(len(candidates)),
        key=list(zip(turn.tolist(), labels.tolist(), strict=True)).__getitem__,
    )
    return candidates[torch.tensor(order[:COLUMNS], dtype=torch.int64)]


def gather(
    chunks: Sequence[dict[str, Tensor]], units: Sequence[tuple[str, str, dict[str, Tensor]]]
) -> Examples:
    """Examples of a run from the images that its chunks and units kept.

    Args:
        chunks: of each chunk ``index`` (M,), ``x`` (M, *S), ``y`` (M,), and bool (M,) ``right`` and
            ``shown``, the candidates.
        units: model, attack, and the result of ``keep_images``. Of several radii the last one is
            shown.
    """
    together = {
        name: torch.cat([chunk[name][chunk["shown"]] for chunk in chunks])
        for name in ("index", "y", "right")
    }
    chosen: list[int] = together["index"][choose(together["y"], together["right"])].tolist()
    originals: dict[int, Tensor] = {}
    labels: dict[int, int] = {}
    for chunk in chunks:
        for row, position in enumerate(chunk["index"].tolist()):
            if position in chosen:
                originals[position] = chunk["x"][row]
                labels[position] = int(chunk["y"][row])
    found: dict[tuple[str, str], dict[int, Found]] = {}
    for model, attack, kept in units:
        mine = found.setdefault((model, attack), {})
        for row, position in enumerate(kept["index"].tolist() if kept else []):
            if position in chosen and int(kept["label"][row]) != NOT_SHOWN:
                label, distance, success = (
                    kept[name][row].item() for name in ("label", "distance", "success")
                )
                mine[position] = Found(
                    kept["x_adv"][row], int(label), float(distance), bool(success)
                )
    return Examples(chosen, originals, labels, found)
