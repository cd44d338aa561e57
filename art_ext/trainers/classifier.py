"""An ART classifier as the network that the core trains."""

from __future__ import annotations

from typing import Any

from art.defences.preprocessor import CutMixPyTorch, MixupPyTorch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError
from torch import Tensor, nn

_PREFIX = "network._model."  # from here to the user's own module


class ClassifierNetwork(nn.Module):
    """Network of a ``PyTorchClassifier``, from rows in its ``clip_values`` to logits.

    It includes the classifier's preprocessing. In train mode it applies the preprocessing that ART
    applies in ``fit``, in eval mode that of ``predict``. A step that is not differentiable passes
    gradients by ART's estimate, ``estimate_forward``.

    Its state dict is that of the user's own module, so that weights can be exchanged. Recipes that
    take the name of a module find it without ``module_prefix``.
    """

    module_prefix = _PREFIX

    def __init__(self, classifier: PyTorchClassifier) -> None:
        super().__init__()
        self.network = classifier._model
        self.preprocessing = tuple(classifier.preprocessing_operations)
        self.register_state_dict_post_hook(_to_users_names)
        self.register_load_state_dict_pre_hook(_from_users_names)

    def forward(self, rows: Tensor) -> Tensor:
        """Return (r, K) logits for rows (r, *S)."""
        for step in self.preprocessing:
            if step.apply_fit if self.training else step.apply_predict:
                rows = _preprocess(step, rows)
        # for a Sequential, ART lists the outputs of all its layers
        logits: Tensor = self.network(rows)[-1]
        return logits


def _preprocess(step: PreprocessorPyTorch, rows: Tensor) -> Tensor:
    """Apply a step to rows (r, *S), with the gradient that ART takes for it."""
    value: Tensor = step.forward(rows)[0]
    if type(step).estimate_forward is PreprocessorPyTorch.estimate_forward:
        return value
    estimate: Tensor = step.estimate_forward(rows)
    return value.detach() + (estimate - estimate.detach())


def _to_users_names(module: nn.Module, state: dict[str, Any], prefix: str, _: object) -> None:
    for key in [key for key in state if key.startswith(prefix + _PREFIX)]:
        state[prefix + key.removeprefix(prefix + _PREFIX)] = state.pop(key)


def _from_users_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + _PREFIX + key.removeprefix(prefix)] = state.pop(key)


def check_classifier(trainer: type, classifier: object) -> None:
    """Raise an error unless the recipes can train the classifier.

    Raises:
        EstimatorError: for anything but a ``PyTorchClassifier``.
        ValueError: for one without optimizer or clip_values, with another loss than plain
            cross-entropy, with preprocessing that is not written in PyTorch or mixes labels, or
            with its own way to predict.
    """
    if not isinstance(classifier, PyTorchClassifier):
        raise EstimatorError(trainer, [PyTorchClassifier], classifier)
    kind = type(classifier)
    loss = classifier.loss
    own = kind.predict is not PyTorchClassifier.predict
    if own or kind._predict_framework is not PyTorchClassifier._predict_framework:
        raise ValueError(
            f"{kind.__name__} predicts in a way of its own, which training would not use: "
            "pass the PyTorchClassifier of its network"
        )
    if classifier.clip_values is None:
        raise ValueError(
            "the classifier needs clip_values, such as clip_values=(0, 1): examples are crafted in"
            " them"
        )
    if classifier.optimizer is None:
        raise ValueError("the classifier needs an optimizer to be trained with, got None")
    if not isinstance(loss, nn.CrossEntropyLoss) or loss.weight is not None or loss.label_smoothing:
        raise ValueError(
            f"the classifier's loss must be torch.nn.CrossEntropyLoss() of logits, got {loss}: it"
            " is what the recipes minimise, without class weights, and smoothed by"
            " fit(label_smoothing=...) alone"
        )
    _check_preprocessing(classifier)


def _check_preprocessing(classifier: PyTorchClassifier) -> None:
    """Raise ValueError for preprocessing that is not differentiable or changes the labels."""
    steps = classifier.preprocessing_operations
    strange = [type(step).__name__ for step in steps if not isinstance(step, PreprocessorPyTorch)]
    if strange:
        raise ValueError(
            "preprocessing must be written in PyTorch (a PreprocessorPyTorch), because every step"
            " of crafting takes the gradient through it on the classifier's device, got"
            f" {', '.join(strange)}, which works on numpy arrays"
        )
    mixing = [
        type(step).__name__ for step in steps if isinstance(step, (CutMixPyTorch, MixupPyTorch))
    ]
    if mixing:
        raise ValueError(
            f"the recipes need one class a sample, got {', '.join(mixing)}, which mixes labels"
        )
