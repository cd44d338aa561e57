"""Networks of one output in every host: ART, torchattacks, AutoAttack, external attacks, the
command line.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import BlackBoxClassifier, PyTorchClassifier, SklearnClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from typer.testing import CliRunner, Result

import art_ext.attacks as art_shells
import art_ext.torchattacks as torch_shells
from art_ext.adapters.robustbench.check import _logits
from art_ext.cli import app
from art_ext.core import attacks as core
from art_ext.data import load_data

PROGRAM = """
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from art_ext.data import load_data

def one(outputs="logits", columns=1):
    data = load_data("digits", split="train")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(60):
            optimiser.zero_grad()
            binary_cross_entropy_with_logits(network(data.x)[:, 0], (data.y > 4).float()).backward()
            optimiser.step()
    if outputs == "probabilities":
        network.append(nn.Sigmoid())
    elif outputs == "sigmoids":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Sigmoid())
    return network

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = one()

    def forward(self, x):
        z = self.network(x)
        return torch.cat([torch.zeros_like(z), z], dim=1)

def signs():
    network = one()
    return lambda x: network(x)[:, 0].sign().long()

def untrained():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1))
"""
SPACE: dict[str, Any] = {}
exec(PROGRAM, SPACE)  # noqa: S102 - the file that the command line gets
LABELS = "y must hold class indices below 2, the model's width"


@pytest.fixture(scope="module")
def one() -> nn.Module:
    network: nn.Module = SPACE["one"]()
    return network.eval()


@pytest.fixture(scope="module")
def two() -> nn.Module:
    network: nn.Module = SPACE["Two"]()
    return network.eval()


@pytest.fixture(scope="module")
def sample() -> tuple[Tensor, Tensor]:
    """Forty test digits, and whether they are above 4."""
    data = load_data("digits").first(40)
    return data.x, (data.y > 4).long()


def check_equal(one: Any, two: Any) -> None:
    for column in ("x_adv", "success", "already_adversarial", "queries", "gradients"):
        assert torch.equal(getattr(one, column), getattr(two, column)), column
    assert int((one.success & ~one.already_adversarial).sum()) > 0
    assert int(one.already_adversarial.sum()) < 12


# ---- ART


def classifier(network: nn.Module, nb_classes: int = 2) -> PyTorchClassifier:
    return PyTorchClassifier(
        network, nn.CrossEntropyLoss(), (1, 8, 8), nb_classes, clip_values=(0, 1), device_type="cpu"
    )


ART: dict[str, dict[str, Any]] = {
    "RayS": {"max_queries": 80, "eps": 0.2},
    "FrankWolfe": {"max_iter": 8, "eps": 0.1},
    "FrankWolfeBlackBox": {"max_queries": 200, "eps": 0.1, "seed": 0},
    "HMCAM": {"max_iter": 5, "eps": 0.1, "seed": 0},
    "AIFGSM": {"max_iter": 5, "eps": 0.1},
    "ElasticNetPyTorch": {
        "max_iter": 10,
        "binary_search_steps": 3,
        "initial_const": 1.0,
        "learning_rate": 0.1,
    },
    "ZooPyTorch": {
        "max_iter": 40,
        "binary_search_steps": 2,
        "initial_const": 10.0,
        "nb_parallel": 8,
        "seed": 0,
        "learning_rate": 0.2,
    },
}


@pytest.mark.parametrize("name", ART)
def test_art(name: str, one: nn.Module, two: nn.Module, sample: Any) -> None:
    x, y = (part.numpy() for part in sample)
    results = []
    for network in (one, two):
        attack = getattr(art_shells, name)(classifier(network), verbose=False, **ART[name])
        results.append(attack.run(x, y))
        x_adv = torch.from_numpy(attack.generate(x, np.eye(2)[y]))
        with torch.no_grad():
            wrong = (one(x_adv)[:, 0] > 0).long() != sample[1]
        assert bool(wrong[results[-1].success].all())
    check_equal(*results)


def test_art_with_scikit_learn_and_black_boxes(one: nn.Module, sample: Any) -> None:
    x, y = (part.numpy() for part in sample)
    data = load_data("digits", split="train")
    flat, above = data.x.flatten(1).numpy(), (data.y > 4).numpy().astype(int)
    model = LogisticRegression(max_iter=500).fit(flat, above)
    whole = SklearnClassifier(model, clip_values=(0, 1))

    def predict(x: np.ndarray) -> np.ndarray:
        p = model.predict_proba(x)[:, 1]
        return np.stack([1 - p, p], axis=1)

    column = BlackBoxClassifier(predict, (64,), 2, clip_values=(0, 1))
    options: dict[str, Any] = {
        "eps": 0.1,
        "max_queries": 200,
        "outputs": "probabilities",
        "seed": 0,
        "verbose": False,
    }
    results = [
        art_shells.FrankWolfeBlackBox(one, **options).run(x.reshape(40, 64), y)
        for one in (whole, column)
    ]
    torch.testing.assert_close(results[0].x_adv, results[1].x_adv, atol=1e-5, rtol=0)
    assert torch.equal(results[0].success, results[1].success)


@pytest.mark.parametrize("name", ["RayS", "FrankWolfeBlackBox", "ZooPyTorch"])
@pytest.mark.parametrize("batch_size", [256, 1])
@pytest.mark.parametrize("probe", [True, False])
def test_art_copies_a_single_column(
    name: str, batch_size: int, probe: bool, one: nn.Module, sample: Any
) -> None:
    x, y = (part.numpy() for part in sample)

    def predict(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return torch.sigmoid(one(torch.from_numpy(x))).numpy()

    copied = BlackBoxClassifier(predict, (1, 8, 8), 2, clip_values=(0, 1))
    attack = getattr(art_shells, name)(copied, verbose=False, batch_size=batch_size, probe=probe)
    message = "gives all 2 classes the same score, for each of 40 samples. ART's BlackBoxClassifier copies a single"
    with pytest.raises(ValueError, match=message):
        attack.generate(x, y)
    with pytest.raises(ValueError, match="the same score, for each of 2 samples"):
        attack.generate(x[:2], y[:2])


def test_art_copies_a_single_column_of_images_with_channels_last(
    one: nn.Module, sample: Any
) -> None:
    predict = lambda x: np.full((len(x), 1), 0.5, np.float32)  # noqa: E731
    last = type("ChannelsLast", (BlackBoxClassifier,), {"channels_first": False})
    copied = last(predict, (8, 8, 1), 2, clip_values=(0, 1))
    attack = art_shells.ZooPyTorch(copied, verbose=False, resize=4)
    with pytest.raises(
        ValueError, match="ART's BlackBoxClassifier copies a single column to all classes"
    ):
        attack.generate(sample[0].movedim(1, -1).numpy(), sample[1].numpy())


def test_equal_scores_of_one_sample_say_nothing(sample: Any) -> None:
    def predict(x: np.ndarray) -> np.ndarray:
        return np.stack([np.zeros(len(x)), x.reshape(len(x), -1).max(axis=1) - 1], axis=1).astype(
            np.float32
        )

    classifier = BlackBoxClassifier(predict, (1, 8, 8), 2, clip_values=(0, 1))
    attack = art_shells.RayS(classifier, max_queries=5, verbose=False)
    attack.generate(sample[0][:1].numpy() * 0 + 1, np.zeros(1, int))
    assert attack.last_result is not None
    assert attack.last_result.queries.tolist() == [5]
    mixed = torch.cat([sample[0][:1] * 0 + 1, sample[0][:1] * 0 + 0.5])
    attack.generate(mixed.numpy(), np.zeros(2, int))
    assert attack.last_result.already_adversarial.tolist() == [False, False]


# ---- torchattacks

TORCH: dict[str, dict[str, Any]] = {
    "RayS": {"max_queries": 80, "eps": 0.2},
    "FW": {"steps": 8, "eps": 0.1},
    "FWBlack": {"max_queries": 200, "eps": 0.1, "seed": 0},
    "HMCAM": {"steps": 5, "eps": 0.1, "seed": 0},
    "AIFGSM": {"steps": 5, "eps": 0.1},
    "EAD": {"max_iterations": 10, "binary_search_steps": 3, "initial_const": 1.0, "lr": 0.1},
    "ZOO": {
        "max_iterations": 40,
        "binary_search_steps": 2,
        "initial_const": 10.0,
        "n_coordinates": 8,
        "seed": 0,
        "lr": 0.2,
    },
}


@pytest.mark.parametrize("name", TORCH)
def test_torchattacks(name: str, one: nn.Module, two: nn.Module, sample: Any) -> None:
    results = []
    for network in (one, two, nn.Sequential(one, nn.Flatten(0))):
        attack = getattr(torch_shells, name)(network, **TORCH[name])
        x_adv = attack(*sample)
        results.append(attack.last_result)
        with torch.no_grad():
            wrong = (one(x_adv)[:, 0] > 0).long() != sample[1]
        assert bool(wrong[results[-1].success].all())
    check_equal(results[0], results[1])
    check_equal(results[0], results[2])


@pytest.mark.parametrize("mode", ["random", "least_likely", "by_label"])
def test_torchattacks_targets(mode: str, one: nn.Module, two: nn.Module, sample: Any) -> None:
    x, y = sample
    results = []
    for network in (one, two):
        attack = torch_shells.FW(network, eps=0.1, steps=8)
        getattr(attack, f"set_mode_targeted_{mode}")(quiet=True)
        attack(x, 1 - y if mode == "by_label" else y)
        results.append(attack.last_result)
    check_equal(*results)


# ---- AutoAttack, external attacks, RobustBench


def test_autoattack(one: nn.Module, two: nn.Module, sample: Any) -> None:
    pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")
    from art_ext.adapters.autoattack import run_autoattack

    adjust = {"apgd": {"n_iter": 8, "n_restarts": 1}, "square": {"n_queries": 60}}
    options: dict[str, Any] = {
        "eps": 0.1,
        "version": "custom",
        "attacks": ["apgd-ce", "square"],
        "adjust": adjust,
    }
    results = [run_autoattack(network, *sample, **options) for network in (one, two)]
    check_equal(*results)
    probabilities = run_autoattack(
        nn.Sequential(one, nn.Sigmoid()), *sample, outputs="probabilities", **options
    )
    # log p - log(1 - p) is z, rounded
    assert int((probabilities.success != results[0].success).sum()) <= 1
    with pytest.raises(ValueError, match=LABELS):
        run_autoattack(one, sample[0], sample[1] + 1, **options)


@pytest.mark.parametrize(
    "name", ["torchattacks:PGD", "art:ProjectedGradientDescentPyTorch", "art:SquareAttack"]
)
def test_external_attacks(name: str, one: nn.Module, two: nn.Module, sample: Any) -> None:
    pytest.importorskip("torchattacks", reason="torchattacks is not installed")
    from art_ext.evaluation import Settings
    from art_ext.evaluation.panel.attack import AttackRequest
    from art_ext.evaluation.panel.members import find_attack

    settings = Settings((0.1,), 60, "linf", False, "logits", (0.0, 1.0), 40, None, 0)
    arguments = {"max_iter": 20} if name.startswith("art:") else {"steps": 5}
    x, y = sample
    attack = find_attack(name, arguments)
    results = [attack.run(AttackRequest(network, x, y, 0.1, settings)) for network in (one, two)]
    check_equal(*results)


def test_a_submission_must_return_a_logit_for_each_class(
    one: nn.Module, two: nn.Module, sample: Any
) -> None:
    from art_ext.adapters.robustbench.check import _Folder

    folder = _Folder(path=Path(), facts={}, evidence={"x": sample[0]}, device=None, batch_size=16)
    assert _logits(folder, two) == (True, "the model returns logits")
    ok, detail = _logits(folder, one)
    assert (ok, detail) == (
        False,
        "the model returns one column, RobustBench wants one logit for each class",
    )


# ---- the command line


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return file


@pytest.fixture
def binary_data(tmp_path: Path) -> Path:
    split = {name: load_data("digits", split=name).first(60) for name in ("train", "test")}
    np.savez(
        tmp_path / "binary.npz",
        x_train=split["train"].x.numpy(),
        y_train=(split["train"].y > 4).long().numpy(),
        x_test=split["test"].x.numpy(),
        y_test=(split["test"].y > 4).long().numpy(),
    )
    return tmp_path / "binary.npz"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_evaluate(program: Path, binary_data: Path, tmp_path: Path) -> None:
    tables = []
    for name in ("one", "Two"):
        done = call(
            "evaluate",
            "--model",
            f"{program}:{name}",
            "--data",
            binary_data,
            "--eps",
            0.1,
            "--attack",
            "rays",
            "--attack",
            "pgd",
            "--max-queries",
            40,
            "--out",
            tmp_path / name,
            "--quiet",
        )
        assert done.exit_code == 0, done.output
        rows = json.loads((tmp_path / name / "table.json").read_text())
        tables.append(
            [(row["attack"], row["clean_accuracy"], row["robust_accuracy"]) for row in rows]
        )
        kinds = {
            found["kind"] for found in json.loads((tmp_path / name / "warnings.json").read_text())
        }
        assert not kinds & {
            "randomised",
            "batch-dependent",
            "probabilities",
            "classes",
            "chance-level",
        }
    assert tables[0] == tables[1]
    network = SPACE["one"]()
    data = load_data("digits").first(60)
    clean = float(((network(data.x)[:, 0] > 0) == (data.y > 4)).float().mean())
    assert tables[0][0][1] == pytest.approx(clean)
    assert clean > 0.75


def findings_of(
    program: Path, data: Path, out: Path, model: str, *options: object
) -> dict[str, Any]:
    done = call(
        "evaluate",
        "--model",
        f"{program}:{model}",
        "--data",
        data,
        "--eps",
        0.1,
        "--attack",
        "rays",
        "--max-queries",
        10,
        "--out",
        out,
        "--quiet",
        *options,
    )
    assert done.exit_code == 0, done.output
    return {found["kind"]: found for found in json.loads((out / "warnings.json").read_text())}


def test_evaluate_warns_of_probabilities(program: Path, binary_data: Path, tmp_path: Path) -> None:
    arguments = ("--model-args", "outputs=probabilities")
    found = findings_of(program, binary_data, tmp_path / "a", "one", *arguments)["probabilities"]
    assert (found["count"], found["samples"]) == (60, 60)
    assert "the answers are probabilities although logits were announced" in found["message"]
    right = findings_of(
        program, binary_data, tmp_path / "b", "one", *arguments, "--outputs", "probabilities"
    )
    assert "probabilities" not in right
    sigmoids = findings_of(
        program,
        binary_data,
        tmp_path / "c",
        "one",
        "--model-args",
        "outputs=sigmoids",
        "--outputs",
        "probabilities",
    )["probabilities"]
    assert sigmoids["count"] > 50
    assert "the probabilities do not sum to 1" in sigmoids["message"]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("signs", ["--outputs", "labels"], "pass lambda x: (model(x) + 1) // 2"),
        (
            "one",
            ["--outputs", "labels"],
            "threshold the scores, or pass outputs='probabilities' or outputs='logits'",
        ),
        ("one", ["--outputs", "probabilities"], "must return values in [0, 1], got"),
    ],
)
def test_evaluate_refuses(
    model: str, options: list[str], message: str, program: Path, binary_data: Path, tmp_path: Path
) -> None:
    done = call(
        "evaluate",
        "--model",
        f"{program}:{model}",
        "--data",
        binary_data,
        "--eps",
        0.1,
        "--attack",
        "rays",
        "--out",
        tmp_path / "run",
        *options,
    )
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not (tmp_path / "run").exists()


def test_labels_above_one_are_refused(program: Path, tmp_path: Path) -> None:
    done = call(
        "evaluate",
        "--model",
        f"{program}:one",
        "--data",
        "digits",
        "--n",
        20,
        "--eps",
        0.1,
        "--attack",
        "rays",
        "--out",
        tmp_path / "run",
    )
    assert done.exit_code == 2
    assert "labels must be below 2, the model's width, got 9" in done.stderr
    done = call(
        "train",
        "--recipe",
        "natural",
        "--data",
        "digits",
        "--n",
        20,
        "--model",
        f"{program}:untrained",
        "--eps",
        0.1,
        "--epochs",
        1,
        "--out",
        tmp_path / "trained",
    )
    assert done.exit_code == 2
    assert "labels must be below 2, the model's outputs, got 9" in done.stderr


def test_train(program: Path, binary_data: Path, tmp_path: Path) -> None:
    done = call(
        "train",
        "--recipe",
        "natural",
        "--data",
        binary_data,
        "--eps",
        0.05,
        "--epochs",
        30,
        "--validation",
        10,
        "--model",
        f"{program}:untrained",
        "--learning-rate",
        0.01,
        "--optimizer",
        "adam",
        "--schedule",
        "constant",
        "--device",
        "cpu",
        "--batch-size",
        25,
        "--out",
        tmp_path / "run",
        "--quiet",
    )
    assert done.exit_code == 0, done.output
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    history = [
        json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    ]
    assert history[-1]["loss"] < 0.5 < 0.6 < history[0]["loss"]
    assert history[-1]["validation_clean"] >= 0.6, (
        "of one column, arg max would be class 0 everywhere"
    )
    network = SPACE["untrained"]()
    from art_ext.models import load_weights

    load_weights(network, tmp_path / "run" / "model.safetensors")
    data = load_data("digits").first(60)
    clean = float(((network(data.x)[:, 0] > 0) == (data.y > 4)).float().mean())
    assert run["final"]["clean"] == pytest.approx(clean)
    split = load_data("digits", split="train").first(60)
    loss = float(
        binary_cross_entropy_with_logits(network(split.x)[:, 0], (split.y > 4).float()).detach()
    )
    assert abs(loss - history[-1]["loss"]) < 0.1


def test_a_black_box_through_the_core(sample: Any, caplog: pytest.LogCaptureFixture) -> None:
    x, y = sample
    data = load_data("digits", split="train")
    machine = SVC().fit(data.x.flatten(1).numpy(), 2 * (data.y > 4).numpy().astype(int) - 1)

    def decide(rows: Tensor) -> Tensor:
        return torch.from_numpy(machine.decision_function(rows.flatten(1).numpy()))

    with caplog.at_level(logging.INFO, logger="art_ext"):
        scores = core.rays(decide, x, y, eps=0.25, max_queries=60)
    (message,) = [one for one in caplog.messages if "one column" in one]
    assert (
        message
        == "the model returns one column: each value z is read as the logits (0, z) of two classes"
    )
    labels = core.rays(
        lambda rows: (decide(rows) > 0).long(), x, y, eps=0.25, max_queries=60, outputs="labels"
    )
    assert torch.equal(scores.x_adv, labels.x_adv)
    assert int(scores.success[y == 1].sum()) > 0
