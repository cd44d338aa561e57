"""Evaluations of models from sources, estimators and callables, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext import cli
from art_ext.data import Dataset, load_data
from art_ext.evaluation import evaluate, read_records
from art_ext.evaluation.analysis.records import read_run
from art_ext.evaluation.execution import models as kinds
from art_ext.evaluation.report import plots
from art_ext.models import ModelSource, digits_cnn, load_model, save_weights
from tests.test_model_sources import hugging_face, onnx_file

RAYS: dict[str, Any] = {"attacks": ("rays",), "max_queries": 20, "eps": 0.2}


@pytest.fixture(autouse=True)
def _without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])


@pytest.fixture
def few() -> Dataset:
    return load_data("digits").first(12).in_memory()


def call(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, list(map(str, arguments)))


def records(folder: Path) -> Any:
    return read_records(folder).drop(columns=["seconds", "model"])


# --- kinds of models in Python ---


@pytest.mark.parametrize(
    "change", [lambda z: (z, z[:, :1]), lambda z: {"logits": z}, lambda z: [z]]
)
def test_outputs_that_hold_the_logits(
    change: Any, digits_net: nn.Module, few: Dataset, tmp_path: Path
) -> None:
    evaluate(lambda rows: digits_net(rows), few, tmp_path / "plain", **RAYS)
    evaluate(lambda rows: change(digits_net(rows)), few, tmp_path / "held", **RAYS)
    assert records(tmp_path / "plain").equals(records(tmp_path / "held"))


def test_a_callable_of_arrays(linear_net: nn.Module, few: Dataset, tmp_path: Path) -> None:
    weight = linear_net[1].weight.detach().double().numpy()  # type: ignore[index]
    bias = linear_net[1].bias.detach().double().numpy()  # type: ignore[index]

    def of_arrays(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return x.reshape(len(x), -1).astype(np.float64) @ weight.T + bias

    evaluate({"net": linear_net}, few, tmp_path / "net", **RAYS)
    evaluate({"net": of_arrays}, few, tmp_path / "arrays", **RAYS)
    wanted, found = records(tmp_path / "net"), records(tmp_path / "arrays")
    assert wanted["success"].equals(found["success"])
    assert wanted["clean_prediction"].equals(found["clean_prediction"])


def test_the_first_call_decides_and_errors_of_tensors_are_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(x: Any) -> Any:
        raise ValueError(f"no {type(x).__name__}")

    with pytest.raises(ValueError, match="no Tensor"):
        kinds.ArrayOrTensor(fails)(torch.zeros(2, 3))
    with caplog.at_level("INFO", "art_ext"):
        model = kinds.ArrayOrTensor(lambda x: np.stack([x.sum(1), x.max(1)], axis=1))
        # a tensor has neither sum(1) of arrays nor numpy.stack of tensors with axis
        assert model(torch.ones(2, 3)).tolist() == [[3.0, 1.0], [3.0, 1.0]]


def test_a_scikit_learn_estimator(few: Dataset, tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    train = load_data("digits", split="train")
    forest = RandomForestClassifier(10, random_state=0).fit(train.x.flatten(1).numpy(), train.y)
    outcome = evaluate({"forest": forest}, few, tmp_path / "run", **RAYS)
    wanted = forest.predict(few.x.flatten(1).numpy())
    assert records(tmp_path / "run")["clean_prediction"].tolist() == wanted.tolist()
    run = read_run(tmp_path / "run")
    assert run is not None
    assert run["settings"]["outputs"] == "probabilities"
    assert outcome.rows
    with pytest.raises(ValueError, match="pgd needs gradients, which the model forest does not"):
        evaluate({"forest": forest}, few, tmp_path / "pgd", attacks=["pgd"], eps=0.1)
    assert not (tmp_path / "pgd").exists()


def test_classes_that_an_estimator_has_not_seen() -> None:
    class Estimator:
        classes_ = np.array([1, 3])

        def predict_proba(self, x: Any) -> Any:
            return np.tile([0.25, 0.75], (len(x), 1))

    model = kinds.ScikitModel(Estimator())
    assert model(torch.zeros(2, 1, 2, 2)).tolist() == [[0, 0.25, 0, 0.75]] * 2


def test_an_art_estimator(digits_net: nn.Module, few: Dataset, tmp_path: Path) -> None:
    from art.estimators.classification import PyTorchClassifier

    def estimator(top: float) -> Any:
        loss = nn.CrossEntropyLoss()
        box = (0.0, top)
        return PyTorchClassifier(
            digits_net, loss, (1, 8, 8), 10, clip_values=box, device_type="cpu"
        )

    evaluate({"net": digits_net}, few, tmp_path / "net", **RAYS)
    evaluate({"net": estimator(1.0)}, few, tmp_path / "art", **RAYS)
    assert records(tmp_path / "net").equals(records(tmp_path / "art"))
    with pytest.raises(ValueError, match=r"takes inputs in \(0.0, 255.0\), but clip_values"):
        evaluate({"net": estimator(255.0)}, few, tmp_path / "other", **RAYS)


def test_sources_loaded_models_and_names(few: Dataset, tmp_path: Path) -> None:
    net = digits_cnn()
    save_weights(net, tmp_path / "net.safetensors")
    source = ModelSource("digits-cnn", weights=str(tmp_path / "net.safetensors"))
    loaded = load_model(source)
    onnx = onnx_file(tmp_path)
    given: list[Any] = [source, loaded, source, ModelSource("digits-cnn", untrained=True)]
    names = list(kinds.resolve_models(given))
    assert names == ["net", "net-2", "net-3", "digits-cnn"]
    evaluate({"live": net.eval(), "loaded": loaded}, few, tmp_path / "run", **RAYS)
    both = read_records(tmp_path / "run").drop(columns="seconds")
    one, two = (both[both["model"] == name].drop(columns="model") for name in ("live", "loaded"))
    assert one.reset_index(drop=True).equals(two.reset_index(drop=True))
    with pytest.raises(ValueError, match=r"takes samples of shape \(1, 2, 2\), the data have"):
        evaluate(str(onnx), few, tmp_path / "onnx", **RAYS)
    with pytest.raises(ValueError, match=r"a model must be an nn.Module, a callable, a source"):
        evaluate({"three": 3}, few, tmp_path / "three", **RAYS)  # type: ignore[dict-item]


def test_one_run_has_one_kind_of_outputs(few: Dataset, digits_net: nn.Module) -> None:
    class Estimator:
        def predict_proba(self, x: Any) -> Any:
            return np.tile([0.25, 0.75], (len(x), 1))

    models = {"net": digits_net, "tree": Estimator()}
    with pytest.raises(ValueError, match="the same kind of outputs, got net logits, tree prob"):
        kinds.common_outputs(None, models)
    assert kinds.common_outputs("logits", models) == "logits"


def loaded(name: str, side: int, filter_: str = "bilinear") -> Any:
    from dataclasses import replace

    from art_ext.data import Transform

    one = load_model("digits-cnn", untrained=True, name=name)
    return replace(one, input_shape=(3, side, side), transform=Transform(side, side, filter_))


def test_images_of_one_size(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="one size, got a 224x224, b 299x299: give --resize and"):
        kinds.common_transform({"a": loaded("a", 224), "b": loaded("b", 299)})
    cubic = loaded("b", 224, "bicubic")
    assert kinds.common_transform({"a": loaded("a", 224), "b": cubic}) == loaded("a", 224).transform
    assert "the models differ in how they resize images" in caplog.text
    assert kinds.common_transform({"a": digits_cnn()}) is None
    kinds.check_shapes({"a": cubic}, (3, 32, 32), sized=True)
    with pytest.raises(ValueError, match="the model a takes samples"):
        kinds.check_shapes({"a": cubic}, (1, 224, 224), sized=True)


# --- the command line ---


def seven_kinds(folder: Path) -> list[str]:
    """Write a TOML file of models of seven kinds that take 3x224x224, and return their names."""
    pytest.importorskip("timm", reason="timm is not installed")
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    hugging_face("vit224", folder / "tiny")
    (folder / "nets.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))\n"
    )
    onnx_file(folder, shape=(3, 224, 224))
    (folder / "models.toml").write_text(
        f'[file]\nmodel = "{folder}/nets.py:build"\nnormalize = "imagenet"\n'
        '[module]\nmodel = "torchvision.models:squeezenet1_1"\n'
        '[short]\nmodel = "cifar-resnet20"\nuntrained = true\n'
        '[small]\nmodel = "timm/mobilenetv3_small_050"\nuntrained = true\n'
        '[vision]\nmodel = "torchvision/shufflenet_v2_x0_5"\nuntrained = true\n'
        f'[tiny]\nmodel = "hf/{folder}/tiny"\n'
        f'[net]\nmodel = "{folder}/net.onnx"\n'
    )
    return ["file", "module", "short", "small", "vision", "tiny", "net"]


def test_seven_kinds_in_one_run(tmp_path: Path) -> None:
    names = seven_kinds(tmp_path)
    stream = np.random.default_rng(0)
    x = stream.integers(0, 256, (3, 3, 224, 224), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=x, y=np.arange(3))
    done = call(
        "evaluate", "--models", tmp_path / "models.toml", "--data", tmp_path / "images.npz",
        "--max-queries", 3, "--out", tmp_path / "run", "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert list(run["clean_accuracy"]) == names
    assert run["models"]["small"]["source"] == "timm/mobilenetv3_small_050"
    # arrays are not resized
    own = "normalised by 0.485,0.456,0.406;0.229,0.224,0.225"
    assert {run["models"][name]["preprocessing"] for name in ("file", "small", "vision")} == {own}
    assert run["models"]["module"]["preprocessing"] == "none"
    assert sum("Images for" in sentence for sentence in run["protocol"]) == 4
    assert run["data"]["class_names"][:2] == ["tench", "goldfish"]
    assert run["identity"]["models"]["file"]["normalize"].startswith("mean=[0.48")


@pytest.fixture
def nets(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net(classes=10):\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    return f"{tmp_path}/nets.py:net"


def test_several_models(nets: str, tmp_path: Path) -> None:
    save_weights(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), tmp_path / "a.safetensors")
    settings = ("--data", "digits", "--n", 6, "--max-queries", 5, "--quiet", "--eps", "0.1")
    two = ("--model", nets, "--model", nets)
    done = call("evaluate", *two, *settings, "--out", tmp_path / "one")
    assert done.exit_code == 0, done.output
    run = json.loads((tmp_path / "one" / "run.json").read_text())
    assert list(run["clean_accuracy"]) == ["net", "net-2"]
    assert run["arguments"]["model"] == [nets, nets]
    weights = ("--weights", tmp_path / "a.safetensors", "--weights", "-")
    normal = ("--normalize", "mnist", "--normalize", "0.5;0.5")
    done = call("evaluate", *two, *settings, *weights, *normal, "--out", tmp_path / "two")
    assert done.exit_code == 0, done.output
    run = json.loads((tmp_path / "two" / "run.json").read_text())
    assert list(run["clean_accuracy"]) == ["a", "net"]
    assert run["models"]["net"]["preprocessing"] == "normalised by 0.5;0.5"
    again = call(
        "evaluate", "--config", tmp_path / "two" / "config.toml", "--out", tmp_path / "two"
    )
    assert again.exit_code == 0, again.output
    other = (*two, *settings, *weights, "--normalize", "mnist", "--normalize", "none")
    done = call("evaluate", *other, "--out", tmp_path / "two")
    assert done.exit_code == 2
    assert "normalize" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "a"], "name must be given as often as model, 2 times, or not at all, got 1"),
        (["--weights", "a"], "weights must be given as often as model"),
        (["--model-args", "classes=3"], "model_args of several models belong into a file"),
        (["--name", "a", "--name", " "], "name must hold at least one letter"),
        (
            ["--normalize", "mnist", "--normalize", "0.5,0.5;0.5,0.5"],
            "one for each of the 1 channels, got 2",
        ),
    ],
)
def test_errors_of_several_models(
    nets: str, options: list[str], message: str, tmp_path: Path
) -> None:
    two = ("--model", nets, "--model", nets, "--data", "digits", "--n", 6, "--quiet")
    done = call("evaluate", *two, *options, "--out", tmp_path / "run")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold one table for each model, got none"),
        ("a = 3\n", "'a' must be a table of one model"),
        ("[a]\nweights = 'w'\n", "the table 'a' must hold model"),
        ("[a]\nmodel = 'timm/a'\nwieghts = 'w'\n", "unknown key 'wieghts' .*'weights'"),
    ],
)
def test_errors_of_a_file_of_models(text: str, message: str, tmp_path: Path) -> None:
    import re

    (tmp_path / "models.toml").write_text(text)
    out = ("--data", "digits", "--out", tmp_path / "run", "--quiet")
    done = call("evaluate", "--models", tmp_path / "models.toml", *out)
    assert done.exit_code == 2
    assert re.search(message, done.stderr), done.stderr


def test_squeezenet_on_the_jpegs(art_ext_data: Path, tmp_path: Path) -> None:
    classes = []
    for file in sorted((art_ext_data / "imagenet_samples").glob("*.jpg")):
        index = file.stem.rpartition("_")[2]
        (tmp_path / "images" / index).mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / index / file.name).write_bytes(file.read_bytes())
        classes.append(index)
    (tmp_path / "classes.csv").write_text(
        "".join(f"{one},{one}\n" for one in dict.fromkeys(classes))
    )
    weights = art_ext_data / "checkpoints" / "imagenet_squeezenet_dc_nat.safetensors"
    done = call(
        "evaluate", "--model", f"{art_ext_data}/architectures.py:squeezenet_caffe",
        "--weights", weights, "--normalize", "123/255,117/255,104/255;1/255,1/255,1/255",
        "--data", tmp_path / "images", "--classes", tmp_path / "classes.csv",
        "--resize", 256, "--crop", 227, "--n", "all", "--max-queries", 2, "--batch-size", 20,
        "--out", tmp_path / "run", "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["data"]["samples"] == 20
    assert run["clean_accuracy"] == {"imagenet_squeezenet_dc_nat": 14 / 20}
    said = run["models"]["imagenet_squeezenet_dc_nat"]["preprocessing"]
    assert said.startswith("resize 256 (bilinear), centre crop 227, normalised by 0.482353,")
    assert any("of the resized and cropped image in [0, 1]" in one for one in run["protocol"])


def test_workers_build_models_from_sources(tmp_path: Path) -> None:
    sources = {"net": ModelSource("digits-cnn", untrained=True)}
    build = kinds.rebuild_of(sources, "digits", device=None, norm="linf")
    assert build is not None
    models, data = build()
    state = kinds.callable_model(load_model(sources["net"])).state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(models["net"].state_dict()[key], one) for key, one in state.items())  # type: ignore[union-attr]
    assert (data.name, len(data)) == ("digits", 500)
    assert kinds.rebuild_of({"net": digits_cnn()}, "digits", device=None, norm="linf") is None
    with pytest.raises(
        ValueError, match="engine 'processes' needs a source, because workers build"
    ):
        evaluate({"net": digits_cnn()}, "digits", tmp_path / "run", workers=2, **RAYS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "timm/resnet18x"], "did you mean 'resnet18'"),
        (["--model", "tmm/resnet18"], "unknown prefix (did you mean 'timm'?)"),
        (["--model", "digits-cnn"], "give --weights FILE, or --untrained"),
        (["--model", "digits-cnn", "--weights", "absent.pt"], "weights must name a checkpoint"),
        (["--model", "hf/./absent"], "must name a folder that exists"),
        (["--model", "absent.onnx"], "must be an ONNX file"),
        (["--model", "."], "must be the folder of a finished art-ext train"),
        (["--model", "timm/mobilenetv3_small_050", "--untrained"], "the data have (1, 8, 8)"),
        (
            ["--model", "digits-cnn", "--untrained", "--models", "a.toml"],
            "model and models exclude",
        ),
        (["--models", "a.toml"], "a.toml cannot be read"),
        (["--weights", "net.pt"], "model must be given"),
    ],
)
def test_errors_of_models(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "timm" in message or "timm/" in options[1]:
        pytest.importorskip("timm", reason="timm is not installed")
    monkeypatch.chdir(tmp_path)
    done = call("evaluate", *options, "--data", "digits", "--n", 6, "--out", "run", "--quiet")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


# --- the folder of a training ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training on digits."""
    folder = tmp_path_factory.mktemp("trained") / "tr"
    done = call(
        "train", "--data", "digits", "--recipe", "pgd", "--epochs", 2, "--n", 300, "--test-n", 60,
        "--pgd-steps", 5, "--out", folder, "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("checkpoint", ["best", "final"])
def test_the_folder_of_a_training_gives_its_figures(
    checkpoint: str, trained: Path, tmp_path: Path
) -> None:
    said = json.loads((trained / "run.json").read_text())
    steps = said["pgd"]["steps"]
    done = call(
        "evaluate", "--model", trained, "--checkpoint", checkpoint, "--attack", "pgd", "--n", 60,
        "--attack-args", f"pgd.num_steps={steps},pgd.step_size={said['pgd']['step_size']}",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "from the training: data digits, norm linf, eps 0.15, clip_values 0,1" in done.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["settings"]["eps"] == [0.15]
    assert run["clean_accuracy"] == {"tr": said[checkpoint]["clean"]}
    own = read_records(tmp_path / "run")
    robust = float((~(own["success"] | own["already_adversarial"])).mean())
    assert robust == said[checkpoint][f"pgd{steps}"]


@pytest.mark.parametrize(
    ("detectors", "more"), [("confidence,kernel_density", ", fit_data digits"), ("confidence", "")]
)
def test_detectors_learn_from_the_data_of_the_training(
    detectors: str, more: str, trained: Path, tmp_path: Path
) -> None:
    told = []
    for name, given in (("default", ()), ("given", ("--fit-data", "digits"))):
        done = call(
            "evaluate", "--model", trained, "--attack", "fgsm", "--n", 20, "--no-adaptive",
            "--detector", detectors, *given, "--out", tmp_path / name,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        told.append(next(line for line in done.stderr.splitlines() if "from the training" in line))
    assert told[0] == told[1] + more
    if more:
        pd.testing.assert_frame_equal(
            *(
                read_records(tmp_path / name)[["score", "success_accepted"]]
                for name in ("default", "given")
            )
        )


def test_detect_learns_from_the_data_of_the_training(trained: Path, tmp_path: Path) -> None:
    files = [tmp_path / "default.csv", tmp_path / "given.csv"]
    for out, given in zip(files, ((), ("--fit-data", "digits")), strict=True):
        done = call(
            "detect", "--model", trained, "--detector", "kernel_density", *given,
            "--images", "digits", "--out", out,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        assert ("from the training: fit_data digits\n" in done.stderr) == (not given)
    assert files[0].read_text() == files[1].read_text()


def test_an_unfinished_training(trained: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(trained, tmp_path / "half")
    (tmp_path / "half" / "run.json").unlink()
    with pytest.raises(ValueError, match="holds a training that is not finished: go on with"):
        load_model(tmp_path / "half")
    (tmp_path / "half" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run.json must be that .* is damaged: write it again"):
        load_model(tmp_path / "half")
    with pytest.raises(ValueError, match="untrained does not apply"):
        load_model(trained, untrained=True)
    with pytest.raises(ValueError, match="must be the folder of a finished art-ext train"):
        load_model(tmp_path)


def test_a_training_starts_from_a_library(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    x = np.random.default_rng(0).random((8, 3, 32, 32), dtype=np.float32)
    np.savez(
        tmp_path / "mine.npz",
        x_train=x,
        y_train=np.arange(8) % 3,
        x_test=x,
        y_test=np.arange(8) % 3,
    )
    args = ("--model-args", "num_classes=3", "--untrained", "--normalize", "cifar10")
    done = call(
        "train", "--data", tmp_path / "mine.npz", "--recipe", "natural", "--model",
        "timm/mobilenetv3_small_050", *args, "--updates", 1, "--batch-size", 8, "--validation", 0,
        "--eps", "0.1", "--augmentation", "none", "--pgd-steps", 1, "--out", tmp_path / "run",
        "--quiet",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = load_model(tmp_path / "run")
    names = list(timm.create_model("mobilenetv3_small_050", num_classes=3).state_dict())
    assert list(found.model.state_dict()) == names
    assert found.model.normalize.mean.flatten().tolist() == pytest.approx([0.4914, 0.4822, 0.4465])
    rows: Tensor = found.model(torch.rand(2, 3, 32, 32))
    assert rows.shape == (2, 3)


# --- the listing ---


def test_the_listing() -> None:
    rows = json.loads(call("models", "--json").stdout)
    names = {row["name"] for row in rows}
    assert {"digits-cnn", "preactresnet18", "timm/NAME", "FILE.onnx"} <= names
    assert all(row["origin"] and row["summary"] for row in rows)
    table = call("models", "mnist-*").stdout.splitlines()
    assert table[0].split() == ["name", "origin", "summary"]
    assert [line.split()[0] for line in table[1:]] == [
        "mnist-conv2",
        "mnist-smallcnn",
        "mnist-lenet5",
    ]


def test_names_of_a_library() -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    rows = json.loads(call("models", "timm/resnet18*", "--json").stdout)
    assert {"timm/resnet18", "timm/resnet18.a1_in1k"} <= {row["name"] for row in rows}
    assert {row["origin"] for row in rows} == {f"timm {timm.__version__}"}
    done = call("models", "tim/resnet*")
    assert done.exit_code == 2
    assert "did you mean 'timm'" in done.stderr
