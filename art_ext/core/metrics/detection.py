"""Measures of detectors: rates, the ROC curve, and robust accuracy with rejection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.checks import check_choice, check_count
from art_ext.core.metrics.intervals import wilson
from art_ext.core.streams import resolve_seed, uniform
from art_ext.core.thresholds import check_fpr, check_scores, threshold_of

PROTOCOLS = ("pairs", "all")
CHUNK = 1 << 22  # numbers of a temporary


@dataclass(frozen=True)
class Rate:
    """A counted rate with its 95 % Wilson interval.

    Attributes:
        count: number of samples that count.
        total: number of samples.
        low: lower end of the interval, NaN without a sample.
        high: upper end.
    """

    count: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, marked: Tensor) -> Rate:
        """Return the rate of True in a tensor (n,) bool."""
        count = int(marked.sum())
        return cls(count, marked.numel(), *wilson(count, marked.numel()))

    @property
    def share(self) -> float:
        """count / total, NaN without a sample."""
        return self.count / self.total if self.total else math.nan

    def __str__(self) -> str:
        if not self.total:
            return "no sample"
        low, high = 100 * self.low, 100 * self.high
        return f"{100 * self.share:.1f} % [{low:.1f}, {high:.1f}] ({self.count} of {self.total})"


@dataclass(frozen=True)
class DetectionMetrics:
    """Separation of clean from adversarial inputs by scores.

    Attributes:
        protocol: ``"pairs"`` or ``"all"``.
        clean: number of clean inputs.
        adversarial: number of adversarial inputs.
        auroc: area under the ROC curve.
        auroc_low: lower end of its 95 % bootstrap interval.
        auroc_high: upper end.
        fpr: the wanted false-positive rate.
        threshold: the score at that rate, taken from the clean scores themselves.
        tpr: share of adversarial inputs above the threshold.
        roc_fpr: (P,) float64 false-positive rates of the ROC curve, from 0 to 1.
        roc_tpr: (P,) float64 true-positive rates of the same points, from 0 to 1.
    """

    protocol: str
    clean: int
    adversarial: int
    auroc: float
    auroc_low: float
    auroc_high: float
    fpr: float
    threshold: float
    tpr: float
    roc_fpr: Tensor
    roc_tpr: Tensor


def detection_metrics(
    clean_scores: Tensor,
    adversarial_scores: Tensor,
    fpr: float = 0.05,
    *,
    protocol: str = "pairs",
    resamples: int = 1000,
    seed: int = 0,
) -> DetectionMetrics:
    """Compute AUROC, its interval, the true-positive rate at a false-positive rate, and the ROC.

        AUROC = P(s(x') > s(x)) + P(s(x') = s(x)) / 2

    Args:
        clean_scores: (n,) scores of clean inputs. A larger one is more suspicious.
        adversarial_scores: (m,) scores of adversarial inputs.
        fpr: the false-positive rate, in (0, 1).
        protocol: ``"pairs"``: correctly classified clean inputs against the successful adversarials
            made from them, in one order, n = m. The bootstrap draws pairs. ``"all"``: any inputs.
            The bootstrap draws both sides apart.
        resamples: number of bootstrap resamples. Default: 1000.
        seed: key of the bootstrap.

    Raises:
        ValueError: if there is no clean or no adversarial input, a score is NaN, the numbers differ
            in ``"pairs"``, or an argument is out of range.
        TypeError: if scores are no tensor.

    References:
        Hanley, McNeil. The meaning and use of the area under a receiver operating characteristic
        (ROC) curve. Radiology 1982.
    """
    check_fpr(fpr)
    check_choice("protocol", protocol, PROTOCOLS)
    check_count("resamples", resamples)
    clean = _scores("clean_scores", clean_scores, "no correctly classified clean image")
    adversarial = _scores("adversarial_scores", adversarial_scores, "no successful adversarial")
    if protocol == "pairs" and len(clean) != len(adversarial):
        raise ValueError(
            "with protocol='pairs' each adversarial score needs the score of its clean image, got"
            f" {len(clean)} clean and {len(adversarial)} adversarial scores"
        )
    levels = _Levels(clean, adversarial)
    low, high = levels.interval(resamples, resolve_seed(seed), paired=protocol == "pairs")
    threshold = threshold_of(clean, fpr)
    roc_fpr, roc_tpr = levels.roc()
    return DetectionMetrics(
        protocol=protocol,
        clean=len(clean),
        adversarial=len(adversarial),
        auroc=float(levels.areas(*levels.counts())),
        auroc_low=low,
        auroc_high=high,
        fpr=float(fpr),
        threshold=threshold,
        tpr=float((adversarial > threshold).double().mean()),
        roc_fpr=roc_fpr,
        roc_tpr=roc_tpr,
    )


class _Levels:
    """The distinct values of clean and adversarial scores, and the level of each score.

    Args:
        clean: (n,) float64.
        adversarial: (m,) float64.
    """

    def __init__(self, clean: Tensor, adversarial: Tensor) -> None:
        values, level = torch.unique(torch.cat([clean, adversarial]), return_inverse=True)
        self.number = len(values)
        self.clean = level[: len(clean)]
        self.adversarial = level[len(clean) :]

    def counts(self) -> tuple[Tensor, Tensor]:
        """Return (U,) float64 numbers of clean and of adversarial scores on each level."""
        return self._counted(self.clean), self._counted(self.adversarial)

    def _counted(self, level: Tensor) -> Tensor:
        return torch.bincount(level, minlength=self.number).double()

    def areas(self, clean: Tensor, adversarial: Tensor) -> Tensor:
        """Return (...,) areas under the curve from numbers of scores on each level (..., U)."""
        below = clean.cumsum(dim=-1) - clean / 2
        pairs = clean.sum(dim=-1) * adversarial.sum(dim=-1)
        return (below * adversarial).sum(dim=-1) / pairs

    def interval(self, resamples: int, seed: int, *, paired: bool) -> tuple[float, float]:
        """Return the 2.5 % and 97.5 % quantiles of the area over bootstrap resamples."""
        areas = []
        step = max(1, CHUNK // max(self.number, len(self.clean), len(self.adversarial)))
        for start in range(0, resamples, step):
            ids = torch.arange(start, min(start + step, resamples))
            first = self._resampled(seed, ids, 0, self.clean)
            second = self._resampled(seed, ids, 0 if paired else 1, self.adversarial)
            areas.append(self.areas(first, second))
        ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
        low, high = torch.quantile(torch.cat(areas), ends).tolist()
        return low, high

    def _resampled(self, seed: int, ids: Tensor, step: int, level: Tensor) -> Tensor:
        """Return (B, U) numbers of scores on each level, for resamples with replacement."""
        total = len(level)
        # the product stays below total: uniform numbers have 24 bits, these have 53
        places = (uniform(seed, ids, step, (total,)).double() * total).to(torch.int64)
        counts = torch.zeros(len(ids), self.number, dtype=torch.float64)
        return counts.scatter_add_(1, level[places], torch.ones_like(places, dtype=torch.float64))

    def roc(self) -> tuple[Tensor, Tensor]:
        """Return the points (P,) of the curve, one for each level and the origin."""
        found = []
        for counts in self.counts():
            above = counts.flip(0).cumsum(0) / counts.sum()
            found.append(torch.cat([above.new_zeros(1), above]))
        return found[0], found[1]


@dataclass(frozen=True)
class RejectionAccuracy:
    """Robust accuracy of a model with a detector that rejects inputs, and what belongs beside it.

    Attributes:
        robust: correct and accepted without attack, and no attack found a row that is misclassified
            and accepted.
        clean: correct and accepted without attack.
        rejected: clean samples that the detector rejects.
        robust_alone: robust without the detector: correct, and no attack succeeded.
        caught: of the successes of attacks that do not know the detector, those that it rejects.
    """

    robust: Rate
    clean: Rate
    rejected: Rate
    robust_alone: Rate
    caught: Rate


def rejection_accuracy(
    clean_correct: Tensor,
    clean_accepted: Tensor,
    success_accepted: Tensor,
    success: Tensor | None = None,
    accepted: Tensor | None = None,
) -> RejectionAccuracy:
    """Compute robust accuracy with rejection.

        robust = share of samples with correct(x) and accepted(x) and no attack of the panel that
        found, inside eps, a row x' with misclassified(x') and accepted(x')

    A clean sample that is rejected counts as a failure.

    Args:
        clean_correct: (N,) bool, correctly classified without attack.
        clean_accepted: (N,) bool, accepted without attack.
        success_accepted: (N,) or (A, N) bool, an attack found a row that is misclassified and
            accepted.
        success: (N,) or (B, N) bool, successes of attacks that do not know the detector. None: none
            were run.
        accepted: of the shape of success, True where the row of that success is accepted.

    Raises:
        ValueError: if the shapes do not fit.
    """
    total = len(clean_correct)
    found = _attacks("success_accepted", success_accepted, total)
    alone = _attacks("success", torch.zeros(0, total) if success is None else success, total)
    passed = _attacks("accepted", torch.zeros_like(alone) if accepted is None else accepted, total)
    if passed.shape != alone.shape or clean_accepted.shape != clean_correct.shape:
        raise ValueError(
            "accepted must have the shape of success, and clean_accepted that of clean_correct, got"
            f" {tuple(passed.shape)} for {tuple(alone.shape)} and {tuple(clean_accepted.shape)} for"
            f" {tuple(clean_correct.shape)}"
        )
    correct = clean_correct.bool()
    clean = correct & clean_accepted.bool()
    return RejectionAccuracy(
        robust=Rate.of(clean & ~found.any(dim=0)),
        clean=Rate.of(clean),
        rejected=Rate.of(~clean_accepted.bool()),
        robust_alone=Rate.of(correct & ~alone.any(dim=0)),
        caught=Rate.of(~passed[alone]),
    )


def rejection_by_distance(
    clean_correct: Tensor, clean_accepted: Tensor, distance: Tensor, radii: Tensor | Sequence[float]
) -> Tensor:
    """Return (R,) float64 robust accuracy with rejection at each radius.

    Args:
        clean_correct: (N,) bool, as in ``rejection_accuracy``.
        clean_accepted: (N,) bool, as in ``rejection_accuracy``.
        distance: (N,) or (A, N), distance of the nearest row that is misclassified and accepted,
            infinite where none was found.
        radii: (R,) radii, in the units of the distances.

    Raises:
        ValueError: if the shapes do not fit.
    """
    total = len(clean_correct)
    smallest = _smallest(_attacks("distance", distance, total, distance.dtype))
    clean = clean_correct.bool() & clean_accepted.bool()
    at = torch.as_tensor(radii, dtype=distance.dtype).unsqueeze(1)
    return (clean & (smallest > at)).double().mean(dim=1)


def rejection_by_fpr(
    calibration_scores: Tensor,
    clean_scores: Tensor,
    clean_correct: Tensor,
    adversarial_scores: Tensor,
    rates: Sequence[float],
) -> Tensor:
    """Return (R,) float64 robust accuracy with rejection at thresholds of other rates.

    The attacks are not run again, so that the values at other thresholds than their own are upper
    bounds.

    Args:
        calibration_scores: (n,) clean scores that the thresholds come from.
        clean_scores: (N,) scores of the attacked samples without attack.
        clean_correct: (N,) bool: the model classifies them correctly.
        adversarial_scores: (N,) or (A, N) scores of the misclassified row that each attack
            returned, infinite where it has none.
        rates: R false-positive rates, each in (0, 1).

    Raises:
        ValueError: if the shapes do not fit, or a rate is out of range.
    """
    total = len(clean_correct)
    lowest = _smallest(_attacks("adversarial_scores", adversarial_scores, total, torch.float64))
    found = []
    for rate in rates:
        threshold = threshold_of(calibration_scores, rate)
        robust = clean_correct.bool() & (clean_scores.double() <= threshold) & (lowest > threshold)
        found.append(float(robust.double().mean()))
    return torch.tensor(found, dtype=torch.float64)


def _attacks(name: str, values: Tensor, total: int, dtype: torch.dtype = torch.bool) -> Tensor:
    """Return (A, N) values of A attacks.

    Raises:
        ValueError: unless they have shape (N,) or (A, N).
    """
    rows = values.unsqueeze(0) if values.dim() == 1 else values
    if rows.dim() != 2 or rows.shape[1] != total:
        raise ValueError(
            f"{name} must have shape ({total},) or (attacks, {total}), got {tuple(values.shape)}"
        )
    return rows.to(dtype)


def _smallest(values: Tensor) -> Tensor:
    """Return (N,) the smallest values (A, N) over the attacks, infinity without an attack."""
    return torch.cat([values, values.new_full((1, values.shape[1]), torch.inf)]).amin(dim=0)


def _scores(name: str, scores: Tensor, reason: str) -> Tensor:
    """Return scores (n,) as float64 on the CPU.

    Raises:
        ValueError: without a score, or for NaN.
    """
    check_scores(name, scores, reason)
    return scores.detach().cpu().double()
