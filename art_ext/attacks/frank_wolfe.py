"""The Frank-Wolfe attacks for ART."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from art.attacks.attack import EvasionAttack
from art.estimators.classification.classifier import ClassGradientsMixin, ClassifierMixin
from art.estimators.estimator import BaseEstimator

from art_ext.attacks.shell import BallAttack
from art_ext.core.attacks import frank_wolfe, frank_wolfe_black_box
from art_ext.core.losses import Loss


class FrankWolfe(BallAttack):
    """White-box attack that walks towards vertices of the ball and never needs a projection.

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
    _estimator_requirements = (BaseEstimator, ClassifierMixin, ClassGradientsMixin)
    _function = staticmethod(frank_wolfe)
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
            norm: np.inf, "inf", 1 or 2; for 1 take ``box="vertex"``.
            eps: radius of the ball in the units of x.
            eps_step: gamma, the share of the way to the vertex that a step goes, in (0, 1]; no
                length, unlike the ``eps_step`` of ART's own attacks.
            momentum: beta in [0, 1).
            max_iter: most steps, by ART's custom 100 (the paper's program takes 20).
            targeted: reach y instead of leaving it.
            schedule: of gamma: ``"constant"``, ``"inverse_sqrt"`` or ``"plateau"``.
            momentum_init: ``"zero"`` or ``"gradient"``.
            box: ``"clip"`` each step to ``clip_values``, or take the ``"vertex"`` of ball and box
                together.
            loss: ``"ce"``, ``"margin"`` or a function of the predictions and the samples'
                positions.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``; ART does not
                say.
            stop_on_success: leave a sample at its first success.
            on_failure: what comes back for the others: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            max_queries: most predictions per sample, the clean check included; None for no limit.
            batch_size: most rows in one prediction.
            seed: recorded only; this attack draws no random number.
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


class FrankWolfeBlackBox(BallAttack):
    """Score-based attack: Frank-Wolfe steps along gradients estimated from predictions.

    Works with every ART classifier that predicts scores, ``BlackBoxClassifier`` included.
    ``art_ext.core.attacks.frank_wolfe_black_box`` says how it runs.
    The attack lives in the estimator's ``clip_values``, before its preprocessing defences; its
    probes may leave them by about ``delta``, unless ``clip_probes``.

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
    _function = staticmethod(frank_wolfe_black_box)
    _core_names: ClassVar[dict[str, str]] = {
        "eps_step": "step_fraction",
        "nb_directions": "num_directions",
    }
    _switches: ClassVar[tuple[str, ...]] = (*BallAttack._switches, "clip_probes")

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
            norm: np.inf, "inf", 1 or 2; for 1 take ``box="vertex"``.
            eps: radius of the ball in the units of x.
            eps_step: gamma, the share of the way to the vertex that a step goes, in (0, 1]; no
                length, unlike the ``eps_step`` of ART's own attacks.
            momentum: beta in [0, 1).
            max_queries: most predictions per sample, the clean check included; an iteration costs
                ``2 nb_directions + 1``.
            targeted: reach y instead of leaving it.
            nb_directions: random directions per estimate.
            delta: length of a probe per unit of direction, in the units of x.
            sensing: directions are ``"gaussian"``, or uniform on the ``"sphere"``.
            clip_probes: clip the probes to ``clip_values``, for an estimator that takes nothing
                else.
            schedule: of gamma: ``"constant"``, ``"inverse_sqrt"`` or ``"plateau"``.
            momentum_init: ``"zero"`` or ``"gradient"``.
            box: ``"clip"`` each step to ``clip_values``, or take the ``"vertex"`` of ball and box
                together.
            loss: ``"ce"``, ``"margin"`` or a function of the predictions and the samples'
                positions.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``; ART does not
                say.
            stop_on_success: leave a sample at its first success.
            on_failure: what comes back for the others: the ``"last"`` iterate, as from ART's own
                attacks, or the ``"input"``.
            batch_size: most rows in one prediction.
            seed: of the random directions; None draws one, which ``last_result`` records.
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
