"""Residual networks for CIFAR-sized images, (N, 3, H, W) in [0, 1] -> (N, num_classes) logits.

The layers have the names of RobustBench's ``ResNet``, ``PreActResNet`` and ``WideResNet``, so that
a state dict loads in both directions. With the activation f and a batch normalisation BN, a block
computes

    ResNet:                   f(shortcut(x) + BN(conv(f(BN(conv(x))))))
    pre-activated, wide:      shortcut(x) + conv(f(BN(conv(f(BN(x))))))

References:
    Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun. Deep Residual Learning for Image Recognition.
    2016. Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun. Identity Mappings in Deep Residual
    Networks. 2016. Sergey Zagoruyko, Nikos Komodakis. Wide Residual Networks. 2016. Kaiming He,
    Xiangyu Zhang, Shaoqing Ren, Jian Sun. Delving Deep into Rectifiers. 2015 (the initial weights).
    Tianyu Pang, Xiao Yang, Yinpeng Dong, Hang Su, Jun Zhu. Bag of Tricks for Adversarial Training.
    2021 (activations).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from art_ext.core.checks import check_flag
from art_ext.models.activations import make_activation
from art_ext.models.building import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    check_counts,
    convolution,
    head,
    network,
)

Block = Callable[[int, int, int], nn.Module]  # from channels in, channels out and stride


def resnet18(
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    width: int = 64,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return an untrained ResNet-18 for small images: 11,173,962 parameters.

    A 3x3 convolution without stride replaces ImageNet's 7x7 and its pooling. Four stages of two
    blocks follow, with width, 2, 4 and 8 times width channels. Each stage but the first halves the
    image. A global average and one linear layer end the network. A shortcut that changes shape is a
    1x1 convolution with a BatchNorm (the paper's option B).

    Args:
        num_classes: number of logits.
        mean: subtracted from the image before the first layer. One number or three, in units of the
            [0, 1] image.
        std: divisor of the image, after the mean. One number or three.
        width: channels of the first stage. The papers use 64.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: for an unknown activation or argument of it, counts that are not integers >= 1,
            and as :class:`Normalize`.
    """
    check_counts(num_classes=num_classes, width=width)
    make = make_activation(activation, activation_args)
    stages = _four_stages(partial(_ResidualBlock, activation=make), width)
    return _resnet(stages, make, width, 8 * width, num_classes, mean, std)


def resnet50(
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    width: int = 64,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return an untrained ResNet-50 for small images: 23,520,842 parameters.

    Stem and head are those of :func:`resnet18`. The four stages have 3, 4, 6 and 3 bottleneck
    blocks with 4, 8, 16 and 32 times width channels. The 3x3 convolution of a block has the stride.

    Args:
        num_classes: number of logits.
        mean: subtracted from the image before the first layer. One number or three, in units of the
            [0, 1] image.
        std: divisor of the image, after the mean. One number or three.
        width: channels of the first convolution. The paper uses 64.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: as :func:`resnet18`.
    """
    check_counts(num_classes=num_classes, width=width)
    make = make_activation(activation, activation_args)
    expansion = _BottleneckBlock.expansion
    block = partial(_BottleneckBlock, activation=make)
    stages = _four_stages(block, width, (3, 4, 6, 3), expansion)
    return _resnet(stages, make, width, 8 * width * expansion, num_classes, mean, std)


def _resnet(
    stages: Mapping[str, nn.Module],
    make: Callable[[], nn.Module],
    width: int,
    outputs: int,
    num_classes: int,
    mean: float | Sequence[float],
    std: float | Sequence[float],
) -> nn.Sequential:
    """Return a ResNet with the stem for small images, of stages that end in so many outputs."""
    return network(
        {
            "conv1": convolution(3, width),
            "bn1": nn.BatchNorm2d(width),
            "activation": make(),
            **stages,
            **head("linear", outputs, num_classes),
        },
        mean,
        std,
    )


def preact_resnet18(
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    width: int = 64,
    activation: str = "relu",
    final_norm: bool = True,
    shared_preactivation: bool = True,
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return an untrained pre-activation ResNet-18: 11,172,170 parameters.

    Stages and channels are those of :func:`resnet18`. A shortcut that changes shape is a bare 1x1
    convolution. The defaults follow the paper and are the network of Rice et al., which the bag of
    tricks builds on. Also in use:

        final_norm=False                                YOPO
        final_norm=False, shared_preactivation=False    GradAlign, and RobustBench's
        ``PreActResNet18()``

    As in all of these, the first block's shortcut takes conv1's output without activation. The
    paper activates it before.

    Args:
        num_classes: number of logits.
        mean: subtracted from the image before the first layer. One number or three, in units of the
            [0, 1] image.
        std: divisor of the image, after the mean. One number or three.
        width: channels of the first stage. The papers use 64. 16 has a sixteenth of the parameters.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        final_norm: BatchNorm and activation between the last block and the average (RobustBench:
            ``bn_before_fc``).
        shared_preactivation: True: a shortcut with a convolution takes the block's activated input,
            as the residual branch does. False: it takes the raw input (RobustBench:
            ``out_shortcut``). The state dict does not show the difference.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: as :func:`resnet18`, and if a switch is not a bool.
    """
    check_counts(num_classes=num_classes, width=width)
    check_flag("final_norm", final_norm)
    check_flag("shared_preactivation", shared_preactivation)
    make = make_activation(activation, activation_args)
    block = partial(_PreActivationBlock, activation=make, shared=shared_preactivation)
    layers: dict[str, nn.Module] = {"conv1": convolution(3, width), **_four_stages(block, width)}
    if final_norm:
        layers.update(bn=nn.BatchNorm2d(8 * width), activation=make())
    return network({**layers, **head("linear", 8 * width, num_classes)}, mean, std)


def wide_resnet(
    depth: int = 28,
    widen_factor: int = 10,
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    dropout: float = 0.0,
    activation: str = "relu",
    activation_args: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """Return an untrained WRN-depth-widen_factor.

    WRN-28-10 has 36,479,194 parameters, WRN-34-10 has 46,160,474. A 3x3 convolution to 16 channels
    is followed by three stages of (depth - 4) / 6 pre-activation blocks with widen_factor times 16,
    32 and 64 channels. The later two halve the image. BatchNorm, activation, global average and one
    linear layer end the network. A shortcut between different numbers of channels is a bare 1x1
    convolution of the activated input. Checkpoints of TRADES' code contain a ``sub_block1`` too,
    which no forward pass uses. Drop these keys before loading.

    Args:
        depth: number of convolutions, counting one shortcut for each stage, 6n + 4: 10, 16, 22, 28,
            34, 40, ...
        widen_factor: 1 is a thin pre-activation ResNet, 10 the usual target of robustness papers.
        num_classes: number of logits.
        mean: subtracted from the image before the first layer. One number or three, in units of the
            [0, 1] image.
        std: divisor of the image, after the mean. One number or three.
        dropout: probability, in [0, 1), that a unit between the two convolutions of a block is
            dropped in training.
        activation: name of the activation in all places, of the names of
            :func:`replace_activations`.
        activation_args: arguments of the activation, such as ``{"negative_slope": 0.1}``. Default:
            PyTorch's.

    Raises:
        ValueError: for another depth or dropout, and as :func:`resnet18`.
    """
    check_counts(depth=depth, widen_factor=widen_factor, num_classes=num_classes)
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6n + 4 with n >= 1 (10, 16, 22, 28, 34, ...), got {depth}")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a number in [0, 1), got {dropout!r}")
    make = make_activation(activation, activation_args)
    block = partial(_WideBlock, activation=make, dropout=dropout)
    layers: dict[str, nn.Module] = {"conv1": convolution(3, 16)}
    inputs = 16
    for place, outputs in enumerate(
        (16 * widen_factor, 32 * widen_factor, 64 * widen_factor), start=1
    ):
        stage = _stage(
            block, inputs, outputs, stride=1 if place == 1 else 2, blocks=(depth - 4) // 6
        )
        layers[f"block{place}"] = nn.Sequential(OrderedDict(layer=stage))
        inputs = outputs
    layers.update(bn1=nn.BatchNorm2d(inputs), activation=make())
    return network({**layers, **head("fc", inputs, num_classes)}, mean, std)


# --- blocks: the attributes with weights are named as in the published checkpoints


class _ResidualBlock(nn.Module):
    """Convolution, BatchNorm, activation, twice, with the shortcut added before the last
    activation.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.activation = activation()
        self.shortcut = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.bn1(self.conv1(x)))
        return self.activation(self.bn2(self.conv2(out)) + self.shortcut(x))


class _BottleneckBlock(nn.Module):
    """Convolutions of 1x1, 3x3 and 1x1, each with BatchNorm, and the shortcut added before the
    last activation.
    """

    expansion = 4

    def __init__(
        self, inputs: int, inner: int, stride: int, activation: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        outputs = self.expansion * inner
        self.conv1 = convolution(inputs, inner, kernel=1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = convolution(inner, inner, stride=stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = convolution(inner, outputs, kernel=1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.activation = activation()
        self.shortcut = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.bn1(self.conv1(x)))
        out = self.activation(self.bn2(self.conv2(out)))
        return self.activation(self.bn3(self.conv3(out)) + self.shortcut(x))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a shortcut: a 1x1 convolution with BatchNorm, empty where the shape stays."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(
        convolution(inputs, outputs, kernel=1, stride=stride), nn.BatchNorm2d(outputs)
    )


class _PreActivatedBranch(nn.Module):
    """BatchNorm, activation, convolution, twice. Subclasses add the shortcut."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        activation: Callable[[], nn.Module],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.activation = activation()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(self.bn1(x))
        out = self.activation(self.bn2(self.conv1(activated)))
        return self.conv2(self.dropout(out)) + self._shortcut(x, activated)

    def _shortcut(self, x: Tensor, activated: Tensor) -> Tensor:
        raise NotImplementedError


class _PreActivationBlock(_PreActivatedBranch):
    """The block of He et al. 2016b, figure 4(e)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        activation: Callable[[], nn.Module],
        shared: bool,
    ) -> None:
        super().__init__(inputs, outputs, stride, activation)
        self.shared = shared
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.append(convolution(inputs, outputs, kernel=1, stride=stride))

    def _shortcut(self, x: Tensor, activated: Tensor) -> Tensor:
        # an identity stays one: the sum of the branches is never activated on its way through a
        # stage
        return self.shortcut(activated) if self.shared and len(self.shortcut) else self.shortcut(x)


class _WideBlock(_PreActivatedBranch):
    """The block of Zagoruyko and Komodakis, figure 1(d)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        activation: Callable[[], nn.Module],
        dropout: float,
    ) -> None:
        super().__init__(inputs, outputs, stride, activation, dropout)
        # a stride never comes without: stages 2 and 3 double their channels
        widens = inputs != outputs
        self.convShortcut = (
            convolution(inputs, outputs, kernel=1, stride=stride) if widens else None
        )

    def _shortcut(self, x: Tensor, activated: Tensor) -> Tensor:
        return x if self.convShortcut is None else self.convShortcut(activated)


# --- stages


def _stage(
    block: Block, inputs: int, outputs: int, stride: int, blocks: int, expansion: int = 1
) -> nn.Sequential:
    """Return blocks of which the first changes the shape.

    A block has outputs times expansion channels out.
    """
    return nn.Sequential(
        block(inputs, outputs, stride),
        *(block(outputs * expansion, outputs, 1) for _ in range(blocks - 1)),
    )


def _four_stages(
    block: Block, width: int, blocks: Sequence[int] = (2, 2, 2, 2), expansion: int = 1
) -> dict[str, nn.Module]:
    """Return four stages, from (N, width, H, W) to (N, 8 width expansion, H / 8, W / 8)."""
    stages: dict[str, nn.Module] = {}
    inputs = width
    for place, count in enumerate(blocks, start=1):
        outputs = width * 2 ** (place - 1)
        stride = 1 if place == 1 else 2
        stages[f"layer{place}"] = _stage(block, inputs, outputs, stride, count, expansion)
        inputs = outputs * expansion
    return stages
