"""``art-ext submit``, from a real run folder to a submission that passes its own check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.configuration.parsing import parse_arguments
from art_ext.data import load_data
from art_ext.evaluation import evaluate, load_images
from art_ext.evaluation.report import plots
from art_ext.models import load_model, resolve_factory, save_weights
from art_ext.storage.store import store_of
from art_ext.training.heads import MaxMahalanobis

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
        (["--model", "art_ext.models:digits_cnn"], "RobustBench can rebuild"),
        (["--model", "hf/anyone/net"], "RobustBench can rebuild: FILE.py:FACTORY, the folder"),
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


def evaluated(place: Path, folder: Path, *model: object) -> Path:
    """A run of the command line over the data of the tests."""
    given = ["--data", place / "cifar10.npz", "--n", 40, "--eps", 0.05, "--attack", "fgsm"]
    options = [*model, *given, "--save-images", "--name", "net", "--quiet", "--out", folder / "run"]
    outcome = CliRunner().invoke(app, ["evaluate", *map(str, options)])
    assert outcome.exit_code == 0, outcome.output
    return folder / "run"


def check_rebuilt(out: Path, wanted: nn.Module, place: Path) -> None:
    """A submission makes the model from its own files, as RobustBench does."""
    facts = json.loads((out / "submission.json").read_text())["model"]
    made = resolve_factory(f"{out / facts['file']}:{facts['factory']}")
    made.load_state_dict(torch.load(out / "model.pt", weights_only=True))
    x = load_data(place / "cifar10.npz").first(6).x
    with torch.no_grad():
        assert torch.equal(made.eval()(x), wanted(x))


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize(
    ("model", "network"),
    [
        (["{file}:build", "--weights", "{weights}", "--normalize", "cifar10"], None),
        (
            ["timm/mobilenetv3_small_050", "--model-args", "num_classes=10,input_size=(3,32,32)"],
            "timm",
        ),
        (
            [
                "torchvision/shufflenet_v2_x0_5",
                "--model-args",
                "num_classes=10,input_size=(3,32,32)",
            ],
            "torchvision",
        ),
        (["preactresnet18", "--model-args", "width=8"], None),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else None,
)
def test_sources_for_which_a_file_is_written(
    model: list[str], network: str | None, command: list[object], place: Path, tmp_path: Path
) -> None:
    if network is not None:
        pytest.importorskip(network, reason=f"{network} is not installed")
    weights = place / "net.safetensors"
    given = [one.format(file=place / "mine.py", weights=weights) for one in model]
    if "--weights" not in given:
        arguments = parse_arguments(given[2])
        weights = tmp_path / "own.safetensors"
        save_weights(
            load_model(given[0], model_args=arguments, untrained=True, seed=3).model, weights
        )
        given += ["--weights", str(weights)]
    run = evaluated(place, tmp_path, "--model", *given)
    said = ["--metadata", place / "said.toml", "--allow-partial", "--out", tmp_path / "out"]
    outcome = call(run, "--model", *given, *said)
    assert outcome.exit_code == 0, outcome.output
    assert "FAILED" not in outcome.stdout
    lacking = call(run, "--model", "mnist-conv2", "--weights", weights, *said)
    assert lacking.exit_code == 2
    keywords: dict[str, Any] = dict(zip([one[2:] for one in given[1::2]], given[2::2], strict=True))
    if "model-args" in keywords:
        keywords["model_args"] = parse_arguments(keywords.pop("model-args"))
    # nothing but torch and the library is needed to make the network
    check_rebuilt(tmp_path / "out", load_model(given[0], **keywords).model, place)


@pytest.mark.usefixtures("no_report")
def test_the_normalisation_must_be_that_of_the_run(
    command: list[object], place: Path, tmp_path: Path
) -> None:
    model = ["--model", f"{place / 'mine.py'}:build", "--weights", place / "net.safetensors"]
    run = evaluated(place, tmp_path, *model, "--normalize", "cifar10")
    outcome = call(run, *command[1:], "--eps", "0.05")
    assert outcome.exit_code == 2
    assert "net was evaluated with the normalisation mean=" in outcome.stderr
    assert "got none" in outcome.stderr


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("own", ["Net", "Normalized"])
def test_weights_that_name_a_head(own: str, place: Path, tmp_path: Path) -> None:
    """The file makes the bare network, and the weights are those of a trained one with a head.

    Its class may have the name and the member of the normalisation that is written into files.
    """
    file = tmp_path / "own.py"
    file.write_text(MODEL.replace("Net", own).replace("self.net", "self.network"))
    headed = MaxMahalanobis(resolve_factory(f"{file}:build"), 10, 10).eval()
    save_weights(headed, tmp_path / "headed.safetensors")
    given = ["--model", f"{file}:build", "--weights", tmp_path / "headed.safetensors"]
    run = evaluated(place, tmp_path, *given)
    said = ["--metadata", place / "said.toml", "--allow-partial", "--out", tmp_path / "out"]
    outcome = call(run, *given, *said)
    assert outcome.exit_code == 0, outcome.output
    assert "FAILED" not in outcome.stdout
    check_rebuilt(tmp_path / "out", headed, place)


HEADED = """
from dataclasses import dataclass
from art_ext.training.heads import Head
from art_ext.training.recipes.catalogue import Natural

class Doubled(Head):
    def scores(self, raw):
        return 2 * raw

@dataclass(frozen=True)
class Mine(Natural):
    head = Doubled()
"""


@pytest.mark.usefixtures("no_report", "recipes_as_before")
@pytest.mark.parametrize("normalize", ["none", "0.5;0.25"])
def test_the_folder_of_a_training(
    normalize: str, command: list[object], place: Path, tmp_path: Path
) -> None:
    x, y = (np.load(place / "cifar10.npz")[name] for name in ("x", "y"))
    np.savez(tmp_path / "both.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "mine_recipe.py").write_text(HEADED)

    def trained(recipe: object) -> Path:
        folder = tmp_path / f"trained-{Path(str(recipe)).stem}"
        options = ["--data", tmp_path / "both.npz", "--model", f"{place / 'mine.py'}:build"]
        options += ["--normalize", normalize, "--recipe", recipe, "--updates", 2, "--eps", 0.05]
        options += ["--batch-size", 20, "--validation", 0, "--augmentation", "none"]
        options += ["--pgd-steps", 1, "--quiet", "--out", folder]
        outcome = CliRunner().invoke(app, ["train", *map(str, options)])
        assert outcome.exit_code == 0, outcome.output
        return folder

    said = ["--metadata", place / "said.toml", "--allow-partial", "--out", tmp_path / "out"]
    for recipe in ("natural", "rce", "mmc"):
        folder = trained(recipe)
        alone = ["--no-adaptive"] if recipe == "mmc" else []
        run = evaluated(place, tmp_path / recipe, "--model", folder, *alone)
        out = tmp_path / f"out-{recipe}"
        outcome = call(run, "--model", folder, *said[:-1], out)
        assert outcome.exit_code == 0, outcome.output
        assert "FAILED" not in outcome.stdout
        check_rebuilt(out, load_model(folder).model, place)
        told = "against itself were left out (pgd, auto_pgd): the" in (out / "issue.md").read_text()
        assert told == (recipe == "mmc")
    headed = trained(f"{tmp_path / 'mine_recipe.py'}:Mine")
    run = evaluated(place, tmp_path / "headed", "--model", headed)
    outcome = call(run, "--model", headed, *said[:-1], tmp_path / "other")
    assert outcome.exit_code == 2
    assert "was trained with the head Doubled(), which RobustBench cannot" in outcome.stderr
    assert not (tmp_path / "other").exists()


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


def copied(place: Path, run: Path) -> dict[str, Any]:
    """Copy the run of the tests, and return the content of its run.json."""
    run.mkdir()
    for file in (place / "run").iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    (run / "chunks").symlink_to(place / "run" / "chunks")
    facts: dict[str, Any] = json.loads((run / "run.json").read_text())
    return facts


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("digits", [], "leaderboards of cifar10, cifar100, imagenet, but the run is on digits"),
        ("mnist", ["--dataset", "cifar10"], "but the run is on mnist"),
        ("cifar100", ["--dataset", "cifar10"], "that of the run, cifar100, got 'cifar10'"),
    ],
)
def test_the_data_of_a_run_decide_its_leaderboard(
    path: str, given: list[str], message: str, place: Path, tmp_path: Path, command: list[object]
) -> None:
    run = tmp_path / "run"
    facts = copied(place, run)
    facts["arguments"] |= {"path": path}
    (run / "run.json").write_text(json.dumps(facts))
    outcome = call(run, *command[1:], *given)
    assert outcome.exit_code == 2
    assert message in outcome.stderr


def test_a_run_on_cifar100_is_for_its_leaderboard(
    place: Path, tmp_path: Path, command: list[object]
) -> None:
    run = tmp_path / "run"
    facts = copied(place, run)
    facts["arguments"] |= {"path": "cifar100"}
    (run / "run.json").write_text(json.dumps(facts))
    outcome = call(run, *command[1:], "--data", place / "cifar10.npz")
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "out" / "model_info" / "cifar100" / "Linf").is_dir()


def test_runs_that_no_leaderboard_measures(
    place: Path, tmp_path: Path, command: list[object]
) -> None:
    run = tmp_path / "run"
    facts = copied(place, run)
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
