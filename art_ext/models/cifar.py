"""He et al.'s residual networks for CIFAR-10, (N, 3, 32, 32) in [0, 1] -> (N, 10).

References:
    Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun. Deep Residual Learning for Image Recognition.
    2016, section 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import pad

from art_ext.models.layers import normalized

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the paper's parameter-free shortcut ("option A")."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.activation = nn.ReLU()
        self.stride = stride
        self.new_channels = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.main(x) + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        """Keep every stride-th pixel and add channels of zeros.

        Half of them come first, as in the published weights.
        """
        if self.stride == 1 and self.new_channels == 0:
            return x
        front = self.new_channels // 2
        return pad(
            x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.new_channels - front)
        )


def cifar_resnet(
    depth: int = 20,
    mean: float | Sequence[float] = IMAGENET_MEAN,
    std: float | Sequence[float] = IMAGENET_STD,
) -> nn.Sequential:
    """Return an untrained CIFAR ResNet with option-A shortcuts.

    It has 16, 32 and 64 channels, a global average and ten logits.

    Args:
        depth: number of weighted layers, 6n + 2: 20, 32, 44, 56, 110.
        mean: subtracted from the image before the first layer.
        std: divisor of the image, after the mean. The defaults are ImageNet's, with which the
            widely used weights of akamaster/pytorch_resnet_cifar10 were trained.

    Raises:
        ValueError: for another depth.
    """
    if not isinstance(depth, int) or depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6n + 2 with n >= 1 (8, 14, 20, 32, ...), got {depth!r}")
    layers: list[nn.Module] = [
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
    ]
    inputs = 16
    for outputs in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            layers.append(_ResidualBlock(inputs, outputs, stride=1 if outputs == inputs else 2))
            inputs = outputs
    return normalized(
        [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)], mean, std
    )


def cifar_resnet20(
    mean: float | Sequence[float] = IMAGENET_MEAN, std: float | Sequence[float] = IMAGENET_STD
) -> nn.Sequential:
    """Return an untrained ResNet-20 with option-A shortcuts: 269,722 parameters.

    See :func:`cifar_resnet`.

    Args:
        mean: subtracted from the image before the first layer.
        std: divisor of the image, after the mean.
    """
    return cifar_resnet(20, mean, std)
