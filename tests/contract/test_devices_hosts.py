"""The shells of ART and torchattacks and a whole evaluation on a device that is not the CPU."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from art_ext import detectors
from art_ext.attacks.estimator import classifier_on
from art_ext.cli import app
from art_ext.data import load_data
from art_ext.evaluation import evaluate
from tests.accelerator import Accelerator, Remote, held
from tests.contract import conftest as harness
from tests.toys import compare

DEVICE = torch.device("meta:1")
HOSTED = [one for one in harness.EVERY if one.shell != "core"]


@pytest.fixture
def accelerator():
    return Accelerator(1)


@pytest.fixture
def few(digits):
    return digits[0][:6], digits[1][:6]


def classifier_of(net, device=DEVICE):
    """An ART classifier of a copy of a network on a device."""
    return classifier_on(
        device,
        copy.deepcopy(net),
        loss=nn.CrossEntropyLoss(),
        input_shape=(1, 8, 8),
        nb_classes=10,
        clip_values=(0.0, 1.0),
    )


@pytest.mark.parametrize("side", ["cpu", "accelerator"])
@pytest.mark.parametrize(
    "attack", [harness.parameter(one) for one in HOSTED], ids=[harness.named(one) for one in HOSTED]
)
def test_a_shell_gives_the_results_of_the_cpu(
    attack, side, accelerator, few, digits_net, monkeypatch
):
    if attack.shell == "art" and side == "accelerator":
        pytest.skip("ART takes arrays, which lie on the CPU")
    near = attack.run(digits_net, *few, max_queries=40)
    monkeypatch.setattr(
        harness, "PyTorchClassifier", lambda net, *_, **__: classifier_of(net, DEVICE)
    )
    samples = tuple(map(accelerator.has, few)) if side == "accelerator" else few
    with accelerator.running():
        net = digits_net if attack.shell == "art" else accelerator.has(digits_net)
        found = attack.run(net, *samples, max_queries=40)
    # torchattacks' own attacks leave their examples on the device of the attack
    assert isinstance(found.x_adv, Remote) == (attack.shell == "torchattacks")
    compare(_near(found), near)


def _near(result):
    for name, value in vars(result).items():
        if isinstance(value, torch.Tensor):
            object.__setattr__(result, name, held(value))
    if result.trace is not None:
        result.trace.update({name: held(value) for name, value in result.trace.items()})
    return result


def test_a_detector_of_art_gives_the_scores_of_the_cpu(accelerator, digits_net):
    data = load_data("digits", split="train").first(200)
    x, y = data.x.numpy(), data.y.numpy()

    def detect(device):
        detector = detectors.MahalanobisDetector(classifier_of(digits_net, device), seed=0)
        detector.fit(x, y, batch_size=100, nb_epochs=1)
        return detector.detect(x[:20])

    near = detect(torch.device("cpu"))
    with accelerator.running():
        far = detect(DEVICE)
    assert np.allclose(near[0]["scores"], far[0]["scores"], rtol=1e-4)
    assert np.array_equal(near[1], far[1])


ATTACKS = ["pgd", "art:FastGradientMethod", "torchattacks:FGSM"]


def records(folder):
    found = pd.read_parquet(folder / "records.parquet")
    return found.drop(columns=[name for name in found if "second" in name])


def check_runs(near, far):
    """Compare the records and the verdict of two runs."""
    pd.testing.assert_frame_equal(records(near), records(far))
    runs = [json.loads((folder / "run.json").read_text()) for folder in (near, far)]
    for entry in ("warnings", "clean_accuracy"):
        assert runs[0][entry] == runs[1][entry]


def test_an_evaluation_gives_the_records_of_the_cpu(accelerator, digits_net, tmp_path, no_report):
    options = {"eps": 0.1, "attacks": ATTACKS, "max_queries": 60, "batch_size": 4}
    data = load_data("digits").first(6)
    evaluate(digits_net, data, tmp_path / "near", **options)
    with accelerator.running():
        far = accelerator.has(digits_net)
        evaluate(far, data, tmp_path / "far", device="meta:1", **options)
    check_runs(tmp_path / "near", tmp_path / "far")


def test_the_command_line_takes_a_numbered_device(accelerator, tmp_path, no_report):
    command = "evaluate --model digits-cnn --untrained --data digits --n 8 --attack pgd --eps 0.1"

    def run(*more):
        return CliRunner().invoke(app, [*command.split(), *more], catch_exceptions=False)

    assert run("--out", str(tmp_path / "near")).exit_code == 0
    with accelerator.running():
        found = run("--out", str(tmp_path / "far"), "--device", "meta:1")
    assert found.exit_code == 0, found.output
    check_runs(tmp_path / "near", tmp_path / "far")
