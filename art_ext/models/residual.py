"""Residual networks for CIFAR-sized images, (N, 3, 32, 32) in [0, 1] -> (N, num_classes) logits.

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

from torch import Tensor, nn

from art_ext.core.checks import check_flag
from art_ext.models.layers import Normalize

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2471, 0.2435, 0.2616)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {  # with PyTorch's default parameters
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}

Block = Callable[[int, int, int], nn.Module]  # from channels in, channels out and stride


def resnet18(
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    width: int = 64,
    activation: str = "relu",
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
        activation: "relu", "gelu", "leaky_relu", "selu", "silu", "softplus" or "tanh", in all
            places.

    Raises:
        ValueError: for any other activation, counts that are not integers >= 1, and as
            :class:`Normalize`.
    """
    _check_counts(num_classes=num_classes, width=width)
    make_activation = _activation(activation)
    return _network(
        {
            "conv1": _convolution(3, width),
            "bn1": nn.BatchNorm2d(width),
            "activation": make_activation(),
            **_four_stages(partial(_ResidualBlock, activation=make_activation), width),
            **_head("linear", 8 * width, num_classes),
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
        activation: "relu", "gelu", "leaky_relu", "selu", "silu", "softplus" or "tanh", in all
            places.
        final_norm: BatchNorm and activation between the last block and the average (RobustBench:
            ``bn_before_fc``).
        shared_preactivation: True: a shortcut with a convolution takes the block's activated input,
            as the residual branch does. False: it takes the raw input (RobustBench:
            ``out_shortcut``). The state dict does not show the difference.

    Raises:
        ValueError: as :func:`resnet18`, and if a switch is not a bool.
    """
    _check_counts(num_classes=num_classes, width=width)
    check_flag("final_norm", final_norm)
    check_flag("shared_preactivation", shared_preactivation)
    make_activation = _activation(activation)
    block = partial(_PreActivationBlock, activation=make_activation, shared=shared_preactivation)
    layers: dict[str, nn.Module] = {"conv1": _convolution(3, width), **_four_stages(block, width)}
    if final_norm:
        layers.update(bn=nn.BatchNorm2d(8 * width), activation=make_activation())
    return _network({**layers, **_head("linear", 8 * width, num_classes)}, mean, std)


def wide_resnet(
    depth: int = 28,
    widen_factor: int = 10,
    num_classes: int = 10,
    mean: float | Sequence[float] = CIFAR10_MEAN,
    std: float | Sequence[float] = CIFAR10_STD,
    dropout: float = 0.0,
    activation: str = "relu",
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
        activation: "relu", "gelu", "leaky_relu", "selu", "silu", "softplus" or "tanh", in all
            places.

    Raises:
        ValueError: for another depth or dropout, and as :func:`resnet18`.
    """
    _check_counts(depth=depth, widen_factor=widen_factor, num_classes=num_classes)
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6n + 4 with n >= 1 (10, 16, 22, 28, 34, ...), got {depth}")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a number in [0, 1), got {dropout!r}")
    make_activation = _activation(activation)
    block = partial(_WideBlock, activation=make_activation, dropout=dropout)
    layers: dict[str, nn.Module] = {"conv1": _convolution(3, 16)}
    inputs = 16
    for place, outputs in enumerate(
        (16 * widen_factor, 32 * widen_factor, 64 * widen_factor), start=1
    ):
        stage = _stage(
            block, inputs, outputs, stride=1 if place == 1 else 2, blocks=(depth - 4) // 6
        )
        layers[f"block{place}"] = nn.Sequential(OrderedDict(layer=stage))
        inputs = outputs
    layers.update(bn1=nn.BatchNorm2d(inputs), activation=make_activation())
    return _network({**layers, **_head("fc", inputs, num_classes)}, mean, std)


# --- blocks: the attributes with weights are named as in the published checkpoints


class _ResidualBlock(nn.Module):
    """Convolution, BatchNorm, activation, twice, with the shortcut added before the last
    activation.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, stride=stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _convolution(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.activation = activation()
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.extend(
                [_convolution(inputs, outputs, kernel=1, stride=stride), nn.BatchNorm2d(outputs)]
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.bn1(self.conv1(x)))
        return self.activation(self.bn2(self.conv2(out)) + self.shortcut(x))


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
        self.conv1 = _convolution(inputs, outputs, stride=stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = _convolution(outputs, outputs)
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
            self.shortcut.append(_convolution(inputs, outputs, kernel=1, stride=stride))

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
            _convolution(inputs, outputs, kernel=1, stride=stride) if widens else None
        )

    def _shortcut(self, x: Tensor, activated: Tensor) -> Tensor:
        return x if self.convShortcut is None else self.convShortcut(activated)


# --- parts


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the image's size up to the stride.

    BatchNorm makes a bias redundant.
    """
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def _stage(block: Block, inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    """Return blocks of which the first changes the shape."""
    return nn.Sequential(
        block(inputs, outputs, stride), *(block(outputs, outputs, 1) for _ in range(blocks - 1))
    )


def _four_stages(block: Block, width: int) -> dict[str, nn.Module]:
    """Return the stages of an 18-layer network, from (N, width, 32, 32) to (N, 8 width, 4, 4)."""
    stages: dict[str, nn.Module] = {"layer1": _stage(block, width, width, stride=1, blocks=2)}
    for place in (2, 3, 4):
        outputs = width * 2 ** (place - 1)
        stages[f"layer{place}"] = _stage(block, outputs // 2, outputs, stride=2, blocks=2)
    return stages


def _head(name: str, inputs: int, num_classes: int) -> dict[str, nn.Module]:
    """Return the global average and the linear layer, whose name depends on the architecture."""
    return {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        name: nn.Linear(inputs, num_classes),
    }


def _network(
    layers: Mapping[str, nn.Module], mean: float | Sequence[float], std: float | Sequence[float]
) -> nn.Sequential:
    """Put a normalisation in front and draw He et al.'s initial weights.

    Their variance is 2 / (kernel area * channels out). The linear layer keeps PyTorch's weights and
    starts without bias, as in Zagoruyko and Komodakis' code. RobustBench does the same in its
    WideResNet only.
    """
    network = nn.Sequential(OrderedDict(normalize=Normalize(mean, std), **layers))
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
    return network


def _activation(name: str) -> Callable[[], nn.Module]:
    """Return the constructor of an activation by its name."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def _check_counts(**counts: object) -> None:
    """Raise ValueError unless all counts are positive integers, not bools and not text."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be an integer >= 1, got {count!r}")
