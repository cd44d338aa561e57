"""Samples whose adversarials the report shows, and the images that a run keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.result import AttackResult
from art_ext.evaluation.execution.probe import make_oracle
from art_ext.evaluation.panel.attack import Settings

COLUMNS = 6
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


def keep_images(
    model: Model,
    result: AttackResult,
    shown: Tensor,
    offset: int,
    settings: Settings,
    everything: bool,
) -> dict[str, Tensor]:
    """Images that a unit keeps: the adversarials of the samples to show, or all.

    The model predicts the adversarials to show once more. This query is not counted.

    Args:
        model: the model attacked.
        result: of K samples.
        shown: positions in the chunk of the samples to show.
        offset: of the chunk in the data.
        settings: of the run.
        everything: True to keep all adversarials.

    Returns:
        ``index`` (M,), ``x_adv`` (M, *S), ``label`` (M,), ``distance`` (M,) and ``success`` (M,).
        Empty if M is 0.
    """
    home = result.success.device
    images = result.x_adv
    distance = result.distance
    if result.x_nearest is not None and result.nearest_distance is not None:
        images = result.x_nearest
        distance = result.nearest_distance
    have = distance.isfinite() & ~result.already_adversarial
    to_show = torch.zeros_like(have).index_fill(0, shown.to(home), True) & have
    rows = (have if everything else to_show).nonzero().squeeze(1)
    if not len(rows):
        return {}
    labels = torch.full_like(rows, NOT_SHOWN)
    to_predict = to_show[rows]
    if bool(to_predict.any()):
        labels[to_predict] = _labels(model, images[rows[to_predict]], settings).to(home)
    kept = {
        "index": rows + offset,
        "x_adv": images[rows],
        "label": labels,
        "distance": distance[rows],
        "success": result.success[rows],
    }
    return {name: values.detach().cpu().contiguous() for name, values in kept.items()}


def _labels(model: Model, images: Tensor, settings: Settings) -> Tensor:
    with make_oracle(LabelOracle, model, len(images), settings) as oracle:
        return oracle.clean_labels(images.to(oracle.device))


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
