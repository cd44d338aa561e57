"""Ascent of a loss of class scores, of the label or towards a random wrong class."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from art_ext.core.checks import check_choice
from art_ext.core.losses import cross_entropy, margin
from art_ext.training.craft.ascent import Ascent
from art_ext.training.objectives.losses import ScoreLoss
from art_ext.training.passes import Gain
from art_ext.training.step import Step

GAINS = ("ce", "margin", "objective")
TARGETS = ("none", "random")


@dataclass(frozen=True, kw_only=True)
class ScoreAscent(Ascent):
    """Ascent of a loss of the label, or descent of the loss of a wrong class.

    Attributes:
        loss: from scores (r, C) and classes (r,) to (r,). Label smoothing does not apply.
        target: ``"none"``, or ``"random"`` for a wrong class that is drawn for each sample and
            update.
    """

    loss: ScoreLoss
    target: str = "none"

    def gain(self, step: Step) -> Gain:
        """Return the loss of the label, or minus the loss of the target."""
        if self.target == "none":
            return lambda scores: self.loss(scores, step.y)
        drawn = step.uniform((1,)).squeeze(1)
        return lambda scores: -self.loss(scores, wrong_classes(step.y, drawn, scores.shape[1]))


def gain_loss(gain: str, objective: ScoreLoss) -> ScoreLoss:
    """Return the loss of a gain: ``"ce"``, ``"margin"`` or ``"objective"``.

    Raises:
        ValueError: for another gain.
    """
    check_choice("gain", gain, GAINS)
    return {"ce": cross_entropy, "margin": margin, "objective": objective}[gain]


def wrong_classes(y: Tensor, drawn: Tensor, classes: int) -> Tensor:
    """Return (r,) wrong classes, each equally likely, of labels and uniform numbers in [0, 1)."""
    others = (drawn * (classes - 1)).to(y.dtype).clamp(max=classes - 2)
    return (y + 1 + others) % classes
