"""The elastic-net attack for ART."""

from __future__ import annotations

from typing import ClassVar

from art.attacks.attack import EvasionAttack
from art.estimators.classification.classifier import ClassGradientsMixin, ClassifierMixin
from art.estimators.estimator import BaseEstimator

from art_ext.attacks.shell import FunctionAttack
from art_ext.core.attacks import ead


class ElasticNetPyTorch(FunctionAttack):
    """White-box attack that looks for an adversarial of few changed features: least elastic-net
    distortion.

    Works with every ART classifier that has ``class_gradient``. ``art_ext.core.attacks.ead`` says
    how it runs, which is the authors' program; ART's own ``ElasticNet`` has another momentum, drops
    the distortion from the gradient where the goal is met, and does not ask for ``confidence`` in
    its test of success. The attack lives in the estimator's ``clip_values``, before its
    preprocessing defences.

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
    _estimator_requirements = (BaseEstimator, ClassifierMixin, ClassGradientsMixin)
    _function = staticmethod(ead)
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
        learning_rate: float = 1e-2,
        binary_search_steps: int = 9,
        max_iter: int = 100,
        beta: float = 1e-3,
        initial_const: float = 1e-3,
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
                a success must have.
            targeted: reach y instead of leaving it.
            learning_rate: alpha_0, of the first step.
            binary_search_steps: optimisations per sample, each with its own c.
            max_iter: iterations of each optimisation, by ART's custom 100 (the paper takes 1000).
            beta: weight of the L1 term, >= 0.
            initial_const: the first c.
            batch_size: most rows in one prediction; ART's own takes 1.
            decision_rule: which success is reported: that of least ``beta L1 + L2^2`` (``"EN"``),
                of least L1 (``"L1"``) or of least L2 (``"L2"``) distortion.
            verbose: show a progress bar.
            abort_early: give a sample's optimisation up where its loss stands still: True, unless
                it has met the goal by then; ``"always"``; or False, never, as ART's own.
            norm: np.inf, "inf", 1 or 2: how ``eps`` and the distances of ``last_result`` are
                measured.
            eps: radius within which an adversarial counts as success, in the units of x; None
                counts any.
            outputs: what the estimator predicts, ``"logits"`` or ``"probabilities"``; ART does not
                say.
            max_queries: most predictions per sample, the clean check included; None for no limit.
            seed: recorded only; this attack draws no random number.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do; False asks nothing.
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
