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
    tensors on its own device and stays differentiable; any other estimator goes through numpy and ``predict``, among
    them subclasses with a ``predict`` of their own, such as ART's randomized smoothing.
    The classifier's network (an ensemble's networks) is registered as a submodule, so that the oracle restores its
    mode: ART itself leaves it in eval mode.
    """

    def __init__(self, estimator: BaseEstimator) -> None:
        super().__init__()
        self.estimator = estimator
        networks = [getattr(one, "_model", None) for one in (estimator, *getattr(estimator, "classifiers", ()))]
        self.networks = nn.ModuleList(network for network in networks if isinstance(network, nn.Module))
        self.keeps_tensors = (
            isinstance(estimator, PyTorchClassifier)
            and type(estimator).predict is PyTorchClassifier.predict
            and type(estimator)._predict_framework is PyTorchClassifier._predict_framework
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
        return torch.from_numpy(np.array(predictions, order="C")).to(rows.device)  # a copy: it may be read-only
