"""Chains of adversarial examples: HMCAM's Figures 1 and 4, ATCD's Figure 1 and appendix A.5."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.benchmarks.common import network_and_images, right
from art_ext.benchmarks.papers.cells import Cell
from art_ext.benchmarks.papers.checks.common import OfSeeds, Values, by_seed
from art_ext.benchmarks.papers.checks.contrastive import Options, Task
from art_ext.core.attacks import hmcam, m_pgd, registry
from art_ext.core.metrics import chain_statistics
from art_ext.core.result import AttackResult
from art_ext.training import fixed_set, make_recipe, trajectory_shift

NATURAL = {"name": "natural"}


def states(
    network: str, n: int, eps: float, attacks: Mapping[str, Options], seed: int = 0
) -> OfSeeds:
    """Compare the states of a chain with the ends of restarts and with the last iterates.

    Args:
        network: name of a checkpoint of ``art_ext.benchmarks.common``.
        n: images, the first ones that it classifies correctly.
        eps: radius.
        attacks: by the names of the rows: ``name`` and the arguments of each attack.
        seed: of the attacks.
    """
    model, x, y, _ = network_and_images(network, 2 * n)
    kept = right(x, y, model).nonzero()[:n, 0]
    found = {}
    for row, attack in attacks.items():
        given = {"eps": eps, **attack}
        spec = registry.get(given.pop("name"))
        if "seed" in spec.parameters:
            given["seed"] = seed
        found[row] = _of_states(spec.function(model, x[kept], y[kept], **given), model, y[kept])
    return found


def _of_states(result: AttackResult, model: nn.Module, y: Tensor) -> dict[str, Cell]:
    """Return the columns of an attack that kept its states."""
    found = chain_statistics(result, model, y=y)
    samples, labels, adversarial = result.samples, found.labels, found.adversarial
    if samples is None or labels is None or adversarial is None:
        raise ValueError("the attack must keep its states")
    columns = {
        "states": torch.tensor([len(one.flatten(1).unique(dim=0)) for one in samples.unbind(1)]),
        "success": 100 * adversarial / found.states,
        "diversity": found.distance_l2,
        "classes": found.distinct,
        "largest": 100 * (labels == labels.mode(dim=0).values).double().mean(dim=0),
    }
    if found.transitions.any():
        columns["acceptance"] = 100 * found.accepted / found.transitions
    keys = np.arange(len(y))
    return {name: Cell("mean", keys, np.asarray(one, np.float64)) for name, one in columns.items()}


def few_samples(
    data: str,
    n: int,
    eps: float,
    d: int,
    counts: Sequence[int],
    chain: int,
    rivals: Mapping[str, Options],
    training: Options,
    epochs: int,
    more_epochs: int,
    seeds: Sequence[int],
) -> OfSeeds:
    """Train on with S states of each of d images, or with one example each of d S images.

    A row is a number S. Its columns are the success of M-PGD-20 on the networks, in %, by the
    attack that made the set.

    Args:
        data: name of the data.
        n: test images.
        eps: radius.
        d: images with a chain.
        counts: values of S.
        chain: steps of all transitions of a chain together.
        rivals: by the names of their columns: ``name`` and the arguments of each attack.
        training: options of ``train``.
        epochs: of the first training.
        more_epochs: with the set.
        seeds: of trainings and attacks.
    """
    task = Task.of(data, n, training)
    values: Values = {}
    for seed in seeds:
        first = task.train(task.untrained(seed), NATURAL, seed, epochs=epochs).model
        for count in counts:
            steps = {"num_transitions": count, "num_steps": max(1, chain // count)}
            sets: dict[str, tuple[int, dict[str, Any]]] = {"hmcam": (d, {"name": "hmcam", **steps})}
            sets |= {name: (min(d * count, len(task.x)), dict(one)) for name, one in rivals.items()}
            for column, (size, given) in sets.items():
                attack = given.pop("name")
                arguments = {"eps": eps, **given}
                extra = fixed_set(
                    first, task.x, task.y, attack, n=size, arguments=arguments, seed=seed
                )
                model = copy.deepcopy(first)
                task.train(model, NATURAL, seed, epochs=more_epochs, append=(extra.x, extra.y))
                success = _success(model, task, eps, seed)
                values.setdefault((f"s_{count}", column), []).append(success)
    return by_seed(values, seeds)


def _success(model: nn.Module, task: Task, eps: float, seed: int) -> float:
    """Return the success of M-PGD-20, in %, on the images that are classified correctly."""
    kept = right(task.test_x, task.test_y, model)
    found = m_pgd(model, task.test_x[kept], task.test_y[kept], eps=eps, num_steps=20, seed=seed)
    return 100 * float(found.success.float().mean())


def shift(
    data: str,
    training: Options,
    recipe: Options,
    before: Options,
    lengths: Sequence[int],
    batches: int,
    batch_size: int,
    seeds: Sequence[int],
) -> OfSeeds:
    """Compare weight gradients of short and of long chains, at untrained and at trained weights.

    A row is a layer with weights, such as ``first_1`` and ``trained_1``.

    Args:
        data: name of the data.
        training: options of ``train``.
        recipe: whose steps are compared: ``name`` and its arguments.
        before: recipe of the trained weights.
        lengths: K and K'.
        batches: minibatches in each mean.
        batch_size: of them.
        seeds: of weights, trainings and noise.
    """
    task = Task.of(data, 1, training)
    values: Values = {}
    for seed in seeds:
        first = task.untrained(seed)
        trained = task.train(copy.deepcopy(first), before, seed).model
        for when, model in (("first", first), ("trained", trained)):
            found = trajectory_shift(
                model.train(),
                (task.x, task.y),
                recipe=make_recipe(**recipe),
                lengths=(lengths[0], lengths[1]),
                batches=batches,
                batch_size=batch_size,
                seed=seed,
            )
            weights = [name for name in found.cosine if name.endswith("weight")]
            for place, name in enumerate(weights, start=1):
                for column in ("distance", "relative", "cosine"):
                    one: float = getattr(found, column)[name]
                    values.setdefault((f"{when}_{place}", column), []).append(one)
    return by_seed(values, seeds)


def classes(
    data: str,
    n: int,
    eps: float,
    num_steps: int,
    at: Sequence[int],
    training: Options,
    recipe: Options,
    seeds: Sequence[int],
) -> OfSeeds:
    """Measure how many of the adversarial states of a chain lie in one class.

    A row is a number of transitions. ``largest`` is the share, in %, of the commonest class among
    the states after it that are adversarial, and ``success`` the share of these.

    Args:
        data: name of the data.
        n: test images.
        eps: radius of the chain.
        num_steps: T, steps of a transition.
        at: numbers of transitions.
        training: options of ``train``.
        recipe: that the network is trained by: ``name`` and its arguments.
        seeds: of trainings and chains.
    """
    task = Task.of(data, n, training)
    arguments: dict[str, Any] = {"eps": eps, "num_transitions": max(at), "num_steps": num_steps}
    values: Values = {}
    for seed in seeds:
        model = task.train(task.untrained(seed), recipe, seed).model
        result = hmcam(model, task.test_x, task.test_y, seed=seed, **arguments)
        labels = chain_statistics(result, model).labels
        if labels is None:
            raise ValueError("the chain has no states")
        for count in at:
            predicted = labels[count - 1]
            wrong = predicted[predicted != task.test_y]
            common = (wrong == wrong.mode().values).double().mean()
            values.setdefault((f"k_{count}", "largest"), []).append(100 * float(common))
            values.setdefault((f"k_{count}", "success"), []).append(100 * len(wrong) / n)
    return by_seed(values, seeds)
