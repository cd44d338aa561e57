"""Our attacks for ART.

Written by ``make shells`` from the lists of attacks, detectors and trainers. Change those instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from art.attacks.attack import EvasionAttack
from art.estimators.estimator import BaseEstimator

from art_ext.attacks.shell import GRADIENT_REQUIREMENTS, FunctionAttack, ResizingAttack
from art_ext.core import attacks as core
from art_ext.core.losses import Loss

__all__ = [
    "AIFGSM",
    "FGSM",
    "HMCAM",
    "IFGM",
    "IFGSM",
    "MIFGSM",
    "MPGD",
    "NES",
    "OPT",
    "PGD",
    "AutoPGD",
    "Bandits",
    "CarliniWagner",
    "ElasticNetPyTorch",
    "FrankWolfe",
    "FrankWolfeBlackBox",
    "RayS",
    "SignGradient",
    "SignHunter",
    "SignOPT",
    "Square",
    "ZooPyTorch",
]


class AIFGSM(FunctionAttack):
    """Adaptive iterative FGSM: the steps of ``HMCAM`` in one trajectory, without
    Metropolis-Hastings.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.ai_fgsm``
    says how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences.

    | Paper link: https://arxiv.org/abs/2010.07849
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "eps_step",
        "max_iter",
        "beta1",
        "beta2",
        "targeted",
        "step_rule",
        "start",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
        "nb_random_init",
        "keep_samples",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.ai_fgsm)
    _switches: ClassVar[tuple[str, ...]] = (
        "targeted",
        "stop_on_success",
        "verbose",
        "probe",
        "keep_samples",
    )
    _core_names: ClassVar[dict[str, str]] = {
        "eps_step": "step_size",
        "max_iter": "num_steps",
        "nb_random_init": "num_restarts",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        eps_step: float = 0.005,
        max_iter: int = 100,
        beta1: float = 0.95,
        beta2: float = 0.999,
        targeted: bool = False,
        step_rule: str = "adaptive",
        start: str = "input",
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
        nb_random_init: int = 1,
        keep_samples: bool = False,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            eps_step: alpha of the adaptive step, far below ART's custom .1: most coordinates move
                by eps all the same.
            max_iter: T, the number of steps. Default: 100.
            beta1: decay of the average of gradients, in [0, 1). Default: 0.95.
            beta2: decay of the average of squared gradients, in [0, 1). Default: 0.999.
            targeted: reach y instead of leaving it.
            step_rule: ``"sign"``: ``alpha sgn(v)`` (8). ``"adaptive"``: ``sgn(v)`` times, for each
                coordinate, ``min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e))`` (11), e
                being the largest so far of the averages ``e_t = beta2 e_{t-1} + (1 - beta2)
                g_t^2``. ``"corrected"``: the same without the second moment, ``min(eps, alpha / (1
                - beta1^t)) sgn(v)``. In L2 and L1, ``v / ||v||_p`` stands for ``sgn(v)``.
            start: ``"input"``, or ``"uniform"``, a point drawn uniformly from the ball and clipped
                to the box. Default: input.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Otherwise its last iterate
                that succeeded is reported. Default: False.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
            nb_random_init: R, trajectories from R random points. More than 1 needs a random start.
                The first one is that of ``nb_random_init=1``. The best outcome of each sample is
                reported: a success before a failure, then the higher loss. Samples that
                ``stop_on_success`` stops take part in no further restart. Default: 1.
            keep_samples: True returns the end of each restart in ``samples`` (R, N, *S): its last
                iterate that succeeded, or the last one. A sample that stopped early repeats its
                last end. Default: False.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            eps_step=eps_step,
            max_iter=max_iter,
            beta1=beta1,
            beta2=beta2,
            targeted=targeted,
            step_rule=step_rule,
            start=start,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
            nb_random_init=nb_random_init,
            keep_samples=keep_samples,
        )


class AutoPGD(FunctionAttack):
    """Auto-PGD. Takes momentum steps whose length halves, sample by sample, where they bring no
    progress.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.auto_pgd``
    says how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences.

    | Paper link: https://arxiv.org/abs/2003.01690
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "max_iter",
        "nb_targets",
        "target_ranking",
        "malt_candidates",
        "nb_random_init",
        "survey_steps",
        "search_queries",
        "larger_balls",
        "keep_samples",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.auto_pgd)
    _switches: ClassVar[tuple[str, ...]] = (
        "larger_balls",
        "keep_samples",
        "targeted",
        "stop_on_success",
        "verbose",
        "probe",
    )
    _core_names: ClassVar[dict[str, str]] = {
        "max_iter": "num_steps",
        "nb_targets": "num_targets",
        "nb_random_init": "num_restarts",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        max_iter: int = 100,
        nb_targets: int = 0,
        target_ranking: str | None = None,
        malt_candidates: int = 100,
        nb_random_init: int = 1,
        survey_steps: int = 0,
        search_queries: int = 0,
        larger_balls: bool = False,
        keep_samples: bool = False,
        targeted: bool = False,
        loss: str | Loss | None = None,
        outputs: str = "logits",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            max_iter: T, the steps of each ascent. Default: 100.
            nb_targets: m > 0 attacks the first m other classes of the ranking (all, if there are
                fewer) in turn. Each phase has a start of its own and T steps, and ascends ``z_t -
                z_y``, ``p_t - p_y`` of the softmax with ``loss="probability_margin"``, ``(z_t -
                z_y) / (z_(1) - (z_(3) + z_(4)) / 2)`` with ``loss="dlr"``, the k-th largest score
                being ``z_(k)``, or ``z_t`` with ``loss="score"``. For scores that are minus squared
                distances to centres, the last descends the distance to the target's. Any
                misclassification is a success. Default: 0.
            target_ranking: of these classes. ``"score"``: the highest at the clean input first.
                ``"malt"``: the smallest ``(z_y - z_t) / ||grad (z_y - z_t)||_q`` there first, q
                being the dual of the norm, which is the distance to class t if the model is linear.
                Default: None, MALT for models of more than ten classes.
            malt_candidates: C, the classes of highest score that MALT ranks. All others follow them
                by score. Default: 100.
            nb_random_init: R, ascents from R random points, in each phase. The first one is that of
                ``nb_random_init=1``. Of a phase the best outcome of each sample counts: a success
                before a failure, then the higher loss. A later phase, which ascends another loss,
                wins over an earlier one with the same outcome. Default: 1.
            survey_steps: S > 0 gives each of the m targets S steps only, and T steps to the one
                that came nearest, by the loss. Default: 0, T steps for each target.
            search_queries: Q > 0 begins the ascent at the best point of a ``square`` search of the
                same loss, of Q queries and with p = 0.8, at eta = eps / 2. It reaches samples that
                no random start does, because the gradients around the input are small or mislead.
                L1 has no such search. Default: 0, no search.
            larger_balls: True ascends in L1 in the ball of 3 eps for the first 30 % of the steps of
                each ascent, in that of 2 eps for the next 30 %, and then in that of eps. Each ball
                begins at the projection of the best point of the one before, which is one of the
                steps. No point of a larger ball counts as a success. Without effect in L-inf and
                L2, and with fewer than 4 steps. Default: False.
            keep_samples: True returns the end of each ascent in ``samples`` (R, N, *S), or (m R, N,
                *S), phase by phase: the last iterate that succeeded, or the point of highest loss.
                A sample that left early repeats its last end. Default: False.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, or a callable from the model's outputs (r, K) and the positions (r,) of
                their samples in x to (r,) numbers. With ``nb_targets`` one of ``"margin"``,
                ``"probability_margin"``, ``"dlr"`` and ``"score"`` of the target. Default: None,
                the cross-entropy, or with ``nb_targets`` the margin.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Default: True.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            max_iter=max_iter,
            nb_targets=nb_targets,
            target_ranking=target_ranking,
            malt_candidates=malt_candidates,
            nb_random_init=nb_random_init,
            survey_steps=survey_steps,
            search_queries=search_queries,
            larger_balls=larger_balls,
            keep_samples=keep_samples,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class Bandits(FunctionAttack):
    """Bandits. Takes projected steps along a gradient prior that it learns from pairs of scores.

    Works with every ART classifier that predicts scores, ``BlackBoxClassifier`` and scikit-learn's
    included. ``art_ext.core.attacks.bandits`` says how it runs. The attack lives in the estimator's
    ``clip_values``, before its preprocessing defences.

    | Paper link: https://arxiv.org/abs/1807.07978
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "preset",
        "eps_step",
        "delta",
        "prior_step_size",
        "exploration",
        "tile",
        "clip_probes",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _function = staticmethod(core.bandits)
    _switches: ClassVar[tuple[str, ...]] = (
        "clip_probes",
        "targeted",
        "stop_on_success",
        "verbose",
        "probe",
    )
    _core_names: ClassVar[dict[str, str]] = {"eps_step": "step_size"}

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        preset: str = "imagenet",
        eps_step: float | None = None,
        delta: float | None = None,
        prior_step_size: float | None = None,
        exploration: float | None = None,
        tile: int | None = None,
        clip_probes: bool = False,
        targeted: bool = False,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int = 10_000,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values``.
            norm: np.inf, "inf" or 2.
            eps: radius of the ball in the units of x.
            preset: of the next five arguments. ``"imagenet"``: those of the authors. ``"mnist"``:
                those of the authors of SignHunter, for L-inf. Default: imagenet.
            eps_step: alpha, in the units of x. Default: None, the preset's.
            delta: length of a probe, in the units of x. Default: None, the preset's.
            prior_step_size: h, of the prior. Default: None, the preset's.
            exploration: c, the factor of the random direction. Default: None, the preset's.
            tile: cells along each axis, at most the shorter side. Default: None, the preset's, and
                a cell for each feature where x is no image, or not larger than this.
            clip_probes: True clips the probes to the box, for a model that takes nothing else.
                Default: False.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Default: True.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows per sample. An iteration that does not fit into the rest
                is not begun. Default: 10,000.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            preset=preset,
            eps_step=eps_step,
            delta=delta,
            prior_step_size=prior_step_size,
            exploration=exploration,
            tile=tile,
            clip_probes=clip_probes,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class CarliniWagner(FunctionAttack):
    """C&W. Minimises the L2 distortion with Adam in tanh space, where the box needs no clipping.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.cw`` says
    how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences.

    | Paper link: https://arxiv.org/abs/1608.04644
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "beta",
        "confidence",
        "learning_rate",
        "max_iter",
        "binary_search_steps",
        "initial_const",
        "abort_early",
        "targeted",
        "outputs",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.cw)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "verbose", "probe")
    _core_names: ClassVar[dict[str, str]] = {
        "learning_rate": "step_size",
        "max_iter": "num_steps",
        "binary_search_steps": "search_steps",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = 2,
        eps: float | None = None,
        beta: float = 0.0,
        confidence: float = 0.0,
        learning_rate: float = 0.01,
        max_iter: int = 1000,
        binary_search_steps: int = 9,
        initial_const: float = 0.001,
        abort_early: bool | str = True,
        targeted: bool = False,
        outputs: str = "logits",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2: how ``eps`` and the distances of ``last_result`` are
                measured.
            eps: radius within which an adversarial counts as success, in the units of x. None
                counts any.
            beta: weight of an L1 term, >= 0. 0 is the attack of Carlini and Wagner. Default: 0.
            confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that
                a success must have. Default: 0.
            learning_rate: of Adam, > 0. Default: 1e-2.
            max_iter: iterations of each optimisation, >= 1. Default: 1000.
            binary_search_steps: optimisations per sample, each with its own c, >= 1. Default: 9.
            initial_const: the first c, > 0. Default: 1e-3.
            abort_early: True ends a sample's optimisation where its loss, compared every ``max_iter
                / 10`` iterations, stands still, unless it has succeeded by then. ``"always"`` ends
                it then too, as the reference implementation. False never does. Default: True.
            targeted: reach y instead of leaving it.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            beta=beta,
            confidence=confidence,
            learning_rate=learning_rate,
            max_iter=max_iter,
            binary_search_steps=binary_search_steps,
            initial_const=initial_const,
            abort_early=abort_early,
            targeted=targeted,
            outputs=outputs,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class ElasticNetPyTorch(FunctionAttack):
    """White-box attack of least elastic-net distortion: few features change.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.ead`` says
    how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences. It follows the reference implementation. ART's own ``ElasticNet`` has another
    momentum, drops the distortion from the gradient where the goal is reached, and has no
    ``confidence`` in its test of success.

    | Paper link: https://arxiv.org/abs/1709.04114
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "confidence",
        "targeted",
        "learning_rate",
        "binary_search_steps",
        "max_iter",
        "beta",
        "initial_const",
        "batch_size",
        "decision_rule",
        "verbose",
        "abort_early",
        "norm",
        "eps",
        "outputs",
        "max_queries",
        "seed",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.ead)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "verbose", "probe")
    _core_names: ClassVar[dict[str, str]] = {
        "learning_rate": "step_size",
        "binary_search_steps": "search_steps",
        "max_iter": "num_steps",
    }

    def __init__(
        self,
        classifier: BaseEstimator,
        confidence: float = 0.0,
        targeted: bool = False,
        learning_rate: float = 0.01,
        binary_search_steps: int = 9,
        max_iter: int = 100,
        beta: float = 0.001,
        initial_const: float = 0.001,
        batch_size: int = 32,
        decision_rule: str = "EN",
        verbose: bool = True,
        abort_early: bool | str = True,
        norm: int | float | str = 1,
        eps: float | None = None,
        outputs: str = "logits",
        max_queries: int | None = None,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            classifier: a trained classifier with ``clip_values`` and ``class_gradient``.
            confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that
                a success must have. Default: 0.
            targeted: reach y instead of leaving it.
            learning_rate: alpha_0, > 0. Default: 1e-2.
            binary_search_steps: optimisations per sample, each with its own c, >= 1. Default: 9.
            max_iter: iterations of each optimisation, by ART's custom 100 (the paper takes 1000).
            beta: weight of the L1 term, >= 0. Default: 1e-3.
            initial_const: the first c, > 0. Default: 1e-3.
            batch_size: most rows in one prediction. ART's own takes 1.
            decision_rule: the success that is reported: that of least ``beta ||.||_1 + ||.||_2^2``
                (``"EN"``), of least L1 (``"L1"``) or of least L2 (``"L2"``) distortion. Default:
                EN.
            verbose: show a progress bar.
            abort_early: True ends a sample's optimisation where its loss, compared every ``max_iter
                / 10`` iterations, stands still, unless it has succeeded by then. ``"always"`` ends
                it then too, as the reference implementation. False never does. Default: True.
            norm: np.inf, "inf", 1 or 2: how ``eps`` and the distances of ``last_result`` are
                measured.
            eps: radius within which an adversarial counts as success, in the units of x. None
                counts any.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            seed: recorded only. This attack draws no random number.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            classifier,
            confidence=confidence,
            targeted=targeted,
            learning_rate=learning_rate,
            binary_search_steps=binary_search_steps,
            max_iter=max_iter,
            beta=beta,
            initial_const=initial_const,
            batch_size=batch_size,
            decision_rule=decision_rule,
            verbose=verbose,
            abort_early=abort_early,
            norm=norm,
            eps=eps,
            outputs=outputs,
            max_queries=max_queries,
            seed=seed,
            probe=probe,
        )


class FGSM(FunctionAttack):
    """FGSM. Takes one step of length eps along the sign of the gradient.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.fgsm`` says
    how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences.

    | Paper link: https://arxiv.org/abs/1412.6572
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.fgsm)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "stop_on_success", "verbose", "probe")

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        targeted: bool = False,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Otherwise its last iterate
                that succeeded is reported. Default: False.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class FrankWolfe(FunctionAttack):
    """White-box attack that moves towards vertices of the ball, unprojected.

    Works with every ART classifier that has ``class_gradient``.
    ``art_ext.core.attacks.frank_wolfe`` says how it runs. The attack lives in the estimator's
    ``clip_values``, before its preprocessing defences.

    | Paper link: https://arxiv.org/abs/1811.10828
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "eps_step",
        "momentum",
        "max_iter",
        "targeted",
        "schedule",
        "momentum_init",
        "box",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.frank_wolfe)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "stop_on_success", "verbose", "probe")
    _core_names: ClassVar[dict[str, str]] = {"eps_step": "step_fraction", "max_iter": "num_steps"}

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        eps_step: float = 0.5,
        momentum: float = 0.9,
        max_iter: int = 100,
        targeted: bool = False,
        schedule: str = "constant",
        momentum_init: str = "zero",
        box: str = "clip",
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2. For 1 take ``box="vertex"``.
            eps: radius of the ball in the units of x.
            eps_step: gamma, the fraction of the way to the vertex that a step goes, in (0, 1]. No
                length, unlike the ``eps_step`` of ART's own attacks.
            momentum: beta, in [0, 1). Default: 0.9.
            max_iter: most steps, by ART's custom 100 (the paper's program takes 20).
            targeted: reach y instead of leaving it.
            schedule: ``"constant"``, as the authors' white-box program. ``"inverse_sqrt"``: the
                constant ``gamma / sqrt(T)`` of Theorem 2.4.4. ``"plateau"``, as their black-box
                program: gamma until f falls by less than 0.1 % over five iterates, then ``gamma /
                sqrt(3)``, ``gamma / sqrt(4)``, and so on.
            momentum_init: ``"zero"``, as the reference implementation (under the sign a
                bias-corrected average), or ``"gradient"``, the printed ``m_{-1} = grad f(x_0)``,
                which freezes the first direction for long. Default: zero.
            box: ``"clip"`` clips each step to the box, as the authors do. ``"vertex"`` takes the
                vertex of the intersection of ball and box, so that the gap in the trace is that of
                the problem solved. In L1 take ``"vertex"``: the ball's own vertices lie far outside
                the box, and clipping leaves little of them. Default: clip.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Default: True.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: recorded only. This attack draws no random number.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            eps_step=eps_step,
            momentum=momentum,
            max_iter=max_iter,
            targeted=targeted,
            schedule=schedule,
            momentum_init=momentum_init,
            box=box,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class FrankWolfeBlackBox(FunctionAttack):
    """Score-based attack: Frank-Wolfe steps along estimated gradients.

    Works with every ART classifier that predicts scores, ``BlackBoxClassifier`` and scikit-learn's
    included. ``art_ext.core.attacks.frank_wolfe_black_box`` says how it runs. The attack lives in
    the estimator's ``clip_values``, before its preprocessing defences. Its probes may leave them by
    about ``delta``, unless ``clip_probes`` is True.

    | Paper link: https://arxiv.org/abs/1811.10828
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "eps_step",
        "momentum",
        "max_queries",
        "targeted",
        "nb_directions",
        "delta",
        "sensing",
        "clip_probes",
        "schedule",
        "momentum_init",
        "box",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _function = staticmethod(core.frank_wolfe_black_box)
    _switches: ClassVar[tuple[str, ...]] = (
        "targeted",
        "clip_probes",
        "stop_on_success",
        "verbose",
        "probe",
    )
    _core_names: ClassVar[dict[str, str]] = {
        "eps_step": "step_fraction",
        "nb_directions": "num_directions",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        eps_step: float = 0.5,
        momentum: float = 0.97,
        max_queries: int = 10_000,
        targeted: bool = False,
        nb_directions: int = 25,
        delta: float = 0.01,
        sensing: str = "gaussian",
        clip_probes: bool = False,
        schedule: str = "plateau",
        momentum_init: str = "zero",
        box: str = "clip",
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = True,
        on_failure: str = "last",
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values``.
            norm: np.inf, "inf", 1 or 2. For 1 take ``box="vertex"``.
            eps: radius of the ball in the units of x.
            eps_step: gamma, the fraction of the way to the vertex that a step goes, in (0, 1]. No
                length, unlike the ``eps_step`` of ART's own attacks.
            momentum: beta, in [0, 1). Default: 0.97.
            max_queries: most forward rows per sample. An iteration that does not fit into the rest
                is not begun. Default: 10,000.
            targeted: reach y instead of leaving it.
            nb_directions: b, >= 1. An iteration costs 2 b queries and one for its check. Default:
                25.
            delta: length of a probe per unit of u, in the units of x. Default: 0.01.
            sensing: ``"gaussian"`` or ``"sphere"``, the law of the directions. Default: gaussian.
            clip_probes: True clips the probes to the box, for a model that takes nothing else.
                Default: False.
            schedule: ``"constant"``, as the authors' white-box program. ``"inverse_sqrt"``: the
                constant ``gamma / sqrt(T)`` of Theorem 2.4.4. ``"plateau"``, as their black-box
                program: gamma until f falls by less than 0.1 % over five iterates, then ``gamma /
                sqrt(3)``, ``gamma / sqrt(4)``, and so on.
            momentum_init: ``"zero"``, as the reference implementation (under the sign a
                bias-corrected average), or ``"gradient"``, the printed ``m_{-1} = grad f(x_0)``,
                which freezes the first direction for long. Default: zero.
            box: ``"clip"`` clips each step to the box, as the authors do. ``"vertex"`` takes the
                vertex of the intersection of ball and box, so that the gap in the trace is that of
                the problem solved. In L1 take ``"vertex"``: the ball's own vertices lie far outside
                the box, and clipping leaves little of them. Default: clip.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Default: True.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            eps_step=eps_step,
            momentum=momentum,
            max_queries=max_queries,
            targeted=targeted,
            nb_directions=nb_directions,
            delta=delta,
            sensing=sensing,
            clip_probes=clip_probes,
            schedule=schedule,
            momentum_init=momentum_init,
            box=box,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class HMCAM(FunctionAttack):
    """White-box attack that draws a chain of adversarial examples by Hamiltonian Monte Carlo.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.hmcam`` says
    how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences. ``generate`` returns the state of highest loss that succeeds, and ``run(x,
    y).samples`` is the whole chain, (nb_samples, n, *shape). Keywords that only imitate the
    reference implementation are those of the core function.

    | Paper link: https://arxiv.org/abs/2010.07849
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "eps_step",
        "max_iter",
        "nb_samples",
        "beta1",
        "beta2",
        "targeted",
        "step_rule",
        "start",
        "temperature",
        "keep_samples",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.hmcam)
    _switches: ClassVar[tuple[str, ...]] = (
        "targeted",
        "keep_samples",
        "stop_on_success",
        "verbose",
        "probe",
    )
    _core_names: ClassVar[dict[str, str]] = {
        "eps_step": "step_size",
        "max_iter": "num_steps",
        "nb_samples": "num_transitions",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        eps_step: float = 0.005,
        max_iter: int = 50,
        nb_samples: int = 2,
        beta1: float = 0.95,
        beta2: float = 0.999,
        targeted: bool = False,
        step_rule: str = "adaptive",
        start: str = "input",
        temperature: float = 1.0,
        keep_samples: bool = True,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            eps_step: alpha of the adaptive step, far below ART's custom .1: most coordinates move
                by eps all the same.
            max_iter: T, the steps of a transition. Default: 50.
            nb_samples: S, the transitions. With 1 there is no test, and the attack is ``ai_fgsm``.
                Default: 2.
            beta1: decay of the average of gradients, in [0, 1). Default: 0.95.
            beta2: decay of the average of squared gradients, in [0, 1). Default: 0.999.
            targeted: reach y instead of leaving it.
            step_rule: ``"sign"``: ``alpha sgn(v)`` (8). ``"adaptive"``: ``sgn(v)`` times, for each
                coordinate, ``min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e))`` (11), e
                being the largest so far of the averages ``e_t = beta2 e_{t-1} + (1 - beta2)
                g_t^2``. ``"corrected"``: the same without the second moment, ``min(eps, alpha / (1
                - beta1^t)) sgn(v)``. In L2 and L1, ``v / ||v||_p`` stands for ``sgn(v)``.
            start: ``"input"``, or ``"uniform"``, a point drawn uniformly from the ball and clipped
                to the box. Default: input.
            temperature: tau (3), > 0. Default: 1.
            keep_samples: True returns the chain in ``samples``. Otherwise each state goes to the
                callback only, in ``Progress.samples``. Default: True.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True ends a chain at its first success, accepted or not. Default:
                False.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            eps_step=eps_step,
            max_iter=max_iter,
            nb_samples=nb_samples,
            beta1=beta1,
            beta2=beta2,
            targeted=targeted,
            step_rule=step_rule,
            start=start,
            temperature=temperature,
            keep_samples=keep_samples,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class IFGM(FunctionAttack):
    """I-FGM. Searches the smallest radius at which a few normalised gradient steps succeed.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.i_fgm`` says
    how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences.
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "max_iter",
        "search",
        "max_radius",
        "resolution",
        "confidence",
        "targeted",
        "outputs",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.i_fgm)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "verbose", "probe")
    _core_names: ClassVar[dict[str, str]] = {"max_iter": "num_steps"}

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float | None = None,
        max_iter: int = 10,
        search: str = "bisection",
        max_radius: float | None = None,
        resolution: float | None = None,
        confidence: float = 0.0,
        targeted: bool = False,
        outputs: str = "logits",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2: how ``eps`` and the distances of ``last_result`` are
                measured.
            eps: radius within which an adversarial counts as success, in the units of x. None
                counts any.
            max_iter: T, the most steps at a radius. Default: 10.
            search: ``"bisection"``: the resolution and its doubles, upwards, until one succeeds,
                and then the midpoint of a failure and a success, down to the resolution.
                ``"grid"``: every multiple of the resolution, upwards, until one succeeds. Default:
                bisection.
            max_radius: the largest radius, in the units of x. Default: None, that of Table 4 times
                the width of the box: 1 in L-inf, 10 in L2, 1000 in L1.
            resolution: of the radius, in the units of x. Default: None, a thousandth of max_radius,
                as in Table 4.
            confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that
                a success must have. Default: 0.
            targeted: reach y instead of leaving it.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            max_iter=max_iter,
            search=search,
            max_radius=max_radius,
            resolution=resolution,
            confidence=confidence,
            targeted=targeted,
            outputs=outputs,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class IFGSM(FunctionAttack):
    """I-FGSM. Repeats FGSM with small steps from the input itself.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.i_fgsm``
    says how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences.

    | Paper link: https://arxiv.org/abs/1607.02533
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "max_iter",
        "eps_step",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.i_fgsm)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "stop_on_success", "verbose", "probe")
    _core_names: ClassVar[dict[str, str]] = {"max_iter": "num_steps", "eps_step": "step_size"}

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        max_iter: int = 10,
        eps_step: float | None = None,
        targeted: bool = False,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            max_iter: T, the number of steps. Default: 10.
            eps_step: alpha, in the units of x. Default: None, ``eps / T``.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Otherwise its last iterate
                that succeeded is reported. Default: False.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            max_iter=max_iter,
            eps_step=eps_step,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class MPGD(FunctionAttack):
    """M-PGD. PGD along a momentum of normalised gradients.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.m_pgd`` says
    how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences.

    | Paper link: https://arxiv.org/abs/2010.07849
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "max_iter",
        "eps_step",
        "decay",
        "normaliser",
        "nb_random_init",
        "keep_samples",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.m_pgd)
    _switches: ClassVar[tuple[str, ...]] = (
        "keep_samples",
        "targeted",
        "stop_on_success",
        "verbose",
        "probe",
    )
    _core_names: ClassVar[dict[str, str]] = {
        "max_iter": "num_steps",
        "eps_step": "step_size",
        "nb_random_init": "num_restarts",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        max_iter: int = 40,
        eps_step: float | None = None,
        decay: float = 1.0,
        normaliser: str = "l1",
        nb_random_init: int = 1,
        keep_samples: bool = False,
        targeted: bool = False,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            max_iter: T, the number of steps. Default: 40.
            eps_step: alpha, in the units of x. Default: None, ``2.5 eps / T``.
            decay: mu, >= 0. Default: 1.
            normaliser: ``"l1"`` as in the paper, ``"mean"`` as in its reference implementation, or
                ``"none"``. Default: l1.
            nb_random_init: R, trajectories from R random points. More than 1 needs a random start.
                The first one is that of ``nb_random_init=1``. The best outcome of each sample is
                reported: a success before a failure, then the higher loss. Samples that
                ``stop_on_success`` stops take part in no further restart. Default: 1.
            keep_samples: True returns the end of each restart in ``samples`` (R, N, *S): its last
                iterate that succeeded, or the last one. A sample that stopped early repeats its
                last end. Default: False.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Otherwise its last iterate
                that succeeded is reported. Default: False.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            max_iter=max_iter,
            eps_step=eps_step,
            decay=decay,
            normaliser=normaliser,
            nb_random_init=nb_random_init,
            keep_samples=keep_samples,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class MIFGSM(FunctionAttack):
    """MI-FGSM. I-FGSM along a momentum of normalised gradients.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.mi_fgsm``
    says how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences.

    | Paper link: https://arxiv.org/abs/1710.06081
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "max_iter",
        "eps_step",
        "decay",
        "keep_samples",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.mi_fgsm)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "stop_on_success", "verbose", "probe")
    _core_names: ClassVar[dict[str, str]] = {"max_iter": "num_steps", "eps_step": "step_size"}

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        max_iter: int = 10,
        eps_step: float | None = None,
        decay: float = 1.0,
        keep_samples: int = 0,
        targeted: bool = False,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            max_iter: T, the number of steps. Default: 10.
            eps_step: alpha, in the units of x. Default: None, ``eps / T``.
            decay: mu, >= 0. Default: 1.
            keep_samples: S, at most T. The last S iterates of each sample are returned in
                ``samples`` (S, N, *S). A sample that made fewer steps repeats its last one.
                Default: 0, none.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Otherwise its last iterate
                that succeeded is reported. Default: False.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            max_iter=max_iter,
            eps_step=eps_step,
            decay=decay,
            keep_samples=keep_samples,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class NES(FunctionAttack):
    """NES. Takes projected sign steps along a gradient that is estimated from scores.

    Works with every ART classifier that predicts scores, ``BlackBoxClassifier`` and scikit-learn's
    included. ``art_ext.core.attacks.nes`` says how it runs. The attack lives in the estimator's
    ``clip_values``, before its preprocessing defences.

    | Paper link: https://arxiv.org/abs/1804.08598
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "eps_step",
        "momentum",
        "nb_directions",
        "delta",
        "sensing",
        "clip_probes",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _function = staticmethod(core.nes)
    _switches: ClassVar[tuple[str, ...]] = (
        "clip_probes",
        "targeted",
        "stop_on_success",
        "verbose",
        "probe",
    )
    _core_names: ClassVar[dict[str, str]] = {
        "eps_step": "step_size",
        "nb_directions": "num_directions",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        eps_step: float = 0.01,
        momentum: float = 0.9,
        nb_directions: int = 25,
        delta: float = 0.001,
        sensing: str = "gaussian",
        clip_probes: bool = False,
        targeted: bool = False,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int = 10_000,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            eps_step: alpha, in the units of x. Default: 0.01.
            momentum: mu, in [0, 1). Default: 0.9.
            nb_directions: b, >= 1. An iteration costs 2 b queries and one for its check. Default:
                25.
            delta: length of a probe per unit of u, in the units of x. Default: 1e-3.
            sensing: ``"gaussian"`` or ``"sphere"``, the law of the directions. Default: gaussian.
            clip_probes: True clips the probes to the box, for a model that takes nothing else.
                Default: False.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Default: True.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows per sample. An iteration that does not fit into the rest
                is not begun. Default: 10,000.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            eps_step=eps_step,
            momentum=momentum,
            nb_directions=nb_directions,
            delta=delta,
            sensing=sensing,
            clip_probes=clip_probes,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class OPT(FunctionAttack):
    """OPT. Descends the distance to the boundary by its differences, from labels alone.

    Works with every ART classifier, ``BlackBoxClassifier`` and scikit-learn's included: only
    predicted classes are used. ``art_ext.core.attacks.opt`` says how it runs. The attack lives in
    the estimator's ``clip_values``, before its preprocessing defences.

    | Paper link: https://arxiv.org/abs/1807.04457
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "num_starts",
        "num_directions",
        "learning_rate",
        "beta",
        "targeted",
        "outputs",
        "stop_on_success",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _function = staticmethod(core.opt)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "stop_on_success", "verbose", "probe")
    _core_names: ClassVar[dict[str, str]] = {"learning_rate": "step_size"}
    _targets: ClassVar[bool] = False

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float | None = 8 / 255,
        num_starts: int = 10,
        num_directions: int = 5,
        learning_rate: float = 0.2,
        beta: float = 0.01,
        targeted: bool = False,
        outputs: str = "logits",
        stop_on_success: bool = True,
        max_queries: int = 10_000,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values``.
            norm: np.inf or "inf": how ``eps`` and the distances of ``last_result`` are measured.
            eps: radius within which an adversarial counts as success, in the units of x. None
                counts any.
            num_starts: Gaussian directions, each queried once at its own length, in widths of the
                box. One that succeeds and beats the best is bisected. Default: 10.
            num_directions: q, distances for one gradient. Default: 5.
            learning_rate: alpha, the first step of the line search, without a unit. Later line
                searches begin where the one before ended. Below 1e-4 it becomes 1, and beta a
                tenth. Default: 0.2.
            beta: length of a difference, without a unit. Local searches end at a width of beta/500,
                in widths of the box. Default: 0.01.
            targeted: reach y instead of leaving it.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: a sample ends at its first verified radius inside the ball. False goes
                on to the smallest radius, as the average decision boundary distance (ADBD) asks.
                Default: True.
            max_queries: most forward rows charged to a sample, the clean check included. A
                bisection that the budget cuts keeps its last verified end. Default: 10,000.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            num_starts=num_starts,
            num_directions=num_directions,
            learning_rate=learning_rate,
            beta=beta,
            targeted=targeted,
            outputs=outputs,
            stop_on_success=stop_on_success,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class PGD(FunctionAttack):
    """PGD. Takes projected sign steps of the gradient from a random start in the ball.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.pgd`` says
    how it runs. The attack lives in the estimator's ``clip_values``, before its preprocessing
    defences.

    | Paper link: https://arxiv.org/abs/1706.06083
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "max_iter",
        "eps_step",
        "nb_random_init",
        "keep_samples",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.pgd)
    _switches: ClassVar[tuple[str, ...]] = (
        "keep_samples",
        "targeted",
        "stop_on_success",
        "verbose",
        "probe",
    )
    _core_names: ClassVar[dict[str, str]] = {
        "max_iter": "num_steps",
        "eps_step": "step_size",
        "nb_random_init": "num_restarts",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        max_iter: int = 40,
        eps_step: float | None = None,
        nb_random_init: int = 1,
        keep_samples: bool = False,
        targeted: bool = False,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            max_iter: T, the number of steps. Default: 40.
            eps_step: alpha, in the units of x. Default: None, ``2.5 eps / T``.
            nb_random_init: R, trajectories from R random points. More than 1 needs a random start.
                The first one is that of ``nb_random_init=1``. The best outcome of each sample is
                reported: a success before a failure, then the higher loss. Samples that
                ``stop_on_success`` stops take part in no further restart. Default: 1.
            keep_samples: True returns the end of each restart in ``samples`` (R, N, *S): its last
                iterate that succeeded, or the last one. A sample that stopped early repeats its
                last end. Default: False.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Otherwise its last iterate
                that succeeded is reported. Default: False.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            max_iter=max_iter,
            eps_step=eps_step,
            nb_random_init=nb_random_init,
            keep_samples=keep_samples,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class RayS(FunctionAttack):
    """Hard-label attack that searches sign directions for the nearest boundary.

    Works with every ART classifier, ``BlackBoxClassifier`` and scikit-learn's included: only
    predicted classes are used. ``art_ext.core.attacks.rays`` says how it runs. The attack lives in
    the estimator's ``clip_values``, before its preprocessing defences.

    | Paper link: https://arxiv.org/abs/2006.12792
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "eps",
        "max_queries",
        "norm",
        "batch_size",
        "stop_on_success",
        "verbose",
        "tol",
        "hierarchical",
        "speculate",
        "targeted",
        "seed",
        "probe",
    ]
    _function = staticmethod(core.rays)
    _switches: ClassVar[tuple[str, ...]] = (
        "stop_on_success",
        "verbose",
        "hierarchical",
        "targeted",
        "probe",
    )
    _inputs: ClassVar[dict[str, str]] = {"x_adv_init": "x_init"}
    _replaced: ClassVar[dict[str, dict[Any, Any]]] = {"speculate": {"auto": False}}

    def __init__(
        self,
        estimator: BaseEstimator,
        eps: float | None = 8 / 255,
        max_queries: int = 10_000,
        norm: int | float | str = np.inf,
        batch_size: int = 256,
        stop_on_success: bool = True,
        verbose: bool = True,
        tol: float = 0.001,
        hierarchical: bool = True,
        speculate: str | bool = "auto",
        targeted: bool = False,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values``.
            eps: radius within which an adversarial counts as success, in the units of x. None
                counts any.
            max_queries: most forward rows charged to a sample, the clean check included. A
                bisection that the budget cuts keeps its last verified end.
            norm: np.inf, "inf", 1 or 2: how ``eps`` and the distances of ``last_result`` are
                measured.
            batch_size: most rows in one model call. It never changes a decision.
            stop_on_success: a sample ends once a direction's bisection ends inside the ball. False
                spends the whole budget on the smallest radius, as the average decision boundary
                distance (ADBD) asks. Default: True.
            verbose: show a progress bar.
            tol: width at which a bisection ends, as an L2 length along the unit direction. Its
                L-inf width is tol/sqrt(D).
            hierarchical: False flips single coordinates from the start (the naive search of
                Algorithm 4).
            speculate: query ahead to fill small batches. ``"auto"`` never does behind an ART
                estimator.
            targeted: reach y instead of leaving it. ``generate`` then needs ``x_adv_init`` of these
                classes.
            seed: recorded in the result. RayS does not use it.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            eps=eps,
            max_queries=max_queries,
            norm=norm,
            batch_size=batch_size,
            stop_on_success=stop_on_success,
            verbose=verbose,
            tol=tol,
            hierarchical=hierarchical,
            speculate=speculate,
            targeted=targeted,
            seed=seed,
            probe=probe,
        )


class SignGradient(FunctionAttack):
    """Sign gradient. The common form of FGSM, PGD and their relatives, with every part chosen by
    name.

    Works with every ART classifier that has ``class_gradient``.
    ``art_ext.core.attacks.sign_gradient`` says how it runs. The attack lives in the estimator's
    ``clip_values``, before its preprocessing defences.

    | Paper link: https://arxiv.org/abs/2010.07849
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "max_iter",
        "eps_step",
        "momentum_rule",
        "normaliser",
        "step_rule",
        "start",
        "decay",
        "beta1",
        "beta2",
        "delta",
        "delta_inside",
        "grad_scale",
        "projection",
        "nb_random_init",
        "keep_samples",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _estimator_requirements = GRADIENT_REQUIREMENTS
    _function = staticmethod(core.sign_gradient)
    _switches: ClassVar[tuple[str, ...]] = (
        "delta_inside",
        "keep_samples",
        "targeted",
        "stop_on_success",
        "verbose",
        "probe",
    )
    _core_names: ClassVar[dict[str, str]] = {
        "max_iter": "num_steps",
        "eps_step": "step_size",
        "nb_random_init": "num_restarts",
    }

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        max_iter: int = 40,
        eps_step: float | None = None,
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
        nb_random_init: int = 1,
        keep_samples: bool = False,
        targeted: bool = False,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = False,
        on_failure: str = "last",
        max_queries: int | None = None,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values`` and ``class_gradient``.
            norm: np.inf, "inf", 1 or 2.
            eps: radius of the ball in the units of x.
            max_iter: T, the number of steps. Default: 40.
            eps_step: alpha, in the units of x. Default: None, ``2.5 eps / T``.
            momentum_rule: ``"none"``: ``v_t = g_t``. ``"accumulated"``: ``v_t = decay v_{t-1} +
                g_t``. ``"average"``: ``v_t = beta1 v_{t-1} + (1 - beta1) g_t`` (10). Default: none.
            normaliser: of each sample's gradient: ``"none"``, ``"l1"`` for ``g / ||g||_1``,
                ``"mean"`` for ``g / mean |g|``. Under the sign the latter two differ by rounding
                only. Default: none.
            step_rule: ``"sign"``: ``alpha sgn(v)`` (8). ``"adaptive"``: ``sgn(v)`` times, for each
                coordinate, ``min(eps, sqrt(1 - beta2^t) / (1 - beta1^t) alpha / sqrt(e))`` (11), e
                being the largest so far of the averages ``e_t = beta2 e_{t-1} + (1 - beta2)
                g_t^2``. ``"corrected"``: the same without the second moment, ``min(eps, alpha / (1
                - beta1^t)) sgn(v)``. In L2 and L1, ``v / ||v||_p`` stands for ``sgn(v)``.
            start: ``"input"``, or ``"uniform"``, a point drawn uniformly from the ball and clipped
                to the box. Default: input.
            decay: mu of ``"accumulated"``, >= 0. Default: 1.
            beta1: decay of the average of gradients, in [0, 1). Default: 0.95.
            beta2: decay of the average of squared gradients, in [0, 1). Default: 0.999.
            delta: small constant under e, > 0. Default: 1e-7.
            delta_inside: True adds delta inside the root of e, as the paper prints. False adds it
                to the root, as the reference implementation. Default: False.
            grad_scale: factor of every gradient. Only the adaptive step depends on it. 1 is the
                gradient of each sample's own loss. 1/B is what the authors' mean over batches of B
                samples gives. Default: 1.
            projection: ``"box-first"`` clips a step to the box before its projection onto an L2 or
                L1 ball, which moves no coordinate away from x. ``"ball-first"`` projects first, as
                many programs do: what a step does outside the box then uses up a part of eps. In
                L-inf both are the same. Default: box-first.
            nb_random_init: R, trajectories from R random points. More than 1 needs a random start.
                The first one is that of ``nb_random_init=1``. The best outcome of each sample is
                reported: a success before a failure, then the higher loss. Samples that
                ``stop_on_success`` stops take part in no further restart. Default: 1.
            keep_samples: True returns the end of each restart in ``samples`` (R, N, *S): its last
                iterate that succeeded, or the last one. A sample that stopped early repeats its
                last end. Default: False.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Otherwise its last iterate
                that succeeded is reported. Default: False.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows charged to a sample, the clean check included. None: no
                limit.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            max_iter=max_iter,
            eps_step=eps_step,
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
            nb_random_init=nb_random_init,
            keep_samples=keep_samples,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class SignOPT(FunctionAttack):
    """Sign-OPT. Descends the distance to the boundary by signs of differences, from labels alone.

    Works with every ART classifier, ``BlackBoxClassifier`` and scikit-learn's included: only
    predicted classes are used. ``art_ext.core.attacks.sign_opt`` says how it runs. The attack lives
    in the estimator's ``clip_values``, before its preprocessing defences.

    | Paper link: https://arxiv.org/abs/1909.10773
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "num_starts",
        "num_directions",
        "learning_rate",
        "beta",
        "targeted",
        "outputs",
        "stop_on_success",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _function = staticmethod(core.sign_opt)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "stop_on_success", "verbose", "probe")
    _core_names: ClassVar[dict[str, str]] = {"learning_rate": "step_size"}
    _targets: ClassVar[bool] = False

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float | None = 8 / 255,
        num_starts: int = 100,
        num_directions: int = 200,
        learning_rate: float = 0.2,
        beta: float = 0.001,
        targeted: bool = False,
        outputs: str = "logits",
        stop_on_success: bool = True,
        max_queries: int = 10_000,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values``.
            norm: np.inf or "inf": how ``eps`` and the distances of ``last_result`` are measured.
            eps: radius within which an adversarial counts as success, in the units of x. None
                counts any.
            num_starts: Gaussian directions, each queried once at its own length, in widths of the
                box. One that succeeds and beats the best is bisected. Default: 100.
            num_directions: k, queries for one gradient. Default: 200.
            learning_rate: alpha, the first step of the line search, without a unit. Later line
                searches begin where the one before ended. Below 1e-6 it becomes 1, and beta a
                tenth. Default: 0.2.
            beta: length of a difference, without a unit. The bisections of a line search end at a
                width of beta/500, in widths of the box. Default: 0.001.
            targeted: reach y instead of leaving it.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: a sample ends at its first verified radius inside the ball. False goes
                on to the smallest radius, as the average decision boundary distance (ADBD) asks.
                Default: True.
            max_queries: most forward rows charged to a sample, the clean check included. A
                bisection that the budget cuts keeps its last verified end. Default: 10,000.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            num_starts=num_starts,
            num_directions=num_directions,
            learning_rate=learning_rate,
            beta=beta,
            targeted=targeted,
            outputs=outputs,
            stop_on_success=stop_on_success,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class SignHunter(FunctionAttack):
    """SignHunter. Flips blocks of signs of a perturbation, and keeps what does not lower the loss.

    Works with every ART classifier that predicts scores, ``BlackBoxClassifier`` and scikit-learn's
    included. ``art_ext.core.attacks.signhunter`` says how it runs. The attack lives in the
    estimator's ``clip_values``, before its preprocessing defences.

    | Paper link: https://openreview.net/forum?id=SygW0TEFwH
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _function = staticmethod(core.signhunter)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "stop_on_success", "verbose", "probe")

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        targeted: bool = False,
        loss: str | Loss = "ce",
        outputs: str = "logits",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int = 10_000,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values``.
            norm: np.inf, "inf" or 2.
            eps: radius of the ball in the units of x.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, ``"mean-logits"``, or a callable from the model's outputs (r, K) and the
                positions (r,) of their samples in x to (r,) numbers, such as the inner product with
                a target's embedding. A callable is ascended as it is, targeted or not. The
                probability margin is ``max_{j != y} p_j - p_y`` of the softmax. ``"dlr"`` is the
                margin over the difference of the largest and third largest score, and with fewer
                than four classes the margin. ``"mean-logits"`` is the margin of the mean logits of
                the members of a ``JointEnsemble`` inside the model. Default: ``"ce"``.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Otherwise the point of
                highest loss is reported if it is a success, and else the last candidate that was
                one. Default: True.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most forward rows per sample. Default: 10,000.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class Square(FunctionAttack):
    """Square. Changes random square windows, and keeps what raises the loss.

    Works with every ART classifier that predicts scores, ``BlackBoxClassifier`` and scikit-learn's
    included. ``art_ext.core.attacks.square`` says how it runs. The attack lives in the estimator's
    ``clip_values``, before its preprocessing defences.

    | Paper link: https://arxiv.org/abs/1912.00049
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "norm",
        "eps",
        "p_init",
        "targeted",
        "loss",
        "outputs",
        "stop_on_success",
        "on_failure",
        "max_queries",
        "batch_size",
        "seed",
        "verbose",
        "probe",
    ]
    _function = staticmethod(core.square)
    _switches: ClassVar[tuple[str, ...]] = ("targeted", "stop_on_success", "verbose", "probe")

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        p_init: float | None = None,
        targeted: bool = False,
        loss: str | Loss | None = None,
        outputs: str = "logits",
        stop_on_success: bool = True,
        on_failure: str = "last",
        max_queries: int = 10_000,
        batch_size: int = 32,
        seed: int | None = None,
        verbose: bool = True,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values``.
            norm: np.inf, "inf" or 2.
            eps: radius of the ball in the units of x.
            p_init: p, the share of the pixels in the first window, in (0, 1]. Default: None, the
                paper's 0.05 in L-inf and 0.1 in L2. Robust models need more. AutoAttack takes 0.8.
            targeted: reach y instead of leaving it.
            loss: ascended by the attack: ``"ce"``, ``"margin"``, ``"probability_margin"``,
                ``"dlr"``, or a callable from the model's outputs (r, K) and the positions (r,) of
                their samples in x to (r,) numbers. A callable is ascended as it is, targeted or
                not. Default: None, the paper's: the margin, and the cross-entropy of a target.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            stop_on_success: True stops a sample at its first success. Otherwise the point of
                highest loss is reported if it is a success, and else the last candidate that was
                one. Default: True.
            on_failure: what comes back without a success: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: N, most forward rows per sample. Default: 10,000.
            batch_size: most rows in one model call. It never changes a decision.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            estimator,
            norm=norm,
            eps=eps,
            p_init=p_init,
            targeted=targeted,
            loss=loss,
            outputs=outputs,
            stop_on_success=stop_on_success,
            on_failure=on_failure,
            max_queries=max_queries,
            batch_size=batch_size,
            seed=seed,
            verbose=verbose,
            probe=probe,
        )


class ZooPyTorch(ResizingAttack):
    """Score-based attack: the objective of C&W, minimised by difference quotients along a few
    coordinates at a time.

    Works with every ART classifier that predicts scores, ``BlackBoxClassifier`` and scikit-learn's
    included. ``art_ext.core.attacks.zoo`` says how it runs. The attack lives in the estimator's
    ``clip_values``, before its preprocessing defences. Its probes may leave them by ``variable_h``,
    unless ``use_tanh`` or ``resize``. It follows the paper. ART's own ``ZooAttack`` takes no
    logarithms, can only brighten images in [0, 1], and with ``use_resize`` attacks copies of them,
    scaled down and up again. The defaults are the paper's, because with those of ART's own (10
    iterations, one c of .001) hardly any sample succeeds. They cost up to 2.3 million predictions
    per sample, fewer where ``abort_early`` ends them: ``max_queries`` sets the limit.

    | Paper link: https://arxiv.org/abs/1708.03999
    """

    attack_params: ClassVar[list[str]] = [
        *EvasionAttack.attack_params,
        "confidence",
        "targeted",
        "learning_rate",
        "max_iter",
        "binary_search_steps",
        "initial_const",
        "abort_early",
        "resize",
        "importance",
        "nb_parallel",
        "batch_size",
        "variable_h",
        "verbose",
        "solver",
        "use_tanh",
        "reset_adam",
        "abort_window",
        "norm",
        "eps",
        "outputs",
        "max_queries",
        "seed",
        "probe",
    ]
    _function = staticmethod(core.zoo)
    _switches: ClassVar[tuple[str, ...]] = (
        "targeted",
        "verbose",
        "use_tanh",
        "reset_adam",
        "probe",
    )
    _core_names: ClassVar[dict[str, str]] = {
        "learning_rate": "step_size",
        "max_iter": "num_steps",
        "binary_search_steps": "search_steps",
        "nb_parallel": "coordinates",
        "variable_h": "h",
    }

    def __init__(
        self,
        classifier: BaseEstimator,
        confidence: float = 0.0,
        targeted: bool = False,
        learning_rate: float = 0.01,
        max_iter: int = 1000,
        binary_search_steps: int = 9,
        initial_const: float = 0.01,
        abort_early: bool | str = "always",
        resize: int | Sequence[int] | Mapping[int, int] | None = None,
        importance: bool | int = False,
        nb_parallel: int = 128,
        batch_size: int = 256,
        variable_h: float = 0.0001,
        verbose: bool = True,
        solver: str = "adam",
        use_tanh: bool = False,
        reset_adam: bool = True,
        abort_window: int | None = None,
        norm: int | float | str = 2,
        eps: float | None = None,
        outputs: str = "logits",
        max_queries: int | None = None,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            classifier: a trained classifier with ``clip_values``.
            confidence: kappa >= 0, the margin between logits (or logarithms of probabilities) that
                a success must have.
            targeted: reach y instead of leaving it.
            learning_rate: eta, of Adam or Newton.
            max_iter: iterations of each optimisation. One costs ``2 nb_parallel + 1`` predictions.
            binary_search_steps: optimisations per sample, each with its own c.
            initial_const: c of the first optimisation, > 0.
            abort_early: give a sample's optimisation up where its loss stands still: ``"always"``,
                True: unless it has a success by then, or False: never.
            resize: side of a smaller image that is attacked and scaled up. A sequence of sides, or
                a mapping from iterations to sides, enlarges it on the way (the ``use_resize`` of
                ART's own is ``{0: 32, 2000: 64, 10000: 128}``). None moves the features themselves.
                The estimator's ``channels_first`` says where the channels are.
            importance: draw coordinates in proportion to the largest change so far in each of 8 x 8
                regions, whenever the space has been enlarged, so that True needs several sizes. A
                number n > 1 also every n iterations. One draw in a hundred is uniform.
            nb_parallel: B, how many are probed and moved in one iteration.
            batch_size: most rows in one prediction. 256 hold the probes of one sample.
            variable_h: distance of the probes, in the units of x (of the transformed variable with
                use_tanh). Models in float32 answer with an error of 1e-7 of their scores, which
                ``"newton"`` divides by h^2: give it .01 or more there.
            verbose: show a progress bar.
            solver: ``"adam"``, ``"newton"``, or ``"adam-newton"``: Newton where the second
                derivative is positive.
            use_tanh: move in a space without a box, as ``cw`` does, rather than clip to the box.
                Where inputs lie on the edge of the box, as in MNIST, the derivative vanishes there:
                leave it off.
            reset_adam: forget the moments of Adam at the first success of an optimisation.
            abort_window: iterations between two comparisons of the loss. None takes a tenth of
                max_iter.
            norm: np.inf, "inf", 1 or 2: how ``eps`` and the distances of ``last_result`` are
                measured.
            eps: radius within which an adversarial counts as success, in the units of x. None
                counts any.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``. ART does not
                say.
            max_queries: most forward rows per sample. None for no limit. An iteration that does not
                fit is not begun.
            seed: of the random streams. Default: None, which draws one and records it in the
                result.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do. False skips the test.
        """
        super().__init__(
            classifier,
            confidence=confidence,
            targeted=targeted,
            learning_rate=learning_rate,
            max_iter=max_iter,
            binary_search_steps=binary_search_steps,
            initial_const=initial_const,
            abort_early=abort_early,
            resize=resize,
            importance=importance,
            nb_parallel=nb_parallel,
            batch_size=batch_size,
            variable_h=variable_h,
            verbose=verbose,
            solver=solver,
            use_tanh=use_tanh,
            reset_adam=reset_adam,
            abort_window=abort_window,
            norm=norm,
            eps=eps,
            outputs=outputs,
            max_queries=max_queries,
            seed=seed,
            probe=probe,
        )
