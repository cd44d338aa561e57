"""The loss of an attack that knows the detector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core.attacks.engine.goal import Goal
from art_ext.core.attacks.engine.options import AttackOptions
from art_ext.core.detection.base import Detector
from art_ext.core.inspection import Evidence, Inspector, accepted, class_scores, term_of
from art_ext.core.losses import Loss, margin
from art_ext.core.oracle import GradientOracle, ScoreOracle

LARGEST_MARGIN = 50.0  # of logits, at which softmax has long been exact in float32
STEP = 0.1  # of the loss of an attack on scores, for a row that reaches the goal and is accepted
LEAD = 100.0  # of a row that reaches the goal over all that do not. log1p of a float32 is below 89
Reached = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Oblivious:
    """The loss of the attack itself. Base of the losses that know the detector.

    Attributes:
        detector: of the problem.
        weight: factor of the detector's term.
        goal: the classes to leave or to reach.
        reached: from class scores (r, K) and their samples (r,) to (r,) bool.
        differentiates: whether the attack takes gradients.
    """

    detector: Detector
    weight: float
    goal: Goal
    reached: Reached
    differentiates: bool

    def term(self, seen: Evidence, owner: Tensor) -> Tensor:
        """Return (r,) the detector's term >= 0."""
        return torch.zeros_like(seen.excess)

    def ascended(self, gain: Tensor, outputs: Tensor, reached: Tensor) -> Tensor:
        """Return the loss to ascend (r,).

        Args:
            gain: (r,) of the attack itself.
            outputs: (r, K + 2), with the columns of the detector.
            reached: (r,) bool, rows that reach the goal.
        """
        return gain - term_of(outputs)

    def descended(self, hinge: Tensor, outputs: Tensor) -> Tensor:
        """Return the loss to descend (r,), from the hinge (r,) of the attack itself."""
        return hinge + term_of(outputs)


class Penalty(Oblivious):
    """``w max(0, score - threshold) / scale`` for rows that reach the goal."""

    def term(self, seen: Evidence, owner: Tensor) -> Tensor:
        """Return (r,) the penalties."""
        penalty = self.weight * seen.excess.clamp(min=0)
        return torch.where(self.reached(seen.outputs.detach(), owner), penalty, 0.0)


class Selective(Penalty):
    """One aim at a time: first the goal, and for rows that reach it the detector.

    The loss of such a row is ``log(1 + w max(0, score - threshold) / scale)``, whose gradient does
    not grow with the unit of the score. Attacks ascend ``LEAD`` minus this, so that those which
    keep their best point do not return to one that has not reached the goal. An attack on scores
    compares values along many directions, among which such a lead hides all else. It ascends ``gain
    + 0.1 / (1 + w excess)``.

    References:
        Bryniarski, Hingun, Pachuca, Wang, Carlini. Evading adversarial example detection defenses
        with orthogonal projected gradient descent. ICLR 2022 (selective gradients).
    """

    def ascended(self, gain: Tensor, outputs: Tensor, reached: Tensor) -> Tensor:
        """Return the loss of each row's present aim."""
        term = torch.where(accepted(outputs), 0.0, term_of(outputs))
        found = LEAD - term.log1p() if self.differentiates else gain + STEP / (1 + term)
        return torch.where(reached, found, gain)

    def descended(self, hinge: Tensor, outputs: Tensor) -> Tensor:
        """Return the hinge plus the logarithm."""
        return hinge + term_of(outputs).log1p()


class ClassDensity(Selective):
    """``w max(0, log m_t - log density_t(x))`` for the density at the kernels of one class t.

    t is the class to reach, or the best other class than the one to leave, and m_t the median
    density of the training images of t.

    References:
        Pang, Du, Dong, Zhu. Towards robust detection of adversarial examples. NeurIPS 2018 (the
        white-box attack).
    """

    def term(self, seen: Evidence, owner: Tensor) -> Tensor:
        """Return (r,) the hinges."""
        goal = self.goal.labels.index_select(0, owner)
        if not self.goal.targeted:
            goal = seen.logits.detach().scatter(1, goal.unsqueeze(1), -torch.inf).argmax(dim=1)
        return self.weight * self.detector.class_excess(seen.features, goal).clamp(min=0)

    def descended(self, hinge: Tensor, outputs: Tensor) -> Tensor:
        """Return the sum of both hinges."""
        return hinge + term_of(outputs)


class Hinges(Selective):
    """``w sum_k max(0, m - margin_k)`` over a row and its variants.

    A margin of ``m = log((K - 1) (2 - t) / t)`` leaves a probability of at most t / 2 to all other
    classes, so that two rows which both have it differ by at most the threshold t. For t close to
    2, the largest possible score, m is negative: rows are accepted whose variants have not reached
    the goal. The hinges are 0 for accepted rows then, or they would lead away from the nearest one.
    """

    def term(self, seen: Evidence, owner: Tensor) -> Tensor:
        """Return (r,) the sums of the hinges."""
        goal = self.goal.labels.index_select(0, owner)
        wanted = self.margin(seen.logits.shape[1])
        sign = -1.0 if self.goal.targeted else 1.0
        found = [
            (wanted - sign * margin(logits, goal)).clamp(min=0)
            for logits in (seen.logits, *seen.further)
        ]
        term = self.weight * torch.stack(found).sum(dim=0)
        return torch.where(seen.excess <= 0, 0.0, term) if wanted < 0 else term

    def descended(self, hinge: Tensor, outputs: Tensor) -> Tensor:
        """Return the sum of all hinges."""
        return hinge + term_of(outputs)

    def margin(self, num_classes: int) -> float:
        """Return the margin that all hinges need."""
        threshold = float(self.detector.threshold or 0.0)
        if not 0 < threshold < 2:
            return LARGEST_MARGIN if threshold <= 0 else -LARGEST_MARGIN
        margin = math.log((num_classes - 1) * (2 - threshold) / threshold)
        return min(max(margin, -LARGEST_MARGIN), LARGEST_MARGIN)


LOSSES: dict[str, type[Oblivious]] = {
    "none": Oblivious,
    "penalty": Penalty,
    "selective": Selective,
    "density": ClassDensity,
    "hinges": Hinges,
}


class Awareness:
    """The loss of an attack, with the detector of its problem.

    Args:
        options: of the attack.
        oracle: of its problem.
        goal: the classes to leave or to reach.
        reached: from class scores (r, K) and their samples (r,) to (r,) bool.

    Raises:
        ValueError: for hinges with a detector that has no variants.
    """

    def __init__(
        self, options: AttackOptions, oracle: ScoreOracle, goal: Goal, reached: Reached
    ) -> None:
        self.inspector = oracle.inspector
        self.loss: Oblivious | None = None
        detector = options.detector
        if not isinstance(self.inspector, Inspector) or detector is None:
            return
        self.reached = reached  # kept here only: a cycle of references holds memory for long
        kind = detector.attack_loss if options.detector_loss == "auto" else options.detector_loss
        if kind == "hinges" and detector.rows == 1:
            raise ValueError(
                "detector_loss='hinges' needs a detector that squeezes its inputs, got"
                f" {detector.name!r}: take 'penalty'"
            )
        self.loss = LOSSES[kind](
            detector, options.detector_weight, goal, reached, isinstance(oracle, GradientOracle)
        )
        self.inspector.term = self.loss.term

    def ascended(self, gain: Loss) -> Loss:
        """Return a loss to ascend, from one that takes class scores."""
        inspector = self.inspector
        if inspector is None:
            return gain

        def aware(outputs: Tensor, owner: Tensor) -> Tensor:
            scores = class_scores(outputs, inspector)
            own = gain(scores, owner)
            if self.loss is None:
                return own
            return self.loss.ascended(own, outputs, self.reached(scores.detach(), owner))

        return aware

    def descended(self, hinge: Tensor, outputs: Tensor) -> Tensor:
        """Return a loss to descend (r,), from the hinge (r,) of the attack itself."""
        return hinge if self.loss is None else self.loss.descended(hinge, outputs)
