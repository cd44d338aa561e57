"""HMCAM and AI-FGSM for ART."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from art.attacks.attack import EvasionAttack
from art.estimators.classification.classifier import ClassGradientsMixin, ClassifierMixin
from art.estimators.estimator import BaseEstimator

from art_ext.attacks.shell import BallAttack
from art_ext.core.attacks import ai_fgsm, hmcam
from art_ext.core.losses import Loss


class HMCAM(BallAttack):
    """White-box attack that draws a chain of adversarial examples by Hamiltonian Monte Carlo.

    ``generate`` returns the state of highest loss that fools the classifier; ``run(x, y).samples``
    is the whole chain, (nb_samples, n, *shape). Works with every ART classifier that has
    ``class_gradient``. ``art_ext.core.attacks.hmcam`` says how it runs; what only imitates its
    authors' program is a keyword there. The attack lives in the estimator's ``clip_values``, before
    its preprocessing defences.

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
    _estimator_requirements = (BaseEstimator, ClassifierMixin, ClassGradientsMixin)
    _function = staticmethod(hmcam)
    _core_names: ClassVar[dict[str, str]] = {
        "eps_step": "step_size",
        "max_iter": "num_steps",
        "nb_samples": "num_transitions",
    }
    _switches = (*BallAttack._switches, "keep_samples")

    def __init__(
        self,
        estimator: BaseEstimator,
        norm: int | float | str = np.inf,
        eps: float = 0.3,
        eps_step: float = 5e-3,
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
            max_iter: T, steps of each transition.
            nb_samples: S, transitions, and states of the chain.
            beta1: decay of the average of the gradients.
            beta2: decay of the average of their squares.
            targeted: reach y instead of leaving it.
            step_rule: ``"adaptive"``, ``"corrected"`` or ``"sign"``.
            start: ``"input"``, or ``"uniform"`` for a random point of the ball.
            temperature: of the distribution that the chain explores.
            keep_samples: return the chain in ``samples``.
            loss: ``"ce"``, ``"margin"`` or a function of the predictions and the samples'
                positions.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``; ART does not
                say.
            stop_on_success: leave a sample at its first success.
            on_failure: what comes back where nothing fools: the ``"last"`` iterate, as from ART's
                own attacks, or ``"input"``.
            max_queries: most predictions per sample, the clean check included; None for no limit.
            batch_size: most rows in one prediction.
            seed: of the Metropolis-Hastings tests and the random start; None draws one, which
                ``last_result`` records.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do; False asks nothing.
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


class AIFGSM(BallAttack):
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
    _estimator_requirements = (BaseEstimator, ClassifierMixin, ClassGradientsMixin)
    _function = staticmethod(ai_fgsm)
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
        eps_step: float = 5e-3,
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
            max_iter: steps.
            beta1: decay of the average of the gradients.
            beta2: decay of the average of their squares.
            targeted: reach y instead of leaving it.
            step_rule: ``"adaptive"``, ``"corrected"`` or ``"sign"``.
            start: ``"input"``, or ``"uniform"`` for a random point of the ball.
            loss: ``"ce"``, ``"margin"`` or a function of the predictions and the samples'
                positions.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``; ART does not
                say.
            stop_on_success: leave a sample at its first success; otherwise the last iterate that
                fools comes back.
            on_failure: what comes back where nothing fools: the ``"last"`` iterate, as from ART's
                own attacks, or ``"input"``.
            max_queries: most predictions per sample, the clean check included; None for no limit.
            batch_size: most rows in one prediction.
            seed: of the random start; None draws one, which ``last_result`` records.
            verbose: show a progress bar.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do; False asks nothing.
            nb_random_init: trajectories from so many random points, of which the best example of
                each sample comes back; above 1 it needs ``start="uniform"``.
            keep_samples: keep the end of each trajectory in ``last_result.samples``.
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
