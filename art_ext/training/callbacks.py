"""Callbacks that measure the network during training. Their values are columns of the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks import pgd
from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.geometry import Ball, Box, ClipValues
from art_ext.core.metrics import hessian_eigenvalue, local_lipschitz, perturbation_stability
from art_ext.core.streams import fingerprint, global_streams_kept
from art_ext.training.analysis import crafted_points
from art_ext.training.craft import BackwardSmoothedAscent
from art_ext.training.history import EpochEnd
from art_ext.training.step import Step

LABELS = ("true", "own")
POINTS = ("clean", "uniform", "backward")


@dataclass(frozen=True, eq=False)
class TrackStability:
    """Column ``stability``: fraction of predictions that a PGD attack does not change.

    ``labels="true"``, as in the paper's program, attacks the true labels, so that the examples are
    those of the robust accuracy. For a misclassified sample such an attack moves away from another
    class than the predicted one. Its stability is then over-estimated. ``labels="own"`` attacks the
    network's predictions.

    Attributes:
        x: (N, *S) samples held out of the training data.
        y: (N,) their classes. None is allowed with ``labels="own"``.
        eps: radius of the attack.
        num_steps: number of steps of the attack.
        options: further keywords of ``art_ext.core.attacks.pgd``.
        labels: classes that the attack moves away from: ``"true"`` (y) or ``"own"`` (the network's
            predictions).
    """

    x: Tensor
    y: Tensor | None
    eps: float
    num_steps: int = 20
    options: dict[str, Any] = field(default_factory=dict)
    labels: str = "true"

    def __post_init__(self) -> None:
        check_choice("labels", self.labels, LABELS)
        if self.y is None and self.labels == "true":
            raise ValueError(
                "y must hold the true labels, got None: pass labels='own' to attack the predictions"
            )

    def __call__(self, end: EpochEnd) -> dict[str, float]:
        """Return ``{"stability": ...}`` of the current network."""
        settings = {"seed": 0, "on_failure": "last", "criterion": never, **self.options}
        y = self.y if self.labels == "true" else None
        result = pgd(end.model, self.x, y, eps=self.eps, num_steps=self.num_steps, **settings)
        return {"stability": perturbation_stability(end.model, self.x, result.x_adv)}


@dataclass(frozen=True, eq=False)
class TrackLipschitz:
    """Column ``lipschitz``: the mean local Lipschitz constant.

    Attributes:
        x: (N, *S) samples.
        eps: radius of the ball.
        num_steps: number of steps of the ascent.
        options: further keywords of ``art_ext.core.metrics.local_lipschitz``.
        losses: ``("kl", "ce")`` or one of them, for a column of each, ``lipschitz_kl`` and
            ``lipschitz_ce``. Empty: one column of the loss in ``options``.
        y: (N,) classes of ``"ce"`` in ``losses``. None: the network's predictions.
    """

    x: Tensor
    eps: float
    num_steps: int = 10
    options: dict[str, Any] = field(default_factory=dict)
    losses: tuple[str, ...] = ()
    y: Tensor | None = None

    def __call__(self, end: EpochEnd) -> dict[str, float]:
        """Return ``{"lipschitz": ...}`` of the current network, or a value for each loss."""
        settings = {"eps": self.eps, "num_steps": self.num_steps, **self.options}
        if not self.losses:
            return {"lipschitz": local_lipschitz(end.model, self.x, **settings).mean}
        found = {}
        for loss in self.losses:
            given = {"loss": loss, "y": self.y if loss == "ce" else None}
            value = local_lipschitz(end.model, self.x, **{**settings, **given}).mean
            found[f"lipschitz_{loss}"] = value
        return found


@dataclass(frozen=True, eq=False)
class TrackLossIncrement:
    """Columns ``loss_increment`` and ``loss_increment_negative`` (Figure 6.1).

    The first is the mean of ``CE(f(x'), y) - CE(f(x), y)`` over the measured minibatches of the
    epoch, at the examples x' that the recipe trains on. The second is the fraction of these
    minibatches whose mean is negative, so that crafting lowered the loss. A measured update costs
    one clean forward more, which is counted. Both losses are those of the network in train mode,
    before the weight step. BatchNorm's running statistics do not change.

    Attributes:
        every: weight updates between two measured ones.
    """

    every: int = 10

    def __post_init__(self) -> None:
        check_count("every", self.every)

    def __call__(self, end: EpochEnd) -> dict[str, float]:
        """Return nothing: the columns come from the weight updates."""
        return {}

    def after_update(self, step: Step) -> Mapping[str, Tensor]:
        """Return the increment of a minibatch, and 1 if it is negative, if it is to be measured."""
        if step.update % self.every:
            return {}
        crafted = [
            (rows, raw)
            for rows, raw in step.trained
            if rows is not step.x and len(rows) == len(step.x)
        ]
        if not crafted:  # natural training
            return {}
        rows, raw = crafted[-1]
        # a network may draw (dropout), and the rest of the update should not notice
        with torch.no_grad(), global_streams_kept(step.x.device):
            moved = step.hard_cross_entropy(step.scores(raw, rows))
            clean = step.hard_cross_entropy(step.crafting_logits(step.x, "batch"))
            mean = step.total_mean(moved - clean)
        return {"loss_increment": mean, "loss_increment_negative": (mean < 0).to(mean.dtype)}


@dataclass(frozen=True, eq=False)
class TrackHessian:
    """Columns ``hessian_clean`` and so on: mean largest eigenvalue of the input Hessian.

    The points are the samples, uniformly drawn points of their L-infinity balls, and the points at
    which the ascent of Backward Smoothing begins (Figure 6.3). They are those of the current
    network. The draws are the same in each epoch.

    Attributes:
        x: (N, *S) samples in the box.
        y: (N,) their classes.
        eps: radius of the points.
        points: ``"clean"``, ``"uniform"`` and ``"backward"``, or some of them.
        clip_values: the box.
        options: further keywords of ``art_ext.core.metrics.hessian_eigenvalue``.
        seed: of the draws.
    """

    x: Tensor
    y: Tensor
    eps: float
    points: tuple[str, ...] = POINTS
    clip_values: ClipValues = (0.0, 1.0)
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive("eps", self.eps)
        for point in self.points:
            check_choice("points", point, POINTS)

    def __call__(self, end: EpochEnd) -> dict[str, float]:
        """Return ``{"hessian_clean": ...}`` and the other means of the current network."""
        found = {}
        for point in self.points:
            value = hessian_eigenvalue(
                end.model,
                self._points(end, point),
                self.y,
                clip_values=self.clip_values,
                **self.options,
            )
            found[f"hessian_{point}"] = value.mean
        return found

    def _points(self, end: EpochEnd, point: str) -> Tensor:
        """Return (N, *S) the points of a kind."""
        if point == "clean":
            return self.x
        if point == "uniform":
            box = Box.of(self.clip_values, self.x.shape[1:], self.x.device)
            ball = Ball(box.admit(self.x), self.eps, "linf", box)
            return ball.into(ball.draw(self.seed, fingerprint(self.x), 0))
        craft = BackwardSmoothedAscent(
            norm="linf",
            bn_mode="eval",
            gamma=1.0,
            num_steps=0,
            step_size=None,
            points=1,
            variant="trades",
            start="backward",
            target="printed",
            boxed_start=True,
        )
        settings: dict[str, Any] = {"clip_values": self.clip_values, "seed": self.seed}
        return crafted_points(end.model, self.x, self.y, craft, eps=self.eps, **settings)


def never(outputs: Tensor, index: Tensor) -> Tensor:
    """Return False for every row, as a criterion that no row satisfies.

    All rows, the misclassified ones too, then end at the last iterate.
    """
    return index < 0
