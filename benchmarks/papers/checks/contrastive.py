"""Trainings of CAT, ATCD and their rivals: several attacks, the way to the end, and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from art_ext.benchmarks.common import seeded
from art_ext.benchmarks.papers.cells import exact
from art_ext.benchmarks.papers.checks.common import NETWORKS, OfSeeds, Values, by_seed
from art_ext.core.attacks import registry
from art_ext.core.metrics import clean_accuracy, robust_accuracy
from art_ext.data import load_data
from art_ext.training import TrainingResult, make_recipe, train

Options = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Task:
    """Training and test images with their classes, and the options of trainings on them."""

    data: str
    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    training: Options

    @staticmethod
    def of(data: str, n: int, training: Options) -> Task:
        """Return all training images and the first n test images."""
        own = load_data(data, split="train").in_memory()
        test = load_data(data).first(n).in_memory()
        return Task(data, own.x, own.y, test.x, test.y, training)

    def untrained(self, seed: int) -> nn.Module:
        """Return the network of the data, with weights that depend on the seed alone."""
        return seeded(NETWORKS[self.data], seed)

    def train(self, model: nn.Module, recipe: Options, seed: int, **options: Any) -> TrainingResult:
        """Train a network, and put it in eval mode.

        Args:
            model: the network.
            recipe: as ``make_recipe`` takes it: ``name`` and its arguments.
            seed: of the training.
            **options: of ``train``, over those of the task.
        """
        given = {**self.training, **options}
        result = train(model, (self.x, self.y), make_recipe(**recipe), seed=seed, **given)
        result.model.eval()
        return result


def attacked(
    data: str,
    n: int,
    training: Options,
    recipes: Mapping[str, Options],
    attacks: Mapping[str, Options],
    seeds: Sequence[int],
    passes: Mapping[str, float] | None = None,
) -> OfSeeds:
    """Measure accuracy, robust accuracy under several attacks, and the cost of trainings.

    Columns are ``clean``, ``rows`` (forward plus backward, per training image) and the attacks.

    Args:
        data: name of the data.
        n: test images.
        training: options of ``train``, with ``passes``.
        recipes: by the names of the rows: ``name`` and the arguments of each recipe.
        attacks: by the names of the columns: ``name`` and the arguments of each attack.
        seeds: of trainings and attacks.
        passes: other budgets than that of ``training``, by the names of rows.
    """
    task = Task.of(data, n, training)
    values: Values = {}
    for row, recipe in recipes.items():
        budget = (passes or {}).get(row, training["passes"])
        for seed in seeds:
            result = task.train(task.untrained(seed), recipe, seed, passes=budget)
            rows = (result.forwards + result.backwards) / len(task.x)
            values.setdefault((row, "rows"), []).append(rows)
            for column, attack in attacks.items():
                given = {"seed": seed, "stop_on_success": True, **attack}
                function = registry.get(given.pop("name")).function
                found = function(result.model, task.test_x, task.test_y, **given)
                values.setdefault((row, column), []).append(100 * robust_accuracy(found))
            values.setdefault((row, "clean"), []).append(100 * clean_accuracy(found))
    return by_seed(values, seeds)


def along(
    data: str,
    n: int,
    training: Options,
    recipes: Mapping[str, Options],
    every: Mapping[str, int],
    shares: Sequence[float],
    num_steps: int,
    seeds: Sequence[int],
    passes: Mapping[str, float] | None = None,
) -> OfSeeds:
    """Measure clean and robust accuracy after shares of a budget of rows.

    Columns are such as ``clean_25`` and ``robust_25``, and ``swing``: the mean change of the robust
    accuracy from one measurement to the next, over the second half of the training.

    Args:
        data: name of the data.
        n: test images.
        training: options of ``train``.
        recipes: by the names of the rows: ``name`` and the arguments of each recipe.
        every: weight updates between two measurements, by the names of the rows.
        shares: of the weight updates.
        num_steps: of PGD.
        seeds: of the trainings.
        passes: other budgets than that of ``training``, by the names of rows.
    """
    task = Task.of(data, n, training)
    values: Values = {}
    for row, recipe in recipes.items():
        for seed in seeds:
            result = task.train(
                task.untrained(seed),
                recipe,
                seed,
                passes=(passes or {}).get(row, training["passes"]),
                validation_data=(task.test_x, task.test_y),
                validation_every=every[row],
                validation_steps=num_steps,
            )
            curve = sorted([*result.validations, *result.history], key=lambda one: one["updates"])
            done = np.array([one["updates"] for one in curve]) / result.updates
            robust = 100 * np.array([one["validation_robust"] for one in curve])
            clean = 100 * np.array([one["validation_clean"] for one in curve])
            for share in shares:
                place = int(np.abs(done - share).argmin())
                values.setdefault((row, f"clean_{100 * share:g}"), []).append(clean[place])
                values.setdefault((row, f"robust_{100 * share:g}"), []).append(robust[place])
            late = np.abs(np.diff(robust[done >= 0.5]))
            values.setdefault((row, "swing"), []).append(float(late.mean()))
    return by_seed(values, seeds)


def counted(data: str, training: Options, recipes: Mapping[str, Options]) -> OfSeeds:
    """Count the rows forward and backward of one pass over the data, per image.

    Args:
        data: name of the data.
        training: options of ``train``.
        recipes: by the names of the rows: ``name`` and the arguments of each recipe.
    """
    task = Task.of(data, 1, training)
    found = {}
    for row, recipe in recipes.items():
        result = task.train(task.untrained(0), recipe, 0, epochs=1)
        found[row] = {
            "forwards": exact(result.forwards / len(task.x)),
            "backwards": exact(result.backwards / len(task.x)),
            "first_layer": exact(result.first_layer_rows / len(task.x)),
        }
    return found
