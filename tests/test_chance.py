"""Clean accuracy at chance level and class counts that differ: warnings of evaluations and
trainings.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from art_ext.cli import app
from art_ext.core.metrics import chance_level, chance_warning, wilson
from art_ext.data import load_data
from art_ext.data.dataset import Dataset
from art_ext.evaluation import evaluate


class TestChanceLevel:
    def test_values(self):
        assert chance_level([10] * 10, 10) == 0.1
        assert chance_level([30, 10], 10) == 0.75
        assert chance_level([30, 0, 0], 10) == 0.1  # one label only
        assert chance_level([5], 2) == 0.5
        with pytest.raises(ValueError, match="at least one sample"):
            chance_level([0, 0], 10)

    def test_the_lower_end_of_the_interval_decides(self):
        for correct in range(101):
            warned = chance_warning(correct, [10] * 10, 10) is not None
            assert warned == (wilson(correct, 100)[0] <= 0.1)
        assert chance_warning(15, [10] * 10, 10) is not None
        assert chance_warning(16, [10] * 10, 10) is None

    def test_few_samples_say_nothing(self):
        assert chance_warning(0, [1] * 9, 10) is None
        assert chance_warning(0, [1] * 10, 10) is not None

    def test_message(self):
        message = chance_warning(5, [10] * 10, 10)
        assert message is not None
        assert message.startswith(
            "clean accuracy 5.0 % [2.2, 11.2] is not above the chance level of 10.0 %"
        )
        for cause in ("order", "weights", "preprocessing"):
            assert cause in message


def kinds(model: Any, data: Dataset, folder: Path, **options: Any) -> dict[str, str]:
    outcome = evaluate(model, data, folder, eps=1e-3, **{"max_queries": 3, **options})
    return {finding.kind: finding.message for finding in outcome.warnings}


class TestEvaluate:
    def test_right_labels(self, digits_net, tmp_path):
        assert not {"chance-level", "classes"} & set(
            kinds(digits_net, load_data("digits").first(100), tmp_path)
        )

    @pytest.mark.parametrize("shift", [1, 3, 9])
    def test_shifted_labels(self, digits_net, tmp_path, shift):
        data = load_data("digits").first(100)
        shifted = Dataset("shifted", data.x, (data.y + shift) % 10, data.class_names)
        assert "chance-level" in kinds(digits_net, shifted, tmp_path)

    def test_untrained_network(self, tmp_path):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        assert "chance-level" in kinds(net, load_data("digits").first(100), tmp_path)

    def test_a_constant_answer(self, tmp_path):
        """On data of two thirds one class a constant reaches two thirds, which is chance."""
        data = load_data("digits")
        rows = torch.cat([(data.y == 1).nonzero()[:40, 0], (data.y == 0).nonzero()[:20, 0]])
        part = Dataset("part", data.x[rows], data.y[rows], ("zero", "one"))

        def constant(x):
            return torch.ones(len(x), dtype=torch.long)

        assert "chance-level" in kinds(constant, part, tmp_path, outputs="labels")

    def test_labels_only(self, digits_net, tmp_path):
        data = load_data("digits").first(60)
        wrong = Dataset("wrong", data.x, (data.y + 5) % 10)

        def labels(x):
            return digits_net(x).argmax(1)

        assert "chance-level" in kinds(labels, wrong, tmp_path / "a", outputs="labels")
        assert not kinds(labels, data, tmp_path / "b", outputs="labels")


class TestClasses:
    def test_more_outputs_than_names(self, tmp_path):
        data = load_data("digits").first(60)
        net = Widened(data, 12)
        found = kinds(net, data, tmp_path)
        assert "the model has 12 classes, but the data name 10 classes" in found["classes"]
        assert "chance-level" not in found

    def test_without_names_the_labels_tell_from_five_a_class_on(self, tmp_path):
        data = load_data("digits").first(60)
        for width, samples, warned in (
            (12, 60, True),
            (13, 60, False),
            (12, 59, False),
            (10, 60, False),
        ):
            part = Dataset("unnamed", data.x[:samples], data.y[:samples])
            found = kinds(Widened(data, width), part, tmp_path / f"{width}-{samples}")
            assert ("classes" in found) == warned
            if warned:
                assert f"the largest label of {samples} samples is 9" in found["classes"]


class Widened(nn.Module):
    """Nearest neighbour on known samples, with further outputs that never win."""

    def __init__(self, data: Dataset, width: int) -> None:
        super().__init__()
        self.x, self.y, self.width = data.x.flatten(1), data.y, width

    def forward(self, rows):
        distance = torch.cdist(rows.flatten(1), self.x)
        scores = torch.full((len(rows), self.width), -1e3)
        return scores.scatter_reduce(1, self.y.expand(len(rows), -1), -distance, "amax")


def test_training_prints_it(tmp_path):
    pytest.importorskip("accelerate")
    command = [
        "train",
        "--recipe",
        "natural",
        "--data",
        "digits",
        "--updates",
        "1",
        "--n",
        "64",
        "--test-n",
        "60",
    ]
    command += ["--learning-rate", "1e-8", "--validation", "0", "--device", "cpu", "--quiet"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    (warning,) = json.loads((tmp_path / "run" / "run.json").read_text())["warnings"]
    assert warning["kind"] == "chance-level"
    assert f"warning: {warning['message']}" in done.stderr


def checkpoints_of(folder: Path) -> list[str]:
    return sorted(
        file.stem
        for file in (folder / "checkpoints").glob("*.safetensors")
        if "imagenet" not in file.stem
    )


def test_third_party_checkpoints(art_ext_data):
    """Silent on every network with the right labels, raised for each with labels y + 1 modulo
    10.
    """
    spec = importlib.util.spec_from_file_location(
        "architectures", art_ext_data / "architectures.py"
    )
    assert spec is not None
    assert spec.loader is not None
    architectures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(architectures)
    names = checkpoints_of(art_ext_data)
    assert len(names) == 19
    for name in names:
        data = load_data(name.split("_")[0].replace("cifar", "cifar10"), root=art_ext_data).first(
            200
        )
        with torch.no_grad():
            predicted = architectures.load(name)(data.x).argmax(1)
        for shift, warned in ((0, False), (1, True)):
            labels = (data.y + shift) % 10
            correct = int((predicted == labels).sum())
            assert (
                chance_warning(correct, labels.bincount().tolist(), 10) is not None
            ) == warned, name
