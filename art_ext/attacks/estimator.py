"""An ART estimator as a model that the core's oracles can ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier, XGBoostClassifier
from art.estimators.classification.classifier import ClassGradientsMixin
from art.estimators.classification.scikitlearn import ScikitlearnLogisticRegression
from art.estimators.estimator import BaseEstimator
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from art_ext.core.calling import ModelCall, outside_inference_mode

# what ``Booster.predict`` returns for these is a row of probabilities, or whole class indices
_BOOSTER_OBJECTIVES = ("multi:softprob", "multi:softmax", "binary:hinge")


def classifier_on(device: torch.device, network: nn.Module, **settings: Any) -> PyTorchClassifier:
    """Return a ``PyTorchClassifier`` on the device that its network is on.

    ART knows the CPU and the present CUDA device only, and moves the network there.

    Args:
        device: of the network.
        network: the classifier's ``model``.
        **settings: the other arguments of the class but ``device_type``.
    """
    cuda = device.type == "cuda"
    known = cuda or device.type == "cpu"
    with torch.cuda.device(device) if cuda else nullcontext():
        classifier = PyTorchClassifier(
            network if known else nn.Identity(), **settings, device_type="gpu" if cuda else "cpu"
        )
    if not known:  # after the constructor, which would move the network to the CPU
        classifier._model = classifier._make_model_wrapper(network)
        classifier._layer_names = classifier._model.get_layers
        classifier.is_rnn = any(isinstance(one, nn.RNNBase) for one in network.modules())
        classifier._device = device
    return classifier


def check_scores(estimator: BaseEstimator) -> None:
    """Raise ValueError if ``predict`` of the estimator is known not to give its classes.

    ART 1.20 reads one number a row of an XGBoost booster as a class index, and cuts off its
    fraction. Every probability below 1 is class 0 then.
    """
    model = getattr(estimator, "_model", None)
    if (
        not isinstance(estimator, XGBoostClassifier)
        or model is None
        or not hasattr(model, "save_config")
    ):
        return  # an XGBClassifier predicts probabilities of all its classes
    learner = json.loads(model.save_config())["learner"]
    objective = learner["learner_train_param"]["objective"]
    rows = int(learner["learner_model_param"].get("num_class", 0)) > 1
    if not rows and objective not in _BOOSTER_OBJECTIVES:
        raise ValueError(
            f"ART cuts the predictions of an XGBoost booster with objective {objective!r} to whole"
            " numbers, so that nearly all samples are class 0: wrap an XGBClassifier instead of"
            " the Booster, such as one that XGBClassifier().load_model(FILE) makes of the"
            " booster's file"
        )


class EstimatorModel(nn.Module):
    """Scores of an ART classifier for rows in its ``clip_values``, preprocessing and postprocessing
    defences included.

    A ``PyTorchClassifier`` whose preprocessing is written in PyTorch, and which has no
    postprocessing, is called with tensors on its own device. Any other estimator goes through numpy
    and ``predict``, among them subclasses with a ``predict`` of their own, such as ART's randomized
    smoothing. The scores are always those of ``predict``.

    Both ways can be differentiated. A ``PyTorchClassifier`` with numpy defences uses its network on
    tensors, ART's estimate of the gradient of each preprocessing defence, and the identity for
    postprocessing. Another estimator uses its ``class_gradient``, if it has one.

    The classifier's network (an ensemble's networks) is registered as a submodule, so that the
    oracle restores its mode: ART itself leaves it in eval mode.
    """

    copies_rows = True

    def __init__(self, estimator: BaseEstimator) -> None:
        super().__init__()
        self.estimator = estimator
        networks = [
            getattr(one, "_model", None)
            for one in (estimator, *getattr(estimator, "classifiers", ()))
        ]
        self.networks = nn.ModuleList(
            network for network in networks if isinstance(network, nn.Module)
        )
        self.has_network = (
            isinstance(estimator, PyTorchClassifier)
            and type(estimator).predict is PyTorchClassifier.predict
            and type(estimator)._predict_framework is PyTorchClassifier._predict_framework
        )
        self.keeps_tensors = (
            self.has_network
            and estimator.all_framework_preprocessing
            and not estimator.postprocessing_defences
            and all(
                type(step).estimate_forward is PreprocessorPyTorch.estimate_forward
                for step in estimator.preprocessing_operations
            )
        )
        self.call = ModelCall(self._last_output, self.networks if self.has_network else None)
        # ART gives the model no other way to say where it lives if it has no parameters
        with outside_inference_mode():
            place = torch.empty(0, device=getattr(estimator, "device", "cpu"))
        self.register_buffer("_place", place, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """(R, K) scores of rows (R, *S)."""
        if self.keeps_tensors:
            return self._through_framework(rows)
        if self.has_network and self.call.wants_other_dtype(rows):
            # ART's ``predict`` would hand over arrays of float32
            return self._through_network(rows)
        if rows.requires_grad and torch.is_grad_enabled():
            if self.has_network:
                return self._through_network(rows)
            if isinstance(self.estimator, ClassGradientsMixin):
                return _Detour.apply(rows, self._predict, self._class_gradient)
        return _as_tensor(self._predict(_as_array(rows).copy()), rows)

    def _last_output(self, inputs: Tensor) -> Tensor:
        """Return the outputs that ART uses as scores of preprocessed inputs."""
        scores: Tensor = self.estimator._model.eval()(inputs)[-1]
        return scores

    def _through_framework(self, rows: Tensor) -> Tensor:
        """Compute the same as ``PyTorchClassifier._predict_framework``."""
        inputs = rows
        if self.estimator.preprocessing_operations:  # which may work in place
            inputs = self.estimator._apply_preprocessing(
                rows.clone(), y=None, fit=False, no_grad=False
            )[0]
        return self.call(inputs)

    @staticmethod
    def check_clean_outputs(scores: Tensor) -> None:
        """Raise ValueError if no score (N, K) of two clean samples or more tells one class from
        another.
        """
        if scores.dim() == 2 and len(scores) >= 2 and bool((scores == scores[:, :1]).all()):
            raise ValueError(
                f"the estimator gives all {scores.shape[1]} classes the same score, for each of"
                f" {len(scores)} samples. ART's BlackBoxClassifier copies a single column to all"
                " classes: let its predict function return one column per class, such as"
                " np.stack([1 - p, p], axis=1)"
            )

    def _predict(self, x: np.ndarray) -> np.ndarray:
        predictions: np.ndarray = self.estimator.predict(x, batch_size=len(x))
        return predictions

    def _class_gradient(self, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """(R, *S) slopes of the inputs for slopes (R, K) of the scores. Rows of zeros cost no
        gradient.
        """
        gradient = np.zeros_like(x)
        wanted = (slope != 0).any(axis=1)
        if wanted.any():
            by_class = self.estimator.class_gradient(x[wanted])
            if (
                isinstance(self.estimator, ScikitlearnLogisticRegression)
                and self.estimator.nb_classes > 2
            ):
                # there ART 1.20 differentiates the logarithms of what it predicts (for two classes
                # it does not)
                by_class = by_class * self._predict(x[wanted])[:, :, None]
            gradient[wanted] = np.einsum("rk,rk...->r...", slope[wanted], by_class)
        return gradient

    def _through_network(self, rows: Tensor) -> Tensor:
        """Compute the same as ``PyTorchClassifier.predict``, on tensors if possible."""
        estimator = self.estimator

        def preprocess(x: np.ndarray) -> np.ndarray:
            processed: np.ndarray = estimator._apply_preprocessing(x, y=None, fit=False)[0]
            return processed

        inputs = rows
        if estimator.preprocessing_operations:
            inputs = _Detour.apply(rows, preprocess, estimator._apply_preprocessing_gradient)
        scores = self.call(inputs)
        if estimator.postprocessing_defences:
            scores = _Detour.apply(
                scores.to(torch.float32),
                lambda values: estimator._apply_postprocessing(preds=values, fit=False),
                lambda _, slope: slope,
            )
        return scores


class _Detour(torch.autograd.Function):
    """A function of arrays on the way of tensors, with a gradient of its own."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        function: Callable[[np.ndarray], np.ndarray],
        gradient: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> Tensor:
        """``function(value)``. ``gradient(value, slope)`` turns slopes of the result into slopes
        of the value.
        """
        ctx.array, ctx.gradient = _as_array(value).copy(), gradient
        # each may write into what it is given
        return _as_tensor(function(_as_array(value).copy()), value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        """Slopes of the value."""
        with torch.enable_grad():  # ART's gradients run an autograd of their own
            found = ctx.gradient(ctx.array, _as_array(slope).copy())
        return _as_tensor(found, slope).to(torch.float32), None, None


def _as_array(value: Tensor) -> np.ndarray:
    array: np.ndarray = value.detach().cpu().numpy()
    return array


def _as_tensor(array: np.ndarray, like: Tensor) -> Tensor:
    # a copy: it may be read-only
    return torch.from_numpy(np.array(array, order="C")).to(like.device)
