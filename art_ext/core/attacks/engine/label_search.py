"""The frame of a search on predicted labels: which samples are active, and how a search ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from art_ext.core.attacks.engine.nearest import NearestAdversarials
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import keep
from art_ext.core.geometry import within_ball
from art_ext.core.result import AttackResult, Callback, Progress, build_result


@dataclass(eq=False)
class ActiveRows:
    """Base of the state of the B active rows: a dataclass of tensors with one row for each.

    Attributes:
        sample: (B,) position in x.
    """

    sample: Tensor

    def overwrite(self, rows: Tensor, other: ActiveRows, constant: Collection[str] = ()) -> None:
        """Put the rows of another state into the places of some rows.

        Args:
            rows: (b,) the places.
            other: the state of these.
            constant: names of tensors that are equal there already.
        """
        for name, value in vars(self).items():
            if name not in constant:
                value.index_copy_(0, rows, getattr(other, name))


S = TypeVar("S", bound=ActiveRows)


class LabelSearch(ABC, Generic[S]):
    """A search over N samples, ``batch_size`` of them active at a time.

    Everything runs side by side: each active row makes its own next query in each model call.

    Args:
        problem: the samples.
        stop_on_success: True ends a sample at its first success.
        callback: called after the clean check and after each round.
    """

    def __init__(
        self, problem: Problem, *, stop_on_success: bool, callback: Callback | None
    ) -> None:
        self.problem = problem
        self.oracle = problem.oracle
        self.stop_on_success = stop_on_success
        self.callback = callback
        self.found = NearestAdversarials(problem)
        self.already = torch.zeros_like(problem.index, dtype=torch.bool)
        self.idle = self.already
        self.active: S | None = None
        self.rounds = 0
        self.affordable = 0  # queries that every active row can certainly make

    @abstractmethod
    def begin(self, index: Tensor) -> S:
        """Return the state of the samples (B,) at the beginning of their search."""

    @abstractmethod
    def advance(self, state: S) -> Tensor | None:
        """Make the next queries of each row.

        Returns:
            Positions of the finished rows. None if there are none.
        """

    @abstractmethod
    def settle(self, state: S) -> None:
        """Enter the verified adversarials of bisections that go on."""

    def fixed(self) -> Tensor:
        """(N or 1,) bool, samples without a coordinate that may change."""
        return torch.zeros_like(self.already)

    def open(self) -> None:
        """Make what a search asks between the clean check and the first round."""

    def run(self) -> None:
        """Query until every sample is a success or has spent its budget. Freed places take the
        next samples.
        """
        self.already = self.problem.check_clean()
        self.idle = self.already | self.fixed()
        self.found.enter_clean(self.already)
        self.open()
        self._report(self.problem.index)
        waiting = self.unfinished()
        capacity = self.oracle.batch_size
        state, waiting = self.begin(waiting[:capacity]), waiting[capacity:]
        while len(state.sample):
            self.active = state
            finished = self.advance(state)
            self.rounds += 1
            self._report(state.sample)
            if finished is not None and len(finished):
                state, waiting = self.refill(state, finished, waiting)

    def _finished(self, index: Tensor) -> Tensor:
        """(M,) bool: nothing to search, no budget left or, with stop_on_success, a success."""
        over = (self.oracle.ledger.remaining(index) <= 0) | self.idle[index]
        return over | (self.found.first[index] >= 0) if self.stop_on_success else over

    def unfinished(self) -> Tensor:
        """(M,) samples that need a search."""
        return (~self._finished(self.problem.index)).nonzero().flatten()

    def spent(self, sample: Tensor, width: int = 1) -> Tensor | None:
        """(B,) bool, True where the budget is spent. None if it surely is nowhere.

        Args:
            sample: (B,) the samples of the active rows.
            width: most queries that a row has made since the last call.
        """
        self.affordable -= width
        if self.affordable > 0:
            return None
        remaining = self.oracle.ledger.remaining(sample)
        self.affordable = int(remaining.min())
        return remaining <= 0

    def refill(self, state: S, finished: Tensor, waiting: Tensor) -> tuple[S, Tensor]:
        """Put waiting samples into the places of finished ones. Without any left the batch
        shrinks.
        """
        taken, waiting = waiting[: len(finished)], waiting[len(finished) :]
        if len(taken):
            state.overwrite(finished[: len(taken)], self.begin(taken))
        if len(finished) > len(taken):
            active = torch.ones_like(state.sample, dtype=torch.bool)
            active[finished[len(taken) :]] = False
            state = keep(state, active.nonzero().flatten())
        return state, waiting

    def _report(self, index: Tensor) -> None:
        if self.callback is not None:
            self.callback(
                Progress(
                    step=self.rounds,
                    index=index,
                    distance=self.found.distance[index].to(torch.float32),
                    queries=self.oracle.queries[index],
                    finished=self._finished(index),
                    success=self.found.first[index] >= 0,
                )
            )

    def interim(self, device: torch.device) -> tuple[AttackResult, Tensor]:
        """Return the outcome so far, with the adversarial ends of bisections that go on.

        Returns:
            The result, and (N,) bool, the samples that are done.
        """
        finished = self._finished(self.problem.index)
        if self.active is not None:
            self.settle(self.active)
        return self._result(device, finished), finished.to(device)

    def result(self, device: torch.device) -> AttackResult:
        """Return the outcome in the caller's terms, on the caller's device."""
        return self._result(device, torch.ones_like(self.already))

    def trace(self, finished: Tensor) -> dict[str, Tensor] | None:
        """Return measurements for the result. None: there are none.

        Args:
            finished: (N,) bool, the samples that are done.
        """
        return None

    def _result(self, device: torch.device, finished: Tensor) -> AttackResult:
        found = self.found
        problem = self.problem
        success = within_ball(found.distance, problem.eps)
        x_adv = torch.where(success.unsqueeze(1), found.nearest, problem.x)
        return build_result(
            self.oracle,
            problem.shaped(problem.x),
            x_adv,
            success,
            already=self.already,
            first=found.first,
            norm=problem.norm,
            eps=problem.eps,
            seed=problem.seed,
            home=device,
            stop_on_success=self.stop_on_success,
            x_nearest=found.nearest,
            nearest_distance=found.distance,
            trace=self.trace(finished),
        )
