"""Checks of chapter 4: constants of a generator, the bound, and robustness on its images."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import right, seeded, train_network
from art_ext.benchmarks.papers.cells import Cell
from art_ext.configuration.generator import GeneratorOptions
from art_ext.core.attacks import in_distribution, sign_gradient
from art_ext.core.limits import draw_latents, generator_lipschitz, intrinsic_robustness_bound
from art_ext.core.networks import frozen_eval
from art_ext.data import Dataset, load_data
from art_ext.models import digits_cnn
from art_ext.training import make_recipe
from art_ext.training.generators import train_generator

CLASSES = 10
Cells = dict[str, dict[str, Cell]]


@functools.cache
def _generator(epochs: int, latent_dim: int) -> Any:
    """Return a generator of digits, which all tables of a process share."""
    options = GeneratorOptions(epochs=epochs, latent_dim=latent_dim)
    return train_generator(load_data("digits", split="train"), options).generator


def _images(generator: Any, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents, images and classes, as many of each class."""
    index = torch.arange(count)
    y = index % CLASSES
    z = draw_latents(generator.latent_dim, y, index // CLASSES, seed)
    with frozen_eval(generator), torch.no_grad():
        return z, generator(z, y), y


def constants(
    generator: Mapping[str, int],
    seeds: Sequence[int],
    radius: float,
    delta: float,
    estimators: Mapping[str, Mapping[str, Any]],
) -> Cells:
    """Estimate the local Lipschitz constant of each class, and the largest one.

    Args:
        generator: its epochs and its number of latents.
        seeds: of the latents of repeated estimates.
        radius: of the ball of latents.
        delta: share of latents whose constant may be larger.
        estimators: numbers of latents and neighbours by the name of the estimator, a row each.
    """
    network = _generator(**generator)
    keys = np.array(seeds, np.int64)
    found: Cells = {}
    for name, counts in estimators.items():
        values = np.stack(
            [
                generator_lipschitz(
                    network, estimator=name, radius=radius, delta=delta, seed=seed, **counts
                ).value.numpy()
                for seed in seeds
            ]
        ).astype(float)
        columns = {f"d{one}": values[:, one] for one in range(CLASSES)}
        columns["largest"] = values.max(axis=1)
        found[name] = {column: Cell("seeds", keys, one) for column, one in columns.items()}
    return found


def robustness(
    generator: Mapping[str, int],
    train_n: int,
    n: int,
    epochs: Sequence[int],
    radii: Sequence[float],
    steps: Sequence[float],
    num_steps: int,
    recipes: Mapping[str, Mapping[str, Any]],
    alpha: float,
    lipschitz: Mapping[str, Any],
    printed: Mapping[str, Any],
    inside: Mapping[str, Any],
) -> Cells:
    """Measure accuracy and robustness on generated images, beside the bound.

    Columns count the radii from 1: ``unc`` under PGD in L2, ``in`` under the in-distribution
    attack, and ``bound`` of the network's own risk. A row has the name of its recipe and its number
    of epochs. The row ``bound`` is that of the risk alpha, and ``printed`` that of the paper's
    constant at its radii.

    Args:
        generator: its epochs and its number of latents.
        train_n: number of generated images to train on.
        n: number of other generated images, which are attacked.
        epochs: of the trainings. At a constant rate the shorter is the beginning of the longer.
        radii: of the attacks in L2.
        steps: of PGD at each radius.
        num_steps: of PGD.
        recipes: arguments by the name of the recipe.
        alpha: risk of the bound.
        lipschitz: arguments of the estimate of the largest constant.
        printed: ``eps``, ``alpha`` and ``lipschitz`` of the paper's bound.
        inside: arguments of the in-distribution attack. Empty: none.
    """
    source = _generator(**generator)
    _, x, y = _images(source, train_n, seed=1)
    data = Dataset("generated", x, y)
    z, x, y = _images(source, n, seed=2)
    largest = float(generator_lipschitz(source, **lipschitz).value.max())

    def constant(value: float) -> Cell:
        # over all samples, so that claims compare it with shares of them
        return _mean(torch.full((n,), value))

    def bound(eps: float, risk: float, constant_of: float) -> Cell:
        found = intrinsic_robustness_bound(eps=eps, alpha=risk, lipschitz=constant_of)
        return constant(float(found.value))

    found: Cells = {"bound": {}, "printed": {}}
    for place, eps in enumerate(radii, 1):
        found["bound"][f"unc_{place}"] = bound(eps, alpha, largest)
        found["printed"][f"unc_{place}"] = bound(
            printed["eps"][place - 1], printed["alpha"], printed["lipschitz"]
        )
    for name, arguments in recipes.items():
        for length in epochs:
            recipe = make_recipe(name, **arguments)
            model = train_network(seeded(digits_cnn, 0), data, recipe, epochs=length, seed=0)
            fine = right(x, y, model)
            row = {"clean": _mean(fine)}
            distance = _inside(model, source, x, y, z, inside) if inside else None
            for place, (eps, step) in enumerate(zip(radii, steps, strict=True), 1):
                kept = fine & ~_pgd(model, x, y, eps, step, num_steps)
                row[f"unc_{place}"] = _mean(kept)
                if distance is not None:
                    row[f"in_{place}"] = _mean(distance > eps)
                row[f"bound_{place}"] = bound(eps, 1 - float(fine.double().mean()), largest)
            found[f"{name}_{length}"] = row
    return found


def _mean(values: Tensor) -> Cell:
    """Return the cell of a share of samples in %, or of a number that all samples have."""
    numbers = 100 * values.double().numpy()
    return Cell("mean", np.arange(len(numbers)), numbers)


def _pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, step: float, num_steps: int) -> Tensor:
    """(N,) bool, success of PGD in L2 from the image itself, as the paper's."""
    return sign_gradient(
        model,
        x,
        y,
        eps=eps,
        step_size=step,
        num_steps=num_steps,
        norm="l2",
        projection="ball-first",
        stop_on_success=True,
    ).success


def _inside(
    model: nn.Module, source: Any, x: Tensor, y: Tensor, z: Tensor, arguments: Mapping[str, Any]
) -> Tensor:
    """(N,) distance of the nearest adversarial among generated images."""
    options: dict[str, Any] = {"latents": z, "initialisation": "given", "seed": 0, **arguments}
    return in_distribution(model, source, x, y, **options).distance
