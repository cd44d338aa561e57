"""Recipes of the user's own files and of other packages, by their names."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor, nn
from typer.testing import CliRunner

from art_ext import cli
from art_ext.training import RECIPES, Natural, find_recipe, load_recipe, make_recipe, train
from art_ext.training.recipes import registry

FILE = """
from dataclasses import dataclass
from typing import ClassVar
from art_ext.training import Natural, Pgd

@dataclass(frozen=True, kw_only=True, eq=False)
class Longer(Pgd):
    '''PGD training with more steps.'''
    name: ClassVar[str] = "longer"
    paper: ClassVar[str] = "Nobody. Nothing. 2026."
    num_steps: int = 20

class Plain(Natural):
    name: ClassVar[str] = "natural"

class Unfinished(registry_base):
    pass
""".replace("registry_base", "__import__('art_ext.training').training.Recipe")
Samples = tuple[Tensor, Tensor]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipes_as_before: None) -> Path:
    path = tmp_path / "own.py"
    path.write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return path


def test_a_recipe_of_a_file_takes_its_arguments(file: Path) -> None:
    recipe = make_recipe("own.py:Longer", eps=0.2, norm="L2")
    assert recipe.settings()["name"] == "longer"
    assert recipe.settings()["norm"] == "l2"
    assert recipe.cost() == (21, 21)
    assert find_recipe("own.py:Longer").name == "longer"
    with pytest.raises(
        ValueError, match=r"recipe own.py:Longer takes .*'epss' .did you mean 'eps'"
    ):
        make_recipe("own.py:Longer", epss=0.1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "own.py:Long",
            r"there is no 'Long' .*did you mean 'Longer'.*; it has Longer, Plain, Unfin",
        ),
        ("own.py:zzz", r"there is no 'zzz' for 'own.py:zzz'; it has Longer, Plain, Unfinished$"),
        (
            "own.py:dataclass",
            "'own.py:dataclass' must name a subclass of Recipe, got an instance of",
        ),
        ("own.py:Plain", "art-ext has a recipe 'natural': give 'own.py:Plain' a name of its own"),
        ("own.py:Unfinished", "the recipe 'own.py:Unfinished' must implement cost, loss"),
        ("gone.py:Longer", "the recipe's file must exist, got gone.py"),
        ("no_such_module:Longer", "the recipe's module must be installed"),
        ("own.py:", "a recipe must be given as FILE.py:CLASS or MODULE:CLASS, got 'own.py:'"),
    ],
)
def test_files_without_that_recipe(file: Path, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_recipe(source)
    assert "\n" not in str(caught.value)
    done = CliRunner().invoke(
        cli.app, ["train", "--recipe", source, "--data", "digits", "--out", "run"]
    )
    assert done.exit_code == 2
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
    assert not (file.parent / "run").exists()


def test_trained_from_the_command_line_with_the_radius_of_the_data(file: Path) -> None:
    done = CliRunner().invoke(
        cli.app,
        [
            *("train", "--recipe", "own.py:Longer", "--data", "digits", "--out", "run"),
            *("--updates", "2", "--recipe-args", "num_steps=1", "--test-n", "20", "--n", "100"),
        ],
    )
    assert done.exit_code == 0, done.output
    recipe = json.loads((file.parent / "run" / "run.json").read_text())["recipe"]
    assert (recipe["name"], recipe["eps"], recipe["num_steps"]) == ("longer", 0.15, 1)


def test_a_changed_file_is_another_run(
    file: Path, network: Callable[..., nn.Module], data: Samples
) -> None:
    settings: dict[str, Any] = {"updates": 1, "checkpoint_dir": "run"}
    train(network(), data, "own.py:Longer", **settings)
    train(network(), data, "own.py:Longer", resume=True, **settings)
    file.write_text(FILE + "# changed\n")
    with pytest.raises(ValueError, match="recipe_file"):
        train(network(), data, "own.py:Longer", resume=True, **settings)


BAD = """
from dataclasses import dataclass
from art_ext.training import Natural
from art_ext.training.heads import Head, IdentityHead
from art_ext.training.objectives import CrossEntropy
from art_ext.training.recipes.base import Composition
from art_ext.training.craft import Clean

class NotAHead: pass
class Odd(Natural): head = NotAHead()
class Forgotten(Natural): head = IdentityHead
class Nothing(Natural): head = None

@dataclass(frozen=True, kw_only=True, eq=False)
class Bare(Composition):
    crafting = Clean()
    objective = CrossEntropy

@dataclass(frozen=True, kw_only=True, eq=False)
class Needy(Natural):
    strength: float
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Odd", "head of the recipe 'bad.py:Odd' must be an instance of Head, got an instance of"),
        ("Forgotten", "must be an instance of Head, got the class IdentityHead"),
        ("Nothing", "must be an instance of Head, got an instance of NoneType"),
        ("Bare", "objective of the recipe 'bad.py:Bare' must be an instance, got the class"),
        ("Needy", "the recipe bad.py:Needy needs strength, such as --recipe-args strength=VALUE"),
    ],
)
def test_slips_of_a_recipe_are_named(file: Path, name: str, message: str) -> None:
    (file.parent / "bad.py").write_text(BAD)
    with pytest.raises(ValueError, match=re.escape(message)):
        make_recipe(f"bad.py:{name}")


def test_a_recipe_without_a_name_has_that_of_its_class(file: Path) -> None:
    (file.parent / "bad.py").write_text(BAD)
    assert make_recipe("bad.py:Needy", strength=1.0).name == "Needy"


SEVERAL = """
from dataclasses import dataclass
from typing import ClassVar
from torch import nn
from art_ext.training import Natural
from art_ext.training.heads import Head

class Mean(Head):
    def scores(self, raw):
        return raw.mean(dim=1)

@dataclass(frozen=True, kw_only=True, eq=False)
class Together(Natural):
    name: ClassVar[str] = "together"
    head: ClassVar[Head] = Mean()

class Three(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 30)

    def forward(self, x):
        return self.linear(x.flatten(1)).view(-1, 3, 10)
"""


def test_a_network_of_three_outputs_from_the_command_line(file: Path, tmp_path: Path) -> None:
    (file.parent / "several.py").write_text(SEVERAL)
    done = CliRunner().invoke(
        cli.app,
        [
            *("train", "--recipe", "several.py:Together", "--model", "several.py:Three"),
            *("--data", "digits", "--epochs", "3", "--batch-size", "32", "--test-n", "100"),
            *("--out", str(tmp_path / "run")),
        ],
    )
    assert done.exit_code == 0, done.output
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["final"]["clean"] > 0.8


class TestListing:
    def test_every_recipe_in_a_line(self) -> None:
        lines = CliRunner().invoke(cli.app, ["recipes"]).output.splitlines()
        assert lines[0].split() == ["name", "rows", "needs", "origin", "summary"]
        assert [line.split()[0] for line in lines[1:]] == list(RECIPES)
        (trades,) = (line for line in lines if line.startswith("trades "))
        assert trades.split()[1:4] == ["13", "+", "12"]

    def test_json_with_arguments_and_ones_own(self, file: Path) -> None:
        done = CliRunner().invoke(cli.app, ["recipes", "--json", "--recipe", "own.py:Longer"])
        rows = {row["name"]: row for row in json.loads(done.output)}
        assert rows["longer"]["summary"] == "PGD training with more steps."
        assert rows["longer"]["arguments"]["num_steps"] == 20
        for name, kind in RECIPES.items():
            if ":" not in name:
                row = rows[name]
                assert (row["forwards"], row["backwards"]) == kind().cost()
                assert (row["updates"], row["epochs"]) == (kind().replays, kind().worth)

    def test_one_that_is_missing(self, file: Path) -> None:
        done = CliRunner().invoke(cli.app, ["recipes", "--recipe", "own.py:Nothing"])
        assert done.exit_code == 2
        assert "it has Longer, Plain, Unfinished" in done.output


@dataclass(frozen=True, kw_only=True, eq=False)
class Declared(Natural):
    """Natural training of another package."""

    name: ClassVar[str] = "declared"


class TestEntryPoints:
    @pytest.fixture(autouse=True)
    def _points(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        points = [
            EntryPoint("declared", f"{__name__}:Declared", registry.PLUGINS.group),
            EntryPoint("lost", "no_such_module:Recipe", registry.PLUGINS.group),
            EntryPoint("odd", "json:dumps", registry.PLUGINS.group),
        ]
        monkeypatch.setitem(sys.modules, __name__, sys.modules[Declared.__module__])
        monkeypatch.setattr("art_ext.core.plugins.entry_points", lambda group: points)

    def test_a_recipe_of_another_package(
        self, network: Callable[..., nn.Module], data: Samples
    ) -> None:
        assert train(network(), data, "declared", updates=1).updates == 1
        with pytest.raises(ValueError, match=r"one of natural, .*, declared, .*'declard' .did you"):
            make_recipe("declard")

    def test_those_that_fail(self) -> None:
        assert make_recipe("pgd").name == "pgd"
        with pytest.raises(ValueError, match=r"the recipe 'lost' .* cannot be imported: ModuleNot"):
            make_recipe("lost")
        with pytest.raises(ValueError, match=r"'odd of .*' must name a subclass of Recipe"):
            make_recipe("odd")

    def test_the_listing_says_what_fails_and_goes_on(self) -> None:
        done = CliRunner().invoke(cli.app, ["recipes"])
        assert done.exit_code == 0
        lines = {line.split()[0]: line for line in done.output.splitlines()}
        assert lines["declared"].endswith(
            "an unknown package  Natural training of another package."
        )
        assert "error: the recipe 'lost'" in lines["lost"]
