"""Activation functions of the networks by name, and in place of the ReLUs of any network.

References:
    Tianyu Pang, Xiao Yang, Yinpeng Dong, Hang Su, Jun Zhu. Bag of Tricks for Adversarial Training.
    2021.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from art_ext.core.checks import check_choice, nearest

ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {  # with PyTorch's default parameters
    "celu": nn.CELU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


def make_activation(
    name: str, arguments: Mapping[str, Any] | None = None
) -> Callable[[], nn.Module]:
    """Return the constructor of an activation.

    Args:
        name: a key of ``ACTIVATIONS``.
        arguments: keyword arguments of PyTorch's module, without ``inplace``. None or empty:
            PyTorch's defaults.

    Raises:
        ValueError: for another name, an argument that the activation does not take, or a value for
            which the activation is not finite.
    """
    check_choice("activation", name, tuple(ACTIVATIONS))
    if arguments is not None and not isinstance(arguments, Mapping):
        raise ValueError(
            "activation_args must be a mapping such as {'negative_slope': 0.1}, got"
            f" {arguments!r}"
        )
    given = dict(arguments or {})
    kind = ACTIVATIONS[name]
    known = [
        key
        for key, one in inspect.signature(kind).parameters.items()
        if key != "inplace" and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    for key in given:
        if key not in known:
            taken = ", ".join(known) or "none"
            raise ValueError(
                f"activation_args of {name!r} are {taken}, got {key!r}{nearest(str(key), known)}"
            )
    _check_values(name, kind, given)
    return lambda: kind(**given)


def _check_values(name: str, kind: Callable[..., nn.Module], given: Mapping[str, Any]) -> None:
    """Raise ValueError unless the activation is finite near 0."""
    points = torch.linspace(-2, 2, 5, device="cpu")
    try:
        finite = bool(kind(**given)(points).isfinite().all())
    except (ArithmeticError, RuntimeError, TypeError):
        finite = False
    if not finite:
        raise ValueError(f"activation_args of {name!r} must give finite values, got {dict(given)}")


def replace_activations(model: nn.Module, name: str, **arguments: Any) -> nn.Module:
    """Replace every ReLU module of a network by another activation, in place.

    Each place gets a module of its own, in the mode of the ReLU there. Weights and their names
    stay. A call of ``torch.relu`` or ``nn.functional.relu`` inside a forward is no module and
    stays too. The networks of this package have modules only.

    Args:
        model: a network with ``nn.ReLU`` modules.
        name: "celu", "elu", "gelu", "leaky_relu", "relu", "selu", "silu", "softplus" or "tanh".
        **arguments: keyword arguments of PyTorch's module, such as ``negative_slope=0.1`` (the bag
            of tricks' leaky ReLU), ``alpha=1.2`` (its CELU) or ``beta=10``. Default: PyTorch's,
            which are .01, 1 and 1.

    Returns:
        The same network.

    Raises:
        ValueError: if there is no ReLU module inside the network, and for a name or an argument
            that is unknown.

    References:
        Pang, Yang, Dong, Su, Zhu. Bag of tricks for adversarial training. ICLR 2021.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, got {type(model).__name__}")
    make = make_activation(name, arguments)
    places = [
        (parent, child, layer)
        for parent in model.modules()
        for child, layer in parent._modules.items()  # named_children leaves out repeated modules
        if isinstance(layer, nn.ReLU)
    ]
    if not places:
        raise ValueError(
            f"the network must have nn.ReLU modules to replace, got {type(model).__name__} without"
            " any (a call of torch.relu in a forward is no module)"
        )
    for parent, child, layer in places:
        setattr(parent, child, make().train(layer.training))
    return model
