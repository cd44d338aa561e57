"""The other classes of a sample, in the order in which an attack goes for them."""

from __future__ import annotations

import torch
from torch import Tensor

from art_ext.core.attacks.engine.planning import PlannedRows, current, other_classes
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.checks import check_choice, check_count
from art_ext.core.geometry import dual_norms
from art_ext.core.inspection import class_scores
from art_ext.core.losses import RIVAL_LOSSES, Loss, logits_of

RANKINGS = ("malt", "score")
MALT_CANDIDATES = 100
FEW_CLASSES = 10  # up to so many, the order by score is the default


class Rivals:
    """The m other classes of each sample that an attack goes for in turn.

    MALT ranks class t by ``(z_y - z_t) / ||grad (z_y - z_t)||_q``, q being the dual of the ball's
    norm: the distance at which a linear model would predict t. It needs the gradients of the
    candidates, the classes that score highest. All other classes follow by score.

    Args:
        count: m. A model with fewer other classes has fewer rivals.
        loss: a name in ``RIVAL_LOSSES``.
        ranking: ``"malt"``, ``"score"``, or None, which is MALT for more than ten classes.
        candidates: most classes that MALT ranks.

    Attributes:
        queries: those of the ranking, 1 or 0, known after the clean check.

    Raises:
        ValueError: if an argument is out of range.

    References:
        Melamed, Yehudai, Shamir. MALT powers up adversarial attacks. NeurIPS 2024.
    """

    def __init__(
        self,
        count: int,
        loss: object = "margin",
        ranking: str | None = None,
        candidates: int = MALT_CANDIDATES,
    ) -> None:
        check_choice("loss with num_targets", loss, tuple(RIVAL_LOSSES))
        if ranking is not None:
            check_choice("target_ranking", ranking, RANKINGS)
        check_count("malt_candidates", candidates)
        self.count = count
        self.loss = RIVAL_LOSSES[str(loss)]
        self.ranking = ranking
        self.candidates = candidates
        self.queries = 0
        self._ranked: Tensor | None = None

    @property
    def seen(self) -> bool:
        """True after the clean check of a sample."""
        return self._ranked is not None

    @property
    def ranked(self) -> Tensor:
        """(N, m) the rivals."""
        if self._ranked is None:
            raise RuntimeError("rivals are ranked in the clean check, which was not made")
        return self._ranked

    def see_clean(self, problem: Problem, scores: Tensor, owner: Tensor) -> None:
        """Rank the classes of the samples in owner (r,) by their clean scores (r, K)."""
        others = scores.shape[1] - 1
        self.queries = int(self._by_gradient(others + 1))
        kept = max(self.count, self.candidates) if self.queries else self.count
        goal = problem.goal.labels.index_select(0, owner).unsqueeze(1)
        order = scores.scatter(1, goal, -torch.inf).argsort(dim=1, descending=True, stable=True)
        order = order[:, : min(kept, others)]
        if self._ranked is None:
            self._ranked = order.new_zeros(len(problem.goal.labels), order.shape[1])
        self._ranked[owner] = order

    def rank(self, problem: Problem) -> None:
        """Rank the candidates of the active rows by MALT.

        Equal ranks keep the order by score, and so do samples whose gradients are zero.
        """
        kind, inspector = problem.oracle.outputs, problem.oracle.inspector
        labels = problem.goal.labels
        candidates = self.ranked[:, : self.candidates]

        def leads(outputs: Tensor, owner: Tensor) -> Tensor:
            logits = logits_of(class_scores(outputs, inspector), kind)
            own = logits.gather(1, labels.index_select(0, owner).unsqueeze(1))
            return own - logits.gather(1, candidates.index_select(0, owner))

        def lengths(gradient: Tensor, place: slice) -> Tensor:
            return dual_norms(problem.sanitised(gradient, place), problem.norm)

        lead, slope = problem.slopes.gradient_sizes(
            problem.shaped(problem.x), problem.index, leads, lengths
        )
        distance = torch.where(slope > 0, lead / slope, torch.inf)
        order = distance.argsort(dim=1, stable=True)
        chosen = candidates.index_select(0, problem.index).gather(1, order)
        self.ranked[problem.index, : chosen.shape[1]] = chosen
        self._ranked = self.ranked[:, : self.count]

    def loss_of(self, problem: Problem, rivals: Tensor) -> Loss:
        """Return the loss of rivals (N,), a class of each sample."""
        kind = problem.oracle.outputs
        labels = problem.goal.labels

        def gain(outputs: Tensor, index: Tensor) -> Tensor:
            own = labels.index_select(0, index)
            return self.loss(logits_of(outputs, kind), own, rivals.index_select(0, index))

        return gain

    def number(self) -> int:
        """Return how many rivals a sample has, at most before the clean check."""
        return min(self.count, self.ranked.shape[1]) if self.seen else other_classes(self.count)

    def planned_rows(self) -> PlannedRows:
        """Return the most rows of the ranking."""
        found = current()
        classes = None if found is None else found.classes
        if not self._by_gradient(classes):
            return PlannedRows(0)
        ranked = other_classes(self.candidates)
        return PlannedRows(1, ranked, ranked)

    def _by_gradient(self, classes: int | None) -> bool:
        """Return True if MALT ranks, for so many classes. None stands for any number of them."""
        if self.ranking is None:
            return classes is None or classes > FEW_CLASSES
        return self.ranking == "malt" and (classes is None or classes > 2)
