"""Misclassified images of a generator, counted by class."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from art_ext.core.limits.risk import GeneratorRisk
from art_ext.core.metrics import Rate
from art_ext.evaluation.analysis.limits import Share


@dataclass(frozen=True)
class RiskCounts:
    """Misclassified images of the generator, by class.

    Attributes:
        wrong, samples: numbers of each class.
    """

    wrong: tuple[int, ...]
    samples: tuple[int, ...]

    @property
    def overall(self) -> Share:
        """The share over all classes."""
        return Share.of(sum(self.wrong), sum(self.samples))

    @property
    def classes(self) -> tuple[Share, ...]:
        """The share of each class."""
        return tuple(map(Share.of, self.wrong, self.samples))

    @property
    def risk(self) -> GeneratorRisk:
        """The risk as the bounds take it, without its images."""
        none = torch.zeros(0, dtype=torch.int64)
        return GeneratorRisk(
            overall=_rate(self.overall),
            classes=tuple(map(_rate, self.classes)),
            y=none,
            index=none,
            predictions=none,
            seed=0,
            queries=0,
            generator_rows=0,
        )


def _rate(share: Share) -> Rate:
    return Rate(share.count, share.samples, share.low, share.high)
