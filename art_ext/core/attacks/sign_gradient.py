"""FGSM, I-FGSM, PGD, MI-FGSM, M-PGD and AI-FGSM: one method, six choices of its parts.

    x_{t+1} = P(x_t + step_rule(momentum_rule(normaliser(grad J(x_t)))))

References:
    Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack and
    learning", IEEE TPAMI 2022, Table 1 and Algorithm 2 (the equation and algorithm numbers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from art_ext.core.attacks.engine.fixed_radius import FixedRadius
from art_ext.core.attacks.engine.method import Answers, Method
from art_ext.core.attacks.engine.options import FixedRadiusOptions
from art_ext.core.attacks.engine.problem import Problem
from art_ext.core.attacks.engine.state import State
from art_ext.core.attacks.hosts import Shell
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.checks import check_choice, check_count, check_number, check_positive, check_share
from art_ext.core.geometry import project, row_norms, unit
from art_ext.core.keywords import public
from art_ext.core.oracle import Model
from art_ext.core.result import AttackResult

MOMENTUM_RULES = ("none", "accumulated", "average")
NORMALISERS = ("none", "l1", "mean")
STEP_RULES = ("sign", "adaptive", "corrected")
STARTS = ("input", "uniform")
PROJECTIONS = ("box-first", "ball-first")


@dataclass(eq=False)
class Moments(State):
    """The iterates, and the averages of their gradients.

    Attributes:
        v: (R, D) the momentum.
        e: (R, D) the average of the squared gradients. None unless the step is adaptive.
        e_max: (R, D) the largest e so far. None likewise.
    """

    v: Tensor
    e: Tensor | None
    e_max: Tensor | None


@dataclass(frozen=True, kw_only=True)
class SignGradient(Method[Moments]):
    """Steps along the sign of the gradient, put together from named parts.

    Attributes:
        num_steps: T, the number of steps.
        step_size: alpha, in the units of x.
        momentum_rule: ``"none"``: ``v_t = g_t``. ``"accumulated"``: ``v_t = decay v_{t-1} + g_t``.
            ``"average"``: ``v_t = beta1 v_{t-1} + (1 - beta1) g_t`` (10). Default: none.
        normaliser: of each sample's gradient: ``"none"``, ``"l1"`` for ``g / ||g||_1``, ``"mean"``
            for ``g / mean |g|``. Under the sign the latter two differ by rounding only. Default:
            none.
        step_rule: ``"sign"``: ``alpha sgn(v)`` (8). ``"adaptive"``: ``sgn(v)`` times, for each
            coordinate, ``min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e))`` (11), e
            being the largest so far of the averages ``e_t = beta2 e_{t-1} + (1 - beta2) g_t^2``.
            ``"corrected"``: the same without the second moment, ``min(eps, alpha / (1 - beta1^t))
            sgn(v)``. In L2 and L1, ``v / ||v||_p`` stands for ``sgn(v)``.
        start: ``"input"``, or ``"uniform"``, a point drawn uniformly from the ball and clipped to
            the box. Default: input.
        decay: mu of ``"accumulated"``, >= 0. Default: 1.
        beta1: decay of the average of gradients, in [0, 1). Default: 0.95.
        beta2: decay of the average of squared gradients, in [0, 1). Default: 0.999.
        delta: small constant under e, > 0. Default: 1e-7.
        delta_inside: True adds delta inside the root of e, as the paper prints. False adds it to
            the root, as the reference implementation. Default: False.
        grad_scale: factor of every gradient. Only the adaptive step depends on it. 1 is the
            gradient of each sample's own loss. 1/B is what the authors' mean over batches of B
            samples gives. Default: 1.
        projection: ``"box-first"`` clips a step to the box before its projection onto an L2 or L1
            ball, which moves no coordinate away from x. ``"ball-first"`` projects first, as many
            programs do: what a step does outside the box then uses up a part of eps. In L-inf both
            are the same. Default: box-first.
        num_restarts: R, trajectories from R random points. More than 1 needs a random start. The
            first one is that of ``num_restarts=1``. The best outcome of each sample is reported: a
            success before a failure, then the higher loss. Samples that ``stop_on_success`` stops
            take part in no further restart. Default: 1.
        keep_samples: True returns the end of each restart in ``samples`` (R, N, *S): its last
            iterate that succeeded, or the last one. A sample that stopped early repeats its last
            end. Default: False.
    """

    num_steps: int
    step_size: float
    momentum_rule: str = "none"
    normaliser: str = "none"
    step_rule: str = "sign"
    start: str = "input"
    decay: float = 1.0
    beta1: float = 0.95
    beta2: float = 0.999
    delta: float = 1e-7
    delta_inside: bool = False
    grad_scale: float = 1.0
    projection: str = "box-first"

    def __post_init__(self) -> None:
        check_count("num_steps", self.num_steps)
        for name in ("step_size", "delta", "grad_scale"):
            check_positive(name, getattr(self, name))
        for name in ("beta1", "beta2"):
            check_share(name, getattr(self, name))
        check_number("decay", self.decay)
        if not 0 <= self.decay < math.inf:
            raise ValueError(f"decay must be >= 0, got {self.decay!r}")
        check_choice("momentum_rule", self.momentum_rule, MOMENTUM_RULES)
        check_choice("normaliser", self.normaliser, NORMALISERS)
        check_choice("step_rule", self.step_rule, STEP_RULES)
        check_choice("start", self.start, STARTS)
        check_choice("projection", self.projection, PROJECTIONS)

    @property
    def starts_at_input(self) -> bool:  # type: ignore[override]  # read only here
        """True if the first candidates are the clean inputs."""
        return self.start == "input"

    def init(self, problem: Problem, trajectory: int) -> Moments:
        """Return the starting points, without momentum."""
        x = problem.x if self.starts_at_input else problem.random_start(trajectory)
        return self.at_rest(x)

    def at_rest(self, x: Tensor) -> Moments:
        """Return the state at points (R, D) whose moments are zero."""
        zero = x[:, :0] if self.momentum_rule == "none" else torch.zeros_like(x)
        if self.step_rule != "adaptive":
            return Moments(x, zero, None, None)
        return Moments(x, zero, torch.zeros_like(x), torch.zeros_like(x))

    def step(self, problem: Problem, state: Moments, answers: Answers, t: int) -> Moments:
        """Return the next iterates, and their moments, which are overwritten."""
        g = v = self._normalised(answers.gradient)
        if self.momentum_rule == "accumulated":
            v = state.v.mul_(self.decay).add_(g)
        elif self.momentum_rule == "average":
            v = state.v.mul_(self.beta1).add_((1 - self.beta1) * g)  # (10)
        if state.e is not None and state.e_max is not None:
            state.e.mul_(self.beta2).add_(g.square().mul_(1 - self.beta2))
            torch.maximum(state.e_max, state.e, out=state.e_max)
        direction = v.sign() if problem.norm == "linf" else unit(v, problem.norm)
        length = self._length(problem.limit, state.e_max, t + 1)
        state.x = self._projected(problem, direction.mul_(length).add_(state.x))
        return state

    def _projected(self, problem: Problem, rows: Tensor) -> Tensor:
        """Return rows (R, D) inside ball and box. They are overwritten."""
        if self.projection == "box-first":
            return problem.feasible_(rows)
        return problem.clip(problem.x + project(rows - problem.x, problem.norm, problem.radius))

    def _normalised(self, gradient: Tensor) -> Tensor:
        if self.grad_scale != 1:
            gradient = gradient * self.grad_scale
        if self.normaliser == "none":
            return gradient
        length = row_norms(gradient, "l1").unsqueeze(1)
        if self.normaliser == "mean":
            length = length / gradient.shape[1]
        return torch.where(length > 0, gradient / length, 0.0)

    def _length(self, eps: float, e_max: Tensor | None, t: int) -> float | Tensor:
        """Return the length of step t, from 1, along the direction: a number, or (R, D)."""
        if self.step_rule == "sign":
            return self.step_size
        alpha = self.step_size / (1 - self.beta1**t)
        if e_max is None:
            return min(eps, alpha)
        second = e_max / (1 - self.beta2**t)
        inside, outside = (self.delta, 0.0) if self.delta_inside else (0.0, self.delta)
        root = second.add_(inside).sqrt_().add_(outside)
        return root.reciprocal_().mul_(alpha).clamp_(max=eps)  # (11)


@dataclass(frozen=True, kw_only=True)
class LastIterates(SignGradient):
    """The same steps, which keep the last S iterates of each sample.

    Attributes:
        kept: (S, N, D) to fill. The iterate after step t lies in row ``(t - 1) % S``.
        made: (N,) int64, the steps of each sample so far.
    """

    kept: Tensor
    made: Tensor = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.kept)
        if count > self.num_steps:
            raise ValueError(
                f"keep_samples must be <= num_steps, the number of iterates, got {count} of"
                f" {self.num_steps}"
            )
        made = torch.zeros(self.kept.shape[1], dtype=torch.int64, device=self.kept.device)
        object.__setattr__(self, "made", made)

    def observe(self, problem: Problem, state: Moments, answers: Answers, t: int) -> Moments:
        """Keep the iterates of the active rows."""
        if t:
            self.kept[(t - 1) % len(self.kept), problem.index] = state.x
            self.made.index_fill_(0, problem.index, t)
        return state

    def chain(self, x_adv: Tensor, moved: Tensor) -> Tensor:
        """Return the iterates (S, N, D) in order, and the outcome of samples without a step."""
        count = len(self.kept)
        order = torch.arange(count, device=x_adv.device).unsqueeze(1)
        step = (self.made - count).clamp(min=0) + order  # from 0
        row = step.minimum((self.made - 1).clamp(min=0)) % count
        samples = self.kept.gather(0, row.unsqueeze(2).expand_as(self.kept))
        return torch.where((self.made > 0).unsqueeze(1), samples, x_adv)


@public(FixedRadiusOptions, SignGradient, FixedRadius)
def sign_gradient(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 40,
    step_size: float | None = None,
    momentum_rule: str = "none",
    normaliser: str = "none",
    step_rule: str = "sign",
    start: str = "input",
    decay: float = 1.0,
    beta1: float = 0.95,
    beta2: float = 0.999,
    delta: float = 1e-7,
    delta_inside: bool = False,
    grad_scale: float = 1.0,
    projection: str = "box-first",
    num_restarts: int = 1,
    keep_samples: bool = False,
    **options: Any,
) -> AttackResult:
    """Gradient attack within a ball, with steps put together from named parts.

    Approximates ``max_x' J(x') s.t. ||x' - x||_p <= eps`` by
    ``x_{t+1} = P(x_t + step_rule(momentum_rule(normaliser(grad J(x_t)))))``. P clips to the box and
    projects onto the ball. ``fgsm``, ``i_fgsm``, ``pgd``, ``mi_fgsm``, ``m_pgd`` and ``ai_fgsm``
    are choices of the parts. By default a success does not stop a sample, and the last iterate that
    succeeded is reported.

    Args:
        num_steps: T, the number of steps. Default: 40.
        step_size: alpha, in the units of x. Default: None, ``2.5 eps / T``.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check and one check per iterate,
        the starting point included where it is not the input. These are ``1 + T`` queries from the
        input, and ``1 + R (T + 1)`` from random points. ``gradients`` counts the steps, R T in all,
        0 for rows that are adversarial from the start.

    References:
        Goodfellow et al., 2015 (FGSM). Kurakin et al., 2017 (I-FGSM). Madry et al., 2018 (PGD).
        Dong et al., 2018 (MI-FGSM). Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for
        probabilistic adversarial attack and learning", IEEE TPAMI 2022 (AI-FGSM, and the common
        form).
    """
    method = SignGradient(
        num_steps=num_steps,
        step_size=step_length(step_size, 2.5, eps, num_steps),
        momentum_rule=momentum_rule,
        normaliser=normaliser,
        step_rule=step_rule,
        start=start,
        decay=decay,
        beta1=beta1,
        beta2=beta2,
        delta=delta,
        delta_inside=delta_inside,
        grad_scale=grad_scale,
        projection=projection,
    )
    driver = FixedRadius(model, x, y, eps=eps, norm=norm, **options)
    return driver.run(method, num_restarts=num_restarts, keep_ends=keep_samples)


@public(FixedRadiusOptions, SignGradient, FixedRadius)
def fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    **options: Any,
) -> AttackResult:
    """Fast gradient sign method: ``x' = clip(x + eps sgn(grad J(x)))``.

    In L2 and L1 the step is ``eps g / ||g||_p``. A success is verified by the second query.

    Returns:
        An ``AttackResult``, after 2 queries and 1 gradient per sample.

    References:
        Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015.
    """
    check_positive("eps", eps)
    method = SignGradient(num_steps=1, step_size=eps)
    return FixedRadius(model, x, y, eps=eps, norm=norm, **options).run(method)


@public(FixedRadiusOptions, SignGradient, FixedRadius)
def i_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 10,
    step_size: float | None = None,
    **options: Any,
) -> AttackResult:
    """Iterate FGSM: ``x_{t+1} = P(x_t + alpha sgn(grad J(x_t)))`` from x itself (8).

    Args:
        num_steps: T, the number of steps. Default: 10.
        step_size: alpha, in the units of x. Default: None, ``eps / T``.

    Returns:
        An ``AttackResult``, after ``1 + T`` queries and T gradients per sample.

    References:
        Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", ICLR workshop
        2017.
    """
    method = SignGradient(
        num_steps=num_steps, step_size=step_length(step_size, 1.0, eps, num_steps)
    )
    return FixedRadius(model, x, y, eps=eps, norm=norm, **options).run(method)


@public(FixedRadiusOptions, SignGradient, FixedRadius)
def pgd(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 40,
    step_size: float | None = None,
    num_restarts: int = 1,
    keep_samples: bool = False,
    **options: Any,
) -> AttackResult:
    """Projected gradient descent: I-FGSM from a point drawn uniformly from the ball.

    Args:
        num_steps: T, the number of steps. Default: 40.
        step_size: alpha, in the units of x. Default: None, ``2.5 eps / T``.

    Returns:
        An ``AttackResult``, after ``1 + R (T + 1)`` queries and R T gradients per sample.

    References:
        Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
    """
    method = SignGradient(
        num_steps=num_steps, step_size=step_length(step_size, 2.5, eps, num_steps), start="uniform"
    )
    driver = FixedRadius(model, x, y, eps=eps, norm=norm, **options)
    return driver.run(method, num_restarts=num_restarts, keep_ends=keep_samples)


@public(FixedRadiusOptions, SignGradient, FixedRadius)
def mi_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    keep_samples: int = 0,
    **options: Any,
) -> AttackResult:
    """Momentum iterative FGSM: ``v_t = mu v_{t-1} + g_t / ||g_t||_1``.

    The step is ``x_{t+1} = P(x_t + alpha sgn(v_t))``.

    Args:
        num_steps: T, the number of steps. Default: 10.
        step_size: alpha, in the units of x. Default: None, ``eps / T``.
        decay: mu, >= 0. Default: 1.
        keep_samples: S, at most T. The last S iterates of each sample are returned in ``samples``
            (S, N, *S). A sample that made fewer steps repeats its last one. Default: 0, none.

    Returns:
        An ``AttackResult``, after ``1 + T`` queries and T gradients per sample.

    References:
        Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018.
    """
    check_count("keep_samples", keep_samples, least=0)
    driver = FixedRadius(model, x, y, eps=eps, norm=norm, **options)
    parts: dict[str, Any] = {
        "num_steps": num_steps,
        "step_size": step_length(step_size, 1.0, eps, num_steps),
        "momentum_rule": "accumulated",
        "normaliser": "l1",
        "decay": decay,
    }
    if not keep_samples:
        return driver.run(SignGradient(**parts))
    whole = driver.whole.x
    return driver.run(LastIterates(**parts, kept=whole.new_zeros(keep_samples, *whole.shape)))


@public(FixedRadiusOptions, SignGradient, FixedRadius)
def m_pgd(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 40,
    step_size: float | None = None,
    decay: float = 1.0,
    normaliser: str = "l1",
    num_restarts: int = 1,
    keep_samples: bool = False,
    **options: Any,
) -> AttackResult:
    """MI-FGSM from a point drawn uniformly from the ball (MI-FGSM + PGD).

    Args:
        num_steps: T, the number of steps. Default: 40.
        step_size: alpha, in the units of x. Default: None, ``2.5 eps / T``.
        decay: mu, >= 0. Default: 1.
        normaliser: ``"l1"`` as in the paper, ``"mean"`` as in its reference implementation, or
            ``"none"``.
            Default: l1.

    Returns:
        An ``AttackResult``, after ``1 + R (T + 1)`` queries and R T gradients per sample.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022 (the comparator M-PGD).
    """
    method = SignGradient(
        num_steps=num_steps,
        step_size=step_length(step_size, 2.5, eps, num_steps),
        momentum_rule="accumulated",
        normaliser=normaliser,
        start="uniform",
        decay=decay,
    )
    driver = FixedRadius(model, x, y, eps=eps, norm=norm, **options)
    return driver.run(method, num_restarts=num_restarts, keep_ends=keep_samples)


@public(FixedRadiusOptions, SignGradient, FixedRadius)
def ai_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 100,
    step_size: float = 5e-3,
    beta1: float = 0.95,
    beta2: float = 0.999,
    step_rule: str = "adaptive",
    start: str = "input",
    delta: float = 1e-7,
    delta_inside: bool = False,
    grad_scale: float = 1.0,
    num_restarts: int = 1,
    keep_samples: bool = False,
    **options: Any,
) -> AttackResult:
    """Adaptive iterative FGSM: the accumulated momentum of HMCAM in one trajectory.

    ``hmcam`` with ``num_transitions=1`` is the same to the bit. There is no Metropolis-Hastings
    test. ``step_rule="corrected"`` is what the authors run on ImageNet and faces, where the second
    moment drops out.

    Args:
        num_steps: T, the number of steps. Default: 100.
        step_size: alpha of the adaptive step. Default: 5e-3.

    Returns:
        An ``AttackResult``, after ``1 + T`` queries from the input, or ``1 + R (T + 1)`` from
        random points, and R T gradients per sample.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, Algorithm 2 with S = 1 and T = N.
    """
    check_positive("eps", eps)
    method = SignGradient(
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
    return driver.run(method, num_restarts=num_restarts, keep_ends=keep_samples)


def step_length(step_size: float | None, share: float, eps: float, num_steps: int) -> float:
    """Return alpha or, without one, a share of eps / T: steps that reach the edge of the ball, or
    2.5 times as far.
    """
    check_count("num_steps", num_steps)
    check_positive("eps", eps)
    return share * eps / num_steps if step_size is None else step_size


_WANG = (
    "Wang, Li, Liu, Lin. A Hamiltonian Monte Carlo method for probabilistic "
    "adversarial attack and learning. IEEE TPAMI 2022."
)
register(
    AttackSpec(
        "ai_fgsm",
        ai_fgsm,
        title="AI-FGSM",
        access="gradients",
        family="fixed-radius",
        summary=("Takes sign steps along a momentum that is accumulated and scaled as in Adam."),
        paper=_WANG,
        page="attacks/hmcam.md",
        url="https://arxiv.org/abs/2010.07849",
        hosts={
            "art": Shell(
                name="AIFGSM",
                summary=(
                    "Adaptive iterative FGSM: the steps of ``HMCAM`` in one trajectory, without"
                    " Metropolis-Hastings."
                ),
                parameters=(
                    "norm eps eps_step max_iter beta1 beta2 targeted step_rule start loss outputs"
                    " stop_on_success on_failure max_queries batch_size seed verbose probe"
                    " nb_random_init keep_samples"
                ),
                texts={
                    "eps_step": (
                        "alpha of the adaptive step, far below ART's custom .1: most coordinates"
                        " move by eps all the same."
                    )
                },
            ),
            "torchattacks": Shell(
                name="AIFGSM",
                summary=(
                    "AI-FGSM (Wang et al., 2022): the adaptive steps of HMCAM in one trajectory."
                ),
                parameters=(
                    "norm eps alpha steps beta1 beta2 step_rule start loss stop_on_success"
                    " on_failure max_queries batch_size seed probe n_restarts keep_samples"
                ),
                texts={"alpha": "of the adaptive step. Most pixels move by eps all the same."},
                example="eps=8/255, steps=100",
            ),
        },
    ),
    AttackSpec(
        "fgsm",
        fgsm,
        title="FGSM",
        access="gradients",
        family="fixed-radius",
        summary="Takes one step of length eps along the sign of the gradient.",
        paper=(
            "Goodfellow, Shlens, Szegedy. Explaining and harnessing adversarial examples."
            " ICLR 2015."
        ),
        page="attacks/sign-gradient.md",
        url="https://arxiv.org/abs/1412.6572",
        hosts={
            "art": Shell(name="FGSM"),
            "torchattacks": Shell(reason="torchattacks has FGSM itself"),
        },
    ),
    AttackSpec(
        "i_fgsm",
        i_fgsm,
        title="I-FGSM",
        access="gradients",
        family="fixed-radius",
        summary="Repeats FGSM with small steps from the input itself.",
        paper=(
            "Kurakin, Goodfellow, Bengio. Adversarial examples in the physical world. "
            "ICLR workshop 2017."
        ),
        page="attacks/sign-gradient.md",
        url="https://arxiv.org/abs/1607.02533",
        hosts={
            "art": Shell(name="IFGSM"),
            "torchattacks": Shell(reason="torchattacks has it as BIM"),
        },
    ),
    AttackSpec(
        "mi_fgsm",
        mi_fgsm,
        title="MI-FGSM",
        access="gradients",
        family="fixed-radius",
        summary="I-FGSM along a momentum of normalised gradients.",
        paper=(
            "Dong, Liao, Pang, Su, Zhu, Hu, Li. Boosting adversarial attacks with "
            "momentum. CVPR 2018."
        ),
        page="attacks/sign-gradient.md",
        url="https://arxiv.org/abs/1710.06081",
        hosts={
            "art": Shell(name="MIFGSM"),
            "torchattacks": Shell(reason="torchattacks has MIFGSM itself"),
        },
    ),
    AttackSpec(
        "pgd",
        pgd,
        title="PGD",
        access="gradients",
        family="fixed-radius",
        summary=("Takes projected sign steps of the gradient from a random start in the ball."),
        paper=(
            "Madry, Makelov, Schmidt, Tsipras, Vladu. Towards deep learning models "
            "resistant to adversarial attacks. ICLR 2018."
        ),
        page="attacks/sign-gradient.md",
        random=True,
        url="https://arxiv.org/abs/1706.06083",
        hosts={
            "art": Shell(name="PGD"),
            "torchattacks": Shell(
                reason="torchattacks has PGD itself, and SignGradient with start='uniform' is ours"
            ),
        },
    ),
    AttackSpec(
        "m_pgd",
        m_pgd,
        title="M-PGD",
        access="gradients",
        family="fixed-radius",
        summary="PGD along a momentum of normalised gradients.",
        paper=_WANG,
        page="attacks/sign-gradient.md",
        random=True,
        url="https://arxiv.org/abs/2010.07849",
        hosts={"art": Shell(name="MPGD"), "torchattacks": Shell(name="MPGD")},
    ),
    AttackSpec(
        "sign_gradient",
        sign_gradient,
        title="Sign gradient",
        access="gradients",
        family="fixed-radius",
        summary=(
            "The common form of FGSM, PGD and their relatives, with every part chosen by name."
        ),
        paper=_WANG,
        page="attacks/sign-gradient.md",
        url="https://arxiv.org/abs/2010.07849",
        hosts={"art": Shell(name="SignGradient"), "torchattacks": Shell(name="SignGradient")},
    ),
)
