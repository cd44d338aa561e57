"""Parts that the networks for CIFAR-sized images share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import nn

from art_ext.models.layers import Normalize

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2471, 0.2435, 0.2616)


def convolution(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution without bias that keeps the image's size up to the stride.

    BatchNorm makes a bias redundant.
    """
    return nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )


def head(name: str, inputs: int, num_classes: int) -> dict[str, nn.Module]:
    """Return the global average and the linear layer, whose name depends on the architecture."""
    return {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        name: nn.Linear(inputs, num_classes),
    }


def network(
    layers: Mapping[str, nn.Module], mean: float | Sequence[float], std: float | Sequence[float]
) -> nn.Sequential:
    """Put a normalisation in front and draw He et al.'s initial weights.

    Their variance is 2 / (kernel area * channels out). Linear layers keep PyTorch's weights. Biases
    start at 0, as in Zagoruyko and Komodakis' code. RobustBench does the same in its WideResNet
    only.
    """
    made = nn.Sequential(OrderedDict(normalize=Normalize(mean, std), **layers))
    for layer in made.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return made


def check_counts(**counts: object) -> None:
    """Raise ValueError unless all counts are positive integers, not bools and not text."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {count!r}")
