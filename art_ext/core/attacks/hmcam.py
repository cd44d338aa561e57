"""HMCAM: a chain of adversarial examples, drawn by Hamiltonian Monte Carlo with accumulated
momentum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.options import FixedRadiusOptions
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.attacks.sign_gradient import Moments, SignGradient
from art_ext.core.checks import check_choice, check_count, check_positive
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult
from art_ext.core.streams import uniform


@dataclass(eq=False, kw_only=True)
class Chain(Moments):
    """The chains of the active rows, and the way to their next states.

    Attributes:
        position: (R, D) the present states.
        at: the answers there. None before the first step.
        speed: (R,) mean |v| at the end of the transition that led there.
        best, best_loss: (R, D) and (R,), the state of highest loss among those that succeed.
        emitted: (R, D) the states that this round has drawn. None between transitions.
    """

    position: Tensor
    at: Answers | None
    speed: Tensor
    best: Tensor
    best_loss: Tensor
    emitted: Tensor | None = None


class Hmcam(Method[Chain]):
    """Transitions of T adaptive steps, each with a Metropolis-Hastings test (Algorithm 2).

    Args:
        rule: the adaptive steps of one transition.
        num_transitions: S.
        temperature: tau (3).
        kinetic: True adds the kinetic terms to the exponent.
        continue_from: ``"state"`` or ``"proposal"``.
        stop_on_success: True ends a chain at its first success.
        samples: (S, N, D) to fill with the states. None keeps none.
    """

    def __init__(
        self,
        rule: SignGradient,
        *,
        num_transitions: int,
        temperature: float,
        kinetic: bool,
        continue_from: str,
        stop_on_success: bool,
        samples: Tensor | None,
    ) -> None:
        check_count("num_transitions", num_transitions)
        check_positive("temperature", temperature)
        check_choice("continue_from", continue_from, ("state", "proposal"))
        self.rule = rule
        self.transitions = num_transitions
        self.num_steps = num_transitions * rule.num_steps
        self.starts_at_input = rule.starts_at_input
        self.compares_losses = num_transitions > 1
        self.temperature = temperature
        self.kinetic = kinetic
        self.repeats = continue_from == "state"
        self.stop_on_success = stop_on_success
        self.samples = samples

    def init(self, problem: Problem, trajectory: int) -> Chain:
        """Return the chains at their starting points."""
        start = self.rule.init(problem, trajectory)
        return Chain(
            **vars(start),
            position=start.x,
            at=None,
            speed=start.x.new_zeros(len(start.x)),
            best=start.x,
            best_loss=start.x.new_full((len(start.x),), -torch.inf),
        )

    def step(self, problem: Problem, state: Chain, answers: Answers, t: int) -> Chain:
        """Return the next iterates. A transition begins at the present state, with zero moments."""
        at = answers if state.at is None else state.at
        if t == 0 and self.samples is not None:
            self.samples[:, problem.index] = state.position
        path: Moments = state
        if t % self.rule.num_steps == 0:
            path, answers = self.rule.at_rest(state.position), at
        moved = self.rule.step(problem, path, answers, t % self.rule.num_steps)
        changed = {name: getattr(moved, name) for name in ("x", "v", "e", "e_max")}
        return replace(state, **changed, at=at, emitted=None)

    def observe(self, problem: Problem, state: Chain, answers: Answers, t: int) -> Chain:
        """Return the chains after the answers. A transition ends after T steps."""
        if t == 0:
            return state
        number = (t - 1) // self.rule.num_steps
        candidates = state.x
        if t % self.rule.num_steps == 0:
            state = self._arrive(problem, state, answers, number)
        if self.samples is not None and self.stop_on_success:
            success = answers.success
            self.samples[number:, problem.index[success]] = candidates[success]
        return state

    def preferred(self, state: Chain) -> tuple[Tensor, Tensor]:
        """Return the state of highest loss among those that succeed."""
        return state.best, state.best_loss > -torch.inf

    def shown(self, state: Chain) -> Tensor | None:
        """Return the states that this round has drawn."""
        return state.emitted

    def chain(self, x_adv: Tensor, moved: Tensor) -> Tensor | None:
        """Return the states (S, N, D). Samples without a first step show their outcome."""
        if self.samples is not None:
            self.samples[:, ~moved] = x_adv[~moved]
        return self.samples

    def _arrive(self, problem: Problem, state: Chain, answers: Answers, number: int) -> Chain:
        """End a transition: test its candidates, and record the states."""
        before = state.at
        if before is None:
            raise RuntimeError("a transition ends after its first step")
        speed = state.v.abs().mean(dim=1)
        rise = answers.losses - before.losses + self.kinetic * (speed - state.speed)
        accepted = torch.ones_like(answers.success)
        if self.transitions > 1:  # false for NaN
            drawn = uniform(problem.seed, problem.ids, number)
            accepted = drawn.log() < rise / self.temperature
        if self.stop_on_success:
            accepted = accepted | answers.success  # the chain ends there
        emitted = torch.where(accepted.unsqueeze(1), state.x, state.position)
        losses = torch.where(accepted, answers.losses, before.losses)
        success = torch.where(accepted, answers.success, before.success)
        better = success & (losses > state.best_loss)
        if self.samples is not None:
            # the last one is repeated if the chain is cut
            self.samples[number:, problem.index] = emitted
        problem.record("loss", number, losses)
        problem.record("accepted", number, accepted)
        moved = accepted if self.repeats else torch.ones_like(accepted)
        slope = answers.slope
        if slope is not None:
            slope = torch.where(moved.unsqueeze(1), slope, before.gradient)
        return replace(
            state,
            position=torch.where(moved.unsqueeze(1), state.x, state.position),
            at=Answers(
                torch.where(moved, answers.losses, before.losses),
                torch.where(moved, answers.success, before.success),
                slope,
            ),
            speed=torch.where(moved, speed, state.speed),
            best=torch.where(better.unsqueeze(1), emitted, state.best),
            best_loss=torch.where(better, losses, state.best_loss),
            emitted=emitted,
        )


@public(FixedRadiusOptions, SignGradient, FixedRadius)
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
    **options: Any,
) -> AttackResult:
    """Hamiltonian Monte Carlo with accumulated momentum (HMCAM): S adversarial examples per sample.

    Each is the end of a transition of T adaptive steps with a Metropolis-Hastings test. The chain
    explores ``p(x') ~ exp(J(x') / tau)`` on ``||x' - x||_p <= eps`` (5), J being the loss that is
    ascended. A transition (Algorithm 2) takes T steps (11) with moments that start from zero, and
    is accepted with probability ``min(1, exp((J_new - J_old) / tau))``. Otherwise the chain stays
    where it is. Steps have no random part: after a rejection the next transition makes the same
    proposal again, with a new draw. The default step size is large enough for most coordinates to
    move by eps at once. An unsaturated one (1e-4) transfers worse than PGD.

    Args:
        step_size: alpha of the adaptive step. Default: 5e-3.
        num_steps: T, the steps of a transition. Default: 50.
        num_transitions: S, the transitions. With 1 there is no test, and the attack is ``ai_fgsm``.
            Default: 2.
        keep_samples: True returns the chain in ``samples``. Otherwise each state goes to the
            callback only, in ``Progress.samples``. Default: True.
        temperature: tau (3), > 0. Default: 1.
        kinetic: True adds ``mean |v_new| - mean |v_old|`` to the exponent, the momenta at the end
            of this transition and of the one that led to the present position (0 at first).
            Default: False.
        continue_from: ``"state"``, or ``"proposal"`` to imitate the reference implementation.
            Default: state.
        stop_on_success: True ends a chain at its first success, accepted or not. Default: False.

    Returns:
        An ``AttackResult``. ``x_adv`` is the state of highest loss among those that succeed, and,
        if none does, the last iterate on the way that did. ``samples`` (S, N, *S) holds the states.
        For a sample that left early (by ``stop_on_success`` or budget) the last one is repeated.
        ``trace["loss"]`` and ``trace["accepted"]`` (S, N) go with them. Queries are 1 + S T, and
        one more for a random start. Gradients are S T.

    Raises:
        ValueError: if an argument is out of range, x leaves the box, x or the clean outputs hold
            NaN, a label has no column in the outputs, or the model has no gradient.
        TypeError: if x is not a floating point tensor.

    Differences from the paper:
        The potential is U = -J, for which the printed sign of the test is the textbook's and a rise
        of the loss is always accepted, targeted or not. The reference implementation forgets the
        flip. The test is made for each sample, not for each pixel. In the reference implementation
        the kinetic terms cancel by aliasing, so they are off (``kinetic``), and the chain moves on
        to the proposal whatever the outcome (``continue_from="proposal"``).

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, Algorithm 2.
    """
    rule = SignGradient(
        num_steps=num_steps,
        step_size=step_size,
        momentum_rule="average",
        step_rule=step_rule,
        start=start,
        beta1=beta1,
        beta2=beta2,
        delta=delta,
        delta_inside=delta_inside,
        grad_scale=grad_scale,
    )
    driver = FixedRadius(model, x, y, eps=eps, norm=norm, **options)
    whole = driver.whole.x
    method = Hmcam(
        rule,
        num_transitions=num_transitions,
        temperature=temperature,
        kinetic=kinetic,
        continue_from=continue_from,
        stop_on_success=driver.options.stop_on_success,
        samples=whole.new_empty(num_transitions, *whole.shape) if keep_samples else None,
    )
    driver.open_trace(num_transitions, "loss", "accepted")
    return driver.run(method)


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
        page="attacks/hmcam.md",
        random=True,
        url="https://arxiv.org/abs/2010.07849",
        hosts={
            "art": Shell(
                name="HMCAM",
                summary=(
                    "White-box attack that draws a chain of adversarial examples by Hamiltonian"
                    " Monte Carlo."
                ),
                notes=(
                    "``generate`` returns the state of highest loss that succeeds, and"
                    " ``run(x, y).samples`` is the whole chain, (nb_samples, n, *shape). Keywords"
                    " that only imitate the reference implementation are those of the core"
                    " function."
                ),
                parameters=(
                    "norm eps eps_step max_iter nb_samples beta1 beta2 targeted step_rule start"
                    " temperature keep_samples loss outputs stop_on_success on_failure max_queries"
                    " batch_size seed verbose probe"
                ),
                texts={
                    "eps_step": (
                        "alpha of the adaptive step, far below ART's custom .1: most coordinates"
                        " move by eps all the same."
                    )
                },
            ),
            "torchattacks": Shell(
                name="HMCAM",
                summary=(
                    "HMCAM (Wang et al., 2022): a chain of adversarial images, drawn by"
                    " Hamiltonian Monte Carlo."
                ),
                parameters=(
                    "norm eps alpha steps n_samples beta1 beta2 step_rule start temperature"
                    " keep_samples loss stop_on_success on_failure max_queries batch_size seed"
                    " probe"
                ),
                texts={"alpha": "of the adaptive step. Most pixels move by eps all the same."},
                example="eps=8/255, steps=50, n_samples=2",
                shown="attack.last_result.samples  # (n_samples, N, C, H, W)",
            ),
        },
    )
)
