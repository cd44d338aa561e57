"""DenseNets for CIFAR-sized images, (N, 3, H, W) in [0, 1] -> (N, num_classes) logits.

The layers have the names of torchvision's ``DenseNet``. Its stem for large images (a 7x7
convolution, BatchNorm, activation and a maximum) is one 3x3 convolution here. With the activation
f and a batch normalisation BN, a layer appends its output to its input:

    [x, conv3x3(f(BN(conv1x1(f(BN(x))))))]

References:
    Gao Huang, Zhuang Liu, Laurens van der Maaten, Kilian Q. Weinberger. Densely Connected
    Convolutional Networks. 2017.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.models.activations import make_activation
from art_ext.models.building import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    check_counts,
    convolution,
    head,
    network,
)

_BOTTLENECK = 4  # channels of a layer's 1x1 convolution, by the growth rate


def densenet_bc(
    depth: int = 40,
    growth_rate: int = 12,
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return an untrained DenseNet-BC for small images: 176,122 parameters at depth 40, growth 12.

    A 3x3 convolution to 2 growth_rate channels is followed by three blocks of (depth - 4) / 6
    layers. Between two blocks, a 1x1 convolution halves the channels (theta .5) and an average
    halves the image. BatchNorm, activation, global average and one linear layer end the network.
    The paper's dropout of .2 for training without augmentation is left out.

    Args:
        depth: number of convolutions and linear layers, 6n + 4: 10, 16, 22, 28, 34, 40, ..., 100.
        growth_rate: channels that a layer appends, which scales all widths.
        num_classes: number of logits.
        mean: subtracted from the image before the first layer. One number or three, in units of the
            [0, 1] image.
        std: divisor of the image, after the mean. One number or three.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: for another depth, and as :func:`resnet18`.
    """
    check_counts(depth=depth, growth_rate=growth_rate, num_classes=num_classes)
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6n + 4 with n >= 1 (10, 16, 22, ..., 40), got {depth}")
    make = make_activation(activation, activation_args)
    return _densenet([(depth - 4) // 6] * 3, growth_rate, make, num_classes, mean, std)


def densenet121(
    growth_rate: int = 32,
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return an untrained DenseNet-121 for small images: 6,956,298 parameters.

    A 3x3 convolution to 2 growth_rate channels is followed by blocks of 6, 12, 24 and 16 layers.
    The rest is as in :func:`densenet_bc`.

    Args:
        growth_rate: channels that a layer appends, which scales all widths. The paper uses 32.
        num_classes: number of logits.
        mean: subtracted from the image before the first layer. One number or three, in units of the
            [0, 1] image.
        std: divisor of the image, after the mean. One number or three.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: as :func:`resnet18`.
    """
    check_counts(growth_rate=growth_rate, num_classes=num_classes)
    make = make_activation(activation, activation_args)
    return _densenet([6, 12, 24, 16], growth_rate, make, num_classes, mean, std)


def _densenet(
    blocks: Sequence[int],
    growth_rate: int,
    activation: Callable[[], nn.Module],
    num_classes: int,
    mean: float | Sequence[float],
    std: float | Sequence[float],
) -> nn.Sequential:
    channels = 2 * growth_rate
    features: dict[str, nn.Module] = {"conv0": convolution(3, channels)}
    for place, count in enumerate(blocks, start=1):
        features[f"denseblock{place}"] = _block(channels, count, growth_rate, activation)
        channels += count * growth_rate
        if place < len(blocks):
            features[f"transition{place}"] = _transition(channels, activation)
            channels //= 2
    features.update(norm5=nn.BatchNorm2d(channels), activation=activation())
    layers = {"features": nn.Sequential(OrderedDict(features))}
    return network({**layers, **head("classifier", channels, num_classes)}, mean, std)


def _block(
    channels: int, layers: int, growth_rate: int, activation: Callable[[], nn.Module]
) -> nn.Sequential:
    made: dict[str, nn.Module] = {}
    for place in range(layers):
        inputs = channels + place * growth_rate
        made[f"denselayer{place + 1}"] = _DenseLayer(inputs, growth_rate, activation)
    return nn.Sequential(OrderedDict(made))


def _transition(channels: int, activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Return the layers that halve channels and image."""
    layers: dict[str, nn.Module] = {
        "norm": nn.BatchNorm2d(channels),
        "activation": activation(),
        "conv": convolution(channels, channels // 2, kernel=1),
        "pool": nn.AvgPool2d(2),
    }
    return nn.Sequential(OrderedDict(layers))


class _DenseLayer(nn.Module):
    """BatchNorm, activation, convolution, twice. The output joins the input."""

    def __init__(self, inputs: int, growth_rate: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        inner = _BOTTLENECK * growth_rate
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, inner, kernel=1)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = convolution(inner, growth_rate)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.activation(self.norm1(x)))
        out = self.conv2(self.activation(self.norm2(out)))
        return torch.cat([x, out], dim=1)
