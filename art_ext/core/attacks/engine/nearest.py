"""The nearest verified adversarial of each sample."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.geometry import distances, within_ball


class NearestAdversarials:
    """The nearest verified adversarial of each of N samples.

    Attributes:
        nearest: (N, D) the adversarials, or the input where there is none.
        distance: (N,) in the exact dtype, inf where there is none.
        first: (N,) int64, queries at the first success inside eps, -1 without one.
    """

    def __init__(self, whole: Problem) -> None:
        device = whole.oracle.device
        self.whole = whole
        self.nearest = whole.x.clone()
        self.distance = torch.full(
            (len(whole.x),), torch.inf, dtype=geometry.exact_dtype(device), device=device
        )
        self.first = torch.full_like(whole.index, -1)

    def enter_clean(self, already: Tensor) -> None:
        """Enter the samples (N,) bool whose clean input is adversarial."""
        self.distance.masked_fill_(already, 0.0)
        self.first.masked_fill_(already, self.whole.oracle.cost)

    def enter(
        self, index: Tensor, x: Tensor, rows: Tensor, verified: Tensor | None = None
    ) -> Tensor:
        """Keep those adversarials that are nearer than what their samples had.

        No host synchronisation.

        Args:
            index: (M,) their samples, each at most once.
            x: (M, D) the inputs of these.
            rows: (M, D) the very tensors that the model saw.
            verified: (M,) bool, the rows that are adversarial. None: all.

        Returns:
            (M,) bool, True where the row is now the nearest.
        """
        whole = self.whole
        distance = distances(rows, x, whole.norm)
        before = self.distance.index_select(0, index)
        nearer = distance < before if verified is None else (distance < before) & verified
        kept = torch.where(nearer.unsqueeze(1), rows, self.nearest.index_select(0, index))
        self.nearest.index_copy_(0, index, kept)
        self.distance.index_copy_(0, index, torch.where(nearer, distance, before))
        since = self.first.index_select(0, index)
        # the first one inside eps is nearer than those outside
        new = nearer & within_ball(distance, whole.eps) & (since < 0)
        queries = whole.oracle.queries.index_select(0, index)
        self.first.index_copy_(0, index, torch.where(new, queries, since))
        return nearer


class BestAdversarials(NearestAdversarials):
    """The nearest verified adversarial of each of N samples, and the best one by an attack's rule.

    Attributes:
        best: (N, D) the adversarials of smallest value.
        best_value, nearest_value: (N,) by the rule.
        candidates: (N, D) the last candidate of each sample, or an adversarial outside the box.
    """

    def __init__(self, whole: Problem) -> None:
        super().__init__(whole)
        self.best = whole.x.clone()
        self.candidates = whole.x.clone()
        self.best_value = torch.full_like(self.distance, torch.inf)
        self.nearest_value = torch.full_like(self.distance, torch.inf)

    def enter_clean(self, already: Tensor) -> None:
        """Enter the samples (N,) bool whose clean input is adversarial, with the value 0."""
        super().enter_clean(already)
        self.best_value.masked_fill_(already, 0.0)
        self.nearest_value.masked_fill_(already, 0.0)

    def record(self, problem: Problem, rows: Tensor, success: Tensor, value: Tensor) -> None:
        """Keep the successes (R,) among the candidates (R, D) that are nearer, or of smaller value
        (R,), than before.

        Args:
            problem: the active rows.
            rows: the candidates.
            success: the candidates that succeed.
            value: by the attack's own rule.
        """
        places = success.nonzero().squeeze(1)
        if not len(places):
            return
        index = problem.index[places]
        found = rows[places]
        nearer = self.enter(index, self.whole.x[index], found)
        by_rule = value[places].to(self.best_value.dtype)
        # the nearest stands in where the rule's choice lies outside the ball
        if problem.eps is not None:
            chosen = nearer.nonzero().squeeze(1)
            self.nearest_value[index[chosen]] = by_rule[chosen]
        better = (by_rule < self.best_value[index]).nonzero().squeeze(1)
        self.best[index[better]] = found[better]
        self.best_value[index[better]] = by_rule[better]

    def note_last(self, index: Tensor, leaving: Tensor, rows: Tensor) -> None:
        """Note the last candidates (R, D) of the samples in index (R,) where leaving (R,) holds."""
        kept = self.candidates.index_select(0, index)
        self.candidates.index_copy_(0, index, torch.where(leaving.unsqueeze(1), rows, kept))

    def verify(self) -> Tensor:
        """Drop adversarials outside the box.

        Returns:
            (N,) bool, True where ``candidates`` lie outside the box.
        """
        whole = self.whole
        for name, value in (("nearest", self.distance), ("best", self.best_value)):
            rows = getattr(self, name)
            legal = whole.box.contains(whole.shaped(rows)).unsqueeze(1)
            self.candidates = torch.where(legal, self.candidates, rows)
            setattr(self, name, torch.where(legal, rows, whole.x))
            value.masked_fill_(~legal.squeeze(1), torch.inf)
        return ~whole.box.contains(whole.shaped(self.candidates))
