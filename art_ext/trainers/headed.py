"""Base of the ART trainers whose network gets a head: they train a copy of the classifier."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.attacks.estimator import classifier_on
from art_ext.core.checks import check_choice
from art_ext.models.joint import make_ensemble, redrawn
from art_ext.trainers.classifier import ClassifierNetwork
from art_ext.trainers.shell import CoreTrainer
from art_ext.training import Recipe


class HeadTrainer(CoreTrainer):
    """Base of the trainers whose network gets a head.

    The passed classifier is not changed. ``get_classifier()`` returns a new one from the beginning
    on, with a copy of the network inside the head and a copy of the optimizer. A scheduler of
    ``fit`` is one of that optimizer.

    Attributes:
        _objectives: recipes by the name of their objective, if there are several.
    """

    _objectives: ClassVar[Mapping[str, type[Recipe]]] = {}

    def __init__(
        self, classifier: PyTorchClassifier, seed: int, verbose: bool, **parameters: Any
    ) -> None:
        if self._objectives:
            objective = parameters.pop("objective")
            check_choice("objective", objective, tuple(self._objectives))
            self._recipe = self._objectives[objective]  # type: ignore[misc]  # of this trainer
        super().__init__(classifier, seed, verbose, **parameters)
        self._passed = classifier
        network, optimizer = self._copied(classifier)
        self._trained = with_network(classifier, network, optimizer)
        self.recipe = self._fitted()
        headed = self.recipe.head.export(self._trained.model)
        self._classifier = with_network(classifier, headed, self._trained.optimizer)

    def _copied(self, classifier: PyTorchClassifier) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return copies of the network and of the optimizer of its parameters."""
        # one copy of both, so that the optimizer holds the parameters of the new network
        copied: tuple[nn.Module, torch.optim.Optimizer] = copy.deepcopy(
            (classifier.model, classifier.optimizer)
        )
        return copied

    def _fitted(self) -> Recipe:
        """Return the recipe with the arguments that depend on the network.

        The optimizer gets the parameters of a layer that is replaced.
        """
        recipe: Any = self.recipe
        classifier = self._trained
        if hasattr(recipe, "num_classes"):
            recipe = replace(recipe, num_classes=classifier.nb_classes)
        before = dict(classifier.model.named_parameters())
        rows = torch.zeros(2, *classifier.input_shape, device=classifier.device)
        found: Recipe = recipe.fitted(ClassifierNetwork(classifier), rows, self.seed)
        after = dict(classifier.model.named_parameters())
        new = {before[name]: one for name, one in after.items() if before[name] is not one}
        for group in classifier.optimizer.param_groups:
            group["params"] = [new.get(one, one) for one in group["params"]]
        for old in new:
            classifier.optimizer.state.pop(old, None)
        return found

    def _schedule(self, scheduler: Any) -> Any:
        """Return the object that the loop steps.

        Raises:
            ValueError: if it has no ``.step()``, or sets the rate of the passed classifier.
        """
        if getattr(scheduler, "optimizer", None) is self._passed.optimizer:
            raise ValueError(
                "scheduler must be one of get_classifier().optimizer, because the passed classifier"
                " stays as it is, got one of its optimizer"
            )
        return super()._schedule(scheduler)


class EnsembleTrainer(HeadTrainer):
    """Base of the trainers of ensembles: each member is a copy of the network with new weights."""

    def _copied(self, classifier: PyTorchClassifier) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return an ensemble of copies that are drawn again, and an optimizer of their parameters.

        The optimizer has the settings of the classifier's, and no state.

        Raises:
            ValueError: if the weights of the network cannot be drawn again.
        """
        network = classifier.model
        draw = functools.partial(redrawn, network)
        ensemble = make_ensemble(draw, self.recipe.networks, self.seed)
        ensemble.to(classifier.device).train(network.training)
        named = {one: name for name, one in network.named_parameters()}
        optimizer = copy.deepcopy(classifier.optimizer)
        optimizer.state.clear()
        groups = zip(optimizer.param_groups, classifier.optimizer.param_groups, strict=True)
        for group, given in groups:
            names = [named[one] for one in given["params"]]
            group["params"] = [
                member.get_parameter(name) for member in ensemble.members for name in names
            ]
        return ensemble, optimizer


def with_network(
    classifier: PyTorchClassifier, network: nn.Module, optimizer: torch.optim.Optimizer
) -> PyTorchClassifier:
    """Return a classifier of another network and optimizer, else like the given one."""
    settings = {**classifier.get_params(), "optimizer": optimizer}
    own = {name: one for name, one in settings.items() if name not in ("model", "device_type")}
    return classifier_on(classifier.device, network.to(classifier.device), **own)
