"""RayS for ART."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from art.attacks.attack import EvasionAttack
from art.estimators.estimator import BaseEstimator
from torch import Tensor

from art_ext.attacks.estimator import EstimatorModel
from art_ext.attacks.shell import CoreAttack
from art_ext.core.attacks import rays
from art_ext.core.geometry import norm_name
from art_ext.core.result import AttackResult


class RayS(CoreAttack):
    """Hard-label attack that searches sign directions for the nearest decision boundary.

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
        "tol",
        "hierarchical",
        "speculate",
        "targeted",
        "seed",
        "verbose",
        "probe",
    ]
    _generate_keywords = ("mask", "x_adv_init")
    _switches = ("targeted", "verbose", "stop_on_success", "hierarchical")

    def __init__(
        self,
        estimator: BaseEstimator,
        eps: float | None = 8 / 255,
        max_queries: int = 10_000,
        norm: int | float | str = np.inf,
        batch_size: int = 256,
        stop_on_success: bool = True,
        verbose: bool = True,
        tol: float = 1e-3,
        hierarchical: bool = True,
        speculate: bool | str = "auto",
        targeted: bool = False,
        seed: int | None = None,
        probe: bool = True,
    ) -> None:
        """Create the attack.

        Args:
            estimator: a trained classifier with ``clip_values``.
            eps: radius of the ball in the units of x; None counts any adversarial.
            max_queries: most predictions per sample, the clean check included.
            norm: np.inf, "inf", 1 or 2: how distance is measured.
            batch_size: most rows in one prediction.
            stop_on_success: leave a sample at its first success; False searches on for the nearest
                boundary (ADBD).
            verbose: show a progress bar.
            tol: width at which a bisection ends, an L2 length.
            hierarchical: flip blocks of signs; False flips single coordinates.
            speculate: ask questions ahead to fill small batches; ``"auto"`` never does behind an
                ART estimator.
            targeted: reach y instead of leaving it; ``generate`` then needs ``x_adv_init`` of these
                classes.
            seed: recorded only; RayS draws no random number.
            probe: test once for each estimator, by at most 24 predictions on the first eight
                samples, if its answers depend on chance or on the batch, and log a warning if they
                do; False asks nothing.
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

    def _attack(
        self, model: EstimatorModel, x: Tensor, labels: Tensor | None, **options: Any
    ) -> AttackResult:
        start = options.pop("x_adv_init")
        if self.targeted and start is None:
            raise ValueError(
                "targeted RayS needs generate(..., x_adv_init=...), one input of the target class"
                " per sample: from sign images alone the search hardly ever meets a given class"
                " (its authors do not support targets)"
            )
        if start is not None and start.shape != x.shape:
            raise ValueError(
                f"x_adv_init must have x's shape {tuple(x.shape)}, got {tuple(start.shape)}"
            )
        return rays(
            model,
            x,
            None if self.targeted else labels,
            targets=labels if self.targeted else None,
            eps=self.eps,
            max_queries=self.max_queries,
            norm=norm_name(self.norm),
            tol=self.tol,
            stop_on_success=self.stop_on_success,
            hierarchical=self.hierarchical,
            x_init=start,
            # a prediction may cost time or money
            speculate=False if self.speculate == "auto" else self.speculate,
            clip_values=tuple(self.estimator.clip_values),
            batch_size=self.batch_size,
            seed=self.seed,
            **options,
        )
