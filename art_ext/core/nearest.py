"""What every attack that looks for a near adversarial shares: its options, the verdicts, the
ledger of the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.core import geometry
from art_ext.core.checks import check_not_negative
from art_ext.core.geometry import distances, distortions, within_ball
from art_ext.core.losses import Loss, logits_of, margin
from art_ext.core.oracle import GradientOracle, Model, ScoreOracle
from art_ext.core.result import AttackResult, Progress
from art_ext.core.run import Run, RunOptions
from art_ext.core.run import spelled_out as spell


@dataclass(frozen=True, kw_only=True, eq=False)
class NearestOptions(RunOptions):
    """Keywords of every attack that looks for a near adversarial: those of ``RunOptions``.

    Attributes:
        targets: (N,) classes to reach, or a case. ``"average"``: a random wrong class for each
            sample. ``"best"``: the wrong class of the smallest value by the attack's own rule.
            ``"worst"``: the one of the largest. ``"all"``: the best case, with the examples of all
            wrong classes in ``samples``. All but the first attack all wrong classes side by side.
    """

    targets: Tensor | str | None = None  # type: ignore[assignment]  # a text is resolved before a run begins


spelled_out = spell(NearestOptions)


class NearestRun(Run):
    """One attack that looks for an adversarial near each sample; those that are done leave.

    A success is an iterate whose margin, ``max_{j != y} z_j - z_y`` or ``z_t - max_{j != t} z_j``,
    is at least the confidence, and whose predicted class has left y or is t. Two are kept of each
    sample: the nearest in ``norm``, and the one of smallest value by the attack's own rule.

    Args:
        model, x, y, options, oracle: as for ``Run``.
        eps: radius within which an adversarial counts as success; None counts any.
        norm: how distances are measured.
        confidence: kappa >= 0.

    Attributes:
        near_distance: (N,) distance of the nearest, in the exact dtype; inf if there is none.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor | None,
        *,
        eps: float | None,
        norm: str,
        confidence: float,
        options: NearestOptions,
        oracle: type[ScoreOracle] = GradientOracle,
    ) -> None:
        check_not_negative("confidence", confidence)
        super().__init__(model, x, y, eps=eps, norm=norm, options=options, oracle=oracle)
        self.confidence = confidence
        count, exact = len(self.samples), geometry.exact_dtype(self.oracle.device)
        self.near = self.samples.clone()
        self.near_distance = torch.full((count,), torch.inf, dtype=exact, device=self.oracle.device)
        self.best = self.samples.clone()
        self.best_value = torch.full_like(self.near_distance, torch.inf)
        self.near_value = torch.full_like(self.near_distance, torch.inf)
        self.trace: dict[str, Tensor] = {}

    def margins(self, outputs: Tensor, owner: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """(r,) how far outputs (r, K) are beyond the decision boundary; negative before it."""
        gain = margin(logits_of(outputs, self.outputs, dtype), self.goal.index_select(0, owner))
        return -gain if self.targeted else gain

    def hinge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) ``max(kappa - margin, 0)``: the loss f of (9) plus kappa."""
        return (self.confidence - self.margins(outputs, owner)).clamp(min=0)

    def judge(self, outputs: Tensor, owner: Tensor) -> Tensor:
        """(r,) bool, whether outputs reach the goal of their samples by a margin of at least the
        confidence.
        """
        met = super().judge(outputs, owner)
        return met & (self.margins(outputs, owner) >= self.confidence) if self.confidence else met

    def open(self, loss: Loss, *, differentiate: bool, least: Tensor | int = 1) -> Tensor | None:
        """The clean check, one query a sample, and the gradient (R, D) of a loss there.

        Samples that are adversarial, or that may not change at all, leave.

        Args:
            loss: of the hinge kind.
            differentiate: whether the gradient is wanted.
            least: queries that the method needs to do anything, one number or (N,); who has fewer
                left leaves.

        Raises:
            ValueError: if the model returns NaN or no scores for an input, or a label has no column
                in its output.
        """
        _, gradient = self.ask_clean(loss, differentiate)
        if not len(self.samples):
            return gradient
        self.near_distance[self.already] = 0.0
        self.best_value[self.already] = 0.0
        self.near_value[self.already] = 0.0
        leave = self.already | self.short_of(least)
        if self.free is not None:
            leave = leave | ~(self.free != 0).any(dim=1)
        stay = self.drop(leave)
        return gradient if gradient is None or stay is None else gradient[stay]

    def look(
        self, rows: Tensor, loss: Loss, *, differentiate: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """One query for an iterate (R, D) of each live sample: who is a success (R,), losses,
        and their gradient.
        """
        outputs, losses, gradient = self.ask(rows, self.index, loss, differentiate)
        return self.judge(outputs, self.index), losses, gradient

    def slope(self, rows: Tensor, loss: Loss, positions: Tensor) -> Tensor:
        """One query and one gradient (r, D) of a loss, at points (r, D), for the live samples at
        these positions.
        """
        _, _, gradient = self.ask(rows, self.index[positions], loss, True, positions=positions)
        if gradient is None:
            raise RuntimeError("the gradient was not asked for")
        return gradient

    def record(self, rows: Tensor, met: Tensor, value: Tensor) -> None:
        """Keep the successes met (R,) among the iterates (R, D) that are nearer, or of smaller
        value (R,), than before.

        Args:
            rows: the iterates; the very tensors that the model saw.
            met: which of them are successes.
            value: what the attack's own rule goes by.
        """
        hit = met.nonzero().squeeze(1)
        if not len(hit):
            return
        index, found = self.index[hit], rows[hit]
        length = distances(found, self.x[hit], self.norm)
        since = self.first[index]
        fresh = within_ball(length, self.eps) & (since < 0)
        self.first[index] = torch.where(fresh, self.oracle.queries[index], since)
        by_rule = value[hit].to(self.best_value.dtype)
        nearer = (length < self.near_distance[index]).nonzero().squeeze(1)
        self.near[index[nearer]] = found[nearer]
        self.near_distance[index[nearer]] = length[nearer]
        # the nearest stands in where the rule's choice lies outside the ball
        if self.eps is not None:
            self.near_value[index[nearer]] = by_rule[nearer]
        better = (by_rule < self.best_value[index]).nonzero().squeeze(1)
        self.best[index[better]] = found[better]
        self.best_value[index[better]] = by_rule[better]

    def short_of(self, cost: Tensor | int) -> Tensor:
        """(R,) bool, the live samples whose budget does not hold so many more queries."""
        return self.oracle.remaining(self.index) < cost

    def drop(self, leave: Tensor) -> Tensor | None:
        """Tell the callback, and let the samples marked in leave (R,) go.

        Returns:
            the positions (R',) that stay, with which a method selects from its own state; None if
            all stay.
        """
        if self.callback is not None:
            found = self.near_distance[self.index]
            self.callback(
                Progress(
                    step=self.rounds,
                    index=self.index,
                    distance=found.to(torch.float32),
                    queries=self.oracle.queries[self.index],
                    finished=leave,
                    success=within_ball(found, self.eps),
                )
            )
        self.rounds += 1
        if not bool(leave.any()):
            return None
        stay = (~leave).nonzero().squeeze(1)
        self.select(stay)
        return stay

    def result(self, value: Tensor | None = None) -> AttackResult:
        """The outcome: ``x_adv`` is what the rule chose or, where that lies outside the ball, the
        nearest.

        Args:
            value: (N,) of ``x_adv``, for an attack whose cases go by another value than ``record``
                was given.
        """
        success = within_ball(self.near_distance, self.eps)
        chosen = within_ball(distances(self.best, self.samples, self.norm), self.eps)
        x_adv = torch.where((success & chosen).unsqueeze(1), self.best, self.near)
        x_adv = torch.where(success.unsqueeze(1), x_adv, self.samples)
        if value is None:
            value = torch.where(chosen, self.best_value, self.near_value)
        return self.report(
            x_adv,
            success,
            distortions(x_adv, self.samples),
            x_nearest=self.near,
            nearest_distance=self.near_distance,
            stop_on_success=False,
            trace=self.trace,
            value=value.masked_fill(~success, torch.inf).masked_fill(self.already, 0.0),
        )
