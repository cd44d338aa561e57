"""Presets hold the numbers of their papers, and the command line wins over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.configuration.options import options_of
from art_ext.configuration.parsing import read_toml
from art_ext.configuration.training import LENGTHS, TrainingConfig
from art_ext.training.presets import FOLDER, find_preset, preset_names
from art_ext.training.runs import Configuration, resolve

SGD = {"optimizer": "sgd", "momentum": 0.9}
WIDE: dict[str, Any] = {"model": "wideresnet", "model_args": {"depth": "34", "widen_factor": "10"}}
RAW = {**WIDE, "model_args": {**WIDE["model_args"], "mean": "0", "std": "1"}}
LEAKY = {"activation": "leaky_relu", "activation_args": "{'negative_slope': 0.1}"}
TENSORFLOW = {**WIDE, "model_args": {**WIDE["model_args"], **LEAKY}}
EIGHT = 8 / 255
PANG = {
    **SGD,
    "recipe": "pgd",
    "model": "preactresnet18",
    "eps": EIGHT,
    "epochs": 110,
    "batch_size": 128,
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "crop_padding": "reflect",
    "clean_forwards": 2,
    "label_smoothing": 0,
}
TEN_STEPS = {"num_steps": 10, "step_size": 2 / 255, "bn_mode": "train", "tolerance": None}
DROPS = {"milestones": (100, 105)}
YOPO = {
    "num_outer": 5,
    "num_inner": 3,
    "step_size": 2 / 255,
    "first_gradient": "adjoint",
    "boxed_start": False,
}
YOPO_CIFAR = {
    **SGD,
    "recipe": "yopo",
    "eps": EIGHT,
    "epochs": 36,
    "batch_size": 256,
    "weight_decay": 5e-4,
}
# of each preset: options, then arguments of the recipe, and the steps of the rate by its schedule
NUMBERS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "madry2018-mnist": (
        {
            "recipe": "pgd",
            "eps": 0.3,
            "updates": 100_000,
            "batch_size": 50,
            "optimizer": "adam",
            "learning_rate": 1e-4,
            "weight_decay": 0,
            "schedule": "constant",
        },
        {"num_steps": 40, "step_size": 0.01},
        {},
    ),
    "madry2018-cifar10": (
        {
            **SGD,
            **TENSORFLOW,
            "recipe": "pgd",
            "eps": EIGHT,
            "updates": 80_000,
            "batch_size": 128,
            "learning_rate": 0.1,
            "weight_decay": 2e-4,
        },
        {"num_steps": 10, "step_size": 2 / 255, "bn_mode": "train"},
        {"milestones": (0.5, 0.75)},
    ),
    "zhang2019-trades": (
        {
            **SGD,
            **RAW,
            "recipe": "trades",
            "eps": 0.031,
            "epochs": 76,
            "batch_size": 128,
            "learning_rate": 0.1,
            "weight_decay": 2e-4,
        },
        {"beta": 6, "num_steps": 10, "step_size": 0.007, "start": 1e-3, "bn_mode": "eval"},
        {"milestones": (74, 89, 99)},
    ),
    "shafahi2019-free8": (
        {
            **SGD,
            **TENSORFLOW,
            "recipe": "free",
            "eps": EIGHT,
            "updates": 80_000,
            "batch_size": 128,
            "learning_rate": 0.1,
            "weight_decay": 2e-4,
        },
        {"num_replays": 8, "step_size": None},
        {"milestones": (0.5, 0.75)},
    ),
    "wong2020": (
        {
            **SGD,
            "recipe": "fast",
            "model": "preactresnet18",
            "eps": EIGHT,
            "epochs": 15,
            "batch_size": 128,
            "learning_rate": 0.2,
            "weight_decay": 5e-4,
            "schedule": "cyclic",
        },
        {"num_steps": 1, "step_size": 10 / 255, "boxed_start": True, "bn_mode": "train"},
        {"peak": 0.5},
    ),
    "wong2020-mnist": (
        {
            "recipe": "fast",
            "model": "mnist-conv2",
            "eps": 0.3,
            "epochs": 10,
            "batch_size": 100,
            "optimizer": "adam",
            "learning_rate": 5e-3,
            "weight_decay": 0,
            "schedule": "cyclic",
        },
        {"num_steps": 1, "step_size": 0.375, "boxed_start": False},
        {"peak": 0.4},
    ),
    "pang2021-trades": (
        {
            **SGD,
            **RAW,
            "recipe": "trades",
            "eps": 0.031,
            "epochs": 82,
            "batch_size": 128,
            "learning_rate": 0.1,
            "weight_decay": 5e-4,
        },
        {"beta": 6, "num_steps": 10, "step_size": 0.007, "start": 1e-3, "bn_mode": "eval"},
        {"milestones": (74, 89, 99)},
    ),
    "rice2020": (
        {**PANG, "epochs": 200, "clean_forwards": 1},
        TEN_STEPS,
        {"milestones": (100, 150)},
    ),
    "pang2021": (PANG, TEN_STEPS, DROPS),
    "pang2021-eval-bn": (PANG, {**TEN_STEPS, "bn_mode": "eval"}, DROPS),
    "pang2021-softplus-ls": (
        {
            **PANG,
            **WIDE,
            "label_smoothing": 0.1,
            "model_args": {**WIDE["model_args"], "activation": "softplus"},
        },
        TEN_STEPS,
        DROPS,
    ),
    "pang2021-early-40-70": (PANG, {**TEN_STEPS, "tolerance": {0: 0, 40: 1, 70: 2}}, DROPS),
    "pang2021-early-40-100": (PANG, {**TEN_STEPS, "tolerance": {0: 0, 40: 1, 100: 2}}, DROPS),
    "pang2021-early-60-100": (PANG, {**TEN_STEPS, "tolerance": {0: 0, 60: 1, 100: 2}}, DROPS),
    "yopo2019-mnist": (
        {
            **SGD,
            "recipe": "yopo",
            "model": "mnist-smallcnn",
            "model_args": {"dropout": "0.5"},
            "eps": 0.3,
            "epochs": 40,
            "batch_size": 256,
            "learning_rate": 0.01 / 5,
            "weight_decay": 5e-4,
        },
        {**YOPO, "num_inner": 10, "step_size": 0.01},
        {"milestones": (30, 35, 39)},
    ),
    "yopo2019-preactresnet18": (
        {
            **YOPO_CIFAR,
            "model": "preactresnet18",
            "model_args": {"final_norm": "False", "mean": "0", "std": "1"},
            "learning_rate": pytest.approx(0.1 * 2 / 5),
        },
        {**YOPO, "first": "conv1", "first_gradient": "both"},
        {"milestones": (30, 34, 36)},
    ),
    "yopo2019-wrn34": (
        {**YOPO_CIFAR, **RAW, "learning_rate": pytest.approx(0.1 * 4 / 5)},
        {**YOPO, "first": "conv1"},
        {"milestones": (30, 34, 36)},
    ),
    "yopo2019-trades-3-4": (
        {
            **SGD,
            "recipe": "yopo-trades",
            "model": "preactresnet18",
            "model_args": {"final_norm": "False", "mean": "0", "std": "1"},
            "eps": 0.031,
            "epochs": 105,
            "batch_size": 256,
            "learning_rate": 0.2,
            "weight_decay": 5e-4,
        },
        {
            "beta": 1,
            "num_outer": 3,
            "num_inner": 4,
            "step_size": 0.007,
            "start": 1e-3,
            "first": "conv1",
            "bn_mode": "eval",
        },
        {"milestones": (70, 90, 100)},
    ),
    "andriushchenko2020": (
        {
            **SGD,
            "recipe": "grad-align",
            "model": "preactresnet18",
            "model_args": {
                "final_norm": "False",
                "shared_preactivation": "False",
                "mean": "0",
                "std": "1",
            },
            "eps": EIGHT,
            "epochs": 30,
            "batch_size": 128,
            "learning_rate": 0.3,
            "weight_decay": 5e-4,
            "schedule": "cyclic",
        },
        {
            "variant": "detached",
            "weight": 0.2,
            "step_size": 10 / 255,
            "boxed_start": False,
            "bn_mode": "train",
        },
        {"peak": 0.4},
    ),
    "chen-backward-smoothing": (
        {
            **SGD,
            "recipe": "backward-smoothing",
            "model": "resnet18",
            "eps": 0.031,
            "epochs": 100,
            "batch_size": 128,
            "learning_rate": 0.1,
            "weight_decay": 5e-4,
        },
        {"beta": 10, "gamma": 1, "num_steps": 1, "step_size": 0.031, "bn_mode": "eval"},
        {"milestones": (0.5, 0.75)},
    ),
    "chen-backward-smoothing-cyclic": (
        {
            **SGD,
            "recipe": "backward-smoothing",
            "model": "resnet18",
            "eps": 0.031,
            "batch_size": 128,
            "learning_rate": 0.2,
            "weight_decay": 5e-4,
            "schedule": "cyclic",
        },
        {"beta": 10, "gamma": 1, "num_steps": 1, "step_size": 0.031, "bn_mode": "eval"},
        {"peak": 8.7e-5},
    ),
    "wu-war": (
        {
            **SGD,
            **RAW,
            "recipe": "war",
            "eps": 0.031,
            "epochs": 100,
            "batch_size": 128,
            "learning_rate": 0.1,
            "weight_decay": 2e-4,
            "schedule": "halving",
        },
        {
            "regulariser": "trades",
            "zeta": 30,
            "lambda_0": 0,
            "alpha": 0.1,
            "num_steps": 10,
            "step_size": 0.007,
            "start": 1e-3,
            "bn_mode": "eval",
        },
        {"after": 74},
    ),
    "atcd-cifar10": (
        {
            **SGD,
            **RAW,
            "recipe": "atcd",
            "eps": EIGHT,
            "equivalent_epochs": 40,
            "batch_size": 256,
            "learning_rate": 0.2,
            "weight_decay": 5e-4,
        },
        {"num_replays": 4, "num_steps": 2, "lam": 2, "rho": 1},
        {"milestones": (30 / 40, 36 / 40)},
    ),
    "atcd-mnist": (
        {
            **SGD,
            "recipe": "atcd",
            "model": "mnist-smallcnn",
            "model_args": {"dropout": "0.5"},
            "eps": 0.3,
            "equivalent_epochs": 55,
            "batch_size": 256,
            "learning_rate": 0.1,
            "weight_decay": 5e-4,
        },
        {"num_replays": 2, "lam": 2, "rho": 1},
        {"milestones": (pytest.approx(45 / 55, abs=1e-4),)},
    ),
}
# a training of a CIFAR network that takes seconds
NARROW = {
    "wideresnet": "depth=10,widen_factor=1",
    "preactresnet18": "width=4",
    "resnet18": "width=4",
}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def resolved(name: str, **given: Any) -> Configuration:
    return resolve({"preset": name, "data": find_preset(name).data, **given})


class TestNumbers:
    def test_the_table_holds_every_preset(self) -> None:
        assert sorted(NUMBERS) == preset_names()

    @pytest.mark.parametrize("name", NUMBERS)
    def test_they_are_those_of_the_paper(self, name: str) -> None:
        options, arguments, steps = NUMBERS[name]
        found = resolved(name)
        schedule = {"schedule": "piecewise"} if "milestones" in steps else {}
        wanted = {**schedule, **options}
        assert {key: getattr(found, key) for key in wanted} == wanted
        settings = found.make_recipe().settings()
        assert {key: settings[key] for key in arguments} == arguments
        assert found.schedule_args == steps
        assert [one for one in LENGTHS if getattr(found, one) is not None] == [
            one for one in LENGTHS if one in find_preset(name).values
        ]
        assert found.augmentation == ("none" if "mnist" in name else "crop_flip")
        assert (found.preset, found.eps_warmup_epochs) == (None, 0)

    @pytest.mark.parametrize("name", preset_names())
    def test_none_depends_on_the_data(self, name: str) -> None:
        by_data = {key for key, (_, about) in options_of(TrainingConfig).items() if about.by_data}
        values = find_preset(name).values
        assert by_data <= set(values)
        assert not {"data", "out", "seed", "n", "preset"} & set(values)

    @pytest.mark.parametrize("name", preset_names())
    def test_each_says_where_its_numbers_stand(self, name: str) -> None:
        text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
        head = text.split("\nrecipe = ")[0]
        assert all(line.startswith("# ") for line in head.splitlines())
        assert "The numbers are" in head.replace("\n# ", " ")
        about = read_toml(FOLDER / f"{name}.toml")["about"]
        assert sorted(about) == ["data", "paper", "samples"]
        assert about["samples"] == {"mnist": 60_000, "cifar10": 50_000}[about["data"]]


class TestPrecedence:
    def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(
        self, tmp_path: Path
    ) -> None:
        file = tmp_path / "mine.toml"
        file.write_text('preset = "zhang2019-trades"\nbatch-size = 32\nlearning_rate = 0.3\n')
        found = resolve({"data": "mnist", "learning_rate": 0.2}, file)
        assert (found.learning_rate, found.batch_size, found.weight_decay) == (0.2, 32, 2e-4)
        assert (found.model, found.optimizer, found.eps) == ("wideresnet", "sgd", 0.031)
        assert resolve({"data": "mnist", "preset": "wong2020"}, file).recipe == "fast"

    def test_arguments_are_merged(self) -> None:
        found = resolved("zhang2019-trades", recipe_args="beta=1", model_args="widen_factor=2")
        assert (found.recipe_args["beta"], found.recipe_args["step_size"]) == (1, 0.007)
        assert found.model_args == {**RAW["model_args"], "widen_factor": "2"}

    def test_arguments_go_with_the_name_they_belong_to(self) -> None:
        found = resolved("zhang2019-trades", recipe="pgd", model="resnet18", schedule="cosine")
        assert found.recipe_args == found.model_args == found.schedule_args == {}
        assert (found.epochs, found.eps) == (76, 0.031)

    def test_a_length_replaces_that_of_the_preset(self) -> None:
        found = resolved("zhang2019-trades", updates=5)
        assert (found.updates, found.epochs) == (5, None)

    @pytest.mark.parametrize("name", preset_names())
    def test_the_written_file_is_complete(self, name: str, tmp_path: Path) -> None:
        file = tmp_path / "config.toml"
        found = resolved(name)
        file.write_text(found.to_toml(), encoding="utf-8")
        assert "preset" not in read_toml(file)
        assert resolve({}, file) == found


class TestCommand:
    def test_it_trains_by_a_preset(self, tmp_path: Path) -> None:
        given = ["--preset", "wong2020-mnist", "--data", "digits", "--model", "digits-cnn"]
        short = [
            "--updates",
            5,
            "--n",
            80,
            "--test-n",
            10,
            "--pgd-steps",
            2,
            "--out",
            tmp_path / "run",
        ]
        done = call("train", *given, *short, "--quiet")
        assert done.exit_code == 0, done.stderr
        run = json.loads((tmp_path / "run" / "run.json").read_text())
        assert (run["updates"], run["recipe"]["step_size"], run["model"]) == (
            5,
            0.375,
            "digits-cnn",
        )
        again = call("train", *given, *short, "--resume", "--quiet")
        assert again.exit_code == 0, again.stderr

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (["--preset", "wong202"], "unknown preset 'wong202' (did you mean 'wong2020'?)"),
            (["--preset", "wong2020-mnist"], "the model fails on inputs of shape (2, 1, 8, 8)"),
            (["--preset", "zhang2019-trades", "--recipe-args", "bta=1"], "did you mean 'beta'?"),
        ],
    )
    def test_errors_are_one_line(self, tmp_path: Path, given: list[str], message: str) -> None:
        done = call("train", *given, "--data", "digits", "--out", tmp_path / "run")
        assert done.exit_code == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()

    def test_data_are_needed(self, tmp_path: Path) -> None:
        done = call("train", "--preset", "wong2020", "--out", tmp_path / "run")
        assert done.exit_code == 2
        assert "data must be given" in done.stderr

    def test_the_listing_has_network_length_and_cost(self) -> None:
        rows = {row["name"]: row for row in json.loads(call("presets", "--json").stdout)}
        assert list(rows) == preset_names()
        trades = rows["zhang2019-trades"]
        assert trades["network"] == "wideresnet depth=34 widen_factor=10 mean=0 std=1"
        assert (trades["length"], trades["rows"]) == ("76 epochs", "13 + 12")
        assert trades["passes"] == 76 * 25
        assert trades["options"]["recipe_args"]["beta"] == 6
        assert rows["shafahi2019-free8"]["passes"] == round(80_000 / 391 * 2)
        assert (rows["pang2021"]["rows"], rows["pang2021"]["passes"]) == ("13 + 11", 110 * 24)
        assert rows["atcd-cifar10"]["passes"] == 40 / 8 * 4 * (3 + 3)
        assert "zhang2019-trades" in call("presets").stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random data in the shapes of MNIST and CIFAR-10."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    shapes = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
    for name, shape in shapes.items():
        parts: dict[str, Any] = {}
        for part, count in (("train", 24), ("test", 8)):
            parts[f"x_{part}"] = generator.random((count, *shape), dtype=np.float32)
            parts[f"y_{part}"] = np.arange(count) % 10
        np.savez(folder / f"{name}.npz", **parts)
    return {name: folder / f"{name}.npz" for name in shapes}


@pytest.mark.slow
@pytest.mark.parametrize("name", preset_names())
def test_each_trains(name: str, images: dict[str, Path], tmp_path: Path) -> None:
    """Five updates of a narrow network on random images of the right shape."""
    preset = find_preset(name)
    narrow = NARROW.get(preset.values["model"])
    done = call(
        "train",
        "--preset",
        name,
        "--data",
        images[preset.data],
        *(["--model-args", narrow] if narrow else []),
        *("--batch-size", 4, "--updates", 5, "--validation", 4, "--validation-steps", 2),
        *("--pgd-steps", 2, "--device", "cpu", "--out", tmp_path / "run", "--quiet"),
    )
    assert done.exit_code == 0, done.stderr
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["updates"] == 5
