"""The Hamiltonian chain of ATCD and CAT: its moves, its test, and its state between updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softmax

from art_ext.core.geometry import Ball
from art_ext.training.objectives.losses import one_hot, soft_cross_entropy
from art_ext.training.passes import Gain
from art_ext.training.step import Step

State = tuple[Tensor, Tensor]  # theta and v


@dataclass(frozen=True)
class Chain:
    """Moves of the chain within a ball.

    Attributes:
        ball: the allowed perturbations.
        eps: its radius, the bound of v.
        step_size: length of a step of theta. None: eps.
        alpha: rate at which v follows the normalised gradient. None: eps.
        momentum: True lets v accumulate.
    """

    ball: Ball
    eps: float
    step_size: float | None
    alpha: float | None
    momentum: bool

    def move(self, theta: Tensor, v: Tensor) -> Tensor:
        """Return ``P(theta + step_size sgn(v))``.

        sgn(v) is the gradient of the kinetic energy |v|.
        """
        length = self.eps if self.step_size is None else self.step_size
        return self.ball.step(theta, v, length).detach()

    def climb(self, v: Tensor, gradient: Tensor) -> Tensor:
        """Return ``clip(v + alpha g / mean |g|, +-eps)``."""
        if not self.momentum:
            return gradient
        magnitude = gradient.abs().flatten(1).mean(dim=1).view((-1,) + (1,) * (v.dim() - 1))
        normalised = torch.where(magnitude > 0, gradient / magnitude, 0.0)
        rate = self.eps if self.alpha is None else self.alpha
        return (v + rate * normalised).clamp(-self.eps, self.eps)


@dataclass(frozen=True)
class Trained:
    """Training forward at the chain's end, and the inputs at which its gradients are taken.

    Attributes:
        theta, v: (r, *S) the chain's states after the test.
        logits: (r, C) at theta.
        inputs: inputs of the forward and, if there are any, of the rejected rows that were sent
            again.
        rejected: (n,) their positions in the minibatch.
    """

    theta: Tensor
    v: Tensor
    logits: Tensor
    inputs: list[Tensor]
    rejected: Tensor | None = None

    def merged(self, gradients: Sequence[Tensor]) -> Tensor:
        """Return (r, *S) gradients at theta, from those at the inputs."""
        return (
            gradients[0]
            if self.rejected is None
            else gradients[0].index_copy(0, self.rejected, gradients[1])
        )


def contrast(step: Step, lam: float, rho: float) -> Gain:
    """Return the CE against the soft label q, from class scores (r, C) to (r,)."""
    stale = step.memory.get("stale")
    if stale is None or not rho:
        return step.hard_cross_entropy
    q = (rho * stale + (lam - rho) * one_hot(step.y, stale.shape[1])) / lam
    return lambda logits: soft_cross_entropy(logits, q)


def keep(step: Step, theta: Tensor, v: Tensor, logits: Tensor) -> None:
    """Pass theta, v and f~ to the next replay."""
    step.memory.update(theta=theta, v=v, stale=softmax(logits.detach(), dim=1))


def chosen(accepted: Tensor, old: State, new: State) -> State:
    """Return the new states of the accepted samples (r,), the old ones of the others."""
    mask = accepted.view((-1,) + (1,) * (new[0].dim() - 1))
    return torch.where(mask, new[0], old[0]), torch.where(mask, new[1], old[1])


def speed(v: Tensor) -> Tensor:
    """Return (r,) the kinetic energy mean |v| of each sample."""
    return v.abs().flatten(1).mean(dim=1)
