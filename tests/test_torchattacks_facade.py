"""The façade over torchattacks, and RayS registered in torchattacks itself."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest
import torchattacks

import art_ext.torchattacks
from art_ext.adapters.torchattacks import ATTACKS, RayS, register


def check_program(code: str) -> None:
    """Run a program in a Python of its own, whose modules nobody has touched."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_facade_has_all_of_torchattacks_and_ours():
    facade = art_ext.torchattacks
    assert facade.PGD is torchattacks.PGD
    assert facade.RayS is RayS
    assert facade.__version__ == torchattacks.__version__
    assert facade.attack is torchattacks.attack
    assert list(facade.__all__) == [*torchattacks.__all__, *ATTACKS]
    assert set(dir(facade)) >= {*dir(torchattacks), *ATTACKS}
    starred: dict[str, Any] = {}
    exec("from art_ext.torchattacks import *", starred)  # noqa: S102
    assert all(starred[name] is getattr(facade, name) for name in facade.__all__)
    with pytest.raises(AttributeError, match="NoSuchAttack"):
        facade.NoSuchAttack  # noqa: B018


def test_facade_never_loads_a_class_twice():
    # with torchattacks' __path__ the façade would let Python import its submodules again, each
    # class with a twin
    with pytest.raises(ModuleNotFoundError, match="not a package"):
        __import__("art_ext.torchattacks.attacks.pgd")


def test_facade_changes_nothing_and_leaves_art_alone():
    check_program("""
import sys, torchattacks
attributes, names = dict(vars(torchattacks)), list(torchattacks.__all__)
import art_ext.torchattacks as facade
assert facade.RayS.__name__ == "RayS"
assert vars(torchattacks) == attributes and torchattacks.__all__ == names
assert not hasattr(torchattacks, "RayS")
assert not [name for name in sys.modules if name == "art" or name.startswith("art.")]
""")


def test_registering_makes_the_plain_name_work():
    check_program("""
import torch, torchattacks
from art_ext.adapters.torchattacks import RayS, register
assert not hasattr(torchattacks, "RayS")
register()
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
attack = torchattacks.RayS(model, max_queries=5)
assert type(attack) is RayS
assert attack(torch.rand(2, 1, 2, 2), torch.tensor([0, 1])).shape == (2, 1, 2, 2)
starred = {}
exec("from torchattacks import *", starred)
assert starred["RayS"] is RayS
import art_ext.torchattacks as facade
assert facade.__all__ == torchattacks.__all__ and len(set(facade.__all__)) == len(facade.__all__)
""")


def test_registering_is_idempotent_and_reversible():
    attributes, names = dict(vars(torchattacks)), list(torchattacks.__all__)
    first = register()
    try:
        assert torchattacks.RayS is RayS
        assert torchattacks.__all__ == [*names, *ATTACKS]
        register().undo()  # it put nothing in, so it takes nothing out
        with register():
            pass
        assert torchattacks.RayS is RayS
        assert torchattacks.__all__ == [*names, *ATTACKS]
    finally:
        first.undo()
    first.undo()
    assert vars(torchattacks) == attributes
    assert torchattacks.__all__ == names
    with register():
        assert torchattacks.RayS is RayS
    assert vars(torchattacks) == attributes
    assert torchattacks.__all__ == names


def test_a_clash_of_names_is_refused_and_nothing_changes(monkeypatch):
    theirs = type("RayS", (), {})
    monkeypatch.setitem(ATTACKS, "AnotherOfOurs", RayS)
    monkeypatch.setattr(torchattacks, "RayS", theirs, raising=False)
    attributes, names = dict(vars(torchattacks)), list(torchattacks.__all__)
    with pytest.raises(RuntimeError, match=r"torchattacks .* already has RayS of its own"):
        register()
    assert vars(torchattacks) == attributes
    assert torchattacks.__all__ == names
    assert art_ext.torchattacks.RayS is RayS, "the façade still has ours"


@pytest.mark.parametrize("name", ATTACKS)
def test_every_argument_but_the_model_has_a_default(name, digits_net):
    attack = getattr(art_ext.torchattacks, name)(digits_net)
    assert isinstance(attack, torchattacks.attack.Attack)
    assert attack.attack == name
    arguments = inspect.signature(ATTACKS[name]).parameters
    assert next(iter(arguments)) == "model"
    for argument in list(arguments.values())[1:]:
        assert argument.default is not inspect.Parameter.empty
        assert getattr(attack, argument.name) == argument.default
        assert f"{argument.name}={argument.default}" in repr(attack)
