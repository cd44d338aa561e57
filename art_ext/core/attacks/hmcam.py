"""HMCAM: a chain of adversarial examples, drawn by Hamiltonian Monte Carlo with accumulated
momentum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.core.ascent import Rule, Trajectory
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.ball import BallRun, Keywords, Look, Options, spelled_out
from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult
from art_ext.core.streams import uniform

if TYPE_CHECKING:
    from typing_extensions import Unpack


@spelled_out
@outside_inference_mode()
def hmcam(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    step_size: float = 5e-3,
    num_steps: int = 50,
    num_transitions: int = 2,
    beta1: float = 0.95,
    beta2: float = 0.999,
    keep_samples: bool = True,
    step_rule: str = "adaptive",
    start: str = "input",
    delta: float = 1e-7,
    delta_inside: bool = False,
    grad_scale: float = 1.0,
    temperature: float = 1.0,
    kinetic: bool = False,
    continue_from: str = "state",
    **options: Unpack[Keywords],
) -> AttackResult:
    """Draw S adversarial examples per sample: S transitions of T adaptive steps, each with a
    Metropolis-Hastings test.

    The chain explores ``p(x') ~ exp(J(x') / tau)`` on ``||x' - x||_p <= eps`` (5), J being the loss
    that is ascended. A transition (Algorithm 2) takes T steps (11) with moments that start from
    zero, and is accepted with probability ``min(1, exp((J_new - J_old) / tau))``; otherwise the
    chain stays where it is. The default step size is large enough for most coordinates to move by
    eps at once; an unsaturated one (1e-4) transfers worse than PGD.

    Our reading: the potential is U = -J, for which the printed sign of the test is the textbook's
        and a rise of the
    loss is always accepted, targeted or not (the authors' program forgets the flip); the test is
    made for each sample, not for each pixel. In that program the kinetic terms cancel by aliasing,
    so they are off (``kinetic``), and the chain moves on to the proposal whatever the outcome
    (``continue_from="proposal"``). Steps have no random part: after a rejection the next transition
    makes the same proposal again, with a new draw.

    Args:
        model: an ``nn.Module`` or a differentiable callable from (R, *S) to scores (R, K);
            normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``; None takes the model's own
            answer.
        eps: radius of the ball in the units of x (8/255, never 8).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        step_size: alpha of the adaptive step.
        num_steps: T.
        num_transitions: S; with 1 there is no test, and the attack is ``ai_fgsm``.
        beta1, beta2: decay of the averages of gradient and squared gradient.
        keep_samples: return the chain in ``samples``; otherwise each state goes to the callback
            only, in ``Progress.samples``.
        step_rule, start, delta, delta_inside, grad_scale: as ``art_ext.core.ascent.Rule`` explains
            them.
        temperature: tau (3).
        kinetic: add ``mean |v_new| - mean |v_old|`` to the exponent, the momenta at the end of this
            transition and of the one that led to the present position (0 at first).
        continue_from: ``"state"``, or ``"proposal"`` to imitate the authors' program.
        **options: the keywords of ``art_ext.core.ball.Options``. By default a success does not stop
            a sample; with ``stop_on_success`` it ends the chain, accepted or not.

    Returns:
        An ``AttackResult``. ``x_adv`` is the state of highest loss among those that succeed, and,
        if none does, the last iterate on the way that did. ``samples`` (S, N, *S) holds the states;
        for a sample that left early (by ``stop_on_success`` or budget) the last one is repeated.
        ``trace["loss"]`` and ``trace["accepted"]`` (S, N) go with them. Queries are 1 + S T, and
        one more for a random start; gradients S T.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or a model without gradients.
        TypeError: if x is not a floating point tensor.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, Algorithm 2.
    """
    check_count("num_steps", num_steps)
    check_count("num_transitions", num_transitions)
    check_positive("temperature", temperature)
    check_choice("continue_from", continue_from, ("state", "proposal"))
    rule = Rule(
        step_size,
        momentum_rule="average",
        step_rule=step_rule,
        start=start,
        beta1=beta1,
        beta2=beta2,
        delta=delta,
        delta_inside=delta_inside,
        grad_scale=grad_scale,
    )
    run = BallRun(model, x, y, eps=eps, norm=norm, options=Options(**options))
    samples = run.samples.new_empty(num_transitions, *run.samples.shape) if keep_samples else None
    run.trace(num_transitions, "loss", "accepted")
    with run.oracle:
        look, rows = rule.begin(run)
        path = Trajectory(rule, run)
        chain = _Chain(
            run,
            rows,
            look,
            num_transitions,
            temperature,
            kinetic,
            continue_from == "state",
            samples,
        )
        for number in range(num_transitions):
            rows, look = chain.position, chain.look
            path.restart()
            for step in range(num_steps):
                if not len(run.index):
                    break
                rows = path.step(rows, look.ascent())
                arrived = step + 1 == num_steps
                last = (arrived and number + 1 == num_transitions) or run.remaining <= 1
                look = run.look(rows, differentiate=not last)
                shown = chain.arrive(number, rows, look, path.v) if arrived else None
                chain.leave(number, rows, look, last=last)
                look, stay = run.drop(look, last=last, chain=shown)
                path.select(stay)
                chain.select(stay)
                rows = rows if stay is None else rows[stay]
    return run.result(samples)


class _Chain:
    """Where the chains of the live samples are, and the best of what they went through; tensors
    (R, ...).
    """

    def __init__(
        self,
        run: BallRun,
        position: Tensor,
        look: Look,
        transitions: int,
        temperature: float,
        kinetic: bool,
        stays: bool,
        samples: Tensor | None,
    ) -> None:
        self.run, self.transitions, self.temperature = run, transitions, temperature
        self.kinetic, self.stays, self.samples = kinetic, stays, samples
        self.position, self.look = position, look
        # mean |v| at the end of the transition that led here
        self.speed = position.new_zeros(len(position))
        self.best, self.best_loss = position, position.new_full((len(position),), -torch.inf)
        if samples is not None:  # whoever leaves before a first transition shows where it was
            samples[:] = run.x_adv
            samples[:, run.index] = position

    def arrive(self, number: int, rows: Tensor, look: Look, v: Tensor) -> Tensor:
        """End a transition at the proposal rows: the states (R, D) it emits, tested, entered and
        recorded.
        """
        run, speed = self.run, v.abs().mean(dim=1)
        rise = (
            look.losses - self.look.losses + self.kinetic * (speed - self.speed)
        ) / self.temperature
        accepted = torch.ones_like(look.met)
        if self.transitions > 1:
            accepted = uniform(run.seed, run.ids[run.index], number).log() < rise  # false for NaN
        if run.options.stop_on_success:
            accepted = accepted | look.met  # the chain ends there
        emitted = torch.where(accepted.unsqueeze(1), rows, self.position)
        losses = torch.where(accepted, look.losses, self.look.losses)
        met = torch.where(accepted, look.met, self.look.met)
        better = met & (losses > self.best_loss)
        self.best = torch.where(better.unsqueeze(1), emitted, self.best)
        self.best_loss = torch.where(better, losses, self.best_loss)
        if self.samples is not None:
            # the last one is repeated if the chain is cut
            self.samples[number:, run.index] = emitted
        run.record("loss", number, losses)
        run.record("accepted", number, accepted)
        moved = accepted if self.stays else torch.ones_like(accepted)
        self.position = torch.where(moved.unsqueeze(1), rows, self.position)
        self.speed = torch.where(moved, speed, self.speed)
        gradient = look.gradient
        if gradient is not None:
            gradient = torch.where(moved.unsqueeze(1), gradient, self.look.ascent())
        self.look = Look(
            torch.where(moved, look.losses, self.look.losses),
            gradient,
            torch.where(moved, look.met, self.look.met),
        )
        return emitted

    def leave(self, number: int, rows: Tensor, look: Look, *, last: bool) -> None:
        """What the samples that leave now report: their first success, or at the end the best
        state that succeeds.
        """
        run = self.run
        if last:
            run.hold(self.best, self.best_loss > -torch.inf)
        if self.samples is not None and run.options.stop_on_success:
            self.samples[number:, run.index[look.met]] = rows[look.met]

    def select(self, stay: Tensor | None) -> None:
        """Keep the samples at these positions; None keeps all."""
        if stay is None:
            return
        self.position, self.speed, self.best, self.best_loss = (
            kept[stay] for kept in (self.position, self.speed, self.best, self.best_loss)
        )
        gradient = None if self.look.gradient is None else self.look.gradient[stay]
        self.look = Look(self.look.losses[stay], gradient, self.look.met[stay])


register(
    AttackSpec(
        "hmcam",
        hmcam,
        title="HMCAM",
        access="gradients",
        family="fixed-radius",
        summary=(
            "Draws a chain of adversarial examples by Hamiltonian dynamics with "
            "accumulated momentum."
        ),
        paper=(
            "Wang, Li, Liu, Lin. A Hamiltonian Monte Carlo method for probabilistic "
            "adversarial attack and learning. IEEE TPAMI 2022."
        ),
        page="hmcam.md",
        random=True,
        lengths=("num_steps", "num_transitions"),
    )
)
