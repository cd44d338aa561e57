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
from art_ext.benchmarks.papers.checks.contrastive import (
    Cells,
    by_seed,
    images_of,
    trained,
    untrained,
)
from art_ext.core.attacks import hmcam, m_pgd, registry
from art_ext.core.metrics import chain_statistics
from art_ext.core.result import AttackResult
from art_ext.training import fixed_set, make_recipe, trajectory_shift


def states(
    network: str, n: int, eps: float, attacks: Mapping[str, Mapping[str, Any]], seed: int = 0
) -> Cells:
    """Compare the states of a chain with the ends of restarts and with the last iterates.

    Args:
        network: name of a checkpoint of ``art_ext.benchmarks.common``.
        n: images, the first ones that it classifies correctly.
        eps: radius.
        attacks: by the names of the rows: ``name`` and the other arguments of each attack.
        seed: of the attacks.
    """
    model, x, y, _ = network_and_images(network, 2 * n)
    kept = right(x, y, model).nonzero()[:n, 0]
    found = {}
    for row, given in attacks.items():
        arguments = dict(given)
        spec = registry.get(arguments.pop("name"))
        if "seed" in spec.parameters:
            arguments["seed"] = seed
        found[row] = _of_states(spec.function(model, x[kept], y[kept], eps=eps, **arguments), model, y[kept])
    return found


def _of_states(result: AttackResult, model: nn.Module, y: Tensor) -> dict[str, Cell]:
    """Return the columns of an attack's states."""
    found = chain_statistics(result, model, y=y)
    samples, labels, adversarial = result.samples, found.labels, found.adversarial
    if samples is None or labels is None or adversarial is None:
        raise ValueError("the attack must keep samples")
    distinct = [len(one.flatten(1).unique(dim=0)) for one in samples.unbind(1)]
    columns = {
        "distinct": torch.tensor(distinct),
        "success": 100 * adversarial / found.states,
        "diversity": found.distance_l2,
        "classes": found.distinct,
        "largest": 100 * (labels == labels.mode(dim=0).values).double().mean(dim=0),
    }
    if found.transitions.any():
        columns["acceptance"] = 100 * found.accepted / found.transitions
    keys = np.arange(len(y))
    return {
        name: Cell("mean", keys, np.asarray(one, np.float64)) for name, one in columns.items()
    }


def few_samples(
    images: Mapping[str, Any],
    training: Mapping[str, Any],
    eps: float,
    d: int,
    chain: int,
    counts: Sequence[int],
    rivals: Mapping[str, Mapping[str, Any]],
    epochs: int,
    more_epochs: int,
    seeds: Sequence[int],
) -> Cells:
    """Retrain with S states of each of d images, or with one example each of d S images.

    A row is a number S, and its columns are the success of M-PGD-20 on the retrained networks.

    Args:
        images: of ``images_of``.
        training: options of ``train``.
        eps: radius.
        d: images with a chain.
        chain: steps of all transitions of a chain together.
        counts: values of S.
        rivals: by the names of their columns: ``name`` and the other arguments of each attack.
        epochs: of the first training.
        more_epochs: with the set.
        seeds: of trainings and attacks.
    """
    data = images_of(**images)
    values: dict[tuple[str, str], list[float]] = {}
    for seed in seeds:
        natural = make_recipe("natural")
        first = trained(
            untrained(data, seed), data, natural, seed, {**training, "epochs": epochs}
        ).model

        def success(
            attack: str,
            count: int,
            arguments: Mapping[str, Any],
            first: nn.Module = first,
            seed: int = seed,
        ) -> float:
            extra = fixed_set(
                first,
                data.x,
                data.y,
                attack,
                n=min(count, len(data.x)),
                arguments={"eps": eps, **arguments},
                seed=seed,
            )
            options = {**training, "epochs": more_epochs, "append": (extra.x, extra.y)}
            model = trained(copy.deepcopy(first), data, make_recipe("natural"), seed, options).model
            kept = right(data.test_x, data.test_y, model)
            moved = m_pgd(
                model, data.test_x[kept], data.test_y[kept], eps=eps, num_steps=20, seed=seed
            )
            return 100 * float(moved.success.float().mean())

        for count in counts:
            row = f"s_{count}"
            steps = {"num_transitions": count, "num_steps": max(1, chain // count)}
            values.setdefault((row, "hmcam"), []).append(success("hmcam", d, steps))
            for name, given in rivals.items():
                arguments = dict(given)
                attack = arguments.pop("name")
                values.setdefault((row, name), []).append(success(attack, d * count, arguments))
    return by_seed(values, seeds)


def shift(
    images: Mapping[str, Any],
    training: Mapping[str, Any],
    recipe: Mapping[str, Any],
    before: Mapping[str, Any],
    lengths: tuple[int, int],
    batch_size: int,
    seeds: Sequence[int],
) -> Cells:
    """Compare weight gradients of short and of long chains, at untrained and at trained weights.

    Args:
        images: of ``images_of``.
        training: options of ``train``.
        recipe: whose steps are compared, as ``make_recipe`` takes it.
        before: recipe of the trained weights.
        lengths: K and K'.
        batch_size: of the comparison.
        seeds: of weights, trainings and noise.
    """
    data = images_of(**images)
    values: dict[tuple[str, str], list[float]] = {}
    for seed in seeds:
        first = untrained(data, seed)
        later = trained(copy.deepcopy(first), data, make_recipe(**before), seed, training).model
        for when, model in (("first", first), ("trained", later)):
            found = trajectory_shift(
                model.train(),
                (data.x, data.y),
                recipe=make_recipe(**recipe),
                lengths=(lengths[0], lengths[1]),
                batch_size=batch_size,
                seed=seed,
            )
            weights = [name for name in found.cosine if name.endswith("weight")]
            for place, name in enumerate(weights, start=1):
                row = f"{when}_{place}"
                values.setdefault((row, "distance"), []).append(found.distance[name])
                values.setdefault((row, "relative"), []).append(found.relative[name])
                values.setdefault((row, "cosine"), []).append(found.cosine[name])
    return by_seed(values, seeds)


def classes(
    images: Mapping[str, Any],
    training: Mapping[str, Any],
    recipe: Mapping[str, Any],
    eps: float,
    num_steps: int,
    at: Sequence[int],
    seeds: Sequence[int],
) -> Cells:
    """Measure how many of the adversarial states of a chain lie in one class.

    A row is a number of transitions. ``largest`` is the share, in %, of the commonest class among
    the adversarial states after it, and ``acceptance`` that of the accepted transitions until then.

    Args:
        images: of ``images_of``.
        training: options of ``train``.
        recipe: that the network is trained by.
        eps: radius of the chain.
        num_steps: T, steps of a transition.
        at: numbers of transitions.
        seeds: of trainings and chains.
    """
    data = images_of(**images)
    values: dict[tuple[str, str], list[float]] = {}
    for seed in seeds:
        model = trained(untrained(data, seed), data, make_recipe(**recipe), seed, training).model
        result = hmcam(
            model,
            data.test_x,
            data.test_y,
            eps=eps,
            num_transitions=max(at),
            num_steps=num_steps,
            seed=seed,
        )
        labels = chain_statistics(result, model).labels
        if labels is None or result.trace is None:
            raise ValueError("the chain has no states")
        for count in at:
            wrong = labels[count - 1][labels[count - 1] != data.test_y]
            common = 100 * float((wrong == wrong.mode().values).double().mean())
            accepted = 100 * float(result.trace["accepted"][:count].double().nanmean())
            values.setdefault((f"k_{count}", "largest"), []).append(common)
            values.setdefault((f"k_{count}", "acceptance"), []).append(accepted)
            values.setdefault((f"k_{count}", "success"), []).append(100 * len(wrong) / len(labels[0]))
    return by_seed(values, seeds)

