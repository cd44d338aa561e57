"""Recipes whose examples are the states of a chain that runs over several weight updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from art_ext.core.checks import (
    check_choice,
    check_count,
    check_flag,
    check_not_negative,
    check_positive,
)
from art_ext.training.cost import Cost
from art_ext.training.recipes.base import CraftingRecipe
from art_ext.training.recipes.chain import Chain, State, Trained, chosen, contrast, keep, speed
from art_ext.training.step import Step

ORDERS = ("free", "printed", "fresh")


@dataclass(frozen=True, kw_only=True, eq=False)
class ContrastiveRecipe(CraftingRecipe):
    """T weight updates of a minibatch along one chain. ``Atcd`` documents the method.

    Attributes:
        num_replays: T, weight updates of a minibatch.
        num_steps: K, steps of the chain before each update.
        lam: weight of the loss at the present state of the chain.
        rho: weight of the loss at its previous state. 0 is plain cross-entropy.
        alpha: rate at which v follows the normalised gradient. None: eps.
        momentum: True lets v accumulate.
        order: ``"free"``, ``"printed"`` or ``"fresh"``.
        step_size: length of a step of theta, in the units of x. None: eps.
        metropolis: True tests the chain's moves.
        shared_test: with ``order="free"``, take CE(theta) of the test from the training forward.
        temperature: divisor of the exponent of the test.
        kinetic: add ``mean |v_new| - mean |v_old|`` to the exponent.
    """

    needs: ClassVar[str] = "labels, eps in linf"
    num_replays: int = 4
    num_steps: int = 2
    lam: float = 2.0
    rho: float = 1.0
    alpha: float | None = None
    momentum: bool = True
    order: str = "free"
    step_size: float | None = None
    metropolis: bool
    shared_test: bool = True
    temperature: float = 1.0
    kinetic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("num_replays", self.num_replays)
        check_count("num_steps", self.num_steps)
        if self.step_size is not None:
            check_positive("step_size", self.step_size)
        check_positive("lam", self.lam)
        check_not_negative("rho", self.rho)
        check_choice("order", self.order, ORDERS)
        check_positive("temperature", self.temperature)
        if self.alpha is not None:
            check_positive("alpha", self.alpha)
        if self.norm != "linf":
            raise ValueError(f"the chain's steps are those of norm='linf', got {self.norm!r}")
        for name in ("momentum", "metropolis", "shared_test", "kinetic"):
            check_flag(name, getattr(self, name))

    @property
    def replays(self) -> int:
        """T."""
        return self.num_replays

    @property
    def worth(self) -> int:
        """T K."""
        return self.num_replays * self.num_steps

    def cost(self) -> Cost:
        """Return the cost by order and test, without rejected rows."""
        if self.order == "free":
            tested = 0 if not self.metropolis else 1 if self.shared_test else 2
            return Cost(self.num_steps + tested, self.num_steps + (self.rho > 0))
        return Cost(self.num_steps + 1 + self.metropolis, self.num_steps + 1)

    def largest_cost(self) -> Cost:
        """Return the cost with every row rejected and sent again."""
        usual = self.cost()
        if not (self.metropolis and self.shared_test and self.order == "free"):
            return usual
        return Cost(usual.forwards + 1, usual.backwards + 1 + (self.rho > 0))

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy at the chain's end.

        The chain continues in the next replay.
        """
        chain = _chain(self, step)
        if "theta" not in step.memory:
            v = step.eps * (2 * step.uniform(tuple(step.x.shape[1:])) - 1)
            step.memory.update(theta=chain.ball.into(step.x + v), v=v)
        return self._shared(step, chain) if self.order == "free" else self._separate(step, chain)

    def _shared(self, step: Step, chain: Chain) -> Tensor:
        """Run a replay of order "free", whose last gradient comes from the training forward."""
        start = step.memory["theta"]
        momentum = step.memory["v"]
        gain = contrast(step, self.lam, self.rho)
        theta = start
        v = momentum
        for k in range(self.num_steps):
            theta = chain.move(theta, v)
            if k + 1 < self.num_steps:
                v = chain.climb(v, step.input_gradient(theta, gain, self.bn_mode)[0])
        if self.metropolis and not self.shared_test:
            before = step.hard_cross_entropy(step.crafting_logits(start, self.bn_mode))
            theta, v = self._test(step, before, (start, momentum), (theta, v))
        trained = self._trained(step, (start, momentum), (theta, v))
        losses = step.cross_entropy(trained.logits)
        for leaf in trained.inputs:
            step.count_backward(leaf)
        v = trained.v
        if self.rho:
            gradients = step.gradients_of(gain(trained.logits), trained.inputs, keep_graph=True)
            v = chain.climb(v, trained.merged(gradients))
        else:  # the weights' own backward brings it
            step.memory.update(zip(("leaf", "again"), trained.inputs, strict=False))
            if trained.rejected is not None:
                step.memory["rejected"] = trained.rejected
        keep(step, trained.theta, v, trained.logits)
        return step.mean(losses)

    def _trained(self, step: Step, old: State, new: State) -> Trained:
        """Run the training forward at the new state.

        With a shared test, its losses decide the test.
        """
        leaf = new[0].detach().requires_grad_(True)
        if not (self.metropolis and self.shared_test):
            return Trained(leaf.detach(), new[1], step.forward(leaf), [leaf])
        # BatchNorm and dropout as in the training forward. Only bn_mode="train" updates the running
        # statistics.
        before = step.hard_cross_entropy(
            step.crafting_logits(old[0], "train" if self.bn_mode == "train" else "batch")
        )
        logits = step.forward(leaf)
        accepted = self._accepted(
            step, step.hard_cross_entropy(logits.detach()) - before, old[1], new[1]
        )
        theta, v = chosen(accepted, old, new)
        rejected = (~accepted).nonzero().squeeze(1)
        if not len(rejected):
            return Trained(theta, v, logits, [leaf])
        # the last update of a budget has no rows left for them: they add nothing to its gradient
        if not step.spare:
            return Trained(
                theta, v, torch.where(accepted.unsqueeze(1), logits, logits.detach()), [leaf]
            )
        again = old[0][rejected].detach().requires_grad_(True)
        logits = logits.index_copy(0, rejected, step.forward_again(again))
        return Trained(theta, v, logits, [leaf, again], rejected)

    def after_backward(self, step: Step) -> None:
        """Without contrast, take the chain's last gradient from the weights' backward."""
        leaf = step.memory.pop("leaf", None)
        if leaf is None:
            return
        gradient = step.weights_input_gradient(leaf)
        again = step.memory.pop("again", None)
        if again is not None:
            gradient = gradient.index_copy(
                0, step.memory.pop("rejected"), step.weights_input_gradient(again)
            )
        step.memory["v"] = _chain(self, step).climb(step.memory["v"], gradient)

    def _separate(self, step: Step, chain: Chain) -> Tensor:
        """Run a replay of order "printed" or "fresh".

        It takes K passes of crafting, then the training forward.
        """
        start = step.memory["theta"]
        momentum = step.memory["v"]
        gain = contrast(step, self.lam, self.rho)
        theta = start
        v = momentum
        before = step.x  # replaced by the first pass' losses
        for k in range(self.num_steps):
            gradient, logits = step.input_gradient(theta, gain, self.bn_mode)
            before = step.hard_cross_entropy(logits) if k == 0 else before
            climbed = chain.climb(v, gradient)
            theta = chain.move(theta, v if self.order == "printed" else climbed)
            v = climbed
        if self.metropolis:
            theta, v = self._test(step, before, (start, momentum), (theta, v))
        logits = step.forward(theta)
        step.count_backward(theta)
        keep(step, theta, v, logits)
        return step.mean(step.cross_entropy(logits))

    def _test(self, step: Step, before: Tensor, old: State, new: State) -> State:
        """Apply the Metropolis-Hastings test with a forward of its own.

        Return the new state of accepted samples and the old state of the others.
        """
        rise = step.hard_cross_entropy(step.crafting_logits(new[0], self.bn_mode)) - before
        return chosen(self._accepted(step, rise, old[1], new[1]), old, new)

    def _accepted(self, step: Step, rise: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """Return (r,) bool: accepted moves.

        The test uses the rise (r,) of the cross-entropy and the old and new momenta.
        """
        if self.kinetic:
            rise = rise + speed(new) - speed(old)
        accepted = step.uniform(()) < (rise / self.temperature).exp()
        step.log["acceptance"] = step.total_mean(accepted.to(torch.float32))
        return accepted


def _chain(recipe: ContrastiveRecipe, step: Step) -> Chain:
    """Return the moves of the chain in the ball of a step."""
    return Chain(step.ball(recipe.norm), step.eps, recipe.step_size, recipe.alpha, recipe.momentum)
