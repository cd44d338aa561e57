"""The networks for CIFAR-sized images: RobustBench's names, RobustBench's logits."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from art_ext.adapters.robustbench import import_robustbench
from art_ext.data import load_data
from art_ext.models import (
    cifar_seven_layer,
    densenet121,
    densenet_bc,
    load_weights,
    preact_resnet18,
    resnet18,
    resnet50,
    resnext29,
    resolve_factory,
    vgg16,
    wide_resnet,
)

# RobustBench and timm warn of their own imports; none of it is ours
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)

SMALL: dict[str, Callable[..., nn.Sequential]] = {
    "resnet18": lambda **options: resnet18(width=4, **options),
    "preact_resnet18": lambda **options: preact_resnet18(width=4, **options),
    "wide_resnet": lambda **options: wide_resnet(10, 1, **options),
    "resnet50": lambda **options: resnet50(width=4, **options),
    "resnext29": lambda **options: resnext29(2, width=4, **options),
    "densenet_bc": lambda **options: densenet_bc(10, 8, **options),
    "vgg16": lambda **options: vgg16(width=8, **options),
}


@pytest.fixture(params=SMALL)
def small(request) -> Callable[..., nn.Sequential]:
    """Each factory in turn, at a width that takes milliseconds."""
    return SMALL[request.param]


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def zoo() -> SimpleNamespace:
    """RobustBench's classes, from its modules of architectures."""
    try:
        import_robustbench()
    except ImportError as error:
        pytest.skip(f"RobustBench, whose networks are compared with, cannot be imported: {error}")
    from robustbench.model_zoo.architectures import resnet, resnext, wide_resnet

    return SimpleNamespace(**{**vars(resnext), **vars(resnet)}, WideResNet=wide_resnet.WideResNet)


def numbers(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def close(one: Tensor, other: Tensor) -> bool:
    # in float64: only the order of sums differs
    return torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def stir(model: nn.Module) -> None:
    """Give every BatchNorm scales, shifts and statistics that tell the channels and the layers
    apart.
    """
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            state = layer.state_dict()  # shares memory with the layer
            for key in ("weight", "running_var"):
                nn.init.uniform_(state[key], 0.5, 1.5)
            for key in ("bias", "running_mean"):
                nn.init.normal_(state[key], std=0.3)


# --- RobustBench

PAIRS = {
    "resnet18": (resnet18, lambda zoo: zoo.ResNet18()),
    "resnet18 with 100 classes": (
        lambda: resnet18(100),
        lambda zoo: zoo.ResNet(zoo.BasicBlock, [2, 2, 2, 2], num_classes=100),
    ),
    "resnet50": (resnet50, lambda zoo: zoo.ResNet50()),
    "resnext29 of AugMix": (
        lambda: resnext29(4, 32),
        lambda zoo: zoo.CifarResNeXt(zoo.ResNeXtBottleneck, 29, 4, 32, 10),
    ),
    "resnext29 with 7 classes": (
        lambda: resnext29(2, 16, num_classes=7),
        lambda zoo: zoo.CifarResNeXt(zoo.ResNeXtBottleneck, 29, 2, 16, 7),
    ),
    "preact_resnet18 of Rice et al.": (
        preact_resnet18,
        lambda zoo: zoo.PreActResNet(
            zoo.PreActBlock, [2, 2, 2, 2], bn_before_fc=True, out_shortcut=True
        ),
    ),
    "preact_resnet18 of YOPO": (
        lambda: preact_resnet18(final_norm=False),
        lambda zoo: zoo.PreActResNet(zoo.PreActBlock, [2, 2, 2, 2], out_shortcut=True),
    ),
    "preact_resnet18 as RobustBench defaults to": (
        lambda: preact_resnet18(final_norm=False, shared_preactivation=False),
        lambda zoo: zoo.PreActResNet18(),
    ),
    "wide_resnet 16-2": (
        lambda: wide_resnet(16, 2),
        lambda zoo: zoo.WideResNet(depth=16, widen_factor=2),
    ),
    "wide_resnet 10-1": (
        lambda: wide_resnet(10, 1),
        lambda zoo: zoo.WideResNet(depth=10, widen_factor=1),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_robustbench_s_weights_give_robustbench_s_logits(name, zoo):
    factory, their_factory = PAIRS[name]
    ours, theirs = factory().double(), their_factory(zoo).double()
    stir(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    mean, std = (
        torch.tensor(of_channels).double().view(3, 1, 1)
        for of_channels in ([0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616])
    )
    with torch.no_grad():
        for training in (False, True):  # the pass in train mode moves the statistics
            logits = ours.train(training)(x)
            assert close(logits, theirs.train(training)((x - mean) / std))
            assert not close(logits[0], logits[1])
    expected = theirs.state_dict()
    assert all(close(tensor, expected[key]) for key, tensor in ours.state_dict().items())


@pytest.mark.parametrize("name", PAIRS)
def test_our_weights_load_into_robustbench_s_network(name, zoo):
    factory, their_factory = PAIRS[name]
    ours, theirs = factory().eval(), their_factory(zoo).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(theirs(ours.normalize(x)), ours(x), atol=1e-4)


def test_published_resnet18_loads_and_is_as_accurate_as_measured(art_ext_data):
    package = find_spec("pyautoattack")
    if package is None or package.origin is None:
        pytest.skip("pyautoattack, which carries a trained ResNet-18, is not installed")
    checkpoint = Path(package.origin).parent / "examples" / "model_test.pt"
    if not checkpoint.is_file():
        pytest.skip("this pyautoattack carries no model_test.pt")
    data = load_data("cifar10").first(100)
    model = load_weights(resnet18(mean=0.0, std=1.0), checkpoint).eval()
    with torch.inference_mode():
        accuracy = float((model(data.x).argmax(1) == data.y).float().mean())
    assert accuracy >= 0.9  # 93.7 % on the first 1,000


# --- the networks themselves


@pytest.mark.parametrize(
    ("factory", "arguments", "expected"),
    [
        (resnet18, {}, 11_173_962),
        (preact_resnet18, {}, 11_172_170),
        (preact_resnet18, {"final_norm": False}, 11_172_170 - 2 * 512),
        (wide_resnet, {}, 36_479_194),
        (wide_resnet, {"depth": 34}, 46_160_474),
        (wide_resnet, {"depth": 40, "widen_factor": 2}, 2_243_546),
        (resnet50, {}, 23_520_842),
        (resnext29, {}, 34_426_698),
        (resnext29, {"cardinality": 4, "base_width": 32}, 6_807_882),
        (densenet_bc, {}, 176_122),
        (densenet_bc, {"depth": 100}, 769_162),
        (densenet121, {}, 6_956_298),
        (vgg16, {}, 14_728_266),
        (cifar_seven_layer, {}, 1_148_746),
    ],
)
def test_full_networks_have_the_papers_number_of_parameters(
    factory, arguments, expected, monkeypatch
):
    # tensors on meta take neither time nor memory, but Normalize reads the numbers that it is given
    for module in ("building", "layers"):
        monkeypatch.setattr(f"art_ext.models.{module}.Normalize", lambda mean, std: nn.Identity())
    with torch.device("meta"):
        assert numbers(factory(**arguments)) == expected


@pytest.mark.parametrize("factory", [resnet18, preact_resnet18])
def test_width_scales_every_layer(factory):
    shapes = {key: tuple(tensor.shape) for key, tensor in factory(width=8).state_dict().items()}
    assert shapes["conv1.weight"] == (8, 3, 3, 3)
    assert shapes["layer1.0.conv1.weight"] == (8, 8, 3, 3)
    assert shapes["layer2.0.shortcut.0.weight"] == (16, 8, 1, 1)
    assert shapes["layer4.1.conv2.weight"] == (64, 64, 3, 3)
    assert shapes["linear.weight"] == (10, 64)
    assert "layer1.0.shortcut.0.weight" not in shapes


def test_depth_and_widen_factor_shape_the_wide_network():
    model = wide_resnet(16, 3, num_classes=7)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes["conv1.weight"] == (16, 3, 3, 3)
    assert shapes["block1.layer.0.convShortcut.weight"] == (48, 16, 1, 1)
    assert shapes["block3.layer.1.conv2.weight"] == (192, 192, 3, 3)
    assert shapes["fc.weight"] == (7, 192)
    assert "block3.layer.2.conv1.weight" not in shapes  # (16 - 4) / 6 = 2 blocks


def test_logits_are_one_row_an_image_and_the_gradient_reaches_every_pixel(small):
    model = small(num_classes=7).eval()
    x = torch.rand(3, 3, 32, 32, requires_grad=True)
    logits = model(x)
    assert logits.shape == (3, 7)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.99


def test_normalisation_comes_first_and_stays_out_of_the_state_dict(small):
    with_cifar, plain = small().eval(), small(mean=0.0, std=1.0).eval()
    assert not [
        key for key in with_cifar.state_dict() if "normalize" in key or "mean" in key.split(".")
    ]
    plain.load_state_dict(with_cifar.state_dict(), strict=True)
    x = torch.rand(2, 3, 32, 32)
    by_hand = torch.stack(
        [(x[:, 0] - 0.4914) / 0.2471, (x[:, 1] - 0.4822) / 0.2435, (x[:, 2] - 0.4465) / 0.2616], 1
    )
    with torch.no_grad():
        assert torch.allclose(with_cifar(x), plain(by_hand), atol=1e-4)
        assert not torch.allclose(with_cifar(x), plain(x), atol=1e-2)


def test_initial_weights_have_the_variance_of_the_paper(small):
    model = small()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    scaled = [
        layer.weight * (layer.kernel_size[0] ** 2 * layer.out_channels / 2) ** 0.5
        for layer in layers
    ]
    assert torch.cat([weight.flatten() for weight in scaled]).std().item() == pytest.approx(
        1, abs=0.02
    )
    assert not [m for m in model.modules() if isinstance(m, nn.Linear) and m.bias.any()]


def test_another_activation_replaces_every_relu_and_no_weight(small):
    rectified, smooth = small().eval(), small(activation="softplus").eval()
    smooth.load_state_dict(rectified.state_dict(), strict=True)
    counts = [sum(isinstance(m, kind) for m in smooth.modules()) for kind in (nn.Softplus, nn.ReLU)]
    assert counts == [sum(isinstance(m, nn.ReLU) for m in rectified.modules()), 0]
    x = torch.rand(1, 3, 32, 32)
    assert not torch.allclose(smooth(x), rectified(x), atol=1e-2)


@pytest.mark.parametrize(
    "factory", [lambda: wide_resnet(10, 1, dropout=0.5), lambda: cifar_seven_layer(width=4)]
)
def test_dropout_drops_in_training_only(factory):
    model = factory()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("inner", [8, 24])
def test_groups_of_a_resnext_see_their_own_channels_only(inner):
    block = resnext29(2, base_width=inner, width=64).stage_1[0]
    assert block.conv_conv.weight.shape == (2 * inner, inner, 3, 3)


@pytest.mark.parametrize(
    ("ours", "blocks", "growth_rate"),
    [(lambda: densenet_bc(16, 4), (2, 2, 2), 4), (lambda: densenet121(4), (6, 12, 24, 16), 4)],
    ids=["densenet_bc", "densenet121"],
)
def test_densenets_give_torchvision_s_logits(ours, blocks, growth_rate):
    torchvision = pytest.importorskip("torchvision.models")
    theirs = torchvision.DenseNet(growth_rate, blocks, 2 * growth_rate, num_classes=10).double()
    theirs.features.conv0 = nn.Conv2d(3, 2 * growth_rate, 3, padding=1, bias=False).double()
    for stem in ("norm0", "relu0", "pool0"):
        setattr(theirs.features, stem, nn.Identity())
    stir(theirs)
    model = ours().double()
    model.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        for training in (False, True):
            logits = model.train(training)(x)
            assert close(logits, theirs.train(training)(model.normalize(x)))


def test_vgg16_has_torchvision_s_convolutions():
    torchvision = pytest.importorskip("torchvision.models.vgg")
    sizes = [one if one == "M" else one // 8 for one in torchvision.cfgs["D"]]
    theirs = torchvision.make_layers(sizes, batch_norm=True).double()
    stir(theirs)
    model = vgg16(width=8).double().eval()
    model.features.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        features = theirs.eval()(model.normalize(x)).flatten(1)
        assert close(model(x), model.classifier(features))


@pytest.mark.parametrize("image_size", [16, 28, 32, 33])
def test_seven_layers_take_images_of_a_given_size(image_size):
    model = cifar_seven_layer(7, width=4, image_size=image_size).eval()
    assert model(torch.rand(2, 3, image_size, image_size)).shape == (2, 7)
    if image_size == 32:
        shapes = [tuple(one.weight.shape) for one in model.modules() if isinstance(one, nn.Linear)]
        assert shapes == [(16, 8 * 25), (16, 16), (7, 16)]


def test_command_line_s_factory_makes_the_narrow_network():
    model = resolve_factory("art_ext.models:preact_resnet18", {"width": "16", "activation": "silu"})
    assert isinstance(model, nn.Sequential)
    assert not model.training
    assert model.conv1.out_channels == 16
    assert numbers(model) == 701_018


# --- bad arguments


@pytest.mark.parametrize("depth", [4, 5, 27, 29, -2])
def test_wide_network_refuses_a_depth_that_is_not_6n_plus_4(depth):
    with pytest.raises(ValueError, match=rf"depth must be .*, got {depth}$"):
        wide_resnet(depth, 1)


@pytest.mark.parametrize(
    ("factory", "names"),
    [
        (resnet18, ("width", "num_classes")),
        (preact_resnet18, ("width", "num_classes")),
        (wide_resnet, ("depth", "widen_factor", "num_classes")),
        (resnext29, ("cardinality", "base_width", "width", "num_classes")),
        (densenet_bc, ("depth", "growth_rate", "num_classes")),
        (cifar_seven_layer, ("width", "num_classes", "image_size")),
    ],
)
@pytest.mark.parametrize("value", [0, -16, True, "16", 16.0, None])
def test_counts_that_are_no_positive_integers_are_refused(factory, names, value):
    for name in names:
        with pytest.raises(ValueError, match=rf"{name} must be an integer >= 1, got {value!r}"):
            factory(**{name: value})


@pytest.mark.parametrize("depth", [4, 12, 121])
def test_densenet_refuses_a_depth_that_is_not_6n_plus_4(depth):
    with pytest.raises(ValueError, match=rf"depth must be 6n \+ 4 .*, got {depth}$"):
        densenet_bc(depth)


def test_sizes_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="image_size must be >= 16, got 15"):
        cifar_seven_layer(image_size=15)
    with pytest.raises(ValueError, match=r"width \* base_width / 64 must be >= 1, .*got width=4"):
        resnext29(base_width=8, width=4)


@pytest.mark.parametrize("value", [-0.1, 1.0, True, "0.3", float("nan")])
def test_dropout_outside_its_range_is_refused(value):
    with pytest.raises(ValueError, match=rf"dropout must be a number in \[0, 1\), got {value!r}"):
        wide_resnet(10, 1, dropout=value)


@pytest.mark.parametrize("value", ["ReLU", "", None, nn.ReLU, ["relu"]])
def test_unknown_activation_is_refused_with_the_known_ones(small, value):
    with pytest.raises(ValueError, match=r"activation must be one of .*relu.*softplus.*, got "):
        small(activation=value)


@pytest.mark.parametrize("name", ["final_norm", "shared_preactivation"])
def test_switches_that_are_no_bools_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be True or False, got 'false'"):
        preact_resnet18(width=4, **{name: "false"})


def test_bad_normalisation_is_refused(small):
    with pytest.raises(ValueError, match="std must be > 0"):
        small(mean=0.0, std=0.0)
