"""Target classes of a targeted evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from art_ext.core.geometry import exact_dtype
from art_ext.core.losses import LOSSES
from art_ext.core.streams import uniform

NO_TARGET = -1
_STEP = -(1 << 32)  # a block of each sample's stream that no attack draws from

CHOOSE_TARGETS = "num_targets"  # an argument of untargeted attacks only
OF_CHOSEN = ("survey_steps", "target_ranking", "malt_candidates")  # arguments beside it


def with_given_targets(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an attack for targets that the run gives.

    An attack that would choose its targets ascends its loss of the given one. That is the margin,
    unless it has a name. The target's score alone is a loss of chosen targets only.
    """
    if not arguments.get(CHOOSE_TARGETS):
        return dict(arguments)
    dropped = {CHOOSE_TARGETS, *OF_CHOSEN}
    others = {name: value for name, value in arguments.items() if name not in dropped}
    loss = others.get("loss")
    return {**others, "loss": loss if loss in LOSSES else "margin"}


def choose_targets(
    rule: str | int | None,
    y: Tensor,
    ids: Tensor,
    seed: int,
    classes: int,
    least_likely: Tensor | None,
) -> Tensor:
    """(N,) int64 targets, -1 for none.

    Args:
        rule: None, ``"random"`` (uniform over the classes other than the label),
            ``"least-likely"``, ``"next"`` (the label plus 1, modulo the classes), or one class.
        y: (N,) labels.
        ids: (N,) identities of the samples. A random target depends only on its sample and the
            seed.
        seed: of the random stream.
        classes: number of classes of the model.
        least_likely: (N,) classes of the lowest clean score, if the rule needs them.

    Raises:
        ValueError: if the one class is not among the classes.
    """
    if rule is None:
        return torch.full_like(y, NO_TARGET)
    if rule == "random":
        others = (
            (uniform(seed, ids, _STEP).to(exact_dtype(ids.device)) * (classes - 1))
            .long()
            .clamp(max=classes - 2)
        )
        return others + (others >= y).long()
    if rule == "next":
        return (y + 1) % classes
    if least_likely is not None:
        return least_likely
    if int(rule) >= classes:
        raise ValueError(f"targeted must be below {classes}, the number of classes, got {rule}")
    return torch.full_like(y, int(rule))
