"""Images that a unit of work keeps."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.result import AttackResult
from art_ext.evaluation.analysis.examples import NOT_SHOWN
from art_ext.evaluation.execution.probe import make_oracle
from art_ext.evaluation.panel.attack import Settings


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
