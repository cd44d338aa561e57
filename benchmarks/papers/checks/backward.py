"""Chapter 6 of the dissertation: robust accuracy of fast trainings over many seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from art_ext.benchmarks.common import seeded
from art_ext.benchmarks.papers.cells import Cell
from art_ext.core.attacks import pgd
from art_ext.core.metrics import robust_accuracy
from art_ext.data import load_data
from art_ext.models import digits_cnn
from art_ext.training import make_recipe, train


def spread(
    eps: float,
    seeds: Sequence[int],
    recipes: Mapping[str, Mapping[str, Any]],
    training: Mapping[str, Any],
) -> dict[str, dict[str, Cell]]:
    """Return robust accuracy over seeds on digits, and its distance from the median (Figure 6.4).

    The mean distance is smaller for a more stable training. Its comparison over seeds is the test
    of Brown and Forsythe.

    Args:
        eps: radius of training and of PGD-20.
        seeds: ascending, of the trainings of each recipe.
        recipes: by row, name and arguments.
        training: options of ``train``.
    """
    images = load_data("digits", split="train").in_memory()
    test = load_data("digits").in_memory()
    found = {}
    for row, given in recipes.items():
        accuracies = []
        for seed in seeds:
            model = seeded(digits_cnn, seed)
            train(model, (images.x, images.y), make_recipe(eps=eps, **given), seed=seed, **training)
            attacked = pgd(
                model.eval(), test.x, test.y, eps=eps, num_steps=20, stop_on_success=True
            )
            accuracies.append(100 * robust_accuracy(attacked))
        keys, values = np.array(seeds), np.array(accuracies)
        found[row] = {
            "robust": Cell("seeds", keys, values),
            "distance": Cell("seeds", keys, np.abs(values - np.median(values))),
            "lowest": Cell("exact", keys[:1], values.min(keepdims=True)),
        }
    return found
