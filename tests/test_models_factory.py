"""Models named on a command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from art_ext.models import resolve_factory

SOURCE = """
from helper_beside_the_file import SCALE
from torch import nn

number = 3

class Net(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.width = width

def make_net(width=2, title="none"):
    net = Net(width)
    net.title = title
    return net

def make_callable():
    return lambda x: SCALE * x

def make_nothing():
    return None

def make_trouble():
    raise RuntimeError("no such luck")

model = Net()
"""


@pytest.fixture
def net_file(tmp_path: Path) -> Path:
    (tmp_path / "helper_beside_the_file.py").write_text("SCALE = 2\n")
    file = tmp_path / "my_net.py"
    file.write_text(SOURCE)
    return file


@pytest.fixture(autouse=True)
def _forget_modules():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("helper_beside", "my_net", "_art_ext_model")):
            del sys.modules[name]


def test_file_factory_gets_parsed_arguments_and_a_module_in_eval_mode(net_file):
    path_before = list(sys.path)
    model = resolve_factory(f"{net_file}:make_net", {"width": "(8, 16)", "title": "plain words"})
    assert isinstance(model, nn.Module)
    assert not model.training
    assert model.width == (8, 16)
    assert model.title == "plain words"
    assert sys.path == path_before


def test_a_callable_comes_back_as_it_is(net_file):
    model = resolve_factory(f"{net_file}:make_callable")
    assert not isinstance(model, nn.Module)
    assert model(torch.ones(2)).tolist() == [2.0, 2.0]


def test_module_in_the_current_folder_and_installed_module(net_file, monkeypatch):
    monkeypatch.chdir(net_file.parent)
    assert isinstance(resolve_factory("my_net:Net"), nn.Module)
    model = resolve_factory(
        "art_ext.models:mnist_two_conv", {"channels": "(8, 16)", "hidden": "[256]", "mean": "0.5"}
    )
    assert isinstance(model, nn.Module)
    assert model.get_parameter("5.weight").shape == (256, 784)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("make_ned", {}, "did you mean 'make_net'"),
        ("number", {}, "must name a function or class"),
        ("model", {}, "must name a function or class"),
        ("make_net", {"depth": "3"}, "takes the arguments .*width=2.*depth"),
        ("make_nothing", {}, "must return a model"),
        ("make_trouble", {}, "RuntimeError: no such luck"),
    ],
)
def test_factory_errors_say_what_was_wrong(net_file, name, arguments, words):
    with pytest.raises(ValueError, match=words):
        resolve_factory(f"{net_file}:{name}", arguments)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("my_net.py", "FILE.py:FACTORY or MODULE:FACTORY, got 'my_net.py'"),
        ("my_net.py:", "FILE.py:FACTORY"),
        ("absent.py:make_net", "must exist, got absent.py"),
        ("no_such_module_here:make", "no module named 'no_such_module_here'"),
        ("art_ext.absent:make", "no module named 'art_ext.absent'"),
    ],
)
def test_spec_errors_say_what_was_wrong(spec, words):
    with pytest.raises(ValueError, match=words):
        resolve_factory(spec)


def test_failing_import_keeps_its_cause(tmp_path, monkeypatch):
    (tmp_path / "my_net_broken.py").write_text("import a_library_nobody_has\n")
    for spec in (f"{tmp_path}/my_net_broken.py:make", "my_net_broken:make"):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(
            ValueError, match=r"fails on import: ModuleNotFoundError.*a_library_nobody_has"
        ) as caught:
            resolve_factory(spec)
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)
