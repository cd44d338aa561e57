"""Our attacks for torchattacks.

Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import nn

from art_ext.adapters.torchattacks.shell import FunctionAttack
from art_ext.core import attacks as core
from art_ext.core.losses import Loss

__all__ = [
    "AIFGSM",
    "EAD",
    "FW",
    "HMCAM",
    "IFGM",
    "MPGD",
    "NES",
    "OPT",
    "ZOO",
    "Bandits",
    "FWBlack",
    "RayS",
    "SignGradient",
    "SignHunter",
    "SignOPT",
]


class AIFGSM(FunctionAttack):
    r"""AI-FGSM (Wang et al., 2022): the adaptive steps of HMCAM in one trajectory.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.ai_fgsm`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        alpha (float): of the adaptive step. Most pixels move by eps all the same. (Default: 0.005)
        steps (int): T, the number of steps. (Default: 100)
        beta1 (float): decay of the average of gradients, in [0, 1). (Default: 0.95)
        beta2 (float): decay of the average of squared gradients, in [0, 1). (Default: 0.999)
        step_rule (str): 'sign': alpha sgn(v) (8). 'adaptive': sgn(v) times, for each coordinate,
            min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e)) (11), e being the largest so
            far of the averages e_t = beta2 e_{t-1} + (1 - beta2) g_t^2. 'corrected': the same
            without the second moment, min(eps, alpha / (1 - beta1^t)) sgn(v). In L2 and L1, v /
            ||v||_p stands for sgn(v). (Default: 'adaptive')
        start (str): 'input', or 'uniform', a point drawn uniformly from the ball and clipped to the
            box. (Default: 'input')
        loss (str or function): ascended by the attack: 'ce', 'margin', 'probability_margin', 'dlr',
            'mean-logits', or a callable from the model's outputs (r, K) and the positions (r,) of
            their samples in x to (r,) numbers, such as the inner product with a target's embedding.
            A callable is ascended as it is, targeted or not. The probability margin is max_{j != y}
            p_j - p_y of the softmax. 'dlr' is the margin over the difference of the largest and
            third largest score, and with fewer than four classes the margin. 'mean-logits' is the
            margin of the mean logits of the members of a JointEnsemble inside the model.
            (Default: 'ce')
        stop_on_success (bool): True stops a sample at its first success. Otherwise its last iterate
            that succeeded is reported. (Default: False)
        on_failure (str): what comes back without a success: the 'last' iterate, or the 'input'.
            (Default: 'last')
        max_queries (int): most forward rows charged to a sample, the clean check included. None: no
            limit. (Default: None)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)
        n_restarts (int): R, trajectories from R random points. More than 1 needs a random start.
            The first one is that of n_restarts=1. The best outcome of each sample is reported: a
            success before a failure, then the higher loss. Samples that stop_on_success stops take
            part in no further restart. (Default: 1)
        keep_samples (bool): True returns the end of each restart in samples (R, N, *S): its last
            iterate that succeeded, or the last one. A sample that stopped early repeats its last
            end. (Default: False)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.AIFGSM(model, eps=8/255, steps=100)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.ai_fgsm)
    _core_names: ClassVar[dict[str, str]] = {
        "alpha": "step_size",
        "steps": "num_steps",
        "n_restarts": "num_restarts",
    }

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        alpha: float = 0.005,
        steps: int = 100,
        beta1: float = 0.95,
        beta2: float = 0.999,
        step_rule: str = "adaptive",
        start: str = "input",
        loss: str | Loss = "ce",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
        n_restarts: int = 1,
        keep_samples: bool = False,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            alpha=alpha,
            steps=steps,
            beta1=beta1,
            beta2=beta2,
            step_rule=step_rule,
            start=start,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
            n_restarts=n_restarts,
            keep_samples=keep_samples,
        )


class Bandits(FunctionAttack):
    r"""Bandits. Takes projected steps along a gradient prior that it learns from pairs of scores.

    Distance measure: Linf or L2. See ``art_ext.core.attacks.bandits`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf' or 'L2'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        preset (str): of the next five arguments. 'imagenet': those of the authors. 'mnist': those
            of the authors of SignHunter, for L-inf. (Default: 'imagenet')
        alpha (float): alpha, in the units of x. None: the preset's. (Default: None)
        delta (float): length of a probe, in the units of x. None: the preset's. (Default: None)
        prior_step_size (float): h, of the prior. None: the preset's. (Default: None)
        exploration (float): c, the factor of the random direction. None: the preset's.
            (Default: None)
        tile (int): cells along each axis, at most the shorter side. None: the preset's, and a cell
            for each feature where x is no image, or not larger than this. (Default: None)
        clip_probes (bool): True clips the probes to the box, for a model that takes nothing else.
            (Default: False)
        loss (str or function): ascended by the attack: 'ce', 'margin', 'probability_margin', 'dlr',
            'mean-logits', or a callable from the model's outputs (r, K) and the positions (r,) of
            their samples in x to (r,) numbers, such as the inner product with a target's embedding.
            A callable is ascended as it is, targeted or not. The probability margin is max_{j != y}
            p_j - p_y of the softmax. 'dlr' is the margin over the difference of the largest and
            third largest score, and with fewer than four classes the margin. 'mean-logits' is the
            margin of the mean logits of the members of a JointEnsemble inside the model.
            (Default: 'ce')
        stop_on_success (bool): True stops a sample at its first success. (Default: True)
        on_failure (str): what comes back without a success: the 'last' iterate, or the 'input'.
            (Default: 'last')
        max_queries (int): most forward rows per sample. An iteration that does not fit into the
            rest is not begun. (Default: 10000)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.Bandits(model)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.bandits)
    _core_names: ClassVar[dict[str, str]] = {"alpha": "step_size"}

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        preset: str = "imagenet",
        alpha: float | None = None,
        delta: float | None = None,
        prior_step_size: float | None = None,
        exploration: float | None = None,
        tile: int | None = None,
        clip_probes: bool = False,
        loss: str | Loss = "ce",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int = 10_000,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            preset=preset,
            alpha=alpha,
            delta=delta,
            prior_step_size=prior_step_size,
            exploration=exploration,
            tile=tile,
            clip_probes=clip_probes,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class EAD(FunctionAttack):
    r"""EAD (Chen et al., 2018): elastic-net attack, FISTA in a search over c.

    Distance measure: L1 and L2. See ``art_ext.core.attacks.ead`` for the method. The arguments are
    those of torchattacks' own EADEN and EADL1, which carry iterates over from one c to the next and
    measure distances to an image that drifts.

    Arguments:
        model (nn.Module): model to attack.
        kappa (float): kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have. (Default: 0)
        lr (float): alpha_0, > 0. (Default: 0.01)
        binary_search_steps (int): optimisations per sample, each with its own c, >= 1. (Default: 9)
        max_iterations (int): iterations of each optimisation, by torchattacks' custom. The paper's
            1000 come nearer. (Default: 100)
        abort_early (bool or str): True ends a sample's optimisation where its loss, compared every
            max_iterations / 10 iterations, stands still, unless it has succeeded by then. 'always'
            ends it then too, as the reference implementation. False never does. (Default: True)
        initial_const (float): the first c, > 0. (Default: 0.001)
        beta (float): weight of the L1 term, >= 0. (Default: 0.001)
        decision_rule (str): the success that is reported: that of least beta ||.||_1 + ||.||_2^2
            ('EN'), of least L1 ('L1') or of least L2 ('L2') distortion. (Default: 'EN')
        norm (str): 'Linf', 'L2' or 'L1': how eps and the distances of last_result are measured.
            (Default: 'L1')
        eps (float): radius within which an adversarial counts as success. None counts any.
            (Default: None)
        max_queries (int): most forward rows charged to a sample, the clean check included. None: no
            limit. (Default: None)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`; images without a success come back unchanged.

    Examples::
        >>> attack = torchattacks.EAD(model, kappa=0, lr=0.01, max_iterations=1000)
        >>> adv_images = attack(images, labels)
        >>> attack.last_result.distance
    """

    _function = staticmethod(core.ead)
    _core_names: ClassVar[dict[str, str]] = {
        "kappa": "confidence",
        "lr": "step_size",
        "binary_search_steps": "search_steps",
        "max_iterations": "num_steps",
    }

    def __init__(
        self,
        model: nn.Module,
        kappa: float = 0,
        lr: float = 0.01,
        binary_search_steps: int = 9,
        max_iterations: int = 100,
        abort_early: bool | str = True,
        initial_const: float = 0.001,
        beta: float = 0.001,
        decision_rule: str = "EN",
        norm: str = "L1",
        eps: float | None = None,
        max_queries: int | None = None,
        batch_size: int = 256,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            kappa=kappa,
            lr=lr,
            binary_search_steps=binary_search_steps,
            max_iterations=max_iterations,
            abort_early=abort_early,
            initial_const=initial_const,
            beta=beta,
            decision_rule=decision_rule,
            norm=norm,
            eps=eps,
            max_queries=max_queries,
            batch_size=batch_size,
            probe=probe,
        )


class FW(FunctionAttack):
    r"""Frank-Wolfe (Chen et al., 2020): white-box steps towards vertices of the ball, without
    projection.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.frank_wolfe`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        alpha (float): gamma, the fraction of the way to the vertex that a step goes, in (0, 1]. No
            length. (Default: 0.5)
        momentum (float): beta, in [0, 1). (Default: 0.9)
        steps (int): T, the most steps. (Default: 20)
        schedule (str): 'constant', as the authors' white-box program. 'inverse_sqrt': the constant
            gamma / sqrt(T) of Theorem 2.4.4. 'plateau', as their black-box program: gamma until f
            falls by less than 0.1 % over five iterates, then gamma / sqrt(3), gamma / sqrt(4), and
            so on. (Default: 'constant')
        momentum_init (str): 'zero', as the reference implementation (under the sign a
            bias-corrected average), or 'gradient', the printed m_{-1} = grad f(x_0), which freezes
            the first direction for long. (Default: 'zero')
        box (str): 'clip' clips each step to the box, as the authors do. 'vertex' takes the vertex
            of the intersection of ball and box, so that the gap in the trace is that of the problem
            solved. In L1 take 'vertex': the ball's own vertices lie far outside the box, and
            clipping leaves little of them. (Default: 'clip')
        loss (str or function): ascended by the attack: 'ce', 'margin', 'probability_margin', 'dlr',
            'mean-logits', or a callable from the model's outputs (r, K) and the positions (r,) of
            their samples in x to (r,) numbers, such as the inner product with a target's embedding.
            A callable is ascended as it is, targeted or not. The probability margin is max_{j != y}
            p_j - p_y of the softmax. 'dlr' is the margin over the difference of the largest and
            third largest score, and with fewer than four classes the margin. 'mean-logits' is the
            margin of the mean logits of the members of a JointEnsemble inside the model.
            (Default: 'ce')
        stop_on_success (bool): True stops a sample at its first success. (Default: True)
        on_failure (str): what comes back without a success: the 'last' iterate, or the 'input'.
            (Default: 'last')
        max_queries (int): most forward rows charged to a sample, the clean check included. None: no
            limit. (Default: None)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.FW(model, eps=8/255, steps=20)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.frank_wolfe)
    _core_names: ClassVar[dict[str, str]] = {"alpha": "step_fraction", "steps": "num_steps"}

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        alpha: float = 0.5,
        momentum: float = 0.9,
        steps: int = 20,
        schedule: str = "constant",
        momentum_init: str = "zero",
        box: str = "clip",
        loss: str | Loss = "ce",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 256,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            alpha=alpha,
            momentum=momentum,
            steps=steps,
            schedule=schedule,
            momentum_init=momentum_init,
            box=box,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            probe=probe,
        )


class FWBlack(FunctionAttack):
    r"""Black-box Frank-Wolfe (Chen et al., 2020): the same steps along gradients estimated from
    logits.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.frank_wolfe_black_box`` for the
    method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        alpha (float): gamma, the fraction of the way to the vertex that a step goes, in (0, 1]. No
            length. (Default: 0.5)
        momentum (float): beta, in [0, 1). (Default: 0.97)
        max_queries (int): most forward rows per sample. An iteration that does not fit into the
            rest is not begun. (Default: 10000)
        n_directions (int): b, >= 1. An iteration costs 2 b queries and one for its check.
            (Default: 25)
        delta (float): length of a probe per unit of u, in the units of x. (Default: 0.01)
        sensing (str): 'gaussian' or 'sphere', the law of the directions. (Default: 'gaussian')
        clip_probes (bool): True clips the probes to the box, for a model that takes nothing else.
            (Default: False)
        schedule (str): 'constant', as the authors' white-box program. 'inverse_sqrt': the constant
            gamma / sqrt(T) of Theorem 2.4.4. 'plateau', as their black-box program: gamma until f
            falls by less than 0.1 % over five iterates, then gamma / sqrt(3), gamma / sqrt(4), and
            so on. (Default: 'plateau')
        momentum_init (str): 'zero', as the reference implementation (under the sign a
            bias-corrected average), or 'gradient', the printed m_{-1} = grad f(x_0), which freezes
            the first direction for long. (Default: 'zero')
        box (str): 'clip' clips each step to the box, as the authors do. 'vertex' takes the vertex
            of the intersection of ball and box, so that the gap in the trace is that of the problem
            solved. In L1 take 'vertex': the ball's own vertices lie far outside the box, and
            clipping leaves little of them. (Default: 'clip')
        loss (str or function): ascended by the attack: 'ce', 'margin', 'probability_margin', 'dlr',
            'mean-logits', or a callable from the model's outputs (r, K) and the positions (r,) of
            their samples in x to (r,) numbers, such as the inner product with a target's embedding.
            A callable is ascended as it is, targeted or not. The probability margin is max_{j != y}
            p_j - p_y of the softmax. 'dlr' is the margin over the difference of the largest and
            third largest score, and with fewer than four classes the margin. 'mean-logits' is the
            margin of the mean logits of the members of a JointEnsemble inside the model.
            (Default: 'ce')
        stop_on_success (bool): True stops a sample at its first success. (Default: True)
        on_failure (str): what comes back without a success: the 'last' iterate, or the 'input'.
            (Default: 'last')
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.FWBlack(model, eps=8/255, max_queries=5000)
        >>> adv_images = attack(images, labels)
        >>> attack.last_result.queries
    """

    _function = staticmethod(core.frank_wolfe_black_box)
    _core_names: ClassVar[dict[str, str]] = {
        "alpha": "step_fraction",
        "n_directions": "num_directions",
    }

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        alpha: float = 0.5,
        momentum: float = 0.97,
        max_queries: int = 10_000,
        n_directions: int = 25,
        delta: float = 0.01,
        sensing: str = "gaussian",
        clip_probes: bool = False,
        schedule: str = "plateau",
        momentum_init: str = "zero",
        box: str = "clip",
        loss: str | Loss = "ce",
        stop_on_success: bool = True,
        on_failure: str = "last",
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            alpha=alpha,
            momentum=momentum,
            max_queries=max_queries,
            n_directions=n_directions,
            delta=delta,
            sensing=sensing,
            clip_probes=clip_probes,
            schedule=schedule,
            momentum_init=momentum_init,
            box=box,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class HMCAM(FunctionAttack):
    r"""HMCAM (Wang et al., 2022): a chain of adversarial images, drawn by Hamiltonian Monte Carlo.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.hmcam`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        alpha (float): of the adaptive step. Most pixels move by eps all the same. (Default: 0.005)
        steps (int): T, the steps of a transition. (Default: 50)
        n_samples (int): S, the transitions. With 1 there is no test, and the attack is ai_fgsm.
            (Default: 2)
        beta1 (float): decay of the average of gradients, in [0, 1). (Default: 0.95)
        beta2 (float): decay of the average of squared gradients, in [0, 1). (Default: 0.999)
        step_rule (str): 'sign': alpha sgn(v) (8). 'adaptive': sgn(v) times, for each coordinate,
            min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e)) (11), e being the largest so
            far of the averages e_t = beta2 e_{t-1} + (1 - beta2) g_t^2. 'corrected': the same
            without the second moment, min(eps, alpha / (1 - beta1^t)) sgn(v). In L2 and L1, v /
            ||v||_p stands for sgn(v). (Default: 'adaptive')
        start (str): 'input', or 'uniform', a point drawn uniformly from the ball and clipped to the
            box. (Default: 'input')
        temperature (float): tau (3), > 0. (Default: 1.0)
        keep_samples (bool): True returns the chain in samples. Otherwise each state goes to the
            callback only, in Progress.samples. (Default: True)
        loss (str or function): ascended by the attack: 'ce', 'margin', 'probability_margin', 'dlr',
            'mean-logits', or a callable from the model's outputs (r, K) and the positions (r,) of
            their samples in x to (r,) numbers, such as the inner product with a target's embedding.
            A callable is ascended as it is, targeted or not. The probability margin is max_{j != y}
            p_j - p_y of the softmax. 'dlr' is the margin over the difference of the largest and
            third largest score, and with fewer than four classes the margin. 'mean-logits' is the
            margin of the mean logits of the members of a JointEnsemble inside the model.
            (Default: 'ce')
        stop_on_success (bool): True ends a chain at its first success, accepted or not.
            (Default: False)
        on_failure (str): what comes back without a success: the 'last' iterate, or the 'input'.
            (Default: 'last')
        max_queries (int): most forward rows charged to a sample, the clean check included. None: no
            limit. (Default: None)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.HMCAM(model, eps=8/255, steps=50, n_samples=2)
        >>> adv_images = attack(images, labels)
        >>> attack.last_result.samples  # (n_samples, N, C, H, W)
    """

    _function = staticmethod(core.hmcam)
    _core_names: ClassVar[dict[str, str]] = {
        "alpha": "step_size",
        "steps": "num_steps",
        "n_samples": "num_transitions",
    }

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        alpha: float = 0.005,
        steps: int = 50,
        n_samples: int = 2,
        beta1: float = 0.95,
        beta2: float = 0.999,
        step_rule: str = "adaptive",
        start: str = "input",
        temperature: float = 1.0,
        keep_samples: bool = True,
        loss: str | Loss = "ce",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            alpha=alpha,
            steps=steps,
            n_samples=n_samples,
            beta1=beta1,
            beta2=beta2,
            step_rule=step_rule,
            start=start,
            temperature=temperature,
            keep_samples=keep_samples,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class IFGM(FunctionAttack):
    r"""I-FGM. Searches the smallest radius at which a few normalised gradient steps succeed.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.i_fgm`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1': how eps and the distances of last_result are measured.
            (Default: 'Linf')
        eps (float): radius within which an adversarial counts as success. None counts any.
            (Default: None)
        max_iterations (int): T, the most steps at a radius. (Default: 10)
        search (str): 'bisection': the resolution and its doubles, upwards, until one succeeds, and
            then the midpoint of a failure and a success, down to the resolution. 'grid': every
            multiple of the resolution, upwards, until one succeeds. (Default: 'bisection')
        max_radius (float): the largest radius, in the units of x. Default: None, that of Table 4
            times the width of the box: 1 in L-inf, 10 in L2, 1000 in L1. (Default: None)
        resolution (float): of the radius, in the units of x. Default: None, a thousandth of
            max_radius, as in Table 4. (Default: None)
        kappa (float): kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have. (Default: 0.0)
        max_queries (int): most forward rows charged to a sample, the clean check included. None: no
            limit. (Default: None)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`; images without a success come back unchanged.

    Examples::
        >>> attack = torchattacks.IFGM(model)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.i_fgm)
    _core_names: ClassVar[dict[str, str]] = {"max_iterations": "num_steps", "kappa": "confidence"}

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float | None = None,
        max_iterations: int = 10,
        search: str = "bisection",
        max_radius: float | None = None,
        resolution: float | None = None,
        kappa: float = 0.0,
        max_queries: int | None = None,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            max_iterations=max_iterations,
            search=search,
            max_radius=max_radius,
            resolution=resolution,
            kappa=kappa,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class MPGD(FunctionAttack):
    r"""M-PGD. PGD along a momentum of normalised gradients.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.m_pgd`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        steps (int): T, the number of steps. (Default: 40)
        alpha (float): alpha, in the units of x. None: 2.5 eps / T. (Default: None)
        decay (float): mu, >= 0. (Default: 1.0)
        normaliser (str): 'l1' as in the paper, 'mean' as in its reference implementation, or
            'none'. (Default: 'l1')
        n_restarts (int): R, trajectories from R random points. More than 1 needs a random start.
            The first one is that of n_restarts=1. The best outcome of each sample is reported: a
            success before a failure, then the higher loss. Samples that stop_on_success stops take
            part in no further restart. (Default: 1)
        keep_samples (bool): True returns the end of each restart in samples (R, N, *S): its last
            iterate that succeeded, or the last one. A sample that stopped early repeats its last
            end. (Default: False)
        loss (str or function): ascended by the attack: 'ce', 'margin', 'probability_margin', 'dlr',
            'mean-logits', or a callable from the model's outputs (r, K) and the positions (r,) of
            their samples in x to (r,) numbers, such as the inner product with a target's embedding.
            A callable is ascended as it is, targeted or not. The probability margin is max_{j != y}
            p_j - p_y of the softmax. 'dlr' is the margin over the difference of the largest and
            third largest score, and with fewer than four classes the margin. 'mean-logits' is the
            margin of the mean logits of the members of a JointEnsemble inside the model.
            (Default: 'ce')
        stop_on_success (bool): True stops a sample at its first success. Otherwise its last iterate
            that succeeded is reported. (Default: False)
        on_failure (str): what comes back without a success: the 'last' iterate, or the 'input'.
            (Default: 'last')
        max_queries (int): most forward rows charged to a sample, the clean check included. None: no
            limit. (Default: None)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.MPGD(model)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.m_pgd)
    _core_names: ClassVar[dict[str, str]] = {
        "steps": "num_steps",
        "alpha": "step_size",
        "n_restarts": "num_restarts",
    }

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        steps: int = 40,
        alpha: float | None = None,
        decay: float = 1.0,
        normaliser: str = "l1",
        n_restarts: int = 1,
        keep_samples: bool = False,
        loss: str | Loss = "ce",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            steps=steps,
            alpha=alpha,
            decay=decay,
            normaliser=normaliser,
            n_restarts=n_restarts,
            keep_samples=keep_samples,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class NES(FunctionAttack):
    r"""NES. Takes projected sign steps along a gradient that is estimated from scores.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.nes`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        alpha (float): alpha, in the units of x. (Default: 0.01)
        momentum (float): mu, in [0, 1). (Default: 0.9)
        n_directions (int): b, >= 1. An iteration costs 2 b queries and one for its check.
            (Default: 25)
        delta (float): length of a probe per unit of u, in the units of x. (Default: 0.001)
        sensing (str): 'gaussian' or 'sphere', the law of the directions. (Default: 'gaussian')
        clip_probes (bool): True clips the probes to the box, for a model that takes nothing else.
            (Default: False)
        loss (str or function): ascended by the attack: 'ce', 'margin', 'probability_margin', 'dlr',
            'mean-logits', or a callable from the model's outputs (r, K) and the positions (r,) of
            their samples in x to (r,) numbers, such as the inner product with a target's embedding.
            A callable is ascended as it is, targeted or not. The probability margin is max_{j != y}
            p_j - p_y of the softmax. 'dlr' is the margin over the difference of the largest and
            third largest score, and with fewer than four classes the margin. 'mean-logits' is the
            margin of the mean logits of the members of a JointEnsemble inside the model.
            (Default: 'ce')
        stop_on_success (bool): True stops a sample at its first success. (Default: True)
        on_failure (str): what comes back without a success: the 'last' iterate, or the 'input'.
            (Default: 'last')
        max_queries (int): most forward rows per sample. An iteration that does not fit into the
            rest is not begun. (Default: 10000)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.NES(model)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.nes)
    _core_names: ClassVar[dict[str, str]] = {"alpha": "step_size", "n_directions": "num_directions"}

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        alpha: float = 0.01,
        momentum: float = 0.9,
        n_directions: int = 25,
        delta: float = 0.001,
        sensing: str = "gaussian",
        clip_probes: bool = False,
        loss: str | Loss = "ce",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int = 10_000,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            alpha=alpha,
            momentum=momentum,
            n_directions=n_directions,
            delta=delta,
            sensing=sensing,
            clip_probes=clip_probes,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class OPT(FunctionAttack):
    r"""OPT. Descends the distance to the boundary by its differences, from labels alone.

    Distance measure: Linf. See ``art_ext.core.attacks.opt`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf': how eps and the distances of last_result are measured. (Default: 'Linf')
        eps (float): radius within which an adversarial counts as success. None counts any.
            (Default: 8/255)
        num_starts (int): Gaussian directions, each queried once at its own length, in widths of the
            box. One that succeeds and beats the best is bisected. (Default: 10)
        num_directions (int): q, distances for one gradient. (Default: 5)
        lr (float): alpha, the first step of the line search, without a unit. Later line searches
            begin where the one before ended. Below 1e-4 it becomes 1, and beta a tenth.
            (Default: 0.2)
        beta (float): length of a difference, without a unit. Local searches end at a width of
            beta/500, in widths of the box. (Default: 0.01)
        stop_on_success (bool): a sample ends at its first verified radius inside the ball. False
            goes on to the smallest radius, as the average decision boundary distance (ADBD) asks.
            (Default: True)
        max_queries (int): most forward rows charged to a sample, the clean check included. A
            bisection that the budget cuts keeps its last verified end. (Default: 10000)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`; images without a success come back unchanged.

    Examples::
        >>> attack = torchattacks.OPT(model)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.opt)
    _core_names: ClassVar[dict[str, str]] = {"lr": "step_size"}
    _targets: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float | None = 8 / 255,
        num_starts: int = 10,
        num_directions: int = 5,
        lr: float = 0.2,
        beta: float = 0.01,
        stop_on_success: bool = True,
        max_queries: int = 10_000,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            num_starts=num_starts,
            num_directions=num_directions,
            lr=lr,
            beta=beta,
            stop_on_success=stop_on_success,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class RayS(FunctionAttack):
    r"""RayS (Chen and Gu, 2020): hard-label attack that searches sign directions for the nearest
    decision boundary.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.rays`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1': how eps and the distances of last_result are measured.
            (Default: 'Linf')
        eps (float): radius within which an adversarial counts as success. None counts any.
            (Default: 8/255)
        max_queries (int): most forward rows charged to a sample, the clean check included. A
            bisection that the budget cuts keeps its last verified end. (Default: 10000)
        stop_on_success (bool): a sample ends once a direction's bisection ends inside the ball.
            False spends the whole budget on the smallest radius, as the average decision boundary
            distance (ADBD) asks. (Default: True)
        tol (float): width at which a bisection ends, as an L2 length along the unit direction. Its
            L-inf width is tol/sqrt(D). (Default: 0.001)
        hierarchical (bool): False flips single coordinates from the start (the naive search of
            Algorithm 4). (Default: True)
        speculate (str or bool): make the queries that a sequential search may come to next in the
            same model call, where the batch is too small to fill batch_size. Results and queries do
            not change. Rows in vain go to wasted_rows. 'auto': for an nn.Module on a GPU only.
            (Default: 'auto')
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`; images without a success come back unchanged.

    Examples::
        >>> attack = torchattacks.RayS(model, eps=8/255, max_queries=1000)
        >>> adv_images = attack(images, labels)
        >>> attack.last_result.queries
    """

    _function = staticmethod(core.rays)
    _targets: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float | None = 8 / 255,
        max_queries: int = 10_000,
        stop_on_success: bool = True,
        tol: float = 0.001,
        hierarchical: bool = True,
        speculate: str | bool = "auto",
        batch_size: int = 256,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            max_queries=max_queries,
            stop_on_success=stop_on_success,
            tol=tol,
            hierarchical=hierarchical,
            speculate=speculate,
            batch_size=batch_size,
            probe=probe,
        )


class SignGradient(FunctionAttack):
    r"""Sign gradient. The common form of FGSM, PGD and their relatives, with every part chosen by
    name.

    Distance measure: Linf, L2 or L1. See ``art_ext.core.attacks.sign_gradient`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf', 'L2' or 'L1'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        steps (int): T, the number of steps. (Default: 40)
        alpha (float): alpha, in the units of x. None: 2.5 eps / T. (Default: None)
        momentum_rule (str): 'none': v_t = g_t. 'accumulated': v_t = decay v_{t-1} + g_t. 'average':
            v_t = beta1 v_{t-1} + (1 - beta1) g_t (10). (Default: 'none')
        normaliser (str): of each sample's gradient: 'none', 'l1' for g / ||g||_1, 'mean' for g /
            mean |g|. Under the sign the latter two differ by rounding only. (Default: 'none')
        step_rule (str): 'sign': alpha sgn(v) (8). 'adaptive': sgn(v) times, for each coordinate,
            min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e)) (11), e being the largest so
            far of the averages e_t = beta2 e_{t-1} + (1 - beta2) g_t^2. 'corrected': the same
            without the second moment, min(eps, alpha / (1 - beta1^t)) sgn(v). In L2 and L1, v /
            ||v||_p stands for sgn(v). (Default: 'sign')
        start (str): 'input', or 'uniform', a point drawn uniformly from the ball and clipped to the
            box. (Default: 'input')
        decay (float): mu of 'accumulated', >= 0. (Default: 1.0)
        beta1 (float): decay of the average of gradients, in [0, 1). (Default: 0.95)
        beta2 (float): decay of the average of squared gradients, in [0, 1). (Default: 0.999)
        delta (float): small constant under e, > 0. (Default: 1e-07)
        delta_inside (bool): True adds delta inside the root of e, as the paper prints. False adds
            it to the root, as the reference implementation. (Default: False)
        grad_scale (float): factor of every gradient. Only the adaptive step depends on it. 1 is the
            gradient of each sample's own loss. 1/B is what the authors' mean over batches of B
            samples gives. (Default: 1.0)
        projection (str): 'box-first' clips a step to the box before its projection onto an L2 or L1
            ball, which moves no coordinate away from x. 'ball-first' projects first, as many
            programs do: what a step does outside the box then uses up a part of eps. In L-inf both
            are the same. (Default: 'box-first')
        n_restarts (int): R, trajectories from R random points. More than 1 needs a random start.
            The first one is that of n_restarts=1. The best outcome of each sample is reported: a
            success before a failure, then the higher loss. Samples that stop_on_success stops take
            part in no further restart. (Default: 1)
        keep_samples (bool): True returns the end of each restart in samples (R, N, *S): its last
            iterate that succeeded, or the last one. A sample that stopped early repeats its last
            end. (Default: False)
        loss (str or function): ascended by the attack: 'ce', 'margin', 'probability_margin', 'dlr',
            'mean-logits', or a callable from the model's outputs (r, K) and the positions (r,) of
            their samples in x to (r,) numbers, such as the inner product with a target's embedding.
            A callable is ascended as it is, targeted or not. The probability margin is max_{j != y}
            p_j - p_y of the softmax. 'dlr' is the margin over the difference of the largest and
            third largest score, and with fewer than four classes the margin. 'mean-logits' is the
            margin of the mean logits of the members of a JointEnsemble inside the model.
            (Default: 'ce')
        stop_on_success (bool): True stops a sample at its first success. Otherwise its last iterate
            that succeeded is reported. (Default: False)
        on_failure (str): what comes back without a success: the 'last' iterate, or the 'input'.
            (Default: 'last')
        max_queries (int): most forward rows charged to a sample, the clean check included. None: no
            limit. (Default: None)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.SignGradient(model)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.sign_gradient)
    _core_names: ClassVar[dict[str, str]] = {
        "steps": "num_steps",
        "alpha": "step_size",
        "n_restarts": "num_restarts",
    }

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        steps: int = 40,
        alpha: float | None = None,
        momentum_rule: str = "none",
        normaliser: str = "none",
        step_rule: str = "sign",
        start: str = "input",
        decay: float = 1.0,
        beta1: float = 0.95,
        beta2: float = 0.999,
        delta: float = 1e-07,
        delta_inside: bool = False,
        grad_scale: float = 1.0,
        projection: str = "box-first",
        n_restarts: int = 1,
        keep_samples: bool = False,
        loss: str | Loss = "ce",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            steps=steps,
            alpha=alpha,
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
            n_restarts=n_restarts,
            keep_samples=keep_samples,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class SignOPT(FunctionAttack):
    r"""Sign-OPT. Descends the distance to the boundary by signs of differences, from labels alone.

    Distance measure: Linf. See ``art_ext.core.attacks.sign_opt`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf': how eps and the distances of last_result are measured. (Default: 'Linf')
        eps (float): radius within which an adversarial counts as success. None counts any.
            (Default: 8/255)
        num_starts (int): Gaussian directions, each queried once at its own length, in widths of the
            box. One that succeeds and beats the best is bisected. (Default: 100)
        num_directions (int): k, queries for one gradient. (Default: 200)
        lr (float): alpha, the first step of the line search, without a unit. Later line searches
            begin where the one before ended. Below 1e-6 it becomes 1, and beta a tenth.
            (Default: 0.2)
        beta (float): length of a difference, without a unit. The bisections of a line search end at
            a width of beta/500, in widths of the box. (Default: 0.001)
        stop_on_success (bool): a sample ends at its first verified radius inside the ball. False
            goes on to the smallest radius, as the average decision boundary distance (ADBD) asks.
            (Default: True)
        max_queries (int): most forward rows charged to a sample, the clean check included. A
            bisection that the budget cuts keeps its last verified end. (Default: 10000)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`; images without a success come back unchanged.

    Examples::
        >>> attack = torchattacks.SignOPT(model)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.sign_opt)
    _core_names: ClassVar[dict[str, str]] = {"lr": "step_size"}
    _targets: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float | None = 8 / 255,
        num_starts: int = 100,
        num_directions: int = 200,
        lr: float = 0.2,
        beta: float = 0.001,
        stop_on_success: bool = True,
        max_queries: int = 10_000,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            num_starts=num_starts,
            num_directions=num_directions,
            lr=lr,
            beta=beta,
            stop_on_success=stop_on_success,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class SignHunter(FunctionAttack):
    r"""SignHunter. Flips blocks of signs of a perturbation, and keeps what does not lower the loss.

    Distance measure: Linf or L2. See ``art_ext.core.attacks.signhunter`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        norm (str): 'Linf' or 'L2'. (Default: 'Linf')
        eps (float): radius of the ball, in [0, 1] image units. (Default: 8/255)
        loss (str or function): ascended by the attack: 'ce', 'margin', 'probability_margin', 'dlr',
            'mean-logits', or a callable from the model's outputs (r, K) and the positions (r,) of
            their samples in x to (r,) numbers, such as the inner product with a target's embedding.
            A callable is ascended as it is, targeted or not. The probability margin is max_{j != y}
            p_j - p_y of the softmax. 'dlr' is the margin over the difference of the largest and
            third largest score, and with fewer than four classes the margin. 'mean-logits' is the
            margin of the mean logits of the members of a JointEnsemble inside the model.
            (Default: 'ce')
        stop_on_success (bool): True stops a sample at its first success. Otherwise the point of
            highest loss is reported if it is a success, and else the last candidate that was one.
            (Default: True)
        on_failure (str): what comes back without a success: the 'last' iterate, or the 'input'.
            (Default: 'last')
        max_queries (int): most forward rows per sample. (Default: 10000)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`.

    Examples::
        >>> attack = torchattacks.SignHunter(model)
        >>> adv_images = attack(images, labels)
    """

    _function = staticmethod(core.signhunter)

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        loss: str | Loss = "ce",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int = 10_000,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            norm=norm,
            eps=eps,
            loss=loss,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


class ZOO(FunctionAttack):
    r"""ZOO (Chen et al., 2017): the objective of C&W from logits alone, by difference quotients
    along coordinates.

    Distance measure: L2. See ``art_ext.core.attacks.zoo`` for the method.

    Arguments:
        model (nn.Module): model to attack.
        kappa (float): kappa >= 0, the margin between logits (or logarithms of probabilities) that a
            success must have. (Default: 0)
        lr (float): eta, of Adam or Newton. (Default: 0.01)
        binary_search_steps (int): optimisations per sample, each with its own c. (Default: 9)
        max_iterations (int): iterations of each optimisation. One costs 2 n_coordinates + 1 rows.
            (Default: 1000)
        abort_early (bool or str): give a sample's optimisation up where its loss stands still:
            'always', True: unless it has a success by then, or False: never. (Default: 'always')
        initial_const (float): c of the first optimisation, > 0. (Default: 0.01)
        n_coordinates (int): B, how many are probed and moved in one iteration. (Default: 128)
        h (float): distance of the probes, in the units of x (of the transformed variable with
            use_tanh). Models in float32 answer with an error of 1e-7 of their scores, which
            'newton' divides by h^2: give it .01 or more there. (Default: 0.0001)
        solver (str): 'adam', 'newton', or 'adam-newton': Newton where the second derivative is
            positive. (Default: 'adam')
        use_tanh (bool): move in a space without a box, as cw does, rather than clip to the box.
            Where inputs lie on the edge of the box, as in MNIST, the derivative vanishes there:
            leave it off. (Default: False)
        resize (int, sequence or mapping): the side s of a smaller space (C, s, s), scaled up
            bilinearly, for images (C, H, W). A mapping from iterations to sides, such as {0: 32,
            2000: 64, 10000: 128}, enlarges the space then, and a sequence of sides wherever a
            sample's loss stands still. None moves the pixels themselves. (Default: None)
        importance (bool or int): draw coordinates in proportion to the largest change so far in
            each of 8 x 8 regions, whenever the space has been enlarged, so that True needs several
            sizes. A number n > 1 also every n iterations. One draw in a hundred is uniform.
            (Default: False)
        reset_adam (bool): forget the moments of Adam at the first success of an optimisation.
            (Default: True)
        abort_window (int): iterations between two comparisons of the loss. None takes a tenth of
            max_iterations. (Default: None)
        norm (str): 'Linf', 'L2' or 'L1': how eps and the distances of last_result are measured.
            (Default: 'L2')
        eps (float): radius within which an adversarial counts as success. None counts any.
            (Default: None)
        max_queries (int): most forward rows per sample. None for no limit. An iteration that does
            not fit is not begun. (Default: None)
        batch_size (int): most rows in one model call. It never changes a decision. (Default: 256)
        seed (int): of the random streams. None draws one and records it in the result.
            (Default: None)
        probe (bool): in the first call on a model, test with at most 24 rows if its answers depend
            on chance or on the batch, and log a warning if they do. False skips the test.
            (Default: True)

    Shape:
        - images: :math:`(N, C, H, W)` in [0, 1] (any shape without ``set_normalization_used`` or
          ``resize``).
        - labels: :math:`(N)` class indices. None takes the model's own predictions.
        - output: :math:`(N, C, H, W)`; images without a success come back unchanged.

    Examples::
        >>> attack = torchattacks.ZOO(model, max_iterations=1000, binary_search_steps=5)
        >>> adv_images = attack(images, labels)
        >>> attack.last_result.queries
    """

    _function = staticmethod(core.zoo)
    _core_names: ClassVar[dict[str, str]] = {
        "kappa": "confidence",
        "lr": "step_size",
        "binary_search_steps": "search_steps",
        "max_iterations": "num_steps",
        "n_coordinates": "coordinates",
    }

    def __init__(
        self,
        model: nn.Module,
        kappa: float = 0,
        lr: float = 0.01,
        binary_search_steps: int = 9,
        max_iterations: int = 1000,
        abort_early: bool | str = "always",
        initial_const: float = 0.01,
        n_coordinates: int = 128,
        h: float = 0.0001,
        solver: str = "adam",
        use_tanh: bool = False,
        resize: int | Sequence[int] | Mapping[int, int] | None = None,
        importance: bool | int = False,
        reset_adam: bool = True,
        abort_window: int | None = None,
        norm: str = "L2",
        eps: float | None = None,
        max_queries: int | None = None,
        batch_size: int = 256,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        super().__init__(
            model,
            kappa=kappa,
            lr=lr,
            binary_search_steps=binary_search_steps,
            max_iterations=max_iterations,
            abort_early=abort_early,
            initial_const=initial_const,
            n_coordinates=n_coordinates,
            h=h,
            solver=solver,
            use_tanh=use_tanh,
            resize=resize,
            importance=importance,
            reset_adam=reset_adam,
            abort_window=abort_window,
            norm=norm,
            eps=eps,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            probe=probe,
        )


ATTACKS: dict[str, type[FunctionAttack]] = {
    "AIFGSM": AIFGSM,
    "Bandits": Bandits,
    "EAD": EAD,
    "FW": FW,
    "FWBlack": FWBlack,
    "HMCAM": HMCAM,
    "IFGM": IFGM,
    "MPGD": MPGD,
    "NES": NES,
    "OPT": OPT,
    "RayS": RayS,
    "SignGradient": SignGradient,
    "SignHunter": SignHunter,
    "SignOPT": SignOPT,
    "ZOO": ZOO,
}
