"""FGSM, I-FGSM, PGD, MI-FGSM, M-PGD and AI-FGSM: one engine, six choices of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from art_ext.core.ascent import Rule, Trajectory
from art_ext.core.attacks.registry import AttackSpec, register
from art_ext.core.ball import BallRun, Keywords, Options, spelled_out
from art_ext.core.calling import outside_inference_mode
from art_ext.core.checks import check_count, check_positive
from art_ext.core.oracle import Model
from art_ext.core.restarts import check_restarts
from art_ext.core.result import AttackResult

if TYPE_CHECKING:
    from typing_extensions import Unpack


@spelled_out
@outside_inference_mode()
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
    num_restarts: int = 1,
    keep_samples: bool = False,
    **options: Unpack[Keywords],
) -> AttackResult:
    """Ascend the loss within a ball by steps put together from named parts.

    Approximates ``max_x' J(x') s.t. ||x' - x||_p <= eps`` by
    ``x_{t+1} = P(x_t + step_rule(momentum_rule(normaliser(grad J(x_t)))))``; P clips to the box and
    projects onto the ball. ``fgsm``, ``i_fgsm``, ``pgd``, ``mi_fgsm``, ``m_pgd`` and ``ai_fgsm``
    are choices of the parts.

    Args:
        model: an ``nn.Module`` or a differentiable callable from (R, *S) to scores (R, K);
            normalisation lives inside.
        x: (N, *S) floats of any shape inside the box.
        y: (N,) true classes, or the classes to reach if ``targeted``; None takes the model's own
            answer.
        eps: radius of the ball in the units of x (8/255, never 8).
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        num_steps: T.
        step_size: alpha, in the units of x; None takes ``2.5 eps / T``.
        momentum_rule, normaliser, step_rule, start, decay, beta1, beta2, delta, delta_inside,
            grad_scale: the parts, as ``art_ext.core.ascent.Rule`` explains them.
        num_restarts: R, trajectories from R random points; needs ``start="uniform"``. The first one
            is that of ``num_restarts=1``. The best outcome of each sample is reported: a success
            before a failure, then the higher loss. Samples that ``stop_on_success`` lets leave take
            part in no further restart.
        keep_samples: return the end of each restart in ``samples`` (R, N, *S): its last iterate
            that succeeded, or the last one. A sample that left early repeats its last end.
        **options: the keywords of ``art_ext.core.ball.Options``. By default a success does not stop
            a sample: the last iterate that succeeded is reported.

    Returns:
        An ``AttackResult``. A query is one row forward: the clean check and one check per iterate,
            the starting point
        included where it is not the input. These are ``1 + T`` queries from the input, and ``1 + R
        (T + 1)`` from random points. ``gradients`` counts the steps, R T in all, 0 for rows wrong
        from the start.

    Raises:
        ValueError: for arguments that make no sense, x outside the box, NaN in x or in the clean
            outputs, labels beyond the model's width, or a model without gradients.
        TypeError: if x is not a floating point tensor.

    References:
        Goodfellow et al., 2015 (FGSM). Kurakin et al., 2017 (I-FGSM). Madry et al., 2018 (PGD).
        Dong et al., 2018 (MI-FGSM). Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for
        probabilistic adversarial attack and learning", IEEE TPAMI 2022 (AI-FGSM, and the common
        form).
    """
    rule = Rule(
        _length(step_size, 2.5, eps, num_steps),
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
    )
    check_restarts(num_restarts, start)
    run = BallRun(model, x, y, eps=eps, norm=norm, options=Options(**options))
    with run.oracle:
        for restart in run.trajectories(num_restarts, keep_ends=keep_samples):
            look, rows = rule.begin(run, restart)
            path = Trajectory(rule, run)
            for step in range(num_steps):
                if not len(run.index):
                    break
                further = step + 1 < num_steps and run.remaining > 1
                rows = path.step(rows, look.ascent())
                look, stay = run.drop(run.look(rows, differentiate=further), last=not further)
                path.select(stay)
                rows = rows if stay is None else rows[stay]
    return run.result()


@spelled_out
@outside_inference_mode()
def fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    **options: Unpack[Keywords],
) -> AttackResult:
    """The fast gradient sign method: ``x' = clip(x + eps sgn(grad J(x)))``; in L2 and L1 ``eps g /
    ||g||_p``.

    Arguments, ledger and errors are those of ``sign_gradient``: 2 queries and 1 gradient.

    References:
        Goodfellow, Shlens, Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015.
    """
    return sign_gradient(model, x, y, eps=eps, norm=norm, num_steps=1, step_size=eps, **options)


@spelled_out
@outside_inference_mode()
def i_fgsm(
    model: Model,
    x: Tensor,
    y: Tensor | None = None,
    *,
    eps: float,
    norm: str = "linf",
    num_steps: int = 10,
    step_size: float | None = None,
    **options: Unpack[Keywords],
) -> AttackResult:
    """Iterated FGSM: ``x_{t+1} = P(x_t + alpha sgn(grad J(x_t)))`` from x itself (8).

    Arguments, ledger and errors are those of ``sign_gradient``; ``step_size=None`` takes ``eps /
    T``.

    References:
        Kurakin, Goodfellow, Bengio, "Adversarial examples in the physical world", ICLR workshop
        2017.
    """
    length = _length(step_size, 1.0, eps, num_steps)
    return sign_gradient(
        model, x, y, eps=eps, norm=norm, num_steps=num_steps, step_size=length, **options
    )


@spelled_out
@outside_inference_mode()
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
    **options: Unpack[Keywords],
) -> AttackResult:
    """Projected gradient descent: I-FGSM from a point drawn uniformly from the ball.

    Arguments, ledger and errors are those of ``sign_gradient``; ``step_size=None`` takes ``2.5 eps
    / T``. R restarts cost ``1 + R (T + 1)`` queries and R T gradients a sample.

    References:
        Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
    """
    return sign_gradient(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        num_steps=num_steps,
        step_size=step_size,
        start="uniform",
        num_restarts=num_restarts,
        keep_samples=keep_samples,
        **options,
    )


@spelled_out
@outside_inference_mode()
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
    **options: Unpack[Keywords],
) -> AttackResult:
    """Momentum iterative FGSM: ``v_t = mu v_{t-1} + g_t / ||g_t||_1``, ``x_{t+1} = P(x_t + alpha
    sgn(v_t))``.

    Arguments, ledger and errors are those of ``sign_gradient``; ``decay`` is mu, ``step_size=None``
    takes ``eps / T``.

    References:
        Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018.
    """
    return sign_gradient(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        num_steps=num_steps,
        step_size=_length(step_size, 1.0, eps, num_steps),
        momentum_rule="accumulated",
        normaliser="l1",
        decay=decay,
        **options,
    )


@spelled_out
@outside_inference_mode()
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
    **options: Unpack[Keywords],
) -> AttackResult:
    """MI-FGSM from a point drawn uniformly from the ball (MI-FGSM + PGD).

    Arguments, ledger and errors are those of ``sign_gradient``; ``decay`` is mu, ``step_size=None``
    takes ``2.5 eps / T``. ``normaliser="l1"`` is the paper's, ``"mean"`` that of its authors'
    program.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022 (the comparator M-PGD).
    """
    return sign_gradient(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
        num_steps=num_steps,
        step_size=step_size,
        momentum_rule="accumulated",
        normaliser=normaliser,
        start="uniform",
        decay=decay,
        num_restarts=num_restarts,
        keep_samples=keep_samples,
        **options,
    )


@spelled_out
@outside_inference_mode()
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
    **options: Unpack[Keywords],
) -> AttackResult:
    """Adaptive iterative FGSM: the accumulated momentum of HMCAM in one trajectory, without
    Metropolis-Hastings.

    ``hmcam`` with ``num_transitions=1`` is the same to the bit. Arguments, ledger and errors are
    those of ``sign_gradient``; ``step_rule="corrected"`` is what the authors run on ImageNet and
    faces, where the second moment drops out.

    References:
        Wang, Li, Liu, Lin, "A Hamiltonian Monte Carlo method for probabilistic adversarial attack
        and learning", IEEE TPAMI 2022, Algorithm 2 with S = 1 and T = N.
    """
    # None, which sign_gradient replaces, is no length of an adaptive step
    check_positive("step_size", step_size)
    return sign_gradient(
        model,
        x,
        y,
        eps=eps,
        norm=norm,
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
        num_restarts=num_restarts,
        keep_samples=keep_samples,
        **options,
    )


def _length(step_size: float | None, share: float, eps: float, num_steps: int) -> float:
    """alpha, or so many times eps / T: steps that reach the edge of the ball, or 2.5 times as
    far.
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
        page="hmcam.md",
        lengths=("num_steps", "num_restarts"),
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
        page="sign-gradient.md",
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
        page="sign-gradient.md",
        lengths=("num_steps",),
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
        page="sign-gradient.md",
        lengths=("num_steps",),
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
        page="sign-gradient.md",
        random=True,
        lengths=("num_steps", "num_restarts"),
    ),
    AttackSpec(
        "m_pgd",
        m_pgd,
        title="M-PGD",
        access="gradients",
        family="fixed-radius",
        summary="PGD along a momentum of normalised gradients.",
        paper=_WANG,
        page="sign-gradient.md",
        random=True,
        lengths=("num_steps", "num_restarts"),
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
        page="sign-gradient.md",
        lengths=("num_steps", "num_restarts"),
    ),
)
