"""Samples whose adversarials the report shows, and which of them a run keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.evaluation.analysis.radii import clean_failure, failures
from art_ext.evaluation.analysis.rejection import decisive_success

if TYPE_CHECKING:
    import numpy as np

    from art_ext.evaluation.analysis.blocks import Blocks

COLUMNS = 6
KEPT_SAMPLES = 192  # the first chunks that hold so many samples keep examples
KEPT_BYTES = 200_000_000  # most that the successes of the units and their originals take
NOT_SHOWN = -1  # the class of an adversarial that is kept and not shown


@dataclass(frozen=True, eq=False)
class Found:
    """An adversarial of one example.

    Attributes:
        x: (*S) the image.
        label: the predicted class.
        distance: from the original.
        success: True if it lies within eps. With a detector, if it is accepted too.
    """

    x: Tensor
    label: int
    distance: float
    success: bool

    @property
    def rank(self) -> tuple[bool, float]:
        """Sort key: the nearest success comes first, then the nearest adversarial outside eps."""
        return (not self.success, self.distance)


@dataclass(frozen=True)
class Chosen:
    """The samples of one model that the report shows, by their positions in the data, ascending.

    Attributes:
        broken: samples on which an attack succeeded within the largest eps.
        held: correctly classified samples on which none did.
    """

    broken: tuple[int, ...] = ()
    held: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Examples:
    """The samples that the report shows, with the adversarials that each attack found for them.

    Attributes:
        index: positions in the data of samples that every model classifies correctly, of different
            classes.
        originals: by position, the image (*S).
        labels: by position, its class.
        found: by model and attack, in the order of the panel, the adversarial for each position:
            the nearest success, or else the nearest one outside eps. Positions without an
            adversarial are missing.
        chosen: by model, its samples with and without a success.
    """

    index: list[int]
    originals: dict[int, Tensor]
    labels: dict[int, int]
    found: dict[tuple[str, str], dict[int, Found]] = field(default_factory=dict)
    chosen: dict[str, Chosen] = field(default_factory=dict)

    def nearest(self, model: str, attacks: Iterable[str], position: int) -> Found | None:
        """Return the nearest success of some attacks on a sample, or the nearest adversarial.

        None if they found no adversarial.
        """
        kept = (self.found.get((model, attack), {}).get(position) for attack in attacks)
        return min((one for one in kept if one is not None), key=lambda one: one.rank, default=None)


def holds_examples(start: int) -> bool:
    """Return True if the chunk that begins at this position keeps samples for the report."""
    return start < KEPT_SAMPLES


def kept_successes(number: int, start: int, image: int, units: int, models: int) -> int:
    """Return how many of its successes each unit of a chunk keeps, and of the samples that hold
    each model.

    It depends on sizes alone, so that all processes and shards of a run agree.

    Args:
        number: of the chunk.
        start: position of its first sample.
        image: bytes of an image.
        units: number of units of the chunk.
        models: number of models.
    """
    if not holds_examples(start):
        return 0
    # an adversarial and its original for each unit, and an original for each model
    at_once = (2 * units + models) * image
    left = KEPT_BYTES - number * COLUMNS * at_once
    return max(0, min(COLUMNS, left // at_once))


def choose(y: Tensor, right: Tensor, most: int = COLUMNS) -> Tensor:
    """(K,) positions of samples to show. Classes alternate, in the order of the samples.

    Args:
        y: (N,) labels.
        right: (N,) bool, classified correctly by every model. The others are shown only if there is
            none.
        most: number of samples.
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
    return candidates[torch.tensor(order[:most], dtype=torch.int64)]


def choose_by_verdict(broken: Iterable[int], held: Iterable[int], most: int = COLUMNS) -> Chosen:
    """Return the first samples of each kind: half each. If one kind has fewer, the other has more.

    Args:
        broken, held: positions of the candidates.
        most: number of samples.
    """
    with_success = sorted(broken)
    without = sorted(held)
    few = with_success[: max(most // 2, most - len(without))]
    return Chosen(tuple(few), tuple(without[: most - len(few)]))


def gather(
    chunks: Sequence[Mapping[str, Tensor]],
    units: Sequence[tuple[str, str, float, Mapping[str, Tensor]]],
    blocks: Blocks,
    eps: float,
) -> Examples:
    """Examples of a run from the images that its chunks and units kept.

    Args:
        chunks: of each chunk ``index`` (M,), ``x`` (M, *S), ``y`` (M,), and bool (M,) ``right`` and
            ``shown``, the candidates for samples of different classes.
        units: model, attack, its largest radius, and the result of ``keep_images``.
        blocks: records of the run.
        eps: the largest radius of the run.
    """
    kept: dict[int, tuple[Tensor, int]] = {}
    for chunk in chunks:
        rows = zip(chunk["index"].tolist(), chunk["x"], chunk["y"].tolist(), strict=True)
        kept |= {position: (x, label) for position, x, label in rows}
    found: dict[tuple[str, str], dict[int, Found]] = {}
    for model, attack, radius, images in units:
        decisive = _decisive(blocks, model, attack, radius)
        mine = found.setdefault((model, attack), {})
        for position, one in _kept_by(images, decisive):
            if position in kept and (position not in mine or one.rank < mine[position].rank):
                mine[position] = one
    index = _of_different_classes(chunks)
    chosen = {model: _chosen(blocks, model, eps, kept, found) for model in blocks.models}
    wanted = {*index, *(one for own in chosen.values() for one in (*own.broken, *own.held))}
    return Examples(
        index,
        {position: kept[position][0] for position in sorted(wanted)},
        {position: kept[position][1] for position in sorted(wanted)},
        {
            key: {position: one for position, one in own.items() if position in wanted}
            for key, own in found.items()
        },
        chosen,
    )


def _decisive(blocks: Blocks, model: str, attack: str, radius: float) -> np.ndarray | None:
    """Return bool by position: the successes that count. None without records at that radius."""
    key = (model, attack, radius)
    return blocks.spread(key, decisive_success(blocks, key)) if key in blocks else None


def _kept_by(
    images: Mapping[str, Tensor], decisive: np.ndarray | None
) -> Iterable[tuple[int, Found]]:
    """Return position and adversarial of what a unit kept to be shown."""
    if not images:
        return
    names = ("index", "label", "distance", "success")
    columns = [images[name].tolist() for name in names]
    for row, (position, label, distance, success) in enumerate(zip(*columns, strict=True)):
        if label != NOT_SHOWN:
            counts = success if decisive is None else bool(decisive[position])
            yield position, Found(images["x_adv"][row], label, distance, counts)


def _of_different_classes(chunks: Sequence[Mapping[str, Tensor]]) -> list[int]:
    together = {
        name: torch.cat([chunk[name][chunk["shown"]] for chunk in chunks])
        for name in ("index", "y", "right")
    }
    index: list[int] = together["index"][choose(together["y"], together["right"])].tolist()
    return index


def _chosen(
    blocks: Blocks,
    model: str,
    eps: float,
    kept: Iterable[int],
    found: Mapping[tuple[str, str], Mapping[int, Found]],
) -> Chosen:
    failed = failures(blocks, model, eps)
    before = blocks.nothing(model)
    for key in blocks.keys(model):
        before |= blocks.spread(key, clean_failure(blocks, key))
    successes = {
        position
        for (own, _), by_position in found.items()
        for position, one in by_position.items()
        if own == model and one.success and not before[position]
    }
    return choose_by_verdict(successes, (one for one in kept if not failed[one]))
