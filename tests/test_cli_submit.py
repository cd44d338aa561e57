"""``art-ext submit``, from a real run folder to a submission that passes its own check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.data import load_data
from art_ext.evaluation import evaluate, load_images
from art_ext.evaluation.report import plots
from art_ext.models import save_weights
from art_ext.storage.store import store_of

# digits enlarged to the size of CIFAR-10's images
MODEL = """
from torch import nn
from art_ext.models import digits_cnn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = digits_cnn()

    def forward(self, x):
        return self.net(nn.functional.avg_pool2d(x.mean(dim=1, keepdim=True), 4))

def build():
    return Net()
"""
SAID = """
name = "Mine2026Robust"
authors = "A. Author"
paper-title = "Robust: a title"
paper_link = "https://arxiv.org/abs/1"
architecture = "small"
additional_data = false
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["submit", *map(str, arguments)])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, _trained: tuple[nn.Module, nn.Module]) -> Path:
    """A folder with the model's file and weights, data, metadata, and a run of two radii, the
    larger one the tests'.
    """
    place = tmp_path_factory.mktemp("submit")
    (place / "mine.py").write_text(MODEL)
    (place / "said.toml").write_text(SAID)
    names: dict[str, Callable[[], nn.Module]] = {}
    exec(MODEL, names)  # noqa: S102  # the text above
    model = names["build"]()
    model.get_submodule("net").load_state_dict(_trained[0].state_dict())
    save_weights(model, place / "net.safetensors")
    digits = load_data("digits").first(40)
    large = digits.x.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)
    np.savez(place / "cifar10.npz", x=large.numpy(), y=digits.y.numpy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw", lambda *arguments: [])
        evaluate(
            {"net": model.eval()},
            load_data(place / "cifar10.npz"),
            place / "run",
            eps=(0.02, 0.15),
            attacks=["fgsm", "pgd"],
            attack_args={"pgd": {"num_steps": 3}},
            batch_size=16,
            save_images=True,
            arguments={"path": str(place / "cifar10.npz")},
        )
    return place


@pytest.fixture
def command(place: Path, tmp_path: Path) -> list[object]:
    return [
        place / "run",
        "--model",
        f"{place / 'mine.py'}:build",
        "--weights",
        place / "net.safetensors",
        "--eps",
        "0.15",
        "--metadata",
        place / "said.toml",
        "--out",
        tmp_path / "out",
        "--allow-partial",
        "--sample",
        15,
    ]


def verdicts(place: Path) -> tuple[Tensor, Tensor]:
    """(40,) bool, what is right without an attack, and after it, counted with the model itself."""
    names: dict[str, Callable[[], nn.Module]] = {}
    exec(MODEL, names)  # noqa: S102  # the text above
    from art_ext.models import load_weights

    model = load_weights(names["build"](), place / "net.safetensors").eval()
    data = load_data(place / "cifar10.npz")
    with torch.no_grad():
        answers = [
            model(x).argmax(dim=1) == data.y
            for x in (data.x, load_images(place / "run", "net", 0.15))
        ]
    return answers[0], answers[1]


def test_a_run_in_an_object_store(command: list[object], place: Path, tmp_path: Path) -> None:
    pytest.importorskip("upath", reason="universal-pathlib is not installed")
    store = store_of(f"memory://{tmp_path}")
    for file in (place / "run").rglob("*.*"):
        store.write(file.relative_to(place / "run").as_posix(), file.read_bytes())
    outcome = call(store.path, *command[1:])
    assert outcome.exit_code == 0, outcome.output
    done = [line.split()[:2] for line in outcome.stdout.splitlines()[1:]]
    again = call(*[tmp_path / "here" if one == tmp_path / "out" else one for one in command])
    assert done == [line.split()[:2] for line in again.stdout.splitlines()[1:]]
    store.remove("")


def test_from_a_run_to_a_checked_submission(
    command: list[object], place: Path, tmp_path: Path
) -> None:
    outcome = call(*command)
    assert outcome.exit_code == 0, outcome.output
    lines = [line.split() for line in outcome.stdout.splitlines()[1:]]
    assert {line[0] for line in lines} == {"ok"}
    info = json.loads(
        (tmp_path / "out" / "model_info" / "cifar10" / "Linf" / "Mine2026Robust.json").read_text()
    )
    clean, robust = (100 * float(right.double().mean()) for right in verdicts(place))
    assert 0 < robust < clean
    assert (float(info["clean_acc"]), float(info["reported"])) == (
        round(clean, 2),
        round(robust, 2),
    )
    assert call("--check", tmp_path / "out").exit_code == 0


def test_external_evaluation(command: list[object], place: Path, tmp_path: Path) -> None:
    outcome = call(*command, "--external", "--name", "Wong2020Fast", "--authors", "A. Attacker")
    assert outcome.exit_code == 0, outcome.output
    images = torch.load(tmp_path / "out" / "adversarial_images.pt", weights_only=True)
    assert torch.equal(images, load_images(place / "run", "net", 0.15))
    assert (
        "+ **Author(s):** A. Attacker" in (tmp_path / "out" / "issue.md").read_text().splitlines()
    )


def test_a_failed_check_is_told_by_the_exit_code(command: list[object], tmp_path: Path) -> None:
    assert call(*command).exit_code == 0
    issue = tmp_path / "out" / "issue.md"
    issue.write_text(issue.read_text().replace("**Clean accuracy**: ", "**Clean accuracy**: 1"))
    outcome = call("--check", tmp_path / "out")
    assert outcome.exit_code == 1
    assert "FAILED       issue" in outcome.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--eps", "0.1"], "eps must be one of the run's radii, 0.02, 0.15, got 0.1"),
        (["--run-model", "other"], "run-model must be one of the run's models, net, got other"),
        (["--data", "digits"], "data must be those of the run"),
        (["--model", "art_ext.models:digits_cnn"], "model must be FILE.py:FACTORY"),
        (["--name", "mine"], "a model id must be"),
        (["--dataset", "mnist"], "dataset must be one of"),
    ],
)
def test_bad_input(change: list[str], message: str, command: list[object], tmp_path: Path) -> None:
    outcome = call(*command, *change)
    assert outcome.exit_code == 2
    assert message in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_other_weights_are_refused(command: list[object], place: Path, tmp_path: Path) -> None:
    names: dict[str, Callable[[], nn.Module]] = {}
    exec(MODEL, names)  # noqa: S102  # the text above
    save_weights(names["build"](), tmp_path / "other.safetensors")
    outcome = call(*command, "--weights", tmp_path / "other.safetensors")
    assert outcome.exit_code == 2
    assert "model and weights must be those of the run" in outcome.stderr


def test_a_part_of_the_test_set_is_refused(command: list[object]) -> None:
    outcome = call(*[one for one in command if one != "--allow-partial"])
    assert outcome.exit_code == 2
    assert "10000 images, got 40" in outcome.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("papertitle = 'x'", "unknown option 'papertitle' (did you mean 'paper_title'?)"),
        ("venue = 2026", "venue must be of type str, got 2026"),
        ("venue", "must be TOML"),
    ],
)
def test_metadata_file(line: str, message: str, command: list[object], tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(SAID + line)
    outcome = call(*command, "--metadata", tmp_path / "bad.toml")
    assert outcome.exit_code == 2
    assert message in outcome.stderr


def test_what_to_do_must_be_said(command: list[object], tmp_path: Path) -> None:
    for arguments, message in (
        ([], "either a RUN and --out, or --check FOLDER"),
        ([command[0]], "out must be given"),
        ([command[0], "--out", tmp_path / "out"], "name must be given"),
        ([tmp_path, "--out", tmp_path / "out", "--name", "Mine2026Robust"], "not a run folder"),
        (["--check", tmp_path], "must be a folder made by art-ext submit"),
    ):
        outcome = call(*arguments)
        assert outcome.exit_code == 2
        assert message in " ".join(outcome.stderr.split())


def test_runs_that_no_leaderboard_measures(
    place: Path, tmp_path: Path, command: list[object]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for file in (place / "run").iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    (run / "chunks").symlink_to(place / "run" / "chunks")
    facts = json.loads((run / "run.json").read_text())
    for key, value in (
        ("targeted", "random"),
        ("norm", "l1"),
        ("outputs", "labels"),
        ("clip_values", [0, 255]),
    ):
        (run / "run.json").write_text(
            json.dumps(facts | {"settings": facts["settings"] | {key: value}})
        )
        outcome = call(run, *command[1:])
        assert outcome.exit_code == 2
        assert f"has {key}=" in outcome.stderr
