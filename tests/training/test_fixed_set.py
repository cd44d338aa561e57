"""Fixed sets: adversarial examples that are made once, with the true classes of their samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext import cli
from art_ext.core.attacks import hmcam, pgd
from art_ext.data import load_data
from art_ext.models import save_weights
from art_ext.training import FixedSet, fixed_set, train
from art_ext.training.runs import make_network

Samples = tuple[Tensor, Tensor]
Build = Callable[..., nn.Module]
STEPS = {"eps": 0.3, "num_steps": 3}


@pytest.fixture
def fitted(network: Build, data: Samples) -> nn.Module:
    """A network that classifies all fourteen images correctly, in eval mode."""
    model = network("smooth")
    train(model, data, "natural", epochs=150, batch_size=14, learning_rate=0.5, weight_decay=0.0)
    model.eval()
    assert bool((model(data[0]).argmax(1) == data[1]).all())
    return model


def test_all_wrong_classes_of_some_samples(fitted: nn.Module, data: Samples) -> None:
    x, y = data
    found = fixed_set(fitted, x, y, "pgd", n=6, targets="all", arguments=STEPS, seed=3)
    assert len(found) + found.failed == 6 * 2
    assert len(found) > 0
    assert bool(found.success.all())
    assert len(found.source.unique()) <= 6
    assert torch.equal(found.y, y[found.source]), "the true classes"
    assert bool((found.target != found.y).all())
    assert torch.equal(fitted(found.x).argmax(1), found.target)
    assert float((found.x - x[found.source]).abs().max()) <= 0.3 + 1e-6
    pairs = set(zip(found.source.tolist(), found.target.tolist(), strict=True))
    assert len(pairs) == len(found)
    assert found.about["samples"] == 6
    again = fixed_set(fitted, x, y, "pgd", n=6, targets="all", arguments=STEPS, seed=3)
    assert torch.equal(found.x, again.x)
    other = fixed_set(fitted, x, y, "pgd", n=6, targets="all", arguments=STEPS, seed=4)
    assert set(other.source.tolist()) != set(found.source.tolist())


def test_rows_without_success_are_left_out_and_counted(fitted: nn.Module, data: Samples) -> None:
    x, y = data
    radius: dict[str, Any] = {"eps": 0.06, "num_steps": 5}
    result = pgd(fitted, x, y, seed=0, **radius)
    assert 0 < int(result.success.sum()) < 14, "the radius must separate the samples"
    found = fixed_set(fitted, x, y, pgd, arguments=radius)
    assert torch.equal(found.source, result.success.nonzero()[:, 0])
    assert torch.equal(found.x, result.x_adv[result.success])
    assert found.failed == 14 - len(found)
    assert bool((found.target == -1).all())


def test_a_random_class_for_each_sample(fitted: nn.Module, data: Samples) -> None:
    found = fixed_set(fitted, *data, "pgd", targets="random", arguments=STEPS)
    assert len(found) + found.failed == 14
    assert bool((found.target != found.y).all())
    assert len(set((found.target - found.y).remainder(3).tolist())) == 2
    assert torch.equal(fitted(found.x).argmax(1), found.target)


def test_the_states_of_a_chain_have_the_classes_of_their_own_samples(
    fitted: nn.Module, data: Samples
) -> None:
    x, y = data
    arguments: dict[str, Any] = {"eps": 0.1, "num_steps": 3, "num_transitions": 4}
    found = fixed_set(fitted, x, y, "hmcam", n=5, arguments=arguments, seed=1)
    assert len(found) == 5 * 4
    assert found.failed == 0
    assert torch.equal(found.y, y[found.source])
    assert found.source.unique(return_counts=True)[1].tolist() == [4] * 5
    chosen = found.source.unique()
    states = hmcam(fitted, x[chosen], y[chosen], seed=1, **arguments).samples
    assert states is not None
    assert torch.equal(found.x.unflatten(0, (5, 4)).transpose(0, 1), states)
    assert torch.equal(found.success, fitted(found.x).argmax(1) != found.y)


def test_a_function_of_ones_own(fitted: nn.Module, data: Samples) -> None:
    """It returns examples alone, whose success is measured."""

    def mirror(model: Any, x: Tensor, y: Tensor, *, eps: float = 1.0, axis: int = 2) -> Tensor:
        return x.flip(axis)

    x, y = data
    right = fitted(x.flip(3)).argmax(1) == y
    assert 0 < int(right.sum()) < 14
    found = fixed_set(fitted, x, y, mirror, arguments={"axis": 3})
    assert torch.equal(found.source, (~right).nonzero()[:, 0])
    assert found.failed == int(right.sum())
    assert found.about["attack"] == "mirror"


def test_a_set_is_written_and_read(fitted: nn.Module, data: Samples, tmp_path: Path) -> None:
    found = fixed_set(fitted, *data, "pgd", n=6, targets="all", arguments=STEPS)
    found.save(tmp_path / "set.npz")
    again = FixedSet.load(tmp_path / "set.npz")
    for name in ("x", "y", "source", "target", "success"):
        assert torch.equal(getattr(found, name), getattr(again, name))
    assert again.failed == found.failed
    assert again.about == found.about
    samples = load_data(tmp_path / "set.npz")
    assert torch.equal(samples.x, found.x)
    with pytest.raises(FileNotFoundError):
        FixedSet.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"other.npz must be a set that art-ext craft wrote"):
        FixedSet.load(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("attack", "options", "message"),
    [
        ("pgd", {}, "eps must be given for pgd, in the units of x, got none"),
        ("pgdd", {}, "did you mean 'pgd'"),
        ("pgd", {"arguments": {"eps": 0.1, "num_step": 3}}, "did you mean 'num_steps'"),
        ("pgd", {"arguments": {"eps": 0.1, "targeted": True}}, "targeted is set by fixed_set"),
        ("pgd", {"arguments": STEPS, "targets": "al"}, "did you mean 'all'"),
        ("rays", {"targets": "all"}, "rays cannot be targeted: the search needs a starting image"),
        ("pgd", {"arguments": STEPS, "n": 15}, "n must be at most 14, the number of samples"),
        ("pgd", {"arguments": STEPS, "n": 0}, "n must be an integer >= 1, got 0"),
        ("pgd", {"arguments": STEPS, "seed": -1}, "seed must be an integer >= 0"),
        ("pgd", {"arguments": {"eps": 1e-6, "num_steps": 1}}, "found no adversarial example in 14"),
    ],
)
def test_bad_arguments(
    attack: str, options: dict[str, Any], message: str, fitted: nn.Module, data: Samples
) -> None:
    with pytest.raises(ValueError, match=message):
        fixed_set(fitted, *data, attack, **options)


def test_a_label_beyond_the_classes(fitted: nn.Module, data: Samples) -> None:
    with pytest.raises(ValueError, match="y must hold class indices below 3, the model's width"):
        fixed_set(fitted, data[0], data[1] + 1, "pgd", arguments=STEPS)


# --- the command ---


@pytest.fixture
def weights(tmp_path: Path) -> str:
    save_weights(make_network("digits-cnn", {}, 0), tmp_path / "cnn.safetensors")
    return str(tmp_path / "cnn.safetensors")


def craft(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["craft", "--data", "digits", *arguments, "--quiet"])


def test_the_command_writes_what_train_appends(weights: str, tmp_path: Path) -> None:
    out = tmp_path / "set.npz"
    model = ["--model", "digits-cnn", "--weights", weights]
    rest = ["--attack", "pgd", "--eps", "8/255", "--attack-args", "num_steps=2", "--n", "5"]
    done = craft(*model, *rest, "--out", str(out))
    assert done.exit_code == 0, done.output
    found = FixedSet.load(out)
    assert f"{len(found)} example" in done.output
    assert "of 5 samples" in done.output
    assert found.about["arguments"]["eps"] == 8 / 255
    assert found.about["arguments"]["num_steps"] == 2
    digits = load_data("digits", split="train")
    assert torch.equal(found.y, digits.y[found.source])
    again = craft(*model, *rest, "--out", str(out))
    assert again.exit_code == 2
    assert "exists: choose another file, or pass --overwrite" in again.output


@pytest.mark.parametrize("text", ["pgd.num_steps=2,step_size=.01", "PGD.num_steps=2"])
def test_arguments_may_name_the_attack(text: str, weights: str, tmp_path: Path) -> None:
    """As in evaluate, where several attacks run."""
    out = tmp_path / "set.npz"
    model = ["--model", "digits-cnn", "--weights", weights, "--n", "5"]
    done = craft(*model, "--attack", "pgd", "--eps", ".3", "--attack-args", text, "--out", str(out))
    assert done.exit_code == 0, done.output
    found = FixedSet.load(out).about["arguments"]
    assert found["num_steps"] == 2
    assert found.get("step_size") == (0.01 if "step_size" in text else None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--attack", "pgd", "--eps", ".1", "--attack-args", "fgsm.num_steps=1"],
            "of the attack 'pgd', got 'fgsm.num_steps'",
        ),
        (
            ["--attack", "pgd", "--eps", ".1", "--attack-args", "pgd.num_steps=1,num_steps=2"],
            "attack-args must have each key once, got 'num_steps' twice",
        ),
        (["--attack", "pgd"], "eps must be given for pgd"),
        (["--attack", "pdg", "--eps", ".1"], "did you mean 'pgd'"),
        (["--eps", ".1"], "attack must be given"),
        (["--attack", "pgd", "--eps", ".1", "--targeted", "some"], "targeted must be"),
        (
            ["--attack", "pgd", "--eps", ".1", "--attack-args", "step=1"],
            "pgd has no argument 'step'",
        ),
    ],
)
def test_faults_of_a_user_are_one_line(
    arguments: list[str], message: str, weights: str, tmp_path: Path
) -> None:
    model = ["--model", "digits-cnn", "--weights", weights]
    done = craft(*model, *arguments, "--out", str(tmp_path / "a.npz"))
    assert done.exit_code == 2
    assert message in done.output
    assert done.output.count("\n") == 1
    assert not (tmp_path / "a.npz").exists()


def test_the_file_must_be_an_archive(weights: str, tmp_path: Path) -> None:
    model = ["--model", "digits-cnn", "--weights", weights, "--attack", "pgd", "--eps", ".1"]
    done = craft(*model, "--out", str(tmp_path / "a.npy"))
    assert "out must be the name of an .npz file" in done.output
    done = craft(*model, "--out", str(tmp_path / "none" / "a.npz"))
    assert "out must lie in an existing folder" in done.output
