"""``art-ext generator train`` and ``art-ext generator sample``: folders, files and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from art_ext.cli import app
from art_ext.configuration.generator import BY_DATA, resolve_generator
from art_ext.configuration.options import options_of
from art_ext.core.limits import draw_latents
from art_ext.data import load_data
from art_ext.models import load_generator
from art_ext.storage.files import write_atomically
from art_ext.training.generators import loop, quality
from tests.test_generators import FILE, run_folder
from tests.toys import small_generator

FILES = {
    "config.toml",
    "generator.json",
    "history.jsonl",
    "history.csv",
    "generator.safetensors",
    "samples.png",
    "quality.json",
    "checkpoints",
}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["generator", *(str(argument) for argument in arguments)])


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(quality, "ROWS", 600)
    monkeypatch.setattr(quality, "TRAINED_ON", (200, 200))
    monkeypatch.setattr(quality, "PER_CLASS", 20)


@pytest.fixture
def command(tmp_path: Path) -> list[object]:
    """Two epochs on 100 digits."""
    length = ["--n", 100, "--epochs", 2, "--latent-dim", 4, "--width", 4]
    machine = ["--device", "cpu", "--quiet", "--out", tmp_path / "gan"]
    return ["train", "--data", "digits", *length, *machine]


def test_train_writes_generator_history_sheet_and_quality(command, tmp_path, monkeypatch):
    outcome = call(*command)
    assert outcome.exit_code == 0, outcome.output
    folder = tmp_path / "gan"
    assert {path.name for path in folder.iterdir()} == FILES
    found = json.loads((folder / "quality.json").read_text())
    assert f"label agreement     {found['agreement']:.3f}" in outcome.stdout
    assert found["warnings"][0]["kind"] == "generator-labels"  # two epochs do not suffice
    assert found["warnings"][0]["message"] in outcome.stderr
    judged = f"accuracy on real test images is {found['reference_accuracy']:.1%}, below 90%"
    assert (judged in outcome.stderr) == (found["reference_accuracy"] < 0.9)
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [row["updates"] for row in rows] == [2, 4]
    generator = load_generator(folder)
    assert (generator.latent_dim, generator.num_classes, generator.width) == (4, 10, 4)

    # a finished run is shown again, and not measured again
    def measured(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("art_ext.training.generators.run.measure_quality", measured)
    again = call("train", "--out", folder, "--resume", "--quiet")
    assert again.exit_code == 0, again.output
    assert again.stdout == outcome.stdout
    refused = call(*command)
    assert refused.exit_code == 2
    assert "holds this very run: pass --resume to continue it or to show its quality" in (
        refused.stderr
    )
    refused = call(*command, "--resume", "--seed", 1)
    assert "another configuration (seed: 0 there, 1 here)" in refused.stderr


def test_train_goes_on_after_an_interruption(command, tmp_path, monkeypatch):
    save = loop.save_checkpoint

    def interrupted(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", interrupted)
        outcome = call(*command)
    assert outcome.exit_code == 130
    assert "run the same command with --resume" in outcome.stderr
    with pytest.raises(ValueError, match="not finished: go on with art-ext generator train"):
        load_generator(tmp_path / "gan")
    assert call("train", "--out", tmp_path / "gan", "--resume", "--quiet").exit_code == 0
    whole = tmp_path / "whole"
    assert call(*command[:-1], whole).exit_code == 0
    name = "generator.safetensors"
    assert (whole / name).read_bytes() == (tmp_path / "gan" / name).read_bytes()


def test_configuration_repeats_a_run(command, tmp_path):
    assert call(*command).exit_code == 0
    again = tmp_path / "again"
    config = tmp_path / "gan" / "config.toml"
    assert call("train", "--config", config, "--out", again, "--quiet").exit_code == 0
    name = "generator.safetensors"
    assert (again / name).read_bytes() == (tmp_path / "gan" / name).read_bytes()


@pytest.mark.parametrize(
    ("given", "epochs", "latent_dim"),
    [
        ({"data": "Digits"}, 120, 16),
        ({"data": "mnist"}, 6, 64),
        ({"data": "fashion-mnist"}, 20, 64),
        ({"data": "digits", "epochs": 3, "latent_dim": 5}, 3, 5),
    ],
)
def test_length_and_latents_depend_on_the_data(given, epochs, latent_dim):
    found = resolve_generator(given, out="gan")
    assert (found.epochs, found.latent_dim) == (epochs, latent_dim)
    about = options_of(type(found))["epochs"][1]
    if given["data"] in BY_DATA and "epochs" not in given:
        assert f"{epochs} for {given['data']}" in about.help


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--epochs", "0"], "epochs must be an integer >= 1, got 0"),
        (["--data", "digitz"], "did you mean 'digits'"),
        (["--device", "abacus"], "device must be"),
        (["--learning-rate", "-1"], "learning_rate must be > 0"),
    ],
)
def test_bad_arguments_of_train_are_one_line(command, more, message, tmp_path):
    outcome = call(*command, *more)
    assert outcome.exit_code == 2
    assert outcome.stderr.count("\n") == 1
    assert message in outcome.stderr
    assert not (tmp_path / "gan").exists()


def test_a_folder_of_other_files_is_an_error(command, tmp_path):
    (tmp_path / "file").write_text("no folder")
    outcome = call(*command[:-1], tmp_path / "file")
    assert outcome.exit_code == 2
    assert f"out must name a folder, got {tmp_path / 'file'}, which is a file" in outcome.stderr
    (tmp_path / "gan").mkdir()
    (tmp_path / "gan" / "thesis.tex").write_text("precious")
    outcome = call(*command)
    assert outcome.exit_code == 2
    assert "holds other files: choose another folder" in outcome.stderr
    assert [path.name for path in (tmp_path / "gan").iterdir()] == ["thesis.tex"]


def test_sample_writes_both_splits_with_latents(tmp_path):
    generator = small_generator()
    folder = run_folder(tmp_path / "gan", generator)
    out = tmp_path / "gen.npz"
    outcome = call("sample", "--generator", folder, "--n", 60, "--out", out, "--quiet")
    assert outcome.exit_code == 0, outcome.output
    assert "60 images to train on and 10 of the test split" in outcome.stdout
    train, test = (load_data(out, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (60, 10)
    with torch.no_grad():
        for data in (train, test):
            assert torch.allclose(generator(data.latents, data.y), data.x, atol=1e-6)
    rows = torch.cat([train.latents, test.latents])
    assert len(rows.unique(dim=0)) == 70  # no latent is in both
    fresh = draw_latents(4, torch.arange(600) % 10, torch.arange(600) // 10, 0)
    known = torch.cat([fresh, train.latents]).unique(dim=0)
    assert len(known) == 660  # a measure on fresh images sees no training image
    assert torch.equal(test.latents, fresh[:10])
    refused = call("sample", "--generator", folder, "--n", 60, "--out", out, "--quiet")
    assert refused.exit_code == 2
    assert "choose another file, or pass --overwrite" in refused.stderr
    alone = ["--n", 30, "--test-n", 0, "--seed", 1, "--overwrite", "--quiet"]
    outcome = call("sample", "--generator", folder, "--out", out, *alone)
    assert "30 images of the test split" in outcome.stdout
    with np.load(out) as archive:
        assert sorted(archive.files) == ["x", "y", "z"]
    other = load_data(out)
    assert not torch.equal(other.latents, train.latents[:30])


def test_sample_takes_a_generator_of_the_user(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    out = tmp_path / "gen.npz"
    outcome = call("sample", "--generator", f"{file}:Plain", "--n", 4, "--out", out, "--quiet")
    assert outcome.exit_code == 0, outcome.output
    with np.load(out) as archive:
        assert archive["x"].shape == (4, 4)
        assert archive["y"].tolist() == [0, 1, 0, 1]
    outside = call(
        "sample", "--generator", f"{file}:function", "--n", 4, "--out", out, "--overwrite"
    )
    assert outside.exit_code == 2
    assert "the generator's images must lie in image_range=(0, 1)" in outside.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--generator", "no/run", "--out", "{folder}/a.npz"], "a generator must be the folder"),
        (
            ["--generator", "{folder}", "--out", "{folder}/a.txt"],
            "must be the name of an .npz file",
        ),
        (
            ["--generator", "{folder}", "--out", "{folder}/b/a.npz"],
            "must lie in an existing folder",
        ),
        (["--out", "{folder}/a.npz"], "generator must be given"),
        (
            ["--generator", "{folder}", "--out", "{folder}/a.npz", "--n", "0"],
            "n must be an integer",
        ),
        (  # before the generator is looked for
            ["--generator", "no/run", "--out", "{folder}/a.npz", "--image-range", "1,0"],
            "image_range must be finite with lower < upper, got (1.0, 0.0)",
        ),
    ],
)
def test_bad_arguments_of_sample_are_one_line(given, message, tmp_path):
    outcome = call("sample", *(one.format(folder=tmp_path) for one in given))
    assert outcome.exit_code == 2
    assert outcome.stderr.count("\n") == 1
    assert message in outcome.stderr
    assert not list(tmp_path.iterdir())


def test_a_failing_write_names_the_wanted_file(tmp_path):
    folder = run_folder(tmp_path / "gan", small_generator(width=8))
    taken = tmp_path / "a.npz"
    (taken / "b").mkdir(parents=True)
    outcome = call("sample", "--generator", folder, "--n", 10, "--overwrite", "--out", taken)
    assert outcome.exit_code == 2
    assert outcome.stderr.endswith(f": '{taken}'\n")
    assert {path.name for path in tmp_path.iterdir()} == {"gan", "a.npz"}
    for wanted in (tmp_path / "none" / "a.npz", folder / "generator.json" / "a.npz"):
        with pytest.raises(OSError, match=r"/a\.npz'$"):
            write_atomically(wanted, b"")


@pytest.mark.slow
def test_train_and_evaluate_read_generated_images(tmp_path):
    """The commands of a new user, from the generator to a robust network on its images."""
    out = tmp_path / "gen.npz"
    folder = run_folder(tmp_path / "gan", small_generator(width=8))
    assert call("sample", "--generator", folder, "--n", 300, "--out", out).exit_code == 0
    run = tmp_path / "run"
    recipe = ["--recipe", "pgd", "--recipe-args", "norm=l2,num_steps=2", "--eps", "0.3"]
    length = ["--model", "digits-cnn", "--epochs", "2", "--augmentation", "none", "--quiet"]
    arguments = ["train", *recipe, *length, "--data", str(out), "--out", str(run)]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    assert json.loads((run / "run.json").read_text())["test_samples"] == 50
    attack = ["--attack", "pgd", "--norm", "l2", "--eps", "0.3", "--n", "20", "--quiet"]
    place = ["--data", str(out), "--model", str(run), "--out", str(tmp_path / "evaluation")]
    outcome = CliRunner().invoke(app, ["evaluate", *attack, *place])
    assert outcome.exit_code == 0, outcome.output
