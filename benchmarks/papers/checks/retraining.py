"""Table 7 of the EAD thesis: retraining with fixed sets of adversarial examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from art_ext.benchmarks.common import right, seeded, train_network
from art_ext.benchmarks.papers.checks.common import (
    NETWORKS,
    NORMS,
    OfSeeds,
    Values,
    attacked,
    by_seed,
)
from art_ext.data import Dataset, load_data
from art_ext.training import FixedSet, fixed_set

Settings = Mapping[str, Mapping[str, Any]]


def retraining(
    data: str,
    images: int | None,
    epochs: int,
    crafted: int,
    n: int,
    seeds: Sequence[int],
    sets: Settings,
    variants: Mapping[str, Sequence[str]],
    attacks: Settings,
    common: Settings,
) -> OfSeeds:
    """Retrain with fixed sets that attacks make on a natural network, and attack the results.

    Each row is an attack on a variant, ``ATTACK_VARIANT``. Its cells hold one value for each seed:
    success in %, and the mean distortions of the successes in the average case.

    Args:
        data: ``"digits"`` or ``"mnist"``.
        images, epochs: of each training. None takes all images.
        crafted: training images that are attacked for all wrong classes.
        n: test images that are attacked, of those that a network classifies right.
        seeds: of the trainings and of the choice of the images.
        sets: ``attack`` and its arguments by the name of the set.
        variants: the sets that are appended, by name.
        attacks: ``attack`` and its arguments by name.
        common: arguments by the name of the attack.
    """
    train = load_data(data, split="train").first(images).in_memory()
    test = load_data(data).in_memory()
    values: Values = {}
    for seed in seeds:
        natural = _trained(data, train, (), epochs, seed)
        made = {
            name: fixed_set(
                natural,
                train.x,
                train.y,
                setting["attack"],
                n=crafted,
                targets="all",
                arguments={**common.get(setting["attack"], {}), **_arguments(setting)},
                seed=seed,
            )
            for name, setting in sets.items()
        }
        for variant, chosen in variants.items():
            model = _trained(data, train, [made[name] for name in chosen], epochs, seed)
            fine = right(test.x, test.y, model)
            for name, setting in attacks.items():
                result = attacked(
                    model, test.x[fine][:n], test.y[fine][:n], setting, common, targets="average"
                )
                measured = {"success": 100 * float(result.success.double().mean())}
                lengths = result.distortions()
                measured |= {norm: float(lengths[norm][result.success].mean()) for norm in NORMS}
                measured["clean"] = 100 * float(fine.double().mean())
                for column, value in measured.items():
                    values.setdefault((f"{name}_{variant}", column), []).append(value)
    return by_seed(values, seeds)


def _arguments(setting: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in setting.items() if name != "attack"}


def _trained(
    data: str, images: Dataset, sets: Sequence[FixedSet], epochs: int, seed: int
) -> nn.Module:
    """Return a network trained on the images and some sets, from weights of the seed."""
    append = None
    if sets:
        append = (torch.cat([one.x for one in sets]), torch.cat([one.y for one in sets]))
    model = seeded(NETWORKS[data], seed)
    return train_network(model, images, "natural", epochs=epochs, seed=seed, append=append)
