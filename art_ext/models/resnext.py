"""ResNeXt for CIFAR-sized images, (N, 3, H, W) in [0, 1] -> (N, num_classes) logits.

The layers have the names of RobustBench's ``CifarResNeXt``, so that a state dict loads in both
directions. With the activation f and a batch normalisation BN, a block computes

    f(shortcut(x) + BN(conv1x1(f(BN(grouped conv3x3(f(BN(conv1x1(x)))))))))

References:
    Saining Xie, Ross Girshick, Piotr Dollár, Zhuowen Tu, Kaiming He. Aggregated Residual
    Transformations for Deep Neural Networks. 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

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

_EXPANSION = 4  # channels out of a block, by those of its stage


def resnext29(
    cardinality: int = 8,
    base_width: int = 64,
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    width: int = 64,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return an untrained ResNeXt-29 for small images: 34,426,698 parameters at 8x64d.

    A 3x3 convolution is followed by three stages of three blocks with 4, 8 and 16 times width
    channels. The later two stages halve the image. A global average and one linear layer end the
    network. RobustBench's AugMix network is ``cardinality=4, base_width=32, mean=0.5, std=0.5``.

    Args:
        cardinality: number of groups of the 3x3 convolutions.
        base_width: channels of a group in the first stage, at width 64.
        num_classes: number of logits.
        mean: subtracted from the image before the first layer. One number or three, in units of the
            [0, 1] image.
        std: divisor of the image, after the mean. One number or three.
        width: channels of the first convolution. The paper uses 64. The groups shrink with it.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: if a group is left without a channel, and as :func:`resnet18`.
    """
    check_counts(
        cardinality=cardinality, base_width=base_width, num_classes=num_classes, width=width
    )
    if width * base_width < 64:
        raise ValueError(
            "width * base_width / 64 must be >= 1, the channels of a group, got"
            f" width={width} and base_width={base_width}"
        )
    make = make_activation(activation, activation_args)
    layers: dict[str, nn.Module] = {
        "conv_1_3x3": convolution(3, width),
        "bn_1": nn.BatchNorm2d(width),
        "activation": make(),
    }
    inputs = width
    for place in (1, 2, 3):
        planes = width * 2 ** (place - 1)
        block = partial(
            _Block,
            outputs=_EXPANSION * planes,
            inner=planes * base_width // 64 * cardinality,
            groups=cardinality,
            activation=make,
        )
        outputs = _EXPANSION * planes
        stride = 1 if place == 1 else 2
        layers[f"stage_{place}"] = nn.Sequential(
            block(inputs, stride=stride), block(outputs), block(outputs)
        )
        inputs = outputs
    return network({**layers, **head("classifier", inputs, num_classes)}, mean, std)


class _Block(nn.Module):
    """The block of Xie et al. 2017, figure 3(c)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        inner: int,
        groups: int,
        activation: Callable[[], nn.Module],
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.conv_reduce = convolution(inputs, inner, kernel=1)
        self.bn_reduce = nn.BatchNorm2d(inner)
        self.conv_conv = convolution(inner, inner, stride=stride, groups=groups)
        self.bn = nn.BatchNorm2d(inner)
        self.conv_expand = convolution(inner, outputs, kernel=1)
        self.bn_expand = nn.BatchNorm2d(outputs)
        self.activation = activation()
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample.extend(
                [convolution(inputs, outputs, kernel=1, stride=stride), nn.BatchNorm2d(outputs)]
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.bn_reduce(self.conv_reduce(x)))
        out = self.activation(self.bn(self.conv_conv(out)))
        return self.activation(self.bn_expand(self.conv_expand(out)) + self.downsample(x))
