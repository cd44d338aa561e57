"""ATCD (adversarial training by contrastive divergence) and CAT, its form without a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softmax

from art_ext.core.checks import (
    check_choice,
    check_count,
    check_flag,
    check_not_negative,
    check_positive,
)
from art_ext.training.engine import Ball, Gain, Step
from art_ext.training.objectives import one_hot, soft_cross_entropy
from art_ext.training.recipes.base import BallRecipe, Cost

ORDERS = ("free", "printed", "fresh")
State = tuple[Tensor, Tensor]  # theta and v


@dataclass(frozen=True, kw_only=True, eq=False)
class Atcd(BallRecipe):
    """Adversarial training by contrastive divergence: a Hamiltonian chain over T weight updates.

    For each minibatch, start from ``theta = x + v``, ``v ~ U(-eps, eps)``, and do T times: K steps
    ``theta <- P(theta + eps sgn(v))``, ``v <- clip(v + alpha g, +-eps)``, a Metropolis-Hastings
    test, and one update of w on ``CE(f_w(theta), y)``. P projects onto ball and box. g is the
    gradient of ``lam CE(f_w(theta), y) - rho CE(f_w~(theta~), y)``.

    **The contrast costs no second network** (eq. 14). Its gradient is that of ``lam CE(f_w(theta),
    q)`` against the soft label ``q = (rho f~ + (lam - rho) y) / lam``. f~ is the softmax at the
    previous replay's training forward. In the first replay q = y. At the first of the K steps this
    is exact, because theta~ equals theta, and only the direction of CE remains. At the later steps
    theta has moved, and q = y is our reading.

    An update costs per sample, with order ``"free"``, K forwards and K + 1 backwards (K if rho =
    0), which is T K and T (K + 1) per minibatch. The other orders cost K + 1 of each. The test adds
    1 forward, or 2 with ``"free"`` and without ``shared_test``. A shared test sends each rejected
    row again, for 1 more forward and 2 more backwards (1 if rho = 0). ``cost()`` omits these and
    the counters include them. The papers count T K epochs for one pass over the data
    (``equivalent_epochs``).

    With K = 1 and order ``"free"`` or ``"printed"``, the first update of a minibatch trains at a
    random corner of the ball. The chain has then moved along its first, random momentum only.

    Attributes:
        num_replays: T, weight updates of a minibatch.
        num_steps: K, steps of the chain before each update.
        lam, rho: weights of the contrast. rho = 0 is plain cross-entropy.
        alpha: rate at which v follows the normalised gradient. None: eps.
        momentum: True lets v accumulate.
        order: ``"free"``, ``"printed"`` or ``"fresh"``.
        step_size: length of a step of theta, in the units of x. None: eps.
        metropolis: True tests the chain's moves.
        shared_test: with ``order="free"``, take CE(theta) of the test from the training forward.
        temperature: divisor of the exponent of the test.
        kinetic: add ``mean |v_new| - mean |v_old|`` to the exponent.

    Differences from the paper:
        The authors published no program. Where the text is silent or inconsistent, this is our
        reading. It is a keyword if more than one reading makes sense.

        * v ascends CE. With the printed sign it would descend it, contrary to the paper's text.
        * theta is projected onto the ball after each step. As printed, it moves as far as T K eps.
          ``step_size`` is ours.
        * The paper gives no alpha, and gradients (1e-3 to 1e-6) would vanish beside v. g is
        therefore
          divided by its mean magnitude within each sample, and alpha is eps. ``momentum=False``
          takes ``v = g``.
        * ``order="free"`` moves along v first and takes the gradient at the new theta. The last of
          these gradients shares its forward with the weight update. T = 8, K = 1 without contrast
          is then Free's loop. ``"printed"`` takes the gradient at the theta before the move.
          ``"fresh"`` takes the gradient first and moves along the new v.
        * The Metropolis-Hastings test accepts each sample's (theta, v) with ``min(1, exp(CE(theta)
        -
          CE(theta_0)))``, both under the current weights and in one mode. A rejected sample returns
          to its state at the start of the replay, and is trained there. With ``"free"`` v then
          ascends from there. The energy of v is omitted unless ``kinetic``.
        * With ``order="free"`` and ``shared_test``, CE(theta) comes from the training forward, and
          CE(theta_0) is taken in train mode too. BatchNorm's statistics are those of the minibatch,
          and dropout is on. Rejected rows are sent again by themselves, on the running statistics,
          which do not change.
        * ``"free"`` takes its last gradient in train mode, from the shared pass. ``bn_mode`` holds
        for
          the others. With rho = 0 it is the gradient of the outer loss, label smoothing included,
          as in Free.

    References:
        "Adversarial training using contrastive divergence" (ATCD, Algorithm 1, equations 13 and
        14), ICLR 2021 submission.
    """

    name: ClassVar[str] = "atcd"
    num_replays: int = 4
    num_steps: int = 2
    lam: float = 2.0
    rho: float = 1.0
    alpha: float | None = None
    momentum: bool = True
    order: str = "free"
    step_size: float | None = None
    metropolis: bool = True
    shared_test: bool = True
    temperature: float = 1.0
    kinetic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("num_replays", self.num_replays)
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

    # --- the chain ---

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy at the chain's end.

        The chain continues in the next replay.
        """
        ball = step.ball(self.norm)
        if "theta" not in step.memory:
            v = step.eps * (2 * step.uniform(tuple(step.x.shape[1:])) - 1)
            step.memory.update(theta=ball.into(step.x + v), v=v)
        return self._shared(step, ball) if self.order == "free" else self._separate(step, ball)

    def _shared(self, step: Step, ball: Ball) -> Tensor:
        """Run a replay of order "free", whose last gradient comes from the training forward."""
        start = step.memory["theta"]
        momentum = step.memory["v"]
        gain = self._gain(step)
        theta = start
        v = momentum
        for k in range(self.num_steps):
            theta = self._move(ball, theta, v, step)
            if k + 1 < self.num_steps:
                v = self._climb(v, step.input_gradient(theta, gain, self.bn_mode)[0], step.eps)
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
            v = self._climb(v, trained.merged(gradients), step.eps)
        else:  # the weights' own backward brings it
            step.memory.update(zip(("leaf", "again"), trained.inputs, strict=False))
            if trained.rejected is not None:
                step.memory["rejected"] = trained.rejected
        self._keep(step, trained.theta, v, trained.logits)
        return step.mean(losses)

    def _trained(self, step: Step, old: State, new: State) -> _Trained:
        """Run the training forward at the new state.

        With a shared test, its losses decide the test.
        """
        leaf = new[0].detach().requires_grad_(True)
        if not (self.metropolis and self.shared_test):
            return _Trained(leaf.detach(), new[1], step.forward(leaf), [leaf])
        # BatchNorm and dropout as in the training forward. Only bn_mode="train" updates the running
        # statistics.
        before = step.hard_cross_entropy(
            step.crafting_logits(old[0], "train" if self.bn_mode == "train" else "batch")
        )
        logits = step.forward(leaf)
        accepted = self._accepted(
            step, step.hard_cross_entropy(logits.detach()) - before, old[1], new[1]
        )
        theta, v = _chosen(accepted, old, new)
        rejected = (~accepted).nonzero().squeeze(1)
        if not len(rejected):
            return _Trained(theta, v, logits, [leaf])
        # the last update of a budget has no rows left for them: they add nothing to its gradient
        if not step.spare:
            return _Trained(
                theta, v, torch.where(accepted.unsqueeze(1), logits, logits.detach()), [leaf]
            )
        again = old[0][rejected].detach().requires_grad_(True)
        logits = logits.index_copy(0, rejected, step.forward_again(again))
        return _Trained(theta, v, logits, [leaf, again], rejected)

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
        step.memory["v"] = self._climb(step.memory["v"], gradient, step.eps)

    def _separate(self, step: Step, ball: Ball) -> Tensor:
        """Run a replay of order "printed" or "fresh".

        It takes K passes of crafting, then the training forward.
        """
        start = step.memory["theta"]
        momentum = step.memory["v"]
        gain = self._gain(step)
        theta = start
        v = momentum
        before = step.x  # replaced by the first pass' losses
        for k in range(self.num_steps):
            gradient, logits = step.input_gradient(theta, gain, self.bn_mode)
            before = step.hard_cross_entropy(logits) if k == 0 else before
            climbed = self._climb(v, gradient, step.eps)
            theta = self._move(ball, theta, v if self.order == "printed" else climbed, step)
            v = climbed
        if self.metropolis:
            theta, v = self._test(step, before, (start, momentum), (theta, v))
        logits = step.forward(theta)
        step.count_backward(theta)
        self._keep(step, theta, v, logits)
        return step.mean(step.cross_entropy(logits))

    @staticmethod
    def _keep(step: Step, theta: Tensor, v: Tensor, logits: Tensor) -> None:
        """Pass theta, v and f~ to the next replay."""
        step.memory.update(theta=theta, v=v, stale=softmax(logits.detach(), dim=1))

    def _gain(self, step: Step) -> Gain:
        """Return the CE against the soft label q, from logits (r, C) to (r,)."""
        stale = step.memory.get("stale")
        if stale is None or not self.rho:
            return step.hard_cross_entropy
        q = (self.rho * stale + (self.lam - self.rho) * one_hot(step.y, stale.shape[1])) / self.lam
        return lambda logits: soft_cross_entropy(logits, q)

    def _move(self, ball: Ball, theta: Tensor, v: Tensor, step: Step) -> Tensor:
        """Return ``P(theta + step_size sgn(v))``.

        sgn(v) is the gradient of the kinetic energy |v|.
        """
        return ball.step(theta, v, step.eps if self.step_size is None else self.step_size).detach()

    def _climb(self, v: Tensor, gradient: Tensor, eps: float) -> Tensor:
        """Return ``clip(v + alpha g / mean |g|, +-eps)``."""
        if not self.momentum:
            return gradient
        magnitude = gradient.abs().flatten(1).mean(dim=1).view((-1,) + (1,) * (v.dim() - 1))
        normalised = torch.where(magnitude > 0, gradient / magnitude, 0.0)
        return (v + (eps if self.alpha is None else self.alpha) * normalised).clamp(-eps, eps)

    def _test(self, step: Step, before: Tensor, old: State, new: State) -> State:
        """Apply the Metropolis-Hastings test with a forward of its own.

        Return the new state of accepted samples and the old state of the others.
        """
        rise = step.hard_cross_entropy(step.crafting_logits(new[0], self.bn_mode)) - before
        return _chosen(self._accepted(step, rise, old[1], new[1]), old, new)

    def _accepted(self, step: Step, rise: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """Return (r,) bool: accepted moves.

        The test uses the rise (r,) of the cross-entropy and the old and new momenta.
        """
        if self.kinetic:
            rise = rise + _speed(new) - _speed(old)
        accepted = step.uniform(()) < (rise / self.temperature).exp()
        step.log["acceptance"] = step.total_mean(accepted.to(torch.float32))
        return accepted


@dataclass(frozen=True)
class _Trained:
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


def _chosen(accepted: Tensor, old: State, new: State) -> State:
    """Return the new states of the accepted samples (r,), the old ones of the others."""
    mask = accepted.view((-1,) + (1,) * (new[0].dim() - 1))
    return torch.where(mask, new[0], old[0]), torch.where(mask, new[1], old[1])


def _speed(v: Tensor) -> Tensor:
    """Return (r,) the kinetic energy mean |v| of each sample."""
    return v.abs().flatten(1).mean(dim=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cat(Atcd):
    """Contrastive adversarial training: ATCD without the Metropolis-Hastings test.

    Attributes, differences from the paper and cost are those of ``Atcd``. A minibatch costs T K
    forwards and T (K + 1) backwards.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, Algorithm 3.
    """

    name: ClassVar[str] = "cat"
    metropolis: bool = False
