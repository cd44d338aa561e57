"""The public functions of the attacks: complete signatures, annotations and docstrings, few frames,
and functions that pickle.
"""

from __future__ import annotations

import inspect
import pickle
import sys
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from art_ext.core import attacks
from art_ext.core.attacks import pgd
from art_ext.core.keywords import described


@pytest.mark.parametrize("name", attacks.__all__)
def test_each_parameter_is_documented(name: str) -> None:
    function = getattr(attacks, name)
    entries = [
        one for spelled in described(function.__doc__, "Args") for one in spelled.split(", ")
    ]
    assert entries == list(inspect.signature(function).parameters)
    for entry in described(function.__doc__, "Args").values():
        assert len(entry.split(":", 1)[1].split()) >= 3


@pytest.mark.parametrize("name", attacks.__all__)
def test_each_parameter_has_a_type(name: str) -> None:
    function = getattr(attacks, name)
    hints = get_type_hints(function)
    assert set(hints) == {*inspect.signature(function).parameters, "return"}
    assert not [one for one in hints.values() if isinstance(one, str)]


@pytest.mark.parametrize("name", attacks.__all__)
def test_functions_pickle(name: str) -> None:
    function = getattr(attacks, name)
    assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301


class Frames(nn.Module):
    """Counts the frames of art_ext between the caller and each of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
        self.depths: list[int] = []

    def forward(self, rows: Tensor) -> Tensor:
        frame: Any = sys._getframe(1)
        depth = 0
        while frame is not None:
            depth += "/art_ext/" in frame.f_code.co_filename.replace("\\", "/")
            frame = frame.f_back
        self.depths.append(depth)
        return rows @ self.weight.T


def test_few_frames_lie_between_an_attack_and_its_model() -> None:
    model = Frames()
    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(1))
    pgd(model, x, eps=0.1, num_steps=2, seed=0)
    assert len(model.depths) == 4
    assert max(model.depths) <= 7


def test_an_attack_leaves_inference_mode() -> None:
    model = Frames()
    with torch.inference_mode():
        result = pgd(model, torch.rand(2, 4), eps=0.1, num_steps=1, seed=0)
    assert not result.x_adv.is_inference()


@pytest.mark.parametrize("name", attacks.__all__)
def test_every_attack_says_what_it_raises_and_its_defaults(name: str) -> None:
    function = getattr(attacks, name)
    text = inspect.getdoc(function)
    assert text is not None
    assert text.count("\nRaises:\n") == 1
    assert "names what" not in text
    order = [text.index(f"\n{section}:\n") for section in ("Args", "Returns", "Raises")]
    assert order == sorted(order)
    entries = described(text, "Args")
    parameters = inspect.signature(function).parameters
    for keyword in ("stop_on_success", "num_restarts"):
        if keyword in parameters:
            assert f"Default: {parameters[keyword].default}." in " ".join(entries[keyword].split())
    if "num_restarts" in parameters and "start" not in parameters:
        assert "``start" not in entries["num_restarts"]
