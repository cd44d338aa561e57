"""The average decision boundary distance as an ART evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.estimators.estimator import BaseEstimator
from art.evaluations.evaluation import Evaluation

from art_ext.attacks import RayS
from art_ext.core.metrics import BoundaryDistance, adbd
from art_ext.core.result import AttackResult


class ADBD(Evaluation):
    """Average decision boundary distance (ADBD): mean distance of the nearest adversarials, by
    RayS.

    Unlike robust accuracy it needs no radius. It ranks models even if their robust accuracies at
    one radius are all near 0 or near 1.

    | Paper link: https://arxiv.org/abs/2006.12792
    """

    def __init__(
        self,
        max_queries: int = 10_000,
        norm: int | float | str = np.inf,
        batch_size: int = 256,
        verbose: bool = True,
    ) -> None:
        """Create the evaluation.

        Args:
            max_queries: predictions per sample. Every sample spends all of them.
            norm: np.inf, "inf", 1 or 2, the norm of the distance.
            batch_size: most rows in one prediction.
            verbose: show a progress bar.
        """
        super().__init__()
        self.max_queries = max_queries
        self.norm = norm
        self.batch_size = batch_size
        self.verbose = verbose
        self.last_result: AttackResult | None = None

    def evaluate(
        self, classifier: BaseEstimator, x: np.ndarray, y: np.ndarray | None = None, **kwargs: Any
    ) -> BoundaryDistance:
        """Find the nearest adversarial of every sample and average the distances.

        Args:
            classifier: any ART classifier with ``clip_values``.
            x: (n, *shape) inputs inside them.
            y: (n,) or one-hot labels. Misclassified samples count 0. None takes the classifier's
                own predictions.
            **kwargs: passed to ``art_ext.attacks.RayS.run``, such as ``mask``.

        Returns:
            The mean distance, the number of samples that it covers, and the number of samples left
            out because no adversarial was found. ``last_result`` keeps the whole result.

        Raises:
            ValueError: as RayS, for instance for inputs outside ``clip_values``.
        """
        attack = RayS(
            classifier,
            eps=None,
            max_queries=self.max_queries,
            norm=self.norm,
            batch_size=self.batch_size,
            stop_on_success=False,
            verbose=self.verbose,
        )
        self.last_result = attack.run(x, y, **kwargs)
        return adbd(self.last_result)
