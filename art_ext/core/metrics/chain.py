"""Transfer of adversarial examples to other models, and diversity of chains of examples.

Fractions and means over nothing (no sample that counts, no pair of states) are NaN. Every tensor is
returned on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.geometry import distances, exact_mean, norm_name
from art_ext.core.keywords import public
from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.result import AttackResult
from art_ext.core.samples import check_classes

QUANTILE = 1.959963984540054  # of the normal law, for two-sided 95 %
PAIRED_AT_ONCE = 1 << 22  # values of the pairs of states whose differences are taken together


@dataclass(frozen=True, eq=False)
class TransferRate:
    """Success rate of examples on models, over the samples that count.

    Attributes:
        share: mean of ``rates`` over the samples that count.
        count: number of these.
        rates: (N,) in [0, 1], the success rate of each sample over the models and states. It is 0
            or 1 for one model and one example.
        counted: (N,) bool, the samples in the mean.
    """

    share: float
    count: int
    rates: Tensor
    counted: Tensor


@dataclass(frozen=True)
class PairedInterval:
    """Difference of two rates on the same samples, with its 95 % interval.

    Attributes:
        difference: first rate minus second, over the samples that count in both.
        low: lower end of the interval. NaN for fewer than two samples.
        high: upper end.
        count: number of these samples.
    """

    difference: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, eq=False)
class Diversity:
    """Differences among the S states of each sample's chain.

    Attributes:
        mean_distance: mean of ``distance`` over the samples that were not already adversarial.
        mean_classes: the same for ``classes``. NaN without a model.
        distance: (N,) float64, mean distance over the pairs of states in the result's norm. NaN for
            a chain of one.
        classes: (N,) int64, number of distinct classes that the model predicts for the states. None
            without a model.
    """

    mean_distance: float
    mean_classes: float
    distance: Tensor
    classes: Tensor | None


@public()
def transfer_success(
    examples: Tensor,
    x: Tensor,
    y: Tensor,
    models: Model | Sequence[Model],
    *,
    targets: Tensor | None = None,
    already_adversarial: Tensor | None = None,
    outputs: str = "logits",
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> TransferRate:
    """Compute the success rate of examples on models that they were not made on.

    ``rates_i = mean_{k, s} [f_k(x'_{s,i}) != y_i]``, or ``== t_i``. The mean is over the samples
    that every model classifies correctly before the attack (and not as the target), and that were
    not already adversarial. A row for which a model returns NaN is neither correct nor a success.

    Args:
        examples: (N, *S), such as ``result.x_adv``, or (S, N, *S), such as ``result.samples``, with
            equal weights.
        x: (N, *S) the clean inputs.
        y: (N,) their true classes, also if the attack is targeted.
        models: one model or a list of K, each an ``nn.Module`` or a callable of a batch. They run
            in eval mode. No query is charged.
        targets: (N,) target classes. None counts every wrong class.
        already_adversarial: (N,) bool, ``result.already_adversarial``: samples not to count.
        outputs: what the models return: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        batch_size: maximum number of rows in one model call.
        device: device of the inputs, for models without parameters.

    Raises:
        ValueError: if shapes do not fit, or without a model.
    """
    states = examples.unsqueeze(0) if examples.dim() == x.dim() else examples
    successes, counted = _successes(
        states, x, y, models, targets, already_adversarial, outputs, batch_size, device
    )
    return _rate(successes.to(geometry.exact_dtype(successes.device)).mean(dim=(0, 1)), counted)


@public()
def all_or_nothing_success(
    result: AttackResult,
    x: Tensor,
    y: Tensor,
    models: Model | Sequence[Model],
    *,
    targets: Tensor | None = None,
    outputs: str = "logits",
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> TransferRate:
    """Compute the rate at which all states of a sample's chain succeed on a model.

    ``rates_i = mean_k prod_s [f_k(x'_{s,i}) != y_i]``, or ``== t_i`` with targets. The samples that
    count, and the errors, are those of ``transfer_success``. ``models`` may be the attacked
    one or held-out ones.

    Args:
        result: of an attack that draws a chain, or one with ``keep_samples=True``.
        x: (N, *S) the clean inputs.
        y: (N,) their true classes.
        models: one model, or a list of K models.
        targets: (N,) target classes. None counts every wrong class.
        outputs: what the models return: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        batch_size: maximum number of rows in one model call.
        device: device of the inputs, for models without parameters.

    Raises:
        ValueError: also for results without a chain.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, section 5.6.2 ("all-or-nothing").
    """
    already = result.already_adversarial
    successes, counted = _successes(
        chain_of(result), x, y, models, targets, already, outputs, batch_size, device
    )
    return _rate(
        successes.all(dim=1).to(geometry.exact_dtype(successes.device)).mean(dim=0), counted
    )


def paired_interval(first: TransferRate, second: TransferRate) -> PairedInterval:
    """Compute the difference of two rates on the same samples, with its interval.

    The interval is ``mean(d) +- 1.96 sd(d) / sqrt(n)``, ``d_i = a_i - b_i``. This is the normal
    approximation to the paired comparison, over the samples that count in both.

    Args:
        first: the rates a_i of the samples, with the samples that count.
        second: the rates b_i of the same samples.

    Raises:
        ValueError: if the two are of different numbers of samples.
    """
    if first.rates.shape != second.rates.shape:
        raise ValueError(
            "first and second must be rates of the same samples, got"
            f" {len(first.rates)} and {len(second.rates)} samples"
        )
    d = (first.rates - second.rates)[first.counted & second.counted]
    mean = exact_mean(d)
    reach = QUANTILE * float(d.std()) / math.sqrt(len(d)) if len(d) > 1 else math.nan
    return PairedInterval(mean, mean - reach, mean + reach, len(d))


@public()
def diversity(
    result: AttackResult,
    model: Model | None = None,
    *,
    norm: str | None = None,
    outputs: str = "logits",
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> Diversity:
    """Measure the distances and the distinct classes of the states of a chain, or of restarts.

    The distance is ``2 / (S (S - 1)) sum_{s < r} ||x'_s - x'_r||_p``.

    Args:
        result: of an attack that draws a chain, or one with ``keep_samples=True``.
        model: model whose distinct predicted classes are counted. None counts none.
        norm: ``"linf"``, ``"l2"`` or ``"l1"`` of the distances, in any usual spelling. None takes
            the result's.
        outputs: what the model returns: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        batch_size: maximum number of rows in one model call.
        device: device of the inputs, for models without parameters.

    Raises:
        ValueError: for results without samples, or an unknown norm.
    """
    norm = result.norm if norm is None else norm_name(norm)
    states = chain_of(result)
    distance = mean_distances(states, norm)
    attacked = ~result.already_adversarial.cpu()
    if model is None:
        return Diversity(exact_mean(distance[attacked]), math.nan, distance, None)
    classes = distinct_classes(predictions(model, states, outputs, batch_size, device))
    return Diversity(
        exact_mean(distance[attacked]), exact_mean(classes[attacked]), distance, classes
    )


def mean_distances(states: Tensor, norm: str) -> Tensor:
    """Return (N,) mean distances over the pairs of states (S, N, *S). NaN for a single one."""
    total = torch.zeros(states.shape[1], dtype=geometry.exact_dtype(torch.device("cpu")))
    # of all pairs at once the differences need S times the chain's memory
    together = max(1, PAIRED_AT_ONCE // max(1, states[0].numel()))
    for number, first in enumerate(states[:-1]):
        for others in states[number + 1 :].split(together):
            repeated = first.expand_as(others).flatten(0, 1)
            found = distances(others.flatten(0, 1), repeated, norm)
            total += found.view(len(others), len(first)).sum(dim=0).cpu()
    pairs = math.comb(len(states), 2)
    return total / pairs if pairs else torch.full_like(total, math.nan)


def distinct_classes(labels: Tensor) -> Tensor:
    """Return (N,) int64, the number of distinct classes among predictions (S, N). NaN, as -1, is
    none.
    """
    ordered = labels.sort(dim=0).values
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    return (fresh & (ordered >= 0)).sum(dim=0)


def acceptance_rate(result: AttackResult) -> float:
    """Compute the fraction of a chain's transitions that passed the Metropolis-Hastings test.

    It is 1 for chains of one state, without test. Transitions that a sample did not finish
    (success, budget, or already adversarial) are omitted.

    Args:
        result: of an attack that draws a chain, with its trace.

    Raises:
        ValueError: for results whose trace does not record acceptance.
    """
    if result.trace is None or "accepted" not in result.trace:
        raise ValueError(
            "result must have trace['accepted']: pass the result of an attack that draws a chain,"
            " such as hmcam"
        )
    accepted = result.trace["accepted"]
    return exact_mean(accepted[~accepted.isnan()].cpu())


def chain_of(result: AttackResult) -> Tensor:
    """Return the states (S, N, *S) of a result that has them."""
    if result.samples is None:
        raise ValueError(
            "result must have samples, got none: pass the result of hmcam, or of pgd, m_pgd,"
            " auto_pgd or ai_fgsm with keep_samples=True, or of mi_fgsm with keep_samples=S"
        )
    return result.samples


def _successes(
    states: Tensor,
    x: Tensor,
    y: Tensor,
    models: Model | Sequence[Model],
    targets: Tensor | None,
    already: Tensor | None,
    outputs: str,
    batch_size: int,
    device: torch.device | str | None,
) -> tuple[Tensor, Tensor]:
    """Return (K, S, N) bool: successes of states on models, and (N,) bool: samples that count."""
    if states.shape[1:] != x.shape:
        raise ValueError(
            f"examples must have shape {tuple(x.shape)}, or states of it, got {tuple(states.shape)}"
        )
    if already is not None and already.shape != (len(x),):
        raise ValueError(
            f"already_adversarial must have shape ({len(x)},), got {tuple(already.shape)}"
        )
    check_classes("y", y, len(x))
    check_classes("targets", targets, len(x))
    listed: list[Model] = list(models) if isinstance(models, Sequence) else [models]
    if not listed:
        raise ValueError("models must hold at least one model, got none")
    y = y.cpu().to(torch.int64)
    goal = None if targets is None else targets.cpu().to(torch.int64)
    counted = torch.ones(len(x), dtype=torch.bool) if already is None else ~already.cpu()
    successes = []
    for model in listed:
        clean = predictions(model, x.unsqueeze(0), outputs, batch_size, device).squeeze(0)
        labels = predictions(model, states, outputs, batch_size, device)
        counted = counted & (clean == y)
        if goal is not None:
            counted = counted & (clean != goal)
        successes.append((labels != y) & (labels >= 0) if goal is None else labels == goal)
    return torch.stack(successes), counted


def predictions(
    model: Model, states: Tensor, outputs: str, batch_size: int, device: torch.device | str | None
) -> Tensor:
    """Return (S, N) int64 predicted classes of states (S, N, *S). A row of NaN gives -1."""
    oracle = LabelOracle(
        model,
        states.shape[1],
        outputs=outputs,
        batch_size=batch_size,
        device=device,
        default_device=states.device,
    )
    index = torch.arange(states.shape[1], device=oracle.device)
    with oracle:
        labels = [oracle.labels(rows.to(oracle.device, torch.float32), index) for rows in states]
    return torch.stack(labels).cpu()


def _rate(rates: Tensor, counted: Tensor) -> TransferRate:
    return TransferRate(exact_mean(rates[counted]), int(counted.sum()), rates, counted)
