"""The smallest radius at which each sample has a verified adversarial, and the failures within eps.

Verdicts, tables, curves and comparisons read these, so that they agree on every sample.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from art_ext.core.geometry import BALL_TOLERANCE
from art_ext.storage.records import success_column

if TYPE_CHECKING:
    from art_ext.evaluation.analysis.blocks import Blocks, Key

# of an adversarial at distance 0: only misclassified samples have radius 0
SMALLEST = float(np.finfo(np.float32).tiny)


def has_detector(blocks: Blocks, model: str) -> bool:
    """Return True if the records of a model hold the scores of a detector."""
    return any("detector" in blocks.names(key) for key in blocks.keys(model)[:1])


def clean_failure(blocks: Blocks, key: Key, *, rejected: bool = False) -> np.ndarray:
    """Return bool by row of a block: misclassified without attack or, by a detector, rejected.

    Args:
        blocks: the records.
        key: of the block.
        rejected: True to count misclassified samples only. Default: False.
    """
    wrong = blocks.column(key, "already_adversarial")
    if rejected or "clean_accepted" not in blocks.names(key):
        return wrong
    found: np.ndarray = wrong | ~blocks.column(key, "clean_accepted")
    return found


def radii_of_rows(blocks: Blocks, key: Key, *, rejected: bool = False) -> np.ndarray:
    """Return float by row of a block: the radius at which an attack has a verified adversarial.

    A success counts at its own eps, whatever the rounding of its distance. An adversarial counts at
    each attacked eps whose ball contains it. Misclassified samples are not treated apart.

    Args:
        blocks: the records.
        key: of the block.
        rejected: True to let successes count that a detector rejects. Default: False.

    Returns:
        The radii, inf without an adversarial.
    """
    model, _, eps = key
    success = blocks.column(key, "success" if rejected else success_column(blocks.names(key)))
    distance = blocks.column(key, "distance").astype(np.float64)
    nearest = blocks.column(key, "nearest_distance").astype(np.float64)
    # the row that a detector judged: x_adv, or at smaller radii of the unit the nearest adversarial
    judged = np.where(np.isnan(distance), nearest, distance)
    found = np.where(success, np.fmin(judged, eps), np.inf)
    if rejected or not has_detector(blocks, model):
        found = np.fmin(found, nearest)
    found = np.maximum(found, SMALLEST)
    radii = np.array(sorted({own_eps for _, _, own_eps in blocks.keys(model)}))
    # the smallest ball that contains the adversarial, up to the rounding of its distance
    ball = np.append(radii, np.inf)[np.searchsorted(radii, found - BALL_TOLERANCE)]
    return np.minimum(found, ball)


def smallest_radii(
    blocks: Blocks, model: str, attacks: Collection[str] | None = None, *, rejected: bool = False
) -> np.ndarray:
    """Return float by position: the smallest radius at which an attack has a verified adversarial.

    Successes of all radii count, those with a detector where it accepts them.

    Args:
        blocks: the records.
        model: one of the models.
        attacks: names of the attacks that count. None: all.
        rejected: True to ignore a detector. Default: False.

    Returns:
        The radii: 0 for samples that fail without an attack, inf without an adversarial.
    """
    names = [name for name in blocks.attacks(model) if attacks is None or name in attacks]
    found = np.full(len(blocks.nothing(model)), np.inf)
    for name in names:
        found = np.minimum(found, _of_attack(blocks, model, name, rejected))
    for name in set(blocks.attacks(model)).difference(names):
        found[_of_attack(blocks, model, name, rejected) == 0] = 0.0
    return found


def _of_attack(blocks: Blocks, model: str, attack: str, rejected: bool) -> np.ndarray:
    """Return the radii of one attack by position. They are computed once."""
    key = (model, attack, rejected)
    if key not in blocks.radii:
        found = np.full(len(blocks.nothing(model)), np.inf)
        for own in blocks.keys(model, attack):
            index = blocks.column(own, "index")
            found[index] = np.minimum(found[index], radii_of_rows(blocks, own, rejected=rejected))
            found[index[clean_failure(blocks, own, rejected=rejected)]] = 0.0
        blocks.radii[key] = found
    return blocks.radii[key]


def successes(
    blocks: Blocks, model: str, eps: float, attacks: Collection[str] | None = None
) -> np.ndarray:
    """Return bool by position: a success within eps on a sample that does not fail without attack.

    Args:
        blocks, model, attacks: as in ``smallest_radii``.
        eps: radius.
    """
    radii = smallest_radii(blocks, model, attacks)
    found: np.ndarray = (radii > 0) & (radii <= eps)
    return found


def failures(
    blocks: Blocks, model: str, eps: float, attacks: Collection[str] | None = None
) -> np.ndarray:
    """Return bool by position: the failures that count, with rejection if there is a detector.

    They are misclassified or rejected samples, and successes within eps that a detector accepts.

    Args:
        blocks, model, eps, attacks: as in ``successes``.
    """
    return smallest_radii(blocks, model, attacks) <= eps


def adversarial(
    blocks: Blocks, model: str, eps: float, attacks: Collection[str] | None = None
) -> np.ndarray:
    """Return bool by position: misclassified, or a success within eps. A detector is ignored.

    Args:
        blocks, model, eps, attacks: as in ``successes``.

    Raises:
        ValueError: if no attack was run within eps.
    """
    if not blocks.keys(model, eps=eps):
        smallest = min(own_eps for _, _, own_eps in blocks.keys(model))
        raise ValueError(
            f"eps must be at least the smallest radius attacked, {smallest:g}, got {eps:g}"
        )
    return smallest_radii(blocks, model, attacks, rejected=True) <= eps
