"""Queries of the candidates of a fixed-radius attack, and of their transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from art_ext.core.attacks.engine.method import Method
from art_ext.core.attacks.engine.options import FixedRadiusOptions
from art_ext.core.attacks.engine.planning import PlannedRows
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.losses import Loss
from art_ext.core.oracle import GradientOracle, Judge
from art_ext.core.transforms import named_transform

Answered = tuple[Tensor, Tensor, Tensor | None]  # outputs, losses, gradients


class Queries:
    """The model's answers for candidates. With a transform, losses and gradients are those of the
    transformed rows, for a further query each.

    Args:
        options: of the attack.
        whole: the problem with all N samples.

    Raises:
        ValueError: for a transform that is no callable, or of an attack without gradients.

    Attributes:
        step: number of the next answers, which keys the transform.
    """

    def __init__(self, options: FixedRadiusOptions, whole: Problem) -> None:
        transform = named_transform(options.transform)
        if transform is not None and not isinstance(whole.oracle, GradientOracle):
            raise ValueError("transform needs an attack with gradients: leave transform=None")
        self.transform = transform
        self.verifies = options.amp
        self.drops = options.stop_on_success
        self.whole = whole
        self.step = 0
        self._spent: Tensor | None = None

    @property
    def each(self) -> int:
        """Most queries of an answer."""
        return 1 if self.transform is None else 2

    def planned(self, method: Method, num_restarts: int) -> PlannedRows:
        """Return the most answers and gradients of a sample."""
        rows = method.planned_rows(num_restarts)
        if self.transform is None:
            return rows
        trajectories = method.most_trajectories(num_restarts)
        ends = trajectories if method.compares_losses or trajectories > 1 else 0
        return replace(rows, forward=rows.forward + rows.backward + ends)

    def spent(self, answers: int, problem: Problem) -> Tensor | int:
        """Return the queries of the active rows at their last answers for plain candidates.

        Args:
            answers: charged to each of them so far, the same for all.
            problem: the active rows.
        """
        if self._spent is not None:
            return self._spent
        oracle = problem.oracle
        return oracle.queries[problem.index] if self.verifies else answers * oracle.cost

    def of(self, problem: Problem, compared: bool = False) -> Callable[..., Answered]:
        """Return the function that queries candidates of the active rows: that of the problem, or
        ``query`` of the same arguments with a transform.

        Args:
            problem: the active rows.
            compared: True if their losses are needed without gradients too.
        """
        if self.transform is None:
            return problem.query  # no further frame lies between an attack and its model
        return partial(self.query, problem, compared)

    def query(
        self,
        problem: Problem,
        compared: bool,
        rows: Tensor,
        index: Tensor,
        gain: Loss,
        differentiate: bool,
        judge: Judge,
        verify: bool = True,
    ) -> Answered:
        """Return outputs of the candidates, and losses and gradients of their transforms.

        Args:
            problem: the active rows.
            compared: as in ``of``.
            rows: (R, D) their candidates.
            index, gain, judge, verify: as of ``Problem.query``. No row is verified again.
            differentiate: True computes the gradients of the rows that the judge chooses.
        """
        chosen: list[Tensor] = []

        def noted(outputs: Tensor, owner: Tensor) -> Tensor:
            chosen.append(judge(outputs, owner))
            return chosen[-1]

        outputs, losses, _ = problem.query(rows, index, gain, False, noted)
        self._spent = problem.oracle.queries[index]
        step = self.step
        self.step += 1
        if not (differentiate or compared):
            return outputs, losses, None
        # else all are chosen, and the host need not wait to know which
        some = self.drops or not step
        places = torch.cat(chosen).nonzero().squeeze(1) if some else None
        own, slope = self._transformed(problem, rows, places, step, differentiate)
        if places is None:
            return outputs, own, slope
        losses = losses.index_copy(0, places, own.to(losses.dtype))
        if slope is not None:
            slope = torch.zeros_like(rows).index_copy(0, places, slope)
        return outputs, losses, slope

    def _transformed(
        self, problem: Problem, rows: Tensor, places: Tensor | None, step: int, differentiate: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return losses and gradients of the transforms of the rows at these places, or of all."""
        index = problem.index
        if places is not None:
            rows = rows[places]
            index = index[places]
        shaped = problem.shaped(rows)
        if not len(rows):
            return rows.new_zeros(0), rows if differentiate else None
        apply = partial(self._apply, step)
        if not differentiate:
            return problem.scores.evaluate(shaped, index, problem.gain, transform=apply)[1], None
        found = problem.slopes.gradient(shaped, index, problem.gain, verify=False, transform=apply)
        return found.losses, problem.sanitised(found.gradient, places)

    def _apply(self, step: int, rows: Tensor, owner: Tensor) -> Tensor:
        """Return the transforms of rows (r, *S) of the samples in owner (r,)."""
        if self.transform is None:
            return rows
        made = self.transform(rows, self.whole.ids[owner], step, self.whole.seed)
        if not isinstance(made, Tensor) or len(made) != len(rows):
            given = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(
                f"transform must return one row for each of {len(rows)} rows, got {given}"
            )
        return made
