"""What a chain of adversarial examples is worth, and how far examples carry over to models they
were not made on.

Shares and means over nothing (no sample that counts, no pair of states) are NaN. Every tensor comes
back on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.geometry import distances, exact_mean, norm_name
from art_ext.core.keywords import public
from art_ext.core.oracle import LabelOracle, Model
from art_ext.core.problem import check_classes
from art_ext.core.result import AttackResult

QUANTILE = 1.959963984540054  # of the normal law, for two-sided 95 %


@dataclass(frozen=True, eq=False)
class FoolingRate:
    """How often examples fool models, over the samples for which that says something.

    Attributes:
        share: mean of ``rates`` over the samples that count.
        count: number of these.
        rates: (N,) in [0, 1], how much of its models a sample fools; 0 or 1 for one model and one
            example.
        counted: (N,) bool, the samples in the mean.
    """

    share: float
    count: int
    rates: Tensor
    counted: Tensor


@dataclass(frozen=True)
class PairedInterval:
    """A difference of two rates on the same samples, with its 95 % interval.

    Attributes:
        difference: first share less second, over the samples that count in both.
        low, high: the ends of the interval; NaN for fewer than two samples.
        count: number of these samples.
    """

    difference: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, eq=False)
class Diversity:
    """How different the S states of each sample's chain are.

    Attributes:
        mean_distance: mean of ``distance`` over the samples that were not adversarial already.
        mean_classes: the same of ``classes``; NaN without a model.
        distance: (N,) float64, mean distance over the pairs of states in the result's norm; NaN for
            a chain of one.
        classes: (N,) int64, number of distinct classes that the model predicts for the states; None
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
) -> FoolingRate:
    """How often examples fool models that they were not made on.

    ``rates_i = mean_{k, s} [f_k(x'_{s,i}) != y_i]``, or ``== t_i``, averaged over the samples that
    every model classifies right before the attack (and not as the target), and that the attack had
    to attack.

    Args:
        examples: (N, *S), such as ``result.x_adv``, or (S, N, *S), such as ``result.samples``, each
            state alike.
        x: (N, *S) the clean inputs.
        y: (N,) their true classes, also where the attack is targeted.
        models: one model or a list of K; ``nn.Module`` or callables of a batch. They run in eval
            mode, without charge.
        targets: (N,) classes to be reached; None counts every wrong class.
        already_adversarial: (N,) bool, ``result.already_adversarial``: samples not to count.
        outputs: what the models return: ``"logits"``, ``"probabilities"`` or ``"labels"``.
        batch_size: most rows in one model call.
        device: where inputs go for models without parameters.

    A row for which a model returns NaN is neither right nor fooled.

    Raises:
        ValueError: if shapes do not fit, or for no model.
    """
    states = examples.unsqueeze(0) if examples.dim() == x.dim() else examples
    hits, counted = _hits(
        states, x, y, models, targets, already_adversarial, outputs, batch_size, device
    )
    return _rate(hits.to(geometry.exact_dtype(hits.device)).mean(dim=(0, 1)), counted)


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
) -> FoolingRate:
    """How often all states of a sample's chain fool a model: ``rates_i = mean_k prod_s
    [f_k(x'_{s,i}) != y_i]``.

    With targets, ``== t_i``. Arguments, the samples that count, and errors are those of
    ``transfer_success``; ``models`` may be the attacked one or held-out ones.

    Raises:
        ValueError: also for results without a chain.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, section 5.6.2 ("all-or-nothing").
    """
    already = result.already_adversarial
    hits, counted = _hits(
        _chain(result), x, y, models, targets, already, outputs, batch_size, device
    )
    return _rate(hits.all(dim=1).to(geometry.exact_dtype(hits.device)).mean(dim=0), counted)


def paired_interval(first: FoolingRate, second: FoolingRate) -> PairedInterval:
    """The difference of two rates on the same samples: ``mean(d) +- 1.96 sd(d) / sqrt(n)``, ``d_i =
    a_i - b_i``.

    The normal approximation to the paired comparison, over the samples that count in both.

    Raises:
        ValueError: if the two are of different numbers of samples.
    """
    if first.rates.shape != second.rates.shape:
        raise ValueError(
            f"wanted two rates of the same samples, got {len(first.rates)} and {len(second.rates)}"
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
    """How different the states of a chain, or the ends of restarts, are, and how many classes they
    have.

    The distance is ``2 / (S (S - 1)) sum_{s < r} ||x'_s - x'_r||_p``.

    Args:
        result: of an attack that draws a chain, or one with ``keep_samples=True``.
        model: what to count the distinct predicted classes with; None counts none.
        norm: ``"linf"``, ``"l2"`` or ``"l1"`` of the distances, in any usual spelling; None takes
            the result's.
        outputs, batch_size, device: as for ``transfer_success``.

    Raises:
        ValueError: for results without samples, or an unknown norm.
    """
    norm = result.norm if norm is None else norm_name(norm)
    states = _chain(result)
    total = torch.zeros(states.shape[1], dtype=geometry.exact_dtype(torch.device("cpu")))
    # one pair at a time: all at once need S times the chain's memory
    for first, second in combinations(states, 2):
        total += distances(first, second, norm).cpu()
    pairs = math.comb(len(states), 2)
    distance = total / pairs if pairs else torch.full_like(total, math.nan)
    attacked = ~result.already_adversarial.cpu()
    if model is None:
        return Diversity(exact_mean(distance[attacked]), math.nan, distance, None)
    ordered = predictions(model, states, outputs, batch_size, device).sort(dim=0).values
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    classes = (fresh & (ordered >= 0)).sum(dim=0)  # NaN, as -1, is no class
    return Diversity(
        exact_mean(distance[attacked]), exact_mean(classes[attacked]), distance, classes
    )


def acceptance_rate(result: AttackResult) -> float:
    """Share of a chain's transitions that passed the Metropolis-Hastings test; 1 for chains of one
    state, without test.

    Transitions that a sample did not finish (success, budget, or adversarial already) are left out.

    Raises:
        ValueError: for results whose trace says nothing of acceptance.
    """
    if result.trace is None or "accepted" not in result.trace:
        raise ValueError(
            "wanted a result with trace['accepted']: pass that of an attack that draws a chain, as"
            " hmcam"
        )
    accepted = result.trace["accepted"]
    return exact_mean(accepted[~accepted.isnan()].cpu())


def _chain(result: AttackResult) -> Tensor:
    """The states (S, N, *S) of a result that has them."""
    if result.samples is None:
        raise ValueError(
            "result must have samples, got none: pass that of hmcam, or of pgd, m_pgd, auto_pgd or"
            " ai_fgsm with keep_samples=True"
        )
    return result.samples


def _hits(
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
    """(K, S, N) bool, which states (S, N, *S) fool which models, and (N,) bool, which samples
    count.
    """
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
    hits = []
    for model in listed:
        clean = predictions(model, x.unsqueeze(0), outputs, batch_size, device).squeeze(0)
        labels = predictions(model, states, outputs, batch_size, device)
        counted = counted & (clean == y)
        if goal is not None:
            counted = counted & (clean != goal)
        hits.append((labels != y) & (labels >= 0) if goal is None else labels == goal)
    return torch.stack(hits), counted


def predictions(
    model: Model, states: Tensor, outputs: str, batch_size: int, device: torch.device | str | None
) -> Tensor:
    """(S, N) int64 classes that a model predicts for states (S, N, *S); -1 where it returns NaN."""
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


def _rate(rates: Tensor, counted: Tensor) -> FoolingRate:
    return FoolingRate(exact_mean(rates[counted]), int(counted.sum()), rates, counted)
