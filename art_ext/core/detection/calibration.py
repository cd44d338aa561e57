"""Calibration images, and the rate that a threshold has on images that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.checks import check_count
from art_ext.core.streams import uniform
from art_ext.core.thresholds import check_fpr

if TYPE_CHECKING:
    from art_ext.core.metrics.detection import Rate

ENOUGH = 1000  # calibration images, below which a threshold is not reliable


def drawn(total: int, count: int, seed: int = 0) -> Tensor:
    """Return (count,) int64 places in a data set, drawn at random without replacement.

    Data sets are not exchangeable in file order, so that the first images are a poor calibration.

    Args:
        total: number of samples of the data set.
        count: number of places, at most total.
        seed: key of the draw. Default: 0.

    Raises:
        ValueError: if count exceeds total.
    """
    check_count("total", total, least=0)
    check_count("count", count, least=0)
    if count > total:
        raise ValueError(f"count must not exceed the {total} samples, got {count}")
    return uniform(seed, torch.arange(total), 0).argsort(stable=True)[:count]


@dataclass(frozen=True)
class HeldOutRate:
    """The false-positive rate of a threshold on clean images that it was not set on.

    Attributes:
        wanted: the rate that the threshold was set at.
        every: of all clean images.
        correct: of the correctly classified ones. None if the classes are not known.
    """

    wanted: float
    every: Rate
    correct: Rate | None

    @property
    def excludes(self) -> bool:
        """True if the interval over all images excludes the wanted rate."""
        return bool(self.every.total) and not self.every.low <= self.wanted <= self.every.high

    def __str__(self) -> str:
        text = f"false-positive rate: wanted {100 * self.wanted:g} %, held out {self.every}"
        return text if self.correct is None else f"{text}, correctly classified {self.correct}"


def held_out_rate(rejected: Tensor, fpr: float, correct: Tensor | None = None) -> HeldOutRate:
    """Return the rate at which held-out clean images are rejected, with Wilson intervals.

    Args:
        rejected: (n,) bool, ``detect`` of clean images.
        fpr: the wanted rate, in (0, 1).
        correct: (n,) bool, correctly classified ones. None: not known.

    Raises:
        ValueError: if fpr is out of range or the shapes differ.
    """
    # not above: the measures import the attacks, which import the detectors
    from art_ext.core.metrics.detection import Rate

    check_fpr(fpr)
    if correct is not None and correct.shape != rejected.shape:
        raise ValueError(
            f"correct must have the shape of rejected {tuple(rejected.shape)}, got"
            f" {tuple(correct.shape)}"
        )
    own = None if correct is None else Rate.of(rejected[correct])
    return HeldOutRate(float(fpr), Rate.of(rejected), own)
