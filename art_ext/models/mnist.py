"""Small networks for MNIST (N, 1, 28, 28) and for scikit-learn's 8x8 digits, with ten logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from art_ext.core.checks import check_flag, check_share
from art_ext.models.activations import make_activation
from art_ext.models.layers import normalized


def digits_cnn(
    activation: str = "relu", activation_args: Mapping[str, Any] | None = None
) -> nn.Sequential:
    """Return an untrained network for scikit-learn's digits, (N, 1, 8, 8) in [0, 1] -> (N, 10).

    It has 21,546 parameters and serves demonstrations and tests. 15 epochs of Adam take seconds on
    a CPU and give about 98 %.

    Args:
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: for an unknown activation or argument of it.
    """
    make = make_activation(activation, activation_args)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        make(),
        nn.Conv2d(16, 32, 3, padding=1),
        make(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 32),
        make(),
        nn.Linear(32, 10),
    )


def mnist_two_conv(
    channels: Sequence[int] = (16, 32),
    hidden: Sequence[int] = (100,),
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return the network of "Fast is better than free" and of Wong and Kolter, untrained.

    Two 4x4 convolutions of stride 2 and padding 1, then fully connected layers, with ReLU between
    all of them. Input (N, 1, 28, 28) in [0, 1], output (N, 10). auto_LiRPA's small MNIST net is
    ``channels=(8, 16), hidden=(256,)``.

    Args:
        channels: outputs of the two convolutions.
        hidden: widths of the fully connected layers before the last one.
        mean: subtracted from the image before the first layer.
        std: divisor of the image, after the mean.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: if channels does not hold two numbers, or for an unknown activation or argument
            of it.
    """
    make = make_activation(activation, activation_args)
    if len(channels) != 2:
        raise ValueError(f"channels must hold the outputs of the two convolutions, got {channels}")
    layers: list[nn.Module] = []
    inputs = 1
    for outputs in channels:
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), make()]
        inputs = outputs
    layers.append(nn.Flatten())
    width = inputs * 7 * 7
    for units in hidden:
        layers += [nn.Linear(width, units), make()]
        width = units
    return normalized([*layers, nn.Linear(width, 10)], mean, std)


def mnist_small_cnn(
    batch_norm: bool = False,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    dropout: float = 0.0,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return Carlini and Wagner's MNIST network, untrained.

    TRADES, DDN, RayS and Frank-Wolfe attack it. Four 3x3 convolutions without padding (32, 32, 64,
    64 channels), a 2x2 maximum after the second and the fourth, then 200, 200 and 10 units. Input
    (N, 1, 28, 28) in [0, 1], output (N, 10).

    Args:
        batch_norm: put a BatchNorm between each convolution and its ReLU, as RayS' authors do.
        mean: subtracted from the image before the first layer (0.5 for the Frank-Wolfe paper's
            weights).
        std: divisor of the image, after the mean.
        dropout: fraction of the first 200 units that is dropped in training, 0.5 in the authors'
            programs. It has no weights, changes no name in the state dict, and has no effect in
            eval mode.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: if batch_norm is not a bool (the text "false" would count as true), dropout is
            not in [0, 1), or for an unknown activation or argument of it.
    """
    make = make_activation(activation, activation_args)
    check_flag("batch_norm", batch_norm)
    check_share("dropout", dropout)
    layers: list[nn.Module] = []
    inputs = 1
    for place, outputs in enumerate((32, 32, 64, 64)):
        layers.append(nn.Conv2d(inputs, outputs, 3))
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(make())
        if place in (1, 3):
            layers.append(nn.MaxPool2d(2))
        inputs = outputs
    hidden = nn.Sequential(make(), nn.Dropout(dropout)) if dropout else make()
    layers += [
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 200),
        hidden,
        nn.Linear(200, 200),
        make(),
        nn.Linear(200, 10),
    ]
    return normalized(layers, mean, std)


def mnist_lenet5(
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return AdverTorch's "LeNet-5" (after Madry et al.), untrained.

    Two 3x3 convolutions of 32 and 64 channels with padding, each followed by a 2x2 maximum, then
    200 and 10 units. Input (N, 1, 28, 28) in [0, 1], output (N, 10).

    Args:
        mean: subtracted from the image before the first layer.
        std: divisor of the image, after the mean.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: for an unknown activation or argument of it.
    """
    make = make_activation(activation, activation_args)
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), make(), nn.MaxPool2d(2)]
    return normalized(
        [*layers, nn.Flatten(), nn.Linear(64 * 7 * 7, 200), make(), nn.Linear(200, 10)], mean, std
    )
