"""Files of the user's own are part of a run's identity: a changed one is a named difference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from art_ext import cli
from art_ext.evaluation import read_run
from art_ext.evaluation.report import plots
from art_ext.models import resolve_factory
from art_ext.models.factory import digest_of_file, file_of_model
from art_ext.storage.differences import differences
from art_ext.training import RECIPES

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1)){SCALE}


def build():
    torch.manual_seed(0)
    return Net()


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def function():
    return lambda x: x.flatten(1)[:, :10]


def slotted():
    return Slotted()


class Slotted:
    __slots__ = ()

    def __call__(self, x):
        return x.flatten(1)[:, :10]
"""
RECIPE = """
from dataclasses import dataclass
from typing import ClassVar

from art_ext.training import Natural


@dataclass(frozen=True, kw_only=True, eq=False)
class Own(Natural):
    name: ClassVar[str] = "own"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current folder, with a network and a recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "draw", lambda *arguments: [])
    write()
    (tmp_path / "own.py").write_text(RECIPE)
    yield
    RECIPES.pop("own.py:Own", None)


def write(scale: str = "") -> None:
    """Write the network: another forward has the same weights."""
    Path("net.py").write_text(NET.replace("{SCALE}", scale))


def call(*command: Any) -> Any:
    return CliRunner().invoke(cli.app, [str(part) for part in command])


EVALUATE = ("evaluate", "--data", "digits", "--n", 8, "--attack", "fgsm", "--quiet")


@pytest.mark.parametrize("factory", ["build", "plain", "function"])
def test_an_evaluation_of_a_changed_model_file(factory: str) -> None:
    command = (*EVALUATE, "--model", f"net.py:{factory}", "--out", "run")
    done = call(*command)
    assert done.exit_code == 0, done.output
    said = read_run(Path("run"))
    assert said is not None
    assert list(said["identity"]["model_files"].values()) == [digest_of_file("net.py")]
    assert call(*command).exit_code == 0
    write(" * 2")
    done = call(*command)
    assert done.exit_code == 2
    (name,) = said["identity"]["model_files"]
    assert f"another run (model {name}: its file has changed)" in " ".join(done.output.split())
    write()
    assert call(*command).exit_code == 0


def test_shards_of_changed_files_do_not_merge() -> None:
    command = (*EVALUATE, "--model", "net.py:build")
    assert call(*command, "--shard", "0/2", "--out", "a").exit_code == 0
    write(" * 2")
    assert call(*command, "--shard", "1/2", "--out", "b").exit_code == 0
    done = call("merge", "a", "b", "--out", "both")
    assert done.exit_code == 2
    assert "its file has changed" in " ".join(done.output.split())


def test_runs_that_record_no_file_compare_without_it() -> None:
    run: Any = {"identity": {"models": {"a": {"class": "Net", "state": "1"}}, "data": "3"}}
    later = {"identity": {**run["identity"], "model_files": {"a": "1"}}}
    other = {"identity": {**run["identity"], "model_files": {"a": "2"}}}
    assert differences(later, run) == differences(run, later) == []
    assert differences(later, other) == ["model a: its file has changed"]


def test_what_is_known_of_a_model() -> None:
    digest = digest_of_file("net.py")
    model: Any = resolve_factory("net.py:build")
    assert file_of_model(model) == digest
    assert file_of_model(nn.Sequential(nn.Identity(), model)) == digest
    assert file_of_model(resolve_factory("net.py:slotted")) is None
    assert file_of_model(nn.Identity()) is None
    assert file_of_model(torch.relu) is None
    assert file_of_model(resolve_factory("torch.nn:Flatten")) is None


TRAIN = ("train", "--data", "digits", "--n", 40, "--test-n", 10, "--epochs", 1, "--quiet")


@pytest.mark.parametrize(
    ("options", "file", "name"),
    [
        (("--recipe", "natural", "--model", "net.py:plain"), "net.py", "model_file"),
        (("--recipe", "own.py:Own"), "own.py", "recipe_file"),
    ],
)
def test_a_training_with_a_changed_file(options: Any, file: str, name: str) -> None:
    command = (*TRAIN, *options, "--out", "run")
    done = call(*command)
    assert done.exit_code == 0, done.output
    assert call(*command, "--resume").exit_code == 0
    with Path(file).open("a") as code:
        code.write("# changed\n")
    done = call(*command, "--resume")
    assert done.exit_code == 2
    assert f"another configuration ({name}: another value there)" in " ".join(done.output.split())
