"""The papers' networks and their checkpoints."""

from __future__ import annotations

import argparse
import os
from collections import OrderedDict
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.data import load_data
from art_ext.models import (
    Normalize,
    cifar_resnet,
    cifar_resnet20,
    digits_cnn,
    load_weights,
    mnist_lenet5,
    mnist_small_cnn,
    mnist_two_conv,
    normalized,
    save_weights,
)


def tiny() -> nn.Sequential:
    return normalized([nn.Flatten(), nn.Linear(4, 2)], 0.5, 0.25)


def equal(a: nn.Module, b: nn.Module) -> bool:
    states = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in states)


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if name.endswith("weight")
    }


# --- networks


def test_normalize_works_per_channel_and_stays_out_of_the_state_dict():
    layer = Normalize((0.0, 0.5, 1.0), (1.0, 0.5, 0.25))
    assert layer(torch.ones(2, 3, 1, 1))[1].flatten().tolist() == [1.0, 1.0, 0.0]
    assert layer.state_dict() == {}
    assert "0.25" in repr(layer)


@pytest.mark.parametrize(("mean", "std"), [((0.1, 0.2), (1.0,)), (0.0, 0.0), ((), ())])
def test_normalize_refuses_bad_numbers(mean, std):
    with pytest.raises(ValueError, match=r"mean and std must have|std must be > 0"):
        Normalize(mean, std)


def test_names_and_shapes_are_those_of_the_published_checkpoints():
    assert shapes(mnist_two_conv()) == {
        "0.weight": (16, 1, 4, 4),
        "2.weight": (32, 16, 4, 4),
        "5.weight": (100, 1568),
        "7.weight": (10, 100),
    }
    assert shapes(mnist_two_conv((8, 16), (256,)))["5.weight"] == (256, 784)
    assert shapes(mnist_small_cnn()) == {
        "0.weight": (32, 1, 3, 3),
        "2.weight": (32, 32, 3, 3),
        "5.weight": (64, 32, 3, 3),
        "7.weight": (64, 64, 3, 3),
        "11.weight": (200, 1024),
        "13.weight": (200, 200),
        "15.weight": (10, 200),
    }
    assert shapes(mnist_small_cnn(batch_norm=True))["11.weight"] == (64,)  # the fourth BatchNorm
    assert shapes(mnist_lenet5()) == {
        "0.weight": (32, 1, 3, 3),
        "3.weight": (64, 32, 3, 3),
        "7.weight": (200, 3136),
        "9.weight": (10, 200),
    }
    resnet = shapes(cifar_resnet20())
    assert resnet["6.main.0.weight"] == (32, 16, 3, 3)
    assert resnet["11.main.3.weight"] == (64, 64, 3, 3)
    assert resnet["14.weight"] == (10, 64)
    assert sum(parameter.numel() for parameter in cifar_resnet20().parameters()) == 269_722


def test_resnet_shortcut_halves_the_image_and_pads_channels_on_both_sides():
    block = cifar_resnet20().get_submodule("6")
    for parameter in block.parameters():
        nn.init.zeros_(parameter)  # only the shortcut is left
    x = torch.rand(1, 16, 4, 4)
    out = block.eval()(x)
    assert out.shape == (1, 32, 2, 2)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


@pytest.mark.parametrize("depth", [7, 2, 21, "20"])
def test_resnet_refuses_a_depth_that_is_not_6n_plus_2(depth):
    with pytest.raises(ValueError, match="6n"):
        cifar_resnet(depth)


def test_small_cnn_refuses_the_text_false():
    with pytest.raises(ValueError, match="batch_norm must be True or False, got 'false'"):
        mnist_small_cnn("false")


def test_two_conv_refuses_other_than_two_convolutions():
    with pytest.raises(ValueError, match="channels"):
        mnist_two_conv((8,))


def test_digits_cnn_learns_the_digits():
    train, test = load_data("digits", split="train"), load_data("digits")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = digits_cnn()
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(15):
            for rows in torch.randperm(len(train)).split(64):
                loss = nn.functional.cross_entropy(model(train.x[rows]), train.y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    assert (model(test.x).argmax(1) == test.y).float().mean() > 0.96
    assert sum(parameter.numel() for parameter in model.parameters()) == 21_546


@pytest.mark.parametrize("batch_norm", [False, True])
def test_dropout_of_the_small_network_changes_training_only(batch_norm):
    torch.manual_seed(0)
    plain = mnist_small_cnn(batch_norm)
    torch.manual_seed(0)
    dropping = mnist_small_cnn(batch_norm, dropout=0.5)
    assert list(dropping.state_dict()) == list(plain.state_dict())
    assert equal(dropping, plain), "the same weights by the same seed"
    assert [name for name, _ in dropping.named_children()] == [
        name for name, _ in plain.named_children()
    ]
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(dropping.eval()(x), plain.eval()(x))
    seen = []
    linear = [layer for layer in dropping.modules() if isinstance(layer, nn.Linear)][1]
    linear.register_forward_pre_hook(lambda layer, rows: seen.append(rows[0]))
    dropping.train()(x)
    first = next(layer for layer in plain.modules() if isinstance(layer, nn.Linear))
    before = []
    first.register_forward_hook(lambda layer, rows, out: before.append(out.relu()))
    if not batch_norm:  # whose minibatch statistics would differ from the running ones
        plain(x)
        kept = seen[0] != 0
        torch.testing.assert_close(seen[0][kept], 2 * before[0][kept])
        assert 0.2 < float((~kept)[before[0] > 0].float().mean()) < 0.8
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got 1.0"):
        mnist_small_cnn(dropout=1.0)


# --- published checkpoints

MNIST_CHECKPOINTS = {  # README's clean accuracy in % on all 10,000 test images
    "mnist_carlini_cnn_fw": (lambda: mnist_small_cnn(mean=0.5), 99.4),
    "mnist_smallcnn_trades": (mnist_small_cnn, 99.5),
    "mnist_smallcnn_ddn_l2": (mnist_small_cnn, 99.0),
    "mnist_smallcnn_standard": (mnist_small_cnn, 99.4),
    "mnist_smallcnn_bn_rays_nat": (lambda: mnist_small_cnn(batch_norm=True), 99.5),
    "mnist_lenet5_advertorch_adv": (mnist_lenet5, 98.6),
    "mnist_lenet5_advertorch_nat": (mnist_lenet5, 98.9),
    "mnist_conv2_fast_fgsm": (mnist_two_conv, 98.5),
    "mnist_conv2_fast_pgd": (mnist_two_conv, 99.0),
    "mnist_conv2_kw_0.1": (mnist_two_conv, 98.2),
    "mnist_conv2_lirpa_robust": (lambda: mnist_two_conv((8, 16), (256,)), 96.7),
}
CIFAR_CHECKPOINTS = {  # on the first 1,000 test images
    "cifar_resnet20_nat": (cifar_resnet20, 91.5),
    "cifar_resnet32_nat": (lambda: cifar_resnet(32), 92.8),
}


@pytest.mark.parametrize("name", [*MNIST_CHECKPOINTS, *CIFAR_CHECKPOINTS])
def test_published_checkpoint_loads_and_is_as_accurate_as_measured(name):
    folder = os.environ.get("ART_EXT_DATA")
    if not folder:
        pytest.skip("ART_EXT_DATA names no folder with checkpoints")
    checkpoint = Path(folder) / "checkpoints" / f"{name}.safetensors"
    if not checkpoint.is_file():
        pytest.skip(f"{checkpoint.name} is not in ART_EXT_DATA")
    factory, expected = {**MNIST_CHECKPOINTS, **CIFAR_CHECKPOINTS}[name]
    data = load_data("mnist" if name in MNIST_CHECKPOINTS else "cifar10").first(200)
    model = load_weights(factory(), checkpoint).eval()
    with torch.inference_mode():
        accuracy = 100 * float((model(data.x).argmax(1) == data.y).float().mean())
    assert abs(accuracy - expected) <= (2 if name in MNIST_CHECKPOINTS else 4)


# --- weights


def test_weights_survive_a_round_trip_exactly(tmp_path):
    model, copy = cifar_resnet(8), cifar_resnet(8)
    model(torch.rand(4, 3, 32, 32))  # the BatchNorm statistics move
    save_weights(model, tmp_path / "net.safetensors")
    assert load_weights(copy, tmp_path / "net.safetensors") is copy
    assert equal(copy, model)
    # no temporary file is left
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_saving_handles_tied_weights_and_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    file = tmp_path / "tied.safetensors"
    save_weights(model, file)
    before = file.read_bytes()

    def full_disk(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_weights(nn.Linear(9, 9), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["tied.safetensors"]


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "model.",
        "module._orig_mod.",
        "_orig_mod.module.model.",
        "model.model.",
    ],
)
def test_torch_files_load_plain_wrapped_and_from_data_parallel(tmp_path, wrapper, prefix):
    model, copy = tiny(), tiny()
    state = OrderedDict((prefix + name, tensor) for name, tensor in model.state_dict().items())
    torch.save(state if wrapper is None else {"epoch": 3, wrapper: state}, tmp_path / "net.pt")
    load_weights(copy, tmp_path / "net.pt")
    assert equal(copy, model)


def test_prefix_stays_for_a_model_that_has_it(tmp_path):
    parallel = nn.DataParallel(tiny())
    save_weights(parallel, tmp_path / "net.safetensors")
    assert equal(load_weights(nn.DataParallel(tiny()), tmp_path / "net.safetensors"), parallel)
    assert equal(load_weights(tiny(), tmp_path / "net.safetensors"), parallel.module)


def test_what_wrappers_add_is_taken_off_whichever_they_are(tmp_path):
    """The state dicts that torch's own wrappers make, in several nestings; and a wrapper around
    the model to fill.
    """

    class Lightning(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x)

    def averaged(model):
        return torch.optim.swa_utils.AveragedModel(model)

    wrappers = {
        "compiled": torch.compile,
        "averaged": averaged,
        "parallel": nn.DataParallel,
        "lightning": Lightning,
        "compiled and averaged": lambda model: averaged(torch.compile(model)),
        "averaged and parallel": lambda model: nn.DataParallel(averaged(model)),
        "compiled parts": lambda model: nn.Sequential(*map(torch.compile, model)),
        "lightning, compiled": lambda model: torch.compile(Lightning(nn.DataParallel(model))),
    }
    source = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    nn.init.normal_(source[0].weight)
    for name, wrap in wrappers.items():
        file = tmp_path / "net.pt"
        torch.save({"net": {"state_dict": wrap(deepcopy(source)).state_dict()}, "acc": 95.2}, file)
        plain = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        assert equal(load_weights(plain, file), source), name
        if "averaged" not in name:
            save_weights(source, tmp_path / "net.safetensors")
            inner = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
            load_weights(wrap(inner), tmp_path / "net.safetensors")
            assert equal(inner, source), name


def test_a_model_keeps_parts_of_its_own_that_are_called_like_a_wrapper(tmp_path):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.module, self.n_averaged = (
                nn.Linear(2, 2),
                nn.Linear(2, 2),
                nn.Parameter(torch.ones(1)),
            )

    first, second = Own(), Own()
    torch.save(first.state_dict(), tmp_path / "net.pt")
    assert equal(load_weights(second, tmp_path / "net.pt"), first)
    torch.save(
        {f"module.{name}": value for name, value in Own().state_dict().items()}, tmp_path / "net.pt"
    )
    load_weights(second, tmp_path / "net.pt")
    assert not equal(second, first)


def test_old_batch_norm_without_a_counter_loads(tmp_path):
    model = nn.Sequential(nn.BatchNorm1d(2))
    nn.init.normal_(model[0].weight)
    torch.save(
        {name: t for name, t in model.state_dict().items() if "num_batches" not in name},
        tmp_path / "old.pt",
    )
    assert equal(load_weights(nn.Sequential(nn.BatchNorm1d(2)), tmp_path / "old.pt"), model)


def test_legacy_torch_file_loads(tmp_path):
    model, copy = tiny(), tiny()
    torch.save(model.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    load_weights(copy, tmp_path / "old.pt")
    assert equal(copy, model)


def test_misfit_names_what_does_not_fit_and_leaves_the_model_alone(tmp_path):
    model = tiny()
    state = {"1.weight": torch.zeros(3, 4), "9.odd": torch.zeros(1)}
    torch.save(state, tmp_path / "net.pt")
    before = deepcopy(model)
    expected = r"missing keys: 1\.bias; unexpected keys: 9\.odd; wrong shapes: 1\.weight \(3, 4\) instead of \(2, 4\)"
    with pytest.raises(ValueError, match=expected):
        load_weights(model, tmp_path / "net.pt")
    assert equal(model, before)


class Payload:
    """Writes a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_checkpoint_with_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "ran"
    torch.save({"state_dict": Payload(marker)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="nothing but tensors"):
        load_weights(tiny(), tmp_path / "net.pt")
    assert not marker.exists()
    torch.load(tmp_path / "net.pt", weights_only=False)
    assert marker.exists()  # the payload does work


class Settings:
    """A class of the user's own in a checkpoint."""


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.float64(93.1), "numpy.float64"),
        (np.float32(93.1), "numpy.float32"),
        (np.int64(3), "numpy.int64"),
        (np.bool_(True), "numpy.bool"),
        (np.zeros(3), "numpy.ndarray"),
        (argparse.Namespace(lr=0.1), "argparse.Namespace"),
        (Path("x"), "Posix"),
        (Settings(), "test_models.Settings"),
        (tiny(), "torch.nn.modules.linear.Linear"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_types_in_a_checkpoint_are_named_with_the_remedy(tmp_path, value, name, legacy):
    """The right value of a13."""
    content = {"state_dict": tiny().state_dict(), "extra": [value]}
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        ValueError, match=r"float\(value\) or vars\(args\), or the weights alone"
    ) as caught:
        load_weights(tiny(), tmp_path / "net.pt")
    # torch names the first type only in its older format
    if not (legacy and name.startswith("torch.nn")):
        assert name in str(caught.value)
    assert "add_safe_globals" not in str(caught.value)
    assert "weights_only=False" not in str(caught.value)


def test_all_other_types_are_listed(tmp_path):
    extra = {"best": np.float64(1.0), "args": argparse.Namespace(), "n": np.int64(2)}
    content = {"state_dict": tiny().state_dict(), **extra}
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(
        ValueError, match=r"it holds numpy\.float64, numpy\.int64, argparse\.Namespace, which"
    ):
        load_weights(tiny(), tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title>", "web page"),
        (b"<HTML><body>Sign in</body>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"", "empty"),
        (b"no checkpoint at all", "must be a safetensors file"),
        (b"PK\x03\x04 cut off", "must be a safetensors file"),
        (b"\x02\0\0\0\0\0\0\0{x", "damaged or incomplete safetensors"),
    ],
)
def test_impostors_are_explained(tmp_path, content, words):
    file = tmp_path / "net.pt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        load_weights(tiny(), file)


@pytest.mark.parametrize("kept", [20, -4], ids=["in-the-header", "in-a-tensor"])
def test_truncated_safetensors_file_is_refused(tmp_path, kept):
    file = tmp_path / "net.safetensors"
    save_weights(tiny(), file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        load_weights(tiny(), file)


@pytest.mark.parametrize(
    ("content", "words"), [({"epoch": 3}, "epoch"), ([torch.zeros(1)], "list"), ({}, "empty")]
)
def test_files_without_a_state_dict_are_refused(tmp_path, content, words):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=words):
        load_weights(tiny(), tmp_path / "net.pt")


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.pt, which does not exist"):
        load_weights(tiny(), tmp_path / "absent.pt")
