"""Trainings of ATCD, CAT and their rivals that no single run of ``art-ext train`` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import seeded
from art_ext.benchmarks.papers.cells import Cell, exact
from art_ext.core.attacks import pgd
from art_ext.core.metrics import robust_accuracy
from art_ext.data import load_data
from art_ext.models import digits_cnn, mnist_two_conv
from art_ext.training import Recipe, TrainingResult, make_recipe, train

Cells = dict[str, dict[str, Cell]]
NETWORKS = {"digits": digits_cnn, "mnist": mnist_two_conv}


@dataclass(frozen=True, eq=False)
class Images:
    """Training and test images with their classes, and the name of the data."""

    data: str
    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor


def images_of(data: str, n: int | None = None, test_n: int = 500) -> Images:
    """Return the first images of both splits."""
    images = load_data(data, split="train").first(n).in_memory()
    test = load_data(data).first(test_n).in_memory()
    return Images(data, images.x, images.y, test.x, test.y)


def untrained(images: Images, seed: int) -> nn.Module:
    """Return the network of the data, with weights that depend on the seed alone."""
    return seeded(NETWORKS[images.data], seed)


def trained(
    model: nn.Module, images: Images, recipe: Recipe, seed: int, options: Mapping[str, Any]
) -> TrainingResult:
    """Train a network, and put it in eval mode."""
    result = train(model, (images.x, images.y), recipe, seed=seed, **options)
    result.model.eval()
    return result


def along(
    images: Mapping[str, Any],
    training: Mapping[str, Any],
    recipes: Mapping[str, Mapping[str, Any]],
    every: Mapping[str, int],
    shares: Sequence[float],
    num_steps: int,
    seeds: Sequence[int],
) -> Cells:
    """Measure clean and robust accuracy after shares of a budget of rows.

    ``swing`` is the mean change of the robust accuracy from one validation to the next, over the
    second half of the training.

    Args:
        images: of ``images_of``. The test images are the validation.
        training: options of ``train``, with ``passes``.
        recipes: by the names of the rows, as ``make_recipe`` takes them.
        every: weight updates between validations, by the names of the rows.
        shares: of the budget, such as .25. Columns are ``clean_25`` and ``robust_25``.
        num_steps: of the validation's PGD.
        seeds: of the trainings.
    """
    data = images_of(**images)
    values: dict[tuple[str, str], list[float]] = {}
    for row, recipe in recipes.items():
        for seed in seeds:
            options = {
                **training,
                "validation_data": (data.test_x, data.test_y),
                "validation_every": every[row],
                "validation_steps": num_steps,
            }
            result = trained(untrained(data, seed), data, make_recipe(**recipe), seed, options)
            curve = sorted([*result.validations, *result.history], key=lambda one: one["updates"])
            done = np.array([one["updates"] for one in curve]) / result.updates
            robust = 100 * np.array([one["validation_robust"] for one in curve])
            clean = 100 * np.array([one["validation_clean"] for one in curve])
            for share in shares:
                place = int(np.abs(done - share).argmin())
                values.setdefault((row, f"clean_{share:.0%}"[:-1]), []).append(clean[place])
                values.setdefault((row, f"robust_{share:.0%}"[:-1]), []).append(robust[place])
            late = robust[done >= 0.5]
            values.setdefault((row, "swing"), []).append(float(np.abs(np.diff(late)).mean()))
    return by_seed(values, seeds)


def attacked(
    images: Mapping[str, Any],
    training: Mapping[str, Any],
    recipes: Mapping[str, Mapping[str, Any]],
    attacks: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
) -> Cells:
    """Measure the robust accuracy of trainings under PGD of several radii and lengths.

    Args:
        images: of ``images_of``.
        training: options of ``train``.
        recipes: by the names of the rows, as ``make_recipe`` takes them.
        attacks: arguments of ``pgd`` by the names of the columns.
        seeds: of trainings and attacks.
    """
    data = images_of(**images)
    values: dict[tuple[str, str], list[float]] = {}
    for row, recipe in recipes.items():
        for seed in seeds:
            model = trained(
                untrained(data, seed), data, make_recipe(**recipe), seed, training
            ).model
            for column, arguments in attacks.items():
                found = pgd(
                    model, data.test_x, data.test_y, seed=seed, stop_on_success=True, **arguments
                )
                values.setdefault((row, column), []).append(100 * robust_accuracy(found))
    return by_seed(values, seeds)


def counted(
    images: Mapping[str, Any],
    training: Mapping[str, Any],
    recipes: Mapping[str, Mapping[str, Any]],
) -> Cells:
    """Count the rows forward and backward of one pass over the data, per image.

    Args:
        images: of ``images_of``.
        training: options of ``train`` but for the length.
        recipes: by the names of the rows, as ``make_recipe`` takes them.
    """
    data = images_of(**images)
    found = {}
    for row, recipe in recipes.items():
        result = trained(
            untrained(data, 0), data, make_recipe(**recipe), 0, {**training, "epochs": 1}
        )
        found[row] = {
            "forwards": exact(result.forwards / len(data.x)),
            "backwards": exact(result.backwards / len(data.x)),
            "first_layer": exact(result.first_layer_rows / len(data.x)),
        }
    return found


def by_seed(values: Mapping[tuple[str, str], Sequence[float]], seeds: Sequence[int]) -> Cells:
    """Return cells of the values that each row and column has for the seeds."""
    found: Cells = {}
    for (row, column), numbers in values.items():
        found.setdefault(row, {})[column] = Cell("seeds", np.array(seeds), np.array(numbers))
    return found
