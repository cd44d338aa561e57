"""Plug-ins of other packages: real distributions on the path, in listings and by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from art_ext import __version__, cli, load_data, load_model
from art_ext.cli.listing import plugin_rows, text_table
from art_ext.core.attacks import registry
from art_ext.core.plugins import Plugins
from art_ext.training import RECIPES, make_recipe
from art_ext.training.recipes import registry as recipes

ATTACK = '''
def {name}(model, x, y, *, eps):
    """Move to the {name} corner."""
    return (x + eps).clamp(max=1)
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a package with entry points on the path, as pip does."""
    monkeypatch.syspath_prepend(tmp_path)
    packages: list[str] = []
    attacks = set(registry.names())
    known = dict(RECIPES)

    def installed(package: str, version: str, code: str, **groups: str) -> None:
        packages.append(package)
        (tmp_path / f"{package}.py").write_text(code)
        folder = tmp_path / f"{package}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        (folder / "entry_points.txt").write_text(
            "".join(f"[art_ext.{group}]\n{lines}\n" for group, lines in groups.items())
        )

    yield installed
    for package in packages:
        sys.modules.pop(package, None)
    for name in set(registry.names()) - attacks:
        registry.unregister(name)
    RECIPES.clear()
    RECIPES.update(known)


def listed(*command: str) -> dict[str, str]:
    done = CliRunner().invoke(cli.app, [*command])
    assert done.exit_code == 0, done.output
    return {line.split()[0]: line for line in done.output.splitlines()}


def test_each_row_names_its_package(install: Install) -> None:
    install(
        "upper_attacks", "1.2", ATTACK.format(name="upper"), attacks="upper=upper_attacks:upper"
    )
    lines = listed("attacks")
    assert lines["upper"].endswith("upper_attacks 1.2  Move to the upper corner.")
    assert f"art-ext {__version__}" in lines["rays"]
    done = CliRunner().invoke(cli.app, ["attacks", "--json"])
    rows = {row["name"]: row for row in json.loads(done.output)}
    assert rows["upper"]["origin"] == "upper_attacks 1.2"
    assert rows["upper"]["summary"] == "Move to the upper corner."


def test_a_plugin_is_imported_only_when_needed(install: Install) -> None:
    install("noisy", "1", "raise SystemExit('no')", attacks="noisy=noisy:attack")
    assert registry.get("rays").name == "rays"
    assert make_recipe("natural").name == "natural"
    assert "noisy" not in sys.modules
    with pytest.raises(
        ValueError, match=r"'noisy' \(noisy:attack\) of noisy 1 cannot .*SystemExit"
    ):
        registry.get("noisy")


def test_one_that_fails_is_one_line_and_stops_nothing(install: Install) -> None:
    install(
        "upper_attacks", "1.2", ATTACK.format(name="upper"), attacks="upper=upper_attacks:upper"
    )
    install("lost", "3", "import no_such_module", attacks="lost=lost:a", recipes="late=lost:R")
    lines = listed("attacks")
    assert {"rays", "upper", "lost"} < set(lines)
    assert "lost 3" in lines["lost"]
    assert "error: the attack 'lost' (lost:a) of lost 3 cannot be imported: Module" in lines["lost"]
    assert "error: the recipe 'late'" in listed("recipes")["late"]
    done = CliRunner().invoke(cli.app, ["attacks", "--json"])
    (row,) = [row for row in json.loads(done.output) if row["name"] == "lost"]
    assert list(row) == ["name", "origin", "error"]


def test_of_all_four_groups_names_are_listed_and_one_that_fails_is_a_line(install: Install) -> None:
    code = ATTACK.format(name="upper") + (
        "from art_ext.training import Natural\n"
        'class Mine(Natural):\n    """Mine."""\n    name = \'mine\'\n'
        'def net():\n    """Make a network."""\n    from torch import nn\n'
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        'def digits(split):\n    """Some digits."""\n'
        "    from art_ext.data import load_data\n    return load_data('digits', split=split)\n"
    )
    own = {"attacks": "upper", "recipes": "mine", "models": "net", "data": "some"}
    objects = {"attacks": "upper", "recipes": "Mine", "models": "net", "data": "digits"}
    groups = {group: f"{name}=several:{objects[group]}" for group, name in own.items()}
    install("several", "4", code, **groups)
    install("lost", "3", "import no_such_module", **dict.fromkeys(own, "lost=lost:a"))
    for group, name in own.items():
        lines = listed(group)
        assert "several 4" in lines[name]
        assert "error: the " in lines["lost"]
        assert "of lost 3 cannot be imported: ModuleNotFoundError" in lines["lost"]
    assert load_model("net").model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert len(load_data("some")) == 500


@pytest.mark.parametrize("name", ["rays", "RayS"])
def test_a_name_of_ours_stays_ours(install: Install, name: str) -> None:
    install("thief", "2", ATTACK.format(name="rays"), attacks=f"{name}=thief:rays")
    assert registry.is_built_in(registry.get(name))
    with pytest.raises(ValueError, match="art-ext has the attack 'rays': thief 2 must choose"):
        registry.load(name)
    done = CliRunner().invoke(cli.app, ["attacks"])
    (line,) = [line for line in done.output.splitlines() if "thief 2 " in line]
    assert "error: art-ext has the attack 'rays'" in line
    assert registry.is_built_in(registry.get("rays"))


def test_two_packages_with_one_name(install: Install) -> None:
    install("first", "1", ATTACK.format(name="corner"), attacks="corner=first:corner")
    install("second", "2", ATTACK.format(name="corner"), attacks="Corner=second:corner")
    with pytest.raises(
        ValueError, match=r"several packages declare .*: (first 1, second 2|second 2, first 1)\. U"
    ):
        registry.get("corner")
    (line,) = [line for name, line in listed("attacks").items() if name.lower() == "corner"]
    assert "error: several packages" in line
    assert registry.get("rays").name == "rays"


def test_another_name_in_the_object_is_named(install: Install) -> None:
    code = ATTACK.format(name="upper") + (
        "from art_ext.core.attacks.registry import AttackSpec\n"
        "SPEC = AttackSpec('lower', upper, 'unknown', 'fixed-radius', 'One.', budget='')\n"
        "from art_ext.training import Natural\n"
        "class Mine(Natural):\n    '''Mine.'''\n    name = 'mine'\n"
    )
    install("other", "1", code, attacks="upper=other:SPEC", recipes="own=other:Mine")
    with pytest.raises(ValueError, match=r"'upper' of other 1 must have the same name .*'lower'"):
        registry.get("upper")
    with pytest.raises(ValueError, match=r"'own' of other 1 must have this name .*'mine'"):
        recipes.load("own")


def test_a_description_that_fails_is_an_error_of_its_row(install: Install) -> None:
    install("odd", "1", "value = 1", models="odd=odd:value")
    models = Plugins("art_ext.models", "model", list)

    def described(name: str) -> dict[str, str]:
        return {"summary": models.load(name).no_such_attribute}

    (row,) = plugin_rows(models, described)
    assert row["error"].startswith("AttributeError: ")
    assert (row["name"], row["origin"]) == ("odd", "odd 1")


def test_the_sentence_is_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": "one", "origin": "here", "summary": "A sentence of more than thirty letters."}]
    monkeypatch.setenv("COLUMNS", "40")
    lines = text_table(("name", "origin", "summary"), rows).splitlines()
    assert lines[1] == "one   here    A sentence of more than..."
    monkeypatch.setenv("COLUMNS", "25")
    assert text_table(("name", "origin", "summary"), rows).splitlines()[1] == "one   here"
    monkeypatch.delenv("COLUMNS")
    assert rows[0]["summary"] in text_table(("name", "origin", "summary"), rows)
