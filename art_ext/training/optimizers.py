"""Optimisers by name: their rate, the tensors that decay, and centralised gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from art_ext.training.options import TrainingOptions
    from art_ext.training.runs.configuration import Configuration

MATRIX = 2  # dimensions of the smallest tensors that "weights" and "all" mean
# least dimensions of the tensors whose gradients are centralised
CENTRALISED = {"all": MATRIX, "conv": 4}


class CentralisedSGD(torch.optim.SGD):
    """SGD of ``g - mean(g)``, where g is the gradient plus the weight decay.

    The mean is over all axes but the first. It is taken before momentum, of tensors of ``least``
    dimensions or more. All other tensors are updated as by SGD.

    Args:
        parameters: as of SGD.
        least: 2 for gradient centralisation (GC), 4 for that of convolutions alone (GCC).
        **options: of SGD.

    References:
        Yong, Huang, Hua, Zhang, "Gradient centralization: a new optimization technique for deep
        neural networks", ECCV 2020.
    """

    def __init__(self, parameters: Any, least: int, **options: Any) -> None:
        super().__init__(parameters, **options)
        self.least = least

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Centralise the gradients in place, and update the weights.

        Args:
            closure: as of SGD. The gradients must exist before.
        """
        decays = [group["weight_decay"] for group in self.param_groups]
        for group, decay in zip(self.param_groups, decays, strict=True):
            for weight in group["params"]:
                if weight.grad is not None:
                    self._centralise(weight, weight.grad, decay)
            group["weight_decay"] = 0.0  # it is part of the gradients now
        try:
            return super().step(closure)
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay

    def _centralise(self, weight: Tensor, gradient: Tensor, decay: float) -> None:
        if decay:
            gradient.add_(weight, alpha=decay)
        if weight.dim() >= self.least:
            gradient.sub_(gradient.mean(dim=tuple(range(1, weight.dim())), keepdim=True))


def check_optimizer(options: TrainingOptions) -> None:
    """Raise ValueError for options that the optimiser does not take."""
    kind = options.optimizer
    if options.gradient_centralisation != "none" and kind != "sgd":
        raise ValueError(
            f"gradient_centralisation needs optimizer='sgd', by its name, got {_shown(kind)} beside"
            f" {options.gradient_centralisation!r}"
        )
    if isinstance(kind, str):
        return
    if options.scale_rate:
        raise ValueError(
            f"scale_rate needs an optimizer by name, got {_shown(kind)}, which has a rate of its"
            " own"
        )
    if options.decay != "all":
        raise ValueError(
            f"decay needs an optimizer by name, got {_shown(kind)}, whose groups of parameters have"
            f" a weight decay of their own, beside {options.decay!r}"
        )


def make_optimizer(options: TrainingOptions, model: nn.Module) -> torch.optim.Optimizer:
    """Create the optimiser over the model's parameters, or return the caller's own.

    Raises:
        ValueError: if there is nothing to train, or the caller's own has other parameters.
    """
    if not isinstance(options.optimizer, str):
        own = set(model.parameters())
        if not all(
            weight in own for group in options.optimizer.param_groups for weight in group["params"]
        ):
            raise ValueError(
                "the optimizer must be one over the model's parameters, got one with others"
            )
        return options.optimizer
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not weights:
        raise ValueError(
            "the model must have a parameter to train, got none that requires a gradient"
        )
    groups = _groups(options, weights)
    rate = used_rate(options)
    if options.optimizer == "sgd":
        settings: dict[str, Any] = {
            "lr": rate,
            "momentum": options.momentum,
            "nesterov": options.nesterov,
            "weight_decay": options.weight_decay,
        }
        if options.gradient_centralisation == "none":
            return torch.optim.SGD(groups, **settings)
        return CentralisedSGD(groups, CENTRALISED[options.gradient_centralisation], **settings)
    kind = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, rate, weight_decay=options.weight_decay)


def used_rate(options: TrainingOptions | Configuration) -> float:
    """Return the largest learning rate of a named optimiser."""
    scale = options.batch_size / options.reference_batch if options.scale_rate else 1.0
    return options.learning_rate * scale


def _groups(options: TrainingOptions, weights: list[nn.Parameter]) -> list[Any]:
    """Return the parameters, or groups of those that decay and the others."""
    if options.decay == "all":
        return weights
    decaying = {"params": [one for one in weights if one.dim() >= MATRIX]}
    others = {"params": [one for one in weights if one.dim() < MATRIX], "weight_decay": 0.0}
    return [group for group in (decaying, others) if group["params"]]


def _shown(optimizer: str | torch.optim.Optimizer) -> str:
    return repr(optimizer) if isinstance(optimizer, str) else type(optimizer).__name__
