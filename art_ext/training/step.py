"""One weight update as a recipe sees it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from art_ext.core.geometry import Ball
from art_ext.core.streams import normal, uniform, uniform_pairs
from art_ext.training.engine import Engine
from art_ext.training.objectives.losses import ramped, smoothed_cross_entropy
from art_ext.training.passes import Passes

DRAWS = 1 << 10  # blocks of a sample's random stream that one weight update may use


class Step(Passes):
    """One weight update of a recipe.

    Attributes:
        x: (r, *S) this process' rows of the minibatch.
        y: (r,) their classes.
        ids: (r,) int64 keys of their random streams.
        rows: number of rows of the minibatch, over all processes.
        update: index of the weight update in the run.
        replay: index of the update among those of this minibatch, from 0.
        eps: the radius after warm-up.
        epoch: number of completed passes over the data.
        time: the same as a fraction, within a pass too.
        spare: True if the budget of the run has room for rows that are sent again.
        memory: values that the recipe keeps from one replay of the minibatch to the next.
        carried: values that it keeps over the whole run: tensors whose rows are those of the
            process' minibatch, or of no row.
        log: values for the history, without rows. Their means over an epoch are entered.
        targets: (r, C) target rows that a teacher gives, or None.
        weights: (r,) weights of the rows in means. None: all are 1.
        weight: sum of the weights of the minibatch, over all processes.
        held: gives this process' share of the first held-out samples, at most so many, as a step
            of its own at the full radius. None if the run has none.
    """

    def __init__(
        self,
        engine: Engine,
        x: Tensor,
        y: Tensor,
        ids: Tensor,
        *,
        rows: int,
        update: int,
        replay: int,
        eps: float,
        seed: int,
        smoothing: float,
        outer_loss: str = "ce",
        craft_loss: str = "ce",
        ramp: float = 0.0,
        memory: dict[str, Tensor],
        carried: dict[str, Tensor],
        epoch: int = 0,
        time: float = 0.0,
        spare: bool = True,
        targets: Tensor | None = None,
        weights: Tensor | None = None,
        weight: float | None = None,
        held: Callable[[int], Step] | None = None,
    ) -> None:
        super().__init__(engine)
        self._seed = seed
        self._smoothing = smoothing
        self._outer_loss = outer_loss
        self._craft_loss = craft_loss
        self._ramp = ramp
        self.x = x
        self.y = y
        self.ids = ids
        self.rows = rows
        self.update = update
        self.replay = replay
        self.eps = eps
        self.epoch = epoch
        self.time = time
        self.spare = spare
        self.memory = memory
        self.carried = carried
        self.targets = targets
        self.weights = weights
        self.weight = rows if weight is None else weight
        self.held = held
        self.log = dict[str, Tensor]()
        self._draws = 0

    def ball(self, norm: str, eps: float | None = None) -> Ball:
        """Return the allowed perturbations around this minibatch, of another radius if given."""
        return Ball(self.x, self.eps if eps is None else eps, norm, self._engine.box)

    def _block(self) -> int:
        """Return the next block of the samples' streams. Each draw of each update has its own."""
        block = self.update * DRAWS + self._draws
        self._draws += 2  # a draw in a ball of L2 or L1 takes two
        return block

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Draw (r, *shape) uniform numbers in [0, 1), keyed by the sample and the update."""
        return uniform_pairs(self._seed, self.ids, self._block(), shape)

    def uniform_of_update(self) -> float:
        """Draw a number in [0, 1) that is keyed by the update, the same for all rows."""
        # on the CPU, so that no accelerator is waited for
        key = torch.full((1,), -1, dtype=torch.int64, device="cpu")
        return float(uniform(self._seed, key, self._block()))

    def normal_like_x(self) -> Tensor:
        """Draw (r, *S) standard normal numbers, keyed by the sample and the update."""
        return normal(self._seed, self.ids, self._block(), tuple(self.x.shape[1:]))

    def uniform_start(self, ball: Ball, boxed: bool = True) -> Tensor:
        """Draw (r, *S) a point uniformly from each sample's ball, clamped to the box if wanted."""
        drawn = ball.draw(self._seed, self.ids, self._block())
        return ball.into(drawn) if boxed else drawn

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """Return (r,) the outer loss: cross-entropy with the run's label smoothing.

        With another ``outer_loss`` it turns into that one during the run.
        """
        entropy = smoothed_cross_entropy(logits, self.y, self._smoothing)
        return ramped(entropy, logits, self.y, self._outer_loss, self._ramp)

    def hard_cross_entropy(self, logits: Tensor) -> Tensor:
        """Return (r,) cross-entropy of the labels themselves."""
        return smoothed_cross_entropy(logits, self.y)

    def crafting_loss(self, logits: Tensor) -> Tensor:
        """Return (r,) the loss that crafting ascends: cross-entropy of the labels themselves.

        With another ``craft_loss`` it turns into that one during the run.
        """
        entropy = self.hard_cross_entropy(logits)
        return ramped(entropy, logits, self.y, self._craft_loss, self._ramp)

    def mean(self, values: Tensor) -> Tensor:
        """Return this process' part of the weighted mean over the whole minibatch.

        Accelerate averages gradients over P processes, so a process adds ``P / weight`` times its
        own sum.
        """
        return self._weighted(values).sum() * (self._engine.processes / self.weight)

    def total_mean(self, values: Tensor) -> Tensor:
        """Return the weighted mean of the whole minibatch, equal on every process, detached."""
        return self._engine.total(self._weighted(values).sum()) / self.weight

    def _weighted(self, values: Tensor) -> Tensor:
        """Return (r,) values times the weights of the rows."""
        return values if self.weights is None else self.weights * values
