"""Models of timm, torchvision, transformers, ONNX files, trainings and packages, without a network.

The logits of a source on a transformed image are those of the library behind its own transform.
"""

from __future__ import annotations

import math
import pickle
import socket
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from art_ext.data import load_data, servers
from art_ext.data.transform import Transform
from art_ext.models import ModelSource, digits_cnn, load_model, save_weights
from art_ext.models.layers import Preprocessed
from art_ext.models.sources import Normalization, libraries, load_source

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Block internet sockets, the loopback too."""

    def blocked(*given: Any, **named: Any) -> Any:
        raise OSError("the network is blocked")

    monkeypatch.setattr(socket.socket, "connect", blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    monkeypatch.setattr(socket, "create_connection", blocked)


@pytest.fixture(scope="module")
def jpegs(request: pytest.FixtureRequest) -> list[Any]:
    """The 20 JPEGs of the shared data, or coloured noise of several sizes without them."""
    import os

    folder = Path(os.environ.get("ART_EXT_DATA", "")) / "imagenet_samples"
    files = sorted(folder.glob("*.jpg")) if os.environ.get("ART_EXT_DATA") else []
    if files:
        return [Image.open(file).convert("RGB") for file in files]
    stream = np.random.default_rng(0)
    sizes = [(300, 260), (240, 320), (512, 512), (375, 500)]
    noise = [stream.integers(0, 256, (height // 8, width // 8, 3)) for width, height in sizes]
    return [
        Image.fromarray(one.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for one, size in zip(noise, sizes, strict=True)
    ]


def widened(classifier: nn.Module) -> None:
    """Draw large weights, so that a wrong pixel shows in the logits."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in classifier.parameters():
            nn.init.normal_(parameter, std=0.5)


def calibrated(net: nn.Module, rows: Tensor) -> nn.Module:
    """Set the statistics of BatchNorm, without which an untrained network forgets the image."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net.train()(rows)
    return net.eval()


def logits(model: Callable[[Tensor], Tensor], rows: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return model(torch.stack(rows))


# --- parity with the libraries ---

TIMM = [
    "resnet18",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "mobilenetv3_small_050",
    "ghostnet_050",
]


@pytest.mark.parametrize("name", TIMM)
def test_timm_equals_its_own_transform(name: str, jpegs: list[Any], tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model(name, pretrained=False).eval()
    widened(net.get_classifier())
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net))
    inputs = [transform(image) for image in jpegs]
    calibrated(net, torch.stack(inputs[:6]))
    file = tmp_path / f"mine_{name}.safetensors"
    save_weights(net, file)
    loaded = load_model(f"timm/{name}", weights=file)
    wanted = logits(net, inputs)
    assert loaded.transform is not None
    found = logits(loaded.model, [loaded.transform(image) for image in jpegs])
    assert float((found - wanted).abs().max()) <= 1e-4
    assert wanted.std(dim=0).mean() > 1e-3  # the logits depend on the image
    assert loaded.name == f"mine_{name}"
    assert loaded.input_shape == (3, 224, 224)
    assert loaded.class_names is not None
    assert loaded.class_ids is not None
    assert (loaded.class_ids[0], loaded.class_names[0]) == ("n01440764", "tench")
    assert list(loaded.model.state_dict()) == list(net.state_dict())


def test_timm_squashes_where_its_configuration_says_so(jpegs: list[Any]) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    overlay = {"crop_mode": "squash", "crop_pct": 0.9, "interpolation": "bilinear"}
    loaded = load_model(
        "timm/mobilenetv3_small_050", untrained=True, model_args={"pretrained_cfg_overlay": overlay}
    )
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(loaded.model.model), normalize=False
    )
    assert loaded.transform == Transform((248, 248), 224, "bilinear")
    assert torch.equal(loaded.transform(jpegs[0]), transform(jpegs[0]).float() / 255)


TORCHVISION = [
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    pytest.param("resnet18", marks=pytest.mark.slow),
    pytest.param("googlenet", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_equals_its_own_transform(name: str, jpegs: list[Any], tmp_path: Path) -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    # as torchvision builds it for its own weights
    own = {"transform_input": True} if name == "googlenet" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = models.get_model(name, weights=None, init_weights=False, **own) if own else None
        net = (models.get_model(name, weights=None) if net is None else net).eval()
    widened([one for one in net.modules() if isinstance(one, nn.Linear)][-1])
    weights = models.get_model_weights(name).DEFAULT
    inputs = [weights.transforms()(image) for image in jpegs]
    calibrated(net, torch.stack(inputs[:6]))
    file = tmp_path / "mine.pth"
    torch.save(net.state_dict(), file)
    loaded = load_model(f"torchvision/{name}", weights=file)
    wanted = logits(net, inputs)
    assert loaded.transform is not None
    found = logits(loaded.model, [loaded.transform(image) for image in jpegs])
    assert float((found - wanted).abs().max()) <= 1e-4
    assert wanted.std(dim=0).mean() > 1e-3  # the logits depend on the image
    assert loaded.class_names == tuple(weights.meta["categories"])


def hugging_face(kind: str, folder: Path) -> Any:
    """Write a tiny image classifier of transformers into a folder, and return it."""
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    names = {0: "cat", 1: "dog", 2: "eel", 3: "fox", 4: "gnu"}
    shared: dict[str, Any] = {"num_labels": 5, "id2label": names}
    if kind == "convnext":
        config = library.ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], **shared)
        processor = library.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.9)
    else:
        side = 224 if kind == "vit224" else 48
        config = library.ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=37,
            image_size=side,
            patch_size=side // 6,
            **shared,
        )
        square = {"height": side, "width": side}
        processor = library.ViTImageProcessor(size=square)
        if kind == "cropped":
            processor = library.MobileNetV2ImageProcessor(
                size={"shortest_edge": 57}, crop_size=square
            )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = library.AutoModelForImageClassification.from_config(config).eval()
    widened(net.classifier)
    net.save_pretrained(folder)
    processor.save_pretrained(folder)
    return net


@pytest.mark.parametrize("kind", ["vit", "convnext", "cropped"])
def test_transformers_equal_their_own_processor(
    kind: str, jpegs: list[Any], tmp_path: Path
) -> None:
    net = hugging_face(kind, tmp_path / kind)
    library = pytest.importorskip("transformers")
    processor = library.AutoImageProcessor.from_pretrained(tmp_path / kind)
    loaded = load_model(f"hf/{tmp_path / kind}")
    assert loaded.transform is not None
    assert loaded.normalization is not None
    inputs = [
        torch.tensor(processor(image, return_tensors="np")["pixel_values"][0]) for image in jpegs
    ]
    ours = [loaded.transform(image) for image in jpegs]
    mean, std = (
        torch.tensor(part).view(-1, 1, 1)
        for part in (loaded.normalization.mean, loaded.normalization.std)
    )
    pixels = max(float((a * std + mean - b).abs().max()) for a, b in zip(inputs, ours, strict=True))
    wanted = logits(lambda rows: net(rows).logits, inputs)
    found = logits(loaded.model, ours)
    print(  # noqa: T201
        f"{kind}: pixels {255 * pixels:.2f}/255, logits {float((found - wanted).abs().max()):.2g}"
    )
    assert pixels <= 2 / 255
    assert torch.equal(found.argmax(dim=1), wanted.argmax(dim=1))
    assert wanted.std(dim=0).min() > 1e-2  # the logits depend on the image
    assert loaded.class_names == ("cat", "dog", "eel", "fox", "gnu")
    assert loaded.name == kind
    # the same pixels give the same logits
    assert torch.allclose(logits(loaded.model, [a * std + mean for a in inputs]), wanted, atol=1e-4)


def test_class_folders_take_the_indices_of_the_model(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    loaded = load_model("timm/mobilenetv3_small_050", untrained=True)
    image = Image.new("RGB", (300, 260))
    for synset in ("n01443537", "n01440764", "n15075141"):  # goldfish, tench, toilet tissue
        (tmp_path / synset).mkdir()
        image.save(tmp_path / synset / "a.png")
    data = load_data(tmp_path, model=loaded.facts)
    x, y = data.rows(0, 3)
    assert sorted(y.tolist()) == [0, 1, 999]
    assert tuple(x.shape) == (3, 3, 224, 224)
    (tmp_path / "n01443537").rename(tmp_path / "goldfisch")
    with pytest.raises(ValueError, match="goldfisch"):
        load_data(tmp_path, model=loaded.facts)


# --- names, sources, normalisation ---


@pytest.mark.parametrize(
    ("source", "given", "name"),
    [
        ("timm/resnet18.a1_in1k", {}, "resnet18.a1_in1k"),
        ("hf/google/vit-base", {}, "vit-base"),
        ("timm/resnet18", {"weights": "runs/best.pt"}, "best"),
        ("nets.py:net", {}, "net"),
        ("folder/hf.py:build", {}, "hf"),
        ("package.nets:build", {}, "nets"),
        ("timm:create_model", {"model_args": {"model_name": "resnet50"}}, "resnet50"),
        ("folder/net.onnx", {}, "net"),
        ("digits-cnn", {}, "digits-cnn"),
        ("timm/hf-hub:timm/resnet18", {}, "resnet18"),
    ],
)
def test_default_names(source: str, given: dict[str, Any], name: str) -> None:
    assert ModelSource(source, **given).default_name == name


def test_a_source_pickles_and_loads_the_same_weights() -> None:
    source = ModelSource("mnist-smallcnn", {"dropout": "0.25"}, untrained=True, seed=3)
    other = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert other == source
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = load_source(source), load_model(other)
    assert torch.equal(torch.get_rng_state(), before)
    states = one.model.state_dict(), two.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not one.model.training


def test_normalize_is_the_first_layer_of_any_source(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Flatten()\n"
        "def function():\n    return lambda x: x.flatten(1)\n"
    )
    x = torch.rand(2, 3, 2, 2)
    for factory in ("net", "function"):
        loaded = load_model(f"{tmp_path}/nets.py:{factory}", normalize="0.5,0.25,0;2,1,4")
        mean, std = torch.tensor([0.5, 0.25, 0.0]), torch.tensor([2.0, 1.0, 4.0])
        wanted = (x - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
        assert torch.equal(loaded.model(x), wanted.flatten(1))
        assert loaded.preprocessing(None) == "normalised by 0.5,0.25,0;2,1,4"
    assert not isinstance(load_model(f"{tmp_path}/nets.py:net").model, Preprocessed)


def test_normalize_overrides_a_library() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    loaded = load_model("timm/mobilenetv3_small_050", untrained=True, normalize="none")
    assert loaded.normalization == Normalization((0.0,), (1.0,))
    assert loaded.model.normalize is None
    assert loaded.transform is not None


@pytest.mark.parametrize("source", ["timm/mobilenetv3_small_050", "torchvision/shufflenet_v2_x0_5"])
def test_a_network_for_images_of_another_size(source: str) -> None:
    pytest.importorskip(source.partition("/")[0])
    given = {"num_classes": "10", "input_size": "(3, 32, 32)"}
    loaded = load_model(source, untrained=True, model_args=given, normalize="cifar10")
    assert loaded.input_shape == (3, 32, 32)
    assert loaded.transform is not None
    assert loaded.transform.shape == (32, 32)
    assert loaded.model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert loaded.class_names is None


def test_a_library_model_keeps_the_streams_and_follows_the_seed() -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    before = torch.get_rng_state()
    nets = [
        load_model("timm/mobilenetv3_small_050", untrained=True, seed=seed).model
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    weights = [net.state_dict()["conv_stem.weight"] for net in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# --- ONNX ---


def onnx_file(
    folder: Path, *, batch: int | str = "rows", inputs: int = 1, shape: tuple[int, ...] = (1, 2, 2)
) -> Path:
    """Write a linear network with 3 classes."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from onnx import TensorProto, helper, numpy_helper

    weight = np.arange(3 * math.prod(shape), dtype=np.float32).reshape(-1, 3)
    given = [
        helper.make_tensor_value_info(f"x{place}", TensorProto.FLOAT, [batch, *shape])
        for place in range(inputs)
    ]
    nodes = [
        helper.make_node("Flatten", ["x0"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph(
        nodes, "net", given, [output], [numpy_helper.from_array(weight, "weight")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = folder / "net.onnx"
    onnx.save(model, str(file))
    return file


def test_an_onnx_file(tmp_path: Path) -> None:
    loaded = load_model(onnx_file(tmp_path))
    x = torch.rand(5, 1, 2, 2)
    wanted = x.flatten(1) @ torch.arange(12.0).reshape(4, 3)
    assert torch.allclose(loaded.model(x), wanted, atol=1e-5)
    assert loaded.input_shape == (1, 2, 2)
    assert loaded.name == "net"
    with pytest.raises(ValueError, match=r"net.onnx runs in onnxruntime, which has no gradients"):
        loaded.model(x.requires_grad_())


def test_onnx_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must have one input, got 2: x0, x1"):
        load_model(onnx_file(tmp_path, inputs=2))
    with pytest.raises(ValueError, match="must take any number of rows, got a fixed batch of 8"):
        load_model(onnx_file(tmp_path, batch=8))
    with pytest.raises(ValueError, match="--weights and --untrained do not apply"):
        load_model(onnx_file(tmp_path), weights="a.pt")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="must be an ONNX file, but onnxruntime says"):
        load_model(tmp_path / "text.onnx")


# --- plug-ins of other packages ---


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with three models."""
    folder = tmp_path / "site"
    (folder / "zoo-1.2.dist-info").mkdir(parents=True)
    (folder / "zoo_of_tests.py").write_text(
        "from torch import nn\n"
        "def small(width=4):\n    '''Tiny network.'''\n    return nn.Linear(width, 2)\n"
        "number = 3\n"
    )
    (folder / "zoo-1.2.dist-info" / "METADATA").write_text("Name: zoo\nVersion: 1.2\n")
    (folder / "zoo-1.2.dist-info" / "entry_points.txt").write_text(
        "[art_ext.models]\ntiny = zoo_of_tests:small\nbroken = zoo_of_tests:missing\n"
        "number = zoo_of_tests:number\ndigits-cnn = zoo_of_tests:small\n"
    )
    monkeypatch.syspath_prepend(folder)


def test_a_model_of_another_package(plugin: None, tmp_path: Path) -> None:
    loaded = load_model("tiny", model_args={"width": "6"})
    assert (loaded.name, loaded.model.in_features) == ("tiny", 6)
    with pytest.raises(ValueError, match=r"'broken'.*of zoo 1.2 cannot be imported"):
        load_model("broken")
    with pytest.raises(ValueError, match=r"number of zoo 1.2 must name a function or class"):
        load_model("number")
    with pytest.raises(ValueError, match="did you mean 'tiny'"):
        load_model("tinny")


# --- errors ---


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("timm/resnet18x", {}, r"timm has no model 'resnet18x' \(did you mean 'resnet18'\?\)"),
        ("torchvision/resnt18", {}, "torchvision has no model 'resnt18' .*'resnet18'"),
        ("tim/resnet18", {}, r"unknown prefix \(did you mean 'timm'\?\)"),
        ("digit-cnn", {}, "did you mean 'digits-cnn'"),
        ("digits-cnn", {}, "has no weights of its own: give --weights FILE, or --untrained"),
        ("runs/absent", {}, "a model must be a short name, the folder of a training"),
        ("hf/./absent", {}, "must name a folder that exists"),
        ("absent.onnx", {}, "must be an ONNX file"),
        ("digits-cnn", {"normalize": "0.5,0.5;1", "untrained": True}, "as many means as standard"),
        ("digits-cnn", {"normalize": "0.5;0", "untrained": True}, "standard deviations > 0"),
        ("digits-cnn", {"normalize": "imagnet", "untrained": True}, "did you mean 'imagenet'"),
        ("digits-cnn", {"normalize": "mnist", "untrained": True}, "normalises its inputs itself"),
        (
            "timm/mobilenetv3_small_050",
            {"normalize": "0.5,0.5;0.2,0.2", "untrained": True},
            "one mean, or one for each of the 3 channels, got 2",
        ),
        ("digits-cnn", {"checkpoint": "last"}, "checkpoint must be one of 'best', 'final'"),
        ("digits-cnn", {"weights": "a", "untrained": True}, "exclude each other"),
        ("robustbench/Wong2020Fast", {}, "needs dataset: give --data"),
        (
            "digits-cnn",
            {"untrained": True, "device": "gpu"},
            "device must be a name that torch knows",
        ),
    ],
)
def test_errors(source: str, given: dict[str, Any], message: str) -> None:
    library = {"hf": "transformers"}.get(source.partition("/")[0], source.partition("/")[0])
    if library in ("timm", "torchvision", "transformers", "robustbench") and not find_spec(library):
        pytest.skip(f"{library} is not installed")
    with pytest.raises(ValueError, match=message) as caught:
        load_model(source, **given)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    file = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="does not fit the model: missing keys"):
        load_model("timm/mobilenetv3_small_050", weights=file)
    with pytest.raises(ValueError, match="give weights as --weights"):
        load_model(file)


def test_a_pickle_needs_trust(tmp_path: Path) -> None:
    file = tmp_path / "whole.pt"
    net = digits_cnn()
    torch.save(net, file)
    with pytest.raises(ValueError, match="which is not unpickled"):
        load_model("digits-cnn", weights=file)
    loaded = load_model("digits-cnn", weights=file, trust_checkpoint=True)
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_a_folder_of_a_text_model(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    library.BertConfig(hidden_size=8, num_attention_heads=2).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must be an image classifier of transformers, got bert"):
        load_model(f"hf/{tmp_path}")
    with pytest.raises(ValueError, match=r"write hf/.* for transformers"):
        load_model(tmp_path)


def test_a_folder_without_a_processor(tmp_path: Path) -> None:
    hugging_face("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"holds no preprocessor_config.json"):
        load_model(f"hf/{tmp_path}")
    loaded = load_model(f"hf/{tmp_path}", normalize="imagenet")
    assert (loaded.input_shape, loaded.transform) == ((3, 48, 48), None)
    assert loaded.model(torch.rand(2, 3, 48, 48)).shape == (2, 5)


def test_a_processor_that_does_more_is_an_error(tmp_path: Path) -> None:
    hugging_face("vit", tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(file.read_text().replace("0.00392156862745098", "0.005"))
    with pytest.raises(ValueError, match="does more than to resize, crop and normalise"):
        load_model(f"hf/{tmp_path}")


@pytest.mark.parametrize("source", ["torchvision/resnet18", "hf/google/vit-base-patch16-224"])
def test_without_a_network(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers" if source.startswith("hf") else "torchvision")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    begun = time.perf_counter()
    with pytest.raises(
        ValueError, match=r"cannot download .*does not answer .*Give --weights FILE"
    ):
        load_model(source)
    assert time.perf_counter() - begun < 10


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "PATIENCE", -0.9)
    monkeypatch.setattr(servers, "_contacted", lambda url: time.sleep(2))
    with pytest.raises(ValueError, match=r"example.org does not answer"):
        libraries.check_reachable(ModelSource("timm/a"), "https://example.org/a", "its weights")


def test_timm_that_does_not_see_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    hub = pytest.importorskip("timm.models._hub")
    monkeypatch.setattr(hub, "has_hf_hub", lambda necessary=False: False)
    with pytest.raises(ImportError, match=r"does not see huggingface_hub .*pip install 'timm>=1"):
        load_model("timm/resnet18")


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for module, source, extra in (
        ("timm", "timm/resnet18", "timm"),
        ("torchvision.models", "torchvision/resnet18", "vision"),
        ("transformers", "hf/absent", "hf"),
        ("onnxruntime", "absent.onnx", "onnx"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"pip install 'art-ext\[{extra}\]'"):
            load_model(source)
