"""Networks without shortcuts for CIFAR-sized images, (N, 3, H, W) in [0, 1] -> logits.

References:
    Karen Simonyan, Andrew Zisserman. Very Deep Convolutional Networks for Large-Scale Image
    Recognition. 2015. Jinghui Chen, dissertation, UCLA 2021 (the seven-layer network).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from art_ext.core.checks import check_share
from art_ext.models.activations import make_activation
from art_ext.models.building import CIFAR10_MEAN, CIFAR10_STD, check_counts, head, network
from art_ext.models.layers import normalized

_VGG16 = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # width and number of a group's convolutions
_SMALLEST = 16  # pixels a side, from which the seven-layer network has one position left


def vgg16(
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    width: int = 64,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return an untrained VGG-16 with BatchNorm for small images: 14,728,266 parameters.

    Thirteen 3x3 convolutions with width, 2, 4, 8 and 8 times width channels, each with BatchNorm
    and activation, and a 2x2 maximum after each of the five groups. A global average and one linear
    layer end the network, in place of the paper's three linear layers. The convolutions have the
    names of torchvision's ``vgg16_bn``. Sides of the image must be at least 32.

    Args:
        num_classes: number of logits.
        mean: subtracted from the image before the first layer. One number or three, in units of the
            [0, 1] image.
        std: divisor of the image, after the mean. One number or three.
        width: channels of the first group. The paper uses 64.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: as :func:`resnet18`.
    """
    check_counts(num_classes=num_classes, width=width)
    make = make_activation(activation, activation_args)
    features: list[nn.Module] = []
    inputs = 3
    for factor, count in _VGG16:
        outputs = factor * width
        for _ in range(count):
            features += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), make()]
            inputs = outputs
        features.append(nn.MaxPool2d(2))
    layers = OrderedDict(
        features=nn.Sequential(*features), **head("classifier", inputs, num_classes)
    )
    return network(layers, mean, std)


def cifar_seven_layer(
    num_classes: int = 10,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    width: int = 64,
    dropout: float = 0.5,
    image_size: int = 32,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return the dissertation's CIFAR network, untrained: 1,148,746 parameters.

    Four 3x3 convolutions without padding (width, width, 2 and 2 times width channels), each with
    BatchNorm and activation, and a 2x2 maximum after the second and the fourth. Then layers of
    3200, 256, 256 and 10 units. :func:`mnist_small_cnn` is its form for MNIST.

    Args:
        num_classes: number of logits.
        mean: subtracted from the image before the first layer. One number or three, in units of the
            [0, 1] image.
        std: divisor of the image, after the mean. One number or three.
        width: channels of the first convolution. The two hidden layers have 4 times width units.
        dropout: fraction of the first 4 width units that is dropped in training.
        image_size: height and width of the images, at least 16.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: if dropout is not in [0, 1) or the images are too small, and as
            :func:`resnet18`.
    """
    check_counts(num_classes=num_classes, width=width, image_size=image_size)
    check_share("dropout", dropout)
    if image_size < _SMALLEST:
        raise ValueError(f"image_size must be >= {_SMALLEST}, got {image_size}")
    make = make_activation(activation, activation_args)
    layers: list[nn.Module] = []
    inputs = 3
    for place, outputs in enumerate((width, width, 2 * width, 2 * width)):
        layers += [nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs), make()]
        if place in (1, 3):
            layers.append(nn.MaxPool2d(2))
        inputs = outputs
    side = ((image_size - 4) // 2 - 4) // 2
    units = 4 * width
    layers += [
        nn.Flatten(),
        nn.Linear(inputs * side**2, units),
        nn.Sequential(make(), nn.Dropout(dropout)),
        nn.Linear(units, units),
        make(),
        nn.Linear(units, num_classes),
    ]
    return normalized(layers, mean, std)
