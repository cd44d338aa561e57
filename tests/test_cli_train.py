"""``art-ext train``: its configuration, its folder, its figures, and what it refuses before
anything is written.
"""

from __future__ import annotations

import csv
import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner, Result

from art_ext import configuration, models
from art_ext.cli import app
from art_ext.cli import train as cli_train
from art_ext.configuration.options import options_of
from art_ext.configuration.training import TrainingConfig
from art_ext.core.attacks import pgd, rays
from art_ext.core.metrics import adbd, query_statistics, robust_accuracy
from art_ext.data import load_data
from art_ext.data.classes import CLASS_ORDERS
from art_ext.evaluation.report import trainings
from art_ext.models import digits_cnn, load_weights
from art_ext.training import RECIPES, TrainingOptions, saving
from art_ext.training.augmentation import AUGMENTATIONS
from art_ext.training.checkpoints import checkpoints
from art_ext.training.recipes.catalogue import CATALOGUE
from art_ext.training.runs import (
    NETWORKS,
    Configuration,
    figures,
    make_network,
    requirements,
    resolve,
    run,
)
from art_ext.training.runs.defaults import DEFAULTS
from art_ext.training.schedules import SCHEDULES

Given = dict[str, Any]
FILES = {
    "config.toml",
    "training.json",
    "history.jsonl",
    "history.csv",
    "model.safetensors",
    "best.safetensors",
    "run.json",
    "checkpoints",
    "index.html",
    "curves.png",
}


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the curves takes longer than a training of these tests."""
    monkeypatch.setattr(trainings, "_picture", lambda charts: b"")


EARLIER = """# art-ext train 0.1.0; to repeat: art-ext train --config THIS_FILE --out FOLDER
recipe = "fast"
data = "digits"
model = "digits-cnn"
eps = 0.15
class_order = "numeric"
n = 60
augmentation = "none"
epochs = 2
batch_size = 64
drop_last = false
optimizer = "adam"
learning_rate = 0.004
momentum = 0.9
nesterov = false
weight_decay = 0.0
schedule = "cyclic"
warmup_epochs = 0.0
eps_warmup_epochs = 0.0
label_smoothing = 0.0
validation = 10.0
validation_steps = 10
ema = 0.0
freeze_eval_modules = true
precision = "no"
channels_last = false
compile = false
clip_values = [0.0, 1.0]
seed = 0
device = "cpu"
tensorboard = false
rays = 0
test_n = 20
pgd_steps = 20
"""  # config.toml of version 0.1.0 before its writer was a library


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def command(tmp_path: Path) -> list[object]:
    """Two epochs of one-step training on 60 digits, into the folder run."""
    return [
        "train",
        "--recipe",
        "fast",
        "--data",
        "digits",
        "--n",
        60,
        "--epochs",
        2,
        "--test-n",
        20,
        "--validation",
        10,
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
        "--quiet",
    ]


@pytest.fixture
def own_data(tmp_path: Path) -> Path:
    """Forty digits to train on and ten to test on, as data of the user's own."""
    split = {name: load_data("digits", split=name) for name in ("train", "test")}
    np.savez(
        tmp_path / "mine.npz",
        x_train=split["train"].x[:40].numpy(),
        y_train=split["train"].y[:40].numpy(),
        x_test=split["test"].x[:10].numpy(),
        y_test=split["test"].y[:10].numpy(),
    )
    return tmp_path / "mine.npz"


# --- configuration ---


class TestConfiguration:
    @pytest.mark.parametrize(
        "given",
        [
            {
                "recipe": "atcd",
                "data": "digits",
                "eps": "8/255",
                "recipe_args": "num_replays=2,order=fresh,alpha=1/9",
            },
            {
                "recipe": "war",
                "data": "mnist",
                "updates": 7,
                "ema": 0.99,
                "recipe_args": "rule=printed,cap=1e9,ema=none,regulariser=at",
            },
            {
                "recipe": "natural",
                "data": "cifar10",
                "augmentation": "none",
                "weights": 'a "b"\\c\u00e9\x7f\n.bin',
            },
            {
                "recipe": "free",
                "data": "./x.npz",
                "model": "nets.py:make",
                "eps": 1e-5,
                "model_args": "a=(8, 16),b=yes",
                "clip_values": "-1,1",
                "tensorboard": True,
                "n": 5,
                "test_n": 6,
            },
            {
                "recipe": "pgd",
                "data": "mnist",
                "schedule": "piecewise",
                "schedule_args": "milestones=(3,4.5),factor=1/9",
            },
            {
                "recipe": "pgd",
                "data": "digits",
                "recipe_args": {"norm": "l2", "tolerance": 1},
                "eps": 1,
            },
            {
                "recipe": "pgd",
                "data": "digits",
                "recipe_args": "tolerance={0: 0, 40: 1, 70: none},num_steps=3",
                "passes": "81/2",
            },
            {"recipe": "trades", "data": "digits", "recipe_args": {"tolerance": {0: 0, 5: 2}}},
        ],
    )
    def test_its_file_gives_it_back(self, tmp_path: Path, given: Given) -> None:
        configuration = resolve(given)
        file = tmp_path / "config.toml"
        file.write_text(configuration.to_toml(), encoding="utf-8")
        assert resolve({}, file) == configuration
        assert resolve({}, file).make_recipe().settings() == configuration.make_recipe().settings()

    def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "mine.toml"
        file.write_text(
            'recipe = "trades"\ndata = "digits"\neps = "1/10"\nbatch-size = 32\nchannels_last = true\n'
            '[recipe_args]\nbeta = 3\nstep_size = "1/50"\n'
        )
        found = resolve({"batch_size": 16, "channels_last": False, "seed": None}, file)
        assert (found.batch_size, found.channels_last) == (16, False)
        assert (found.eps, found.recipe_args) == (0.1, {"beta": 3, "step_size": 0.02})
        assert (found.optimizer, found.learning_rate, found.model, found.seed) == (
            "adam",
            4e-3,
            "digits-cnn",
            0,
        )
        assert found.make_recipe().settings()["beta"] == 3

    def test_arguments_go_with_the_name_they_belong_to(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text(
            'recipe = "free"\ndata = "cifar10"\nmodel = "wideresnet"\nschedule = "piecewise"\nepochs = 3\n'
            "recipe_args.num_replays = 4\nmodel_args.depth = 10\nschedule_args.factor = 0.2\n"
        )
        other = resolve(
            {"recipe": "pgd", "model": "resnet18", "schedule": "cosine", "updates": 9}, file
        )
        assert other.recipe_args == other.model_args == other.schedule_args == {}
        assert (other.epochs, other.updates, other.equivalent_epochs) == (None, 9, None)
        same = resolve({"recipe": "free", "recipe_args": "step_size=.01"}, file)
        assert (same.recipe_args, same.model_args) == ({"step_size": 0.01}, {"depth": "10"})
        assert (same.schedule_args, same.epochs) == ({"factor": 0.2}, 3)
        length = resolve({"recipe": "free", "passes": 30}, file)
        assert (length.epochs, length.passes) == (None, 30.0)
        file.write_text(
            'recipe = "pgd"\ndata = "digits"\npasses = 50\nrecipe_args.tolerance = {0 = 0, 2 = 1}\n'
        )
        found = resolve({}, file)
        assert (found.passes, found.equivalent_epochs) == (50.0, None)
        assert found.make_recipe().settings()["tolerance"] == {0: 0, 2: 1}
        file.write_text("recipe_args.num_steps = 4")
        assert resolve({"recipe": "pgd", "data": "digits"}, file).recipe_args == {"num_steps": 4}, (
            "the file names none"
        )

    @pytest.mark.parametrize("recipe", RECIPES)
    @pytest.mark.parametrize(
        ("data", "eps"), [("digits", 0.15), ("mnist", 0.3), ("cifar10", 8 / 255)]
    )
    def test_defaults_of_data_and_recipe(self, recipe: str, data: str, eps: float) -> None:
        found = resolve({"recipe": recipe, "data": data})
        assert found.eps == eps
        own = RECIPES[recipe]
        crafts = hasattr(own, "eps") and getattr(own, "craft", "") != "none"
        assert found.make_recipe().radius == (eps if crafts else 0)
        assert (found.epochs is None) == crafts
        assert found.augmentation == ("crop_flip" if data == "cifar10" else "none")
        assert 0 < found.validation < 1, "never chosen on test data"

    def test_the_radius_grows_over_a_fifth_of_a_run_on_mnist(self) -> None:
        given = {"recipe": "free", "data": "mnist"}
        for length, passes in (
            ({}, 20 / 8),
            ({"epochs": 5}, 5),
            ({"recipe_args": "num_replays=4"}, 20 / 4),
        ):
            assert resolve({**given, **length}).eps_warmup_epochs == pytest.approx(passes / 5)
        # 2 rows for an update of each sample, 8 updates of each minibatch
        assert resolve({**given, "passes": 40}).eps_warmup_epochs == pytest.approx(40 / 16 / 5)
        assert resolve({**given, "recipe": "pgd", "passes": 44}).eps_warmup_epochs == pytest.approx(
            44 / 22 / 5
        )
        assert resolve({**given, "updates": 50}).eps_warmup_epochs == 0
        assert resolve({**given, "eps_warmup_epochs": 0}).eps_warmup_epochs == 0
        assert resolve({**given, "recipe": "natural"}).eps_warmup_epochs == 0
        assert resolve(given).schedule_args == {"peak": 0.4}
        assert resolve({**given, "schedule": "cosine"}).schedule_args == {}

    @pytest.mark.parametrize("recipe", ["fast", "fast-trades", "backward-smoothing"])
    def test_one_long_step_starts_outside_the_box_on_mnist_unless_told_otherwise(
        self, recipe: str
    ) -> None:
        given = {"recipe": recipe, "data": "mnist"}
        assert resolve(given).recipe_args == {"boxed_start": False}
        assert resolve({**given, "recipe_args": "boxed_start=true,num_steps=2"}).recipe_args == {
            "boxed_start": True,
            "num_steps": 2,
        }
        assert resolve({**given, "data": "digits"}).recipe_args == {}
        assert resolve({**given, "recipe": "pgd"}).recipe_args == {}

    def test_the_network_with_dropout_drops_half_in_training(self) -> None:
        given = {"recipe": "pgd", "data": "mnist", "model": "mnist-smallcnn"}
        assert resolve(given).model_args == {"dropout": "0.5"}
        found = resolve({**given, "model_args": "dropout=0,batch_norm=True"}).model_args
        assert found == {"dropout": "0", "batch_norm": "True"}
        assert resolve({**given, "model": "mnist-conv2"}).model_args == {}
        network = make_network("mnist-smallcnn", resolve(given).model_args, 0)
        assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.5]

    def test_another_optimiser_does_not_get_the_rate_of_the_tables(self) -> None:
        given = {"recipe": "pgd", "data": "digits"}
        assert [
            resolve({**given, "optimizer": name}).learning_rate for name in ("adam", "sgd", "adamw")
        ] == [4e-3, 0.1, 1e-3]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("batchsize = 3", "unknown option 'batchsize' (did you mean 'batch_size'?)"),
            ("recipe_arg.beta = 3", "did you mean 'recipe_args'?"),
            ("epochs = 2.0", "epochs must be an integer, got 2.0"),
            ("epochs = true", "epochs must be an integer, got True"),
            ("eps = true", "eps must be a number"),
            ('eps = "much"', "eps must hold numbers or fractions"),
            ('nesterov = "no"', "nesterov must be true or false, got 'no'"),
            ("model = 18", "model must be a text, got 18"),
            ("recipe_args = 3", "recipe_args must be a table"),
            ("clip_values = [0]", "clip_values must be two numbers"),
            ("recipe_args.eps = 0.1", "eps has an option of its own"),
            ("epochs = 2\nupdates = 3", "pass one of"),
            ("epochs = ", "must be TOML"),
        ],
    )
    def test_bad_files_are_refused(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "bad.toml").write_text(text)
        done = call(
            "train",
            "--recipe",
            "pgd",
            "--data",
            "digits",
            "--out",
            tmp_path / "run",
            "--config",
            tmp_path / "bad.toml",
        )
        assert done.exit_code == 2
        assert message in done.stderr
        assert not (tmp_path / "run").exists()

    def test_every_setting_has_an_option(self) -> None:
        options = set(inspect.signature(cli_train.train).parameters)
        own = {"context", "out", "config", "resume", "overwrite", "quiet"}
        assert options - {one.name for one in fields(Configuration)} == own
        assert {one.name for one in fields(Configuration)} < options
        of_the_loop = {one.name for one in fields(TrainingOptions)}
        no_option = {
            "validation_data",
            "checkpoint_dir",
            "resume",
            "callbacks",
            "progress",
            "schedule_every",
            "schedule_metric",
        }
        assert of_the_loop - options - no_option == set(), (
            "an option of the loop that the command does not offer"
        )

    def test_the_help_names_all_recipes_and_networks(self) -> None:
        facts = {name: about for name, (_, about) in options_of(TrainingConfig).items()}
        # not RECIPES: other tests of this process may have loaded recipes of their own
        assert all(recipe.name in facts["recipe"].help for recipe in CATALOGUE)
        assert all(name in facts["model"].help for name in NETWORKS)

    def test_the_choices_are_the_names_that_the_code_knows(self) -> None:
        facts = {name: about for name, (_, about) in options_of(TrainingConfig).items()}
        assert facts["augmentation"].choices == tuple(AUGMENTATIONS)
        assert facts["class_order"].choices == CLASS_ORDERS
        assert all(name in facts["schedule"].help for name in SCHEDULES)

    def test_every_option_stands_in_one_place(self) -> None:
        """The name of an option that no rule treats apart is written in one module only, beside
        those that use its value.
        """
        root = Path(configuration.__file__).parents[1]
        named = [
            path.relative_to(root).as_posix()
            for folder in ("cli", "configuration", "trainers", "training")
            for path in (root / folder).rglob("*.py")
            if re.search(r"^ *\"?label_smoothing\"?[:,=]", path.read_text("utf-8"), re.MULTILINE)
        ]
        assert named == ["configuration/training.py"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('data = "digits"\nseed = 1\nbatchsize = 3', "bad.toml, line 3: unknown option 'batch"),
            ("# a line\n\nepochs = 2.0", "bad.toml, line 3: epochs must be an integer, got 2.0"),
            ("seed = 1\n[recipe_arg]\nbeta = 1", "bad.toml, line 2: unknown option 'recipe_arg'"),
            ("schedule_args.peak = 1\n[model-args]\nn = 1\n[c]\nn = 1", "bad.toml, line 4: "),
        ],
    )
    def test_errors_in_a_file_name_the_line(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(ValueError, match=re.escape(message)):
            resolve({"recipe": "pgd"}, tmp_path / "bad.toml")

    def test_a_file_of_an_earlier_version(self, tmp_path: Path) -> None:
        file = tmp_path / "config.toml"
        file.write_text(EARLIER, encoding="utf-8")
        given = {"recipe": "fast", "data": "digits", "n": 60, "epochs": 2, "test_n": 20}
        assert resolve({}, file) == resolve({**given, "validation": 10, "device": "cpu"})

    def test_every_network_has_a_short_name(self) -> None:
        made = [name for name in models.__all__ if inspect.isfunction(getattr(models, name))]
        helpers = {
            "drop_damaged_answers",
            "load_generator",
            "load_model",
            "load_weights",
            "members",
            "save_weights",
            "normalized",
            "replace_activations",
            "resolve_factory",
        }
        assert set(made) - helpers == set(NETWORKS.values())
        assert {one.model for one in DEFAULTS.values()} <= set(NETWORKS)


class TestNetworks:
    def test_weights_depend_on_the_seed_and_on_nothing_else(self) -> None:
        torch.manual_seed(5)
        before = torch.get_rng_state()
        first, same, other = (
            make_network("digits-cnn", {}, seed).state_dict() for seed in (3, 3, 4)
        )
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(first[name], same[name]) for name in first)
        assert not torch.equal(first["0.weight"], other["0.weight"])

    def test_arguments_reach_the_factory(self) -> None:
        assert make_network("preactresnet18", {"width": "4", "num_classes": "3"}, 0)(
            torch.rand(1, 3, 32, 32)
        ).shape == (1, 3)

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "nets.py").write_text(
            "from torch import nn\ndef net(width=3):\n    return nn.Linear(width, 2)\n"
        )
        network = make_network(f"{tmp_path}/nets.py:net", {"width": "5"}, 0)
        assert isinstance(network, nn.Linear)
        assert network.in_features == 5


# --- the folder ---


def test_what_the_folder_holds(command: list[object], tmp_path: Path) -> None:
    done = call(*command)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == FILES
    said = json.loads((folder / "run.json").read_text())
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert len(list(csv.DictReader((folder / "history.csv").open()))) == len(rows) == 2
    assert (said["tool"], said["recipe"]["name"], said["test_samples"]) == (
        "art-ext train",
        "fast",
        20,
    )
    assert (said["forwards"], said["backwards"]) == (2 * 50 * 2, 2 * 50 * 2)
    assert said["final"]["epoch"] == 2
    best = max(rows, key=lambda row: (row["validation_robust"], row["validation_clean"]))
    assert (said["best"]["epoch"], said["best"]["forwards"]) == (best["epoch"], best["forwards"])
    assert not list(folder.glob("**/*.tmp"))
    found = resolve({}, folder / "config.toml")
    assert (found.n, found.epochs, found.recipe, found.model) == (60, 2, "fast", "digits-cnn")


def test_the_figures_are_those_of_the_weights_that_lie_there(
    command: list[object], tmp_path: Path
) -> None:
    done = call(
        *command,
        "--rays",
        40,
        "--eps",
        0.1,
        "--batch-size",
        5,
        "--epochs",
        6,
        "--learning-rate",
        0.01,
        "--validation",
        20,
    )
    assert done.exit_code == 0, done.output
    folder, test = tmp_path / "run", load_data("digits").first(20)
    said = json.loads((folder / "run.json").read_text())
    assert said["eps"] == 0.1
    assert said["pgd"] == {"steps": 20, "step_size": 0.0125, "starts": 1, "seed": 0}
    for name, file in (("final", "model"), ("best", "best")):
        model = load_weights(digits_cnn(), folder / f"{file}.safetensors").eval()
        assert said[name]["clean"] == pytest.approx(
            float((model(test.x).argmax(1) == test.y).float().mean())
        )
        attacked = pgd(model, test.x, test.y, eps=0.1, num_steps=20, step_size=0.0125, seed=0)
        assert said[name]["pgd20"] == robust_accuracy(attacked)
        # without labels PGD leaves the model's own predictions
        own = pgd(model, test.x, eps=0.1, num_steps=20, step_size=0.0125, seed=0)
        assert said[name]["stability"] == robust_accuracy(own)
        searched = rays(model, test.x, test.y, eps=0.1, max_queries=40, stop_on_success=False)
        assert said[name]["rays"]["robust_accuracy"] == robust_accuracy(searched)
        assert said[name]["rays"]["adbd"] == adbd(searched).value
        assert said[name]["rays"]["mean_queries"] == query_statistics(searched).mean > 1
        assert 0 < said[name]["pgd20"] < said[name]["clean"], "numbers that could differ"


def test_steps_of_pgd_for_the_figures(command: list[object], tmp_path: Path) -> None:
    settings = [
        "--eps",
        0.1,
        "--epochs",
        6,
        "--learning-rate",
        0.01,
        "--batch-size",
        5,
        "--test-n",
        30,
    ]
    first = call(*command, *settings, "--pgd-steps", 3, "--pgd-step-size", "1/50")
    assert first.exit_code == 0, first.output
    folder, test = tmp_path / "run", load_data("digits").first(30)
    said = json.loads((folder / "run.json").read_text())
    assert said["pgd"] == {"steps": 3, "step_size": 0.02, "starts": 1, "seed": 0}
    model = load_weights(digits_cnn(), folder / "model.safetensors").eval()
    attacked = pgd(model, test.x, test.y, eps=0.1, num_steps=3, step_size=0.02, seed=0)
    assert said["final"]["pgd3"] == robust_accuracy(attacked)
    assert "pgd20" not in said["final"]
    assert "| PGD-3 |" in first.stdout
    before = content(folder)
    again = call("train", "--resume", "--out", folder, "--pgd-steps", 7, "--quiet")
    assert again.exit_code == 0, again.output
    said = json.loads((folder / "run.json").read_text())
    assert said["pgd"] == {"steps": 7, "step_size": 0.02, "starts": 1, "seed": 0}
    attacked = pgd(model, test.x, test.y, eps=0.1, num_steps=7, step_size=0.02, seed=0)
    assert said["final"]["pgd7"] == robust_accuracy(attacked)
    assert content(folder)["model.safetensors"] == before["model.safetensors"]
    plain = figures.step_size(0.1, 20, None)
    assert plain == pytest.approx(0.0125)


def test_frozen_modules_and_the_last_minibatch_of_a_file(
    command: list[object], own_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "def net(frozen=True):\n"
        "    norm = nn.BatchNorm1d(8)\n"
        "    norm.train(not frozen)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), norm, nn.ReLU(), nn.Linear(8, 10))\n"
    )
    asked = [
        *command,
        "--data",
        own_data,
        "--eps",
        0.1,
        "--model",
        f"{tmp_path / 'nets.py'}:net",
        "--n",
        33,
    ]
    asked += ["--validation", 0, "--batch-size", 16, "--test-n", 10]

    def mean(name: str) -> torch.Tensor:
        return load_file(tmp_path / name / "model.safetensors")["2.running_mean"]

    done = call(*asked, "--out", tmp_path / "frozen")
    assert done.exit_code == 0, done.output
    assert not mean("frozen").any()
    refused = call(*asked, "--no-freeze-eval-modules", "--out", tmp_path / "refused")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "fails on a minibatch of one row" in refused.stderr
    assert "pass drop_last=True" in refused.stderr
    assert not (tmp_path / "refused").exists()
    done = call(*asked, "--no-freeze-eval-modules", "--drop-last", "--out", tmp_path / "dropped")
    assert done.exit_code == 0, done.output
    assert mean("dropped").any()
    assert json.loads((tmp_path / "dropped" / "run.json").read_text())["updates"] == 4
    none = call(*asked, "--drop-last", "--batch-size", 34, "--out", tmp_path / "none")
    assert (none.exit_code, "drop_last omits every minibatch" in none.stderr) == (2, True)
    assert not (tmp_path / "none").exists()


def test_quiet_prints_the_table_and_nothing_else(command: list[object], tmp_path: Path) -> None:
    command += ["--test-n", 9]  # too few for a warning of chance level
    quiet = call(*command)
    assert (quiet.exit_code, quiet.stderr) == (0, "")
    head, rule, final, _ = quiet.stdout.splitlines()
    assert set(rule) <= set("|-: ")
    cells = dict(
        zip(map(str.strip, head.split("|")), map(str.strip, final.split("|")), strict=True)
    )
    said = json.loads((tmp_path / "run" / "run.json").read_text())["final"]
    assert (cells["weights"], cells["epoch"], cells["RayS"]) == ("final", "2", "-")
    assert cells["clean acc."] == f"{100 * said['clean']:.1f} %"
    assert cells["PGD-20"] == f"{100 * said['pgd20']:.1f} %"
    assert cells["stability"] == f"{100 * said['stability']:.1f} %"
    assert (cells["forwards"], cells["backwards"]) == ("200", "200")
    command.remove("--quiet")
    told = call(*command, "--out", tmp_path / "told")
    assert told.stdout.startswith(quiet.stdout.split(" forwards")[0])
    assert told.stdout.splitlines()[-1].endswith(f"run: {tmp_path / 'told'}")
    assert "fast: 100%" in told.stderr, "the bar"


def test_without_validation_there_is_no_best(command: list[object], tmp_path: Path) -> None:
    done = call(*command, "--validation", 0)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "run" / "run.json").read_text())["best"] is None
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert len(done.stdout.splitlines()) == 3


def test_eps_of_natural_training_is_that_of_the_figures(
    command: list[object], tmp_path: Path
) -> None:
    found = []
    for place, eps in enumerate((0.01, 0.5)):
        out = tmp_path / str(place)
        done = call(
            *command,
            "--recipe",
            "natural",
            "--epochs",
            8,
            "--learning-rate",
            0.01,
            "--eps",
            eps,
            "--out",
            out,
        )
        assert done.exit_code == 0, done.output
        found.append(
            (
                load_file(out / "model.safetensors"),
                json.loads((out / "run.json").read_text())["final"],
            )
        )
    (weights, near), (same, far) = found
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert near["clean"] == far["clean"] > 0.2
    assert far["pgd20"] < near["pgd20"]


def test_starts_from_weights_and_trains_on_data_of_ones_own(
    command: list[object], own_data: Path, tmp_path: Path
) -> None:
    assert call(*command).exit_code == 0
    first = tmp_path / "run" / "model.safetensors"
    own = [
        *command,
        "--data",
        own_data,
        "--model",
        "art_ext.models:digits_cnn",
        "--eps",
        "0.1",
        "--weights",
        first,
        "--updates",
        1,
        "--learning-rate",
        1e-12,
        "--schedule",
        "constant",
        "--optimizer",
        "sgd",
        "--out",
        tmp_path / "second",
    ]
    done = call(*(own[:7] + own[9:]))  # a number of updates in place of the epochs
    assert done.exit_code == 0, done.output
    before, after = load_file(first), load_file(tmp_path / "second" / "model.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert json.loads((tmp_path / "second" / "run.json").read_text())["test_samples"] == 10


# --- resume ---


@pytest.mark.parametrize("recipe", ["free", "atcd"])
def test_a_resumed_run_equals_the_uninterrupted_one(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    asked = [*command, "--recipe", recipe, "--recipe-args", "num_replays=2", "--batch-size", 16]
    whole = call(*asked, "--out", tmp_path / "whole")
    assert whole.exit_code == 0, whole.output
    save, count = saving.save_checkpoint, iter(range(9))

    def killed(*arguments: Any) -> Path:
        if next(count) == 3:
            raise KeyboardInterrupt
        return save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_checkpoint", killed)
        assert call(*asked, "--checkpoint-every", 2).exit_code != 0
    folder = tmp_path / "run"
    assert checkpoints(folder / "checkpoints")[-1].name == "update-000000006"
    assert not (folder / "run.json").exists()
    refused = call(*asked)
    assert refused.exit_code == 2
    assert "pass --resume to continue it" in refused.stderr
    before = content(folder)
    bare = call("train", "--out", folder)
    assert bare.exit_code == 2
    assert f"{folder} holds a run: pass --resume to continue it" in bare.stderr
    assert content(folder) == before
    resumed = call("train", "--resume", "--out", folder, "--quiet")
    assert resumed.exit_code == 0, resumed.output
    for name in ("model.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ours, theirs = (
        json.loads((tmp_path / name / "run.json").read_text()) for name in ("run", "whole")
    )
    for name in ("final", "best"):
        assert {**ours[name], "seconds": 0} == {**theirs[name], "seconds": 0}


def test_a_finished_run_is_shown_again_and_other_figures_are_measured(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = call(*command)
    folder = tmp_path / "run"
    before = content(folder)

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("trained or measured again")

    with monkeypatch.context() as patch:
        patch.setattr(run, "train_tracked", never)
        for again in (
            call(*command, "--resume"),
            call("train", "--resume", "--out", folder, "--quiet"),
        ):
            assert again.exit_code == 0, again.output
            assert again.stdout == first.stdout
    assert content(folder) == before
    more = call("train", "--resume", "--out", folder, "--rays", 30, "--quiet")
    assert more.exit_code == 0, more.output
    after = content(folder)
    for name in ("model.safetensors", "best.safetensors", "training.json", "history.jsonl"):
        assert after[name] == before[name]
    said = json.loads(after["run.json"])
    assert said["figures"] == {"rays": 30, "test_n": 20}
    assert {**said["final"], "rays": None} == json.loads(before["run.json"])["final"]
    # killed before the new figures were written
    (folder / "run.json").write_bytes(before["run.json"])
    assert call("train", "--resume", "--out", folder, "--quiet").stdout == more.stdout
    monkeypatch.setenv("RANK", "1")
    assert call("train", "--resume", "--out", folder, "--quiet").stdout == "", (
        "the first process prints"
    )


def test_other_figures_need_no_training_data(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = load_data("digits").first(20)
    np.savez(tmp_path / "more.npz", x=digits.x.numpy(), y=digits.y.numpy())
    settings = ["--recipe", "mmc", "--recipe-args", "dim=12", "--append", tmp_path / "more.npz"]
    settings += ["--eps", 0.1, "--learning-rate", 0.01]
    first = call(*command, *settings)
    assert first.exit_code == 0, first.output
    (tmp_path / "more.npz").unlink()
    folder = tmp_path / "run"
    before = json.loads((folder / "run.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(run, "train_tracked", None)
        more = call("train", "--resume", "--out", folder, "--pgd-steps", 3, "--quiet")
    assert more.exit_code == 0, more.output
    said = json.loads((folder / "run.json").read_text())
    test = load_data("digits").first(20)
    for name in ("final", "best"):
        model = models.load_model(folder, checkpoint=name).model
        attacked = pgd(model, test.x, test.y, eps=0.1, num_steps=3, loss="margin", seed=0)
        assert said[name].pop("pgd3") == robust_accuracy(attacked)
        before[name].pop("pgd20")
        own = pgd(model, test.x, eps=0.1, num_steps=3, loss="margin", seed=0)
        assert said[name].pop("stability") == robust_accuracy(own)
        before[name].pop("stability")
    changed = ("pgd", "figures")
    assert {key: said[key] for key in said if key not in changed} == {
        key: before[key] for key in before if key not in changed
    }
    assert said["pgd"]["loss"] == "margin"


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["--seed", 1], "seed: 0 there, 1 here"),
        (["--recipe", "pgd"], "recipe: 'fast' there, 'pgd' here"),
        (["--recipe-args", "num_steps=2"], "recipe_args: {} there, {'num_steps': 2} here"),
        (["--epochs", 3], "epochs: 2 there, 3 here"),
        (["--n", 50], "n: 60 there, 50 here"),
    ],
)
def test_a_run_of_another_configuration_is_refused(
    command: list[object],
    tmp_path: Path,
    finished: Path,
    resume: list[str],
    changed: list[object],
    named: str,
) -> None:
    before = content(finished)
    done = call(*command, *changed, "--out", finished, *resume)
    assert done.exit_code == 2
    assert f"another configuration ({named})" in done.stderr
    assert content(finished) == before


def test_a_resumed_run_takes_what_is_not_given_from_its_folder(finished: Path) -> None:
    assert call("train", "--out", finished, "--resume", "--recipe", "fast").exit_code == 0
    before = content(finished)
    done = call("train", "--out", finished, "--resume", "--recipe", "free")
    assert done.exit_code == 2
    assert "another configuration (recipe: 'fast' there, 'free' here" in done.stderr
    assert content(finished) == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = call(
        "train",
        "--recipe",
        "fast",
        "--data",
        "digits",
        "--n",
        60,
        "--epochs",
        2,
        "--test-n",
        20,
        "--validation",
        10,
        "--device",
        "cpu",
        "--out",
        folder,
        "--quiet",
    )
    assert done.exit_code == 0, done.output
    return folder


def test_a_run_is_replaced_when_asked(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*command, "--seed", 1).exit_code == 0
    folder, other = tmp_path / "run", tmp_path / "other"
    (folder / "notes.txt").write_text("mine")
    before = content(folder)
    refused = call(*command)
    assert "or replace that run with --overwrite" in refused.stderr
    assert content(folder) == before
    # what is refused before the training leaves the earlier run alone
    assert call(*command, "--overwrite", "--data", "nowhere", "--eps", 0.1).exit_code == 2
    assert call(*command, "--overwrite", "--resume").exit_code == 2
    assert content(folder) == before

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "train_tracked", stop)
        assert call(*command, "--overwrite").exit_code != 0
    kept = {name: text for name, text in before.items() if name != "notes.txt"}
    assert content(folder / ".previous-run") == kept, "until the new run is complete"
    done = call(*command, "--overwrite")
    assert done.exit_code == 0, done.output
    assert call(*command, "--out", other).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {*FILES, "notes.txt"}
    for name in ("model.safetensors", "best.safetensors", "config.toml", "training.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes() != before[name]
    assert (folder / "notes.txt").read_text() == "mine"
    assert call(*command, "--overwrite", "--out", tmp_path / "new").exit_code == 0, (
        "a new folder will do"
    )


@pytest.mark.parametrize("name", ["thesis.tex", "model.safetensors", "config.toml", "checkpoints"])
def test_foreign_files_are_not_replaced(command: list[object], tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text('colour = "mine"')
    done = call(*command, "--overwrite")
    assert (done.exit_code, "holds other files" in done.stderr) == (2, True)
    # a configuration of the user's own does not make the other files ours
    if name != "config.toml":
        (tmp_path / "run" / "config.toml").write_text('recipe = "pgd"\ndata = "digits"\n')
        before = content(tmp_path / "run")
        done = call(*command, "--overwrite")
        assert (done.exit_code == 2) == (name != "thesis.tex")
        assert (f"holds {name}, but not of a run of art-ext train" in done.stderr) == (
            name != "thesis.tex"
        )
        assert (tmp_path / "run" / name).read_text() == 'colour = "mine"'
        assert (content(tmp_path / "run") == before) == (name != "thesis.tex")


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize("name", ["thesis.tex", "model.safetensors", "config.toml", "run.json"])
def test_foreign_files_are_left_alone(
    command: list[object], tmp_path: Path, resume: list[str], name: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text('colour = "mine"')
    done = call(*command, *resume)
    assert done.exit_code == 2
    assert "holds other files" in done.stderr
    assert content(tmp_path / "run") == {name: b'colour = "mine"'}


def test_what_a_killed_start_left_is_no_foreign_file(command: list[object], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.toml.0123.tmp").write_text("rec")
    assert call(*command).exit_code == 0


def test_weights_that_give_no_loss_leave_no_checkpoint(
    command: list[object], tmp_path: Path
) -> None:
    done = call(
        *command,
        "--optimizer",
        "sgd",
        "--learning-rate",
        1e30,
        "--schedule",
        "constant",
        "--checkpoint-every",
        1,
        "--batch-size",
        10,
    )
    assert done.exit_code == 2
    assert "the loss is nan after weight update 0: lower the learning rate" in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.toml", "training.json"}


def test_a_budget_of_passes(command: list[object], tmp_path: Path) -> None:
    place = command.index("--epochs")
    asked = [*command[:place], "--passes", "9.5", *command[place + 2 :]]
    assert call(*asked).exit_code == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    # of the fifty samples that are not held out
    assert (run["forwards"], run["backwards"]) == (2 * 2 * 50, 2 * 2 * 50)
    assert "passes = 9.5" in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--passes", "3.99"],
            "passes must be at least 4, the rows of one weight update per training sample, got 3.9",
        ),
        (["--passes", "0"], "passes must be > 0, got 0.0"),
        (
            ["--passes", "8", "--epochs", "2"],
            "pass one of epochs, updates, equivalent_epochs, passes, got",
        ),
        (["--passes", "8", "--recipe-args", "tolerance={1: 0}"], "begins at epoch 0, got {1: 0}"),
    ],
)
def test_a_budget_or_a_schedule_that_makes_no_sense(
    options: list[str], message: str, command: list[object], tmp_path: Path
) -> None:
    place = command.index("--epochs")
    result = call(*command[:place], *command[place + 2 :], *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


# --- refusals ---


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--recipe", "atdc"], "did you mean 'atcd'?"),
        (["--model", "preactresnet"], "did you mean 'preactresnet18'?"),
        (["--recipe-args", "num_step=3"], "did you mean 'num_steps'?"),
        (["--recipe-args", "num_steps=0"], "num_steps must be an integer >= 1"),
        (["--recipe-args", "eps=0.1"], "eps has an option of its own"),
        (["--recipe-args", "norm=l2"], "eps must be given for"),
        (["--schedule", "cylic"], "did you mean 'cyclic'?"),
        (["--schedule-args", "peek=0.2"], "did you mean 'peak'?"),
        (["--model-args", "depth=3"], "takes the arguments"),
        (["--eps", "8"], "eps must not exceed the box width 1"),
        (["--recipe", "natural", "--eps", "8"], "eps must not exceed the box width 1"),
        (["--eps", "0"], "eps must be > 0"),
        (["--eps", "eight"], "eps must hold numbers"),
        (["--data", "nowhere"], "model must be given for data of your own"),
        (["--data", "nowhere", "--model", "digits-cnn", "--eps", "0.1"], "'nowhere'"),
        (["--model", "mnist-conv2"], "the model fails on inputs of shape (2, 1, 8, 8)"),
        (
            ["--model", "torch.nn:Flatten", "--model-args", "start_dim=0"],
            "must return (rows, classes) logits",
        ),
        (
            ["--model", "torch.nn:Linear", "--model-args", "in_features=8,out_features=3"],
            "(rows, classes) logits",
        ),
        (["--weights", "nowhere.pt"], "weights must name a checkpoint file"),
        (["--n", "0"], "n must be an integer >= 1"),
        (["--test-n", "0"], "test_n must be an integer >= 1"),
        (["--rays", "-1"], "rays must be an integer >= 0"),
        (["--pgd-steps", "0"], "pgd_steps must be an integer >= 1"),
        (["--pgd-step-size", "0"], "pgd_step_size must be > 0"),
        (["--pgd-step-size", "two"], "pgd_step_size must hold numbers or fractions"),
        (["--validation", "70"], "both parts must hold a sample, got 70.0 of 60"),
        (["--augmentation", "mixup"], "augmentation must be one of 'none', 'crop_flip'"),
        (["--gradient-centralisation", "conv", "--optimizer", "adam"], "needs optimizer='sgd'"),
        (["--craft-loss", "dlr", "--recipe", "trades"], "craft_loss is for recipes whose crafting"),
        (["--crop-padding", "reflct"], "did you mean 'reflect'?"),
        (["--optimizer", "lion"], "optimizer must be one of"),
        (["--clip-values", "0,0.5"], "x of the training data must lie in [0, 0.5]"),
        (["--precision", "fp16"], "precision fp16 needs a GPU"),
        (["--device", "abacus"], "device must be a name that torch knows"),
        (["--updates", "3"], "pass one of epochs, updates"),
        (["--config", "nowhere.toml"], "config must name a TOML file"),
        (["--out", "file"], "out must name a folder"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_no_folder(
    command: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    done = call(*command, *changed)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_labels_beyond_the_networks_outputs(
    command: list[object], own_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))\n"
    )
    done = call(
        *command, "--data", own_data, "--eps", 0.1, "--model", f"{tmp_path / 'nets.py'}:net"
    )
    assert done.exit_code == 2
    assert "labels must be below 4, the model's outputs, got 9" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--recipe", "--data"])
def test_what_has_no_default_must_be_given(
    command: list[object], tmp_path: Path, option: str
) -> None:
    place = command.index(option)
    done = call(*(command[:place] + command[place + 2 :]))
    assert done.exit_code == 2
    assert f"{option.removeprefix('--')} must be given, by {option} or in the file" in done.stderr


def test_where_there_is_no_run_none_is_resumed(tmp_path: Path) -> None:
    for more in ([], ["--recipe", "fast"]):
        done = call("train", "--out", tmp_path / "none", "--resume", *more)
        assert done.exit_code == 2
        assert "none holds no run to resume" in done.stderr
    assert not (tmp_path / "none").exists()


def test_an_unknown_option_is_a_usage_error_with_the_nearest_match(
    command: list[object], tmp_path: Path
) -> None:
    done = call(*command, "--epoch", 3)
    assert done.exit_code == 2
    assert "--epochs" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_missing_extra_is_named_before_anything_runs(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    done = call(*command)
    assert (done.exit_code, "pip install 'art-ext[train]'" in done.stderr) == (2, True)
    assert not (tmp_path / "run").exists()


# --- around the run ---


def test_tensorboard(command: list[object], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    done = call(*command, "--tensorboard")
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "run" / "art_ext").glob("events.out.tfevents.*")), (
        "the folder that the documentation names"
    )
    assert call("train", "--resume", "--out", tmp_path / "run", "--quiet").stdout == done.stdout


def test_all_but_the_main_process_keep_quiet(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    done = call(*command[:-1])
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert "digits-cnn" not in done.stderr
    assert not {"config.toml", "run.json"} & {path.name for path in (tmp_path / "run").iterdir()}


def test_the_minibatch_must_be_shared_out_evenly(
    command: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    done = call(*command)
    assert done.exit_code == 2
    assert "batch_size must be a multiple of the 3 processes, got 64" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes(command: list[object], tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("art-ext")
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    two = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            "--",
            str(program),
            *map(str, command),
        ],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("| final |") == 1
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    assert call(*command, "--out", tmp_path / "one").exit_code == 0
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "one"))
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)
