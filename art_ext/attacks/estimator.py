"""An ART estimator as a model that the core's oracles can ask."""

from __future__ import annotations

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from art.estimators.estimator import BaseEstimator
from torch import Tensor, nn


class EstimatorModel(nn.Module):
    """Scores of an ART classifier for rows in its ``clip_values``, preprocessing and postprocessing defences included.

    A ``PyTorchClassifier`` whose preprocessing is written in PyTorch, and which has no postprocessing, is called with
    tensors on its own device and stays differentiable; any other estimator goes through numpy and ``predict``.
    The classifier's network is registered as a submodule, so that the oracle restores its mode: ART itself leaves it in
    eval mode.
    """

    def __init__(self, estimator: BaseEstimator) -> None:
        super().__init__()
        self.estimator = estimator
        network = getattr(estimator, "_model", None)
        self.network = network if isinstance(network, nn.Module) else None
        self.keeps_tensors = (
            isinstance(estimator, PyTorchClassifier)
            and estimator.all_framework_preprocessing
            and not estimator.postprocessing_defences
        )
        # ART gives the model no other way to say where it lives if it has no parameters
        self.register_buffer("_place", torch.empty(0, device=getattr(estimator, "device", "cpu")), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """(R, K) scores of rows (R, *S)."""
        if self.keeps_tensors:
            scores: Tensor = self.estimator._predict_framework(rows)[0]
            return scores
        predictions = self.estimator.predict(rows.detach().cpu().numpy(), batch_size=len(rows))
        return torch.from_numpy(np.asarray(predictions)).to(rows.device)
