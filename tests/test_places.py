"""Lines of TOML files in errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from art_ext.configuration.places import place_of, placed
from art_ext.data import Dataset
from art_ext.evaluation import evaluate
from art_ext.training.runs import resolve

TEXT = """\
model = "net.py:net"   # line 1
batch-size = 8
attack_args.pgd.num_steps = 4

[[attack]]
attack = "pgd"
arguments = { num_steps = 0 }

[[attack]]
attack = "rays"
[attack.arguments]
"max_queries" = 5
tol = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.toml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("model",), 1),
        (("batch_size",), 2),
        (("attack_args",), 3),
        (("attack_args", "pgd", "num_steps"), 3),
        (("attack", 0), 5),
        (("attack", 0, "arguments", "num_steps"), 7),
        (("attack", 1, "attack"), 10),
        (("attack", 1, "arguments"), 11),
        (("attack", 1, "arguments", "max_queries"), 12),
        (("attack", 1, "arguments", "absent"), 11),
    ],
)
def test_the_line_of_a_key(file: Path, keys: tuple[str | int, ...], line: int) -> None:
    assert place_of(file, *keys) == f"{file}, line {line}"


def test_an_absent_key_has_no_line(file: Path) -> None:
    assert place_of(file, "absent") == f"{file}"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("batch_size must be an integer >= 1, got 0", 2),
        ("batch-size must be a number", 2),
        ("rays takes loss; got 'tol'", 13),
        ("rays: max_queries must be >= 1", 12),
        ("network must be a factory", 1),
        ("num_steps must be an integer", None),  # two tables set it
        ("batch_sizes must differ", None),
        ("the model has no batch_size", None),
    ],
)
def test_an_error_about_a_key_names_its_line(file: Path, message: str, line: int | None) -> None:
    with (
        pytest.raises(ValueError, match=re.escape(message)) as caught,
        placed(file, network="model"),
    ):
        raise ValueError(message)
    place = "" if line is None else f"{file}, line {line}: "
    assert str(caught.value) == place + message


def test_a_value_from_elsewhere_has_no_line(file: Path) -> None:
    with pytest.raises(ValueError, match=r"^batch_size must"), placed(file, given=["batch_size"]):
        raise ValueError("batch_size must be an integer >= 1, got 0")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("cascade", "cascad", 1, "mode must be one of"),
        ("max_queries = 5", "max_queries = 0", 7, "max_queries must be an integer"),
        ("max_queries = 5", "max_query = 5", 7, "'max_query' .did you mean 'max_queries'"),
        ('"rays"', '"ray"', 6, "did you mean 'rays'"),
        ('"rays"', '"pgd"', 5, "a name of its own"),
        ('attack = "rays"', 'atack = "rays"', 6, "did you mean 'attack'"),
        ('attack = "rays"', "", 5, "must be a text"),
        ("{ max_queries = 5 }", "3", 7, "must be a table"),
    ],
)
def test_errors_in_a_panel_name_the_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    panel = tmp_path / "own.toml"
    text = """\
mode = "cascade"
[[attack]]
attack = "pgd"

[[attack]]
attack = "rays"
arguments = { max_queries = 5 }
"""
    panel.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=f"^{re.escape(str(panel))}, line {line}: .*{message}"):
        evaluate(
            nn.Flatten(),
            Dataset("two", torch.zeros(2, 1, 1, 2), torch.tensor([0, 1])),
            tmp_path / "out",
            panel=panel,
        )


def test_a_training_value_out_of_range_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text('recipe = "pgd"\ndata = "digits"\nlearning-rate = -1\n')
    with pytest.raises(ValueError, match="line 3: learning_rate must be > 0, got -1"):
        resolve({}, file)
    with pytest.raises(ValueError, match=r"^learning_rate must be > 0, got -2"):
        resolve({"learning_rate": -2}, file)
