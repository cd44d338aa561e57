"""Acceptance, diversity and success of the states that an attack draws of each sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.geometry import exact_mean
from art_ext.core.metrics.chain import chain_of, distinct_classes, mean_distances, predictions
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult
from art_ext.core.samples import check_classes, reaches_goal


@dataclass(frozen=True, eq=False)
class ChainStatistics:
    """Statistics of the S states of N samples. Means are over the samples that were not adversarial
    before the attack.

    Attributes:
        states: S.
        acceptance: fraction of the transitions that passed the Metropolis-Hastings test. NaN for
            attacks without one.
        diversity_l2: mean L2 distance over the pairs of states. NaN for a single state.
        diversity: the same in the norm of the attack.
        classes: mean number of distinct classes that the model predicts for the states. NaN without
            a model.
        all_or_nothing: fraction of the samples all of whose states are adversarial. NaN without a
            model and classes.
        transitions: (N,) int64, transitions with a test.
        accepted: (N,) int64, those of them that passed it.
        distance_l2: (N,) float64, mean L2 distance of each sample's pairs.
        distance: (N,) float64, the same in the norm of the attack.
        labels: (S, N) int64, predicted classes of the states, -1 for a row of NaN. None without a
            model.
        distinct: (N,) int64, number of distinct ones. None without a model.
        adversarial: (N,) int64, number of adversarial states. None without a model and classes.
    """

    states: int
    acceptance: float
    diversity_l2: float
    diversity: float
    classes: float
    all_or_nothing: float
    transitions: Tensor
    accepted: Tensor
    distance_l2: Tensor
    distance: Tensor
    labels: Tensor | None
    distinct: Tensor | None
    adversarial: Tensor | None


def chain_statistics(
    result: AttackResult,
    model: Model | None = None,
    *,
    y: Tensor | None = None,
    targets: Tensor | None = None,
    outputs: str = "logits",
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> ChainStatistics:
    """Compute acceptance, diversity and success of the states of a chain, of restarts or of the
    last iterates.

    These are the values of ``acceptance_rate``, ``diversity`` and, on the attacked model,
    ``all_or_nothing_success``, with those of each sample. Each state is predicted once, and no
    query is charged.

    Args:
        result: of an attack that draws a chain, or of one that was told to keep samples.
        model: model that predicts the states. None: no classes are counted.
        y: (N,) the true classes, to count adversarial states. None, and no targets: not counted.
        targets: (N,) the target classes of a targeted attack. y is not read then.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        batch_size: maximum number of rows in one model call.
        device: device of the inputs, for models without parameters.

    Returns:
        A ``ChainStatistics``. Every tensor is on the CPU.

    Raises:
        ValueError: for results without samples, or classes that do not fit.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, Algorithm 2 and section 5.6.2.
    """
    states = chain_of(result)
    goal = y if targets is None else targets
    check_classes("y" if targets is None else "targets", goal, len(result))
    attacked = ~result.already_adversarial.cpu()
    transitions, accepted = _transitions(result)
    tested = int(transitions.sum())
    distance_l2 = mean_distances(states, "l2")
    distance = distance_l2 if result.norm == "l2" else mean_distances(states, result.norm)
    labels = distinct = adversarial = None
    if model is not None:
        labels = predictions(model, states, outputs, batch_size, device)
        distinct = distinct_classes(labels)
        if goal is not None:
            success = reaches_goal(labels, goal.cpu().to(torch.int64), targets is not None)
            adversarial = success.sum(dim=0)
    whole = None if adversarial is None else adversarial == len(states)
    return ChainStatistics(
        states=len(states),
        acceptance=int(accepted.sum()) / tested if tested else math.nan,
        diversity_l2=exact_mean(distance_l2[attacked]),
        diversity=exact_mean(distance[attacked]),
        classes=math.nan if distinct is None else exact_mean(distinct[attacked]),
        all_or_nothing=math.nan if whole is None else exact_mean(whole[attacked]),
        transitions=transitions,
        accepted=accepted,
        distance_l2=distance_l2,
        distance=distance,
        labels=labels,
        distinct=distinct,
        adversarial=adversarial,
    )


def _transitions(result: AttackResult) -> tuple[Tensor, Tensor]:
    """Return (N,) the transitions of each sample with a test, and those that passed it."""
    trace = (result.trace or {}).get("accepted")
    if trace is None:
        none = torch.zeros(len(result), dtype=torch.int64)
        return none, none
    trace = trace.cpu()
    return (~trace.isnan()).sum(dim=0), (trace == 1).sum(dim=0)
