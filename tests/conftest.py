"""Data and models that many tests share: real ones, small enough for every machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from art_ext.core.attacks import rays
from art_ext.core.result import AttackResult
from art_ext.data import load_data
from art_ext.models import digits_cnn


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # several pytest processes share the machine, and reductions over threads may round differently
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """Forty test digits (40, 1, 8, 8) in [0, 1] and their classes."""
    data = load_data("digits").first(40)
    return data.x, data.y


@pytest.fixture(scope="session")
def _trained() -> tuple[nn.Module, nn.Module]:
    train = load_data("digits", split="train")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = (digits_cnn(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        for network in networks:
            optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
            for _ in range(6):
                for rows in torch.randperm(len(train)).split(64):
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(network(train.x[rows]), train.y[rows]).backward()
                    optimiser.step()
    return networks[0].eval(), networks[1].eval()


@pytest.fixture
def digits_net(_trained: tuple[nn.Module, nn.Module]) -> nn.Module:
    """A convolutional network trained on digits, about 97 % accurate."""
    return _trained[0]


@pytest.fixture
def linear_net(_trained: tuple[nn.Module, nn.Module]) -> nn.Module:
    """A linear model trained on digits: it computes row by row, and its optimum has a closed form."""
    return _trained[1]


@pytest.fixture
def spy_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Watches a shell's ``rays`` by its dotted name: the dict that comes back holds the keywords of its last call."""

    def watch(name: str) -> dict[str, Any]:
        given: dict[str, Any] = {}

        def spy(*samples: Any, **options: Any) -> AttackResult:
            given.update(options)
            return rays(*samples, **options)

        monkeypatch.setattr(name, spy)
        return given

    return watch


@pytest.fixture
def art_ext_data() -> Path:
    """The folder of real data and third-party checkpoints."""
    folder = os.environ.get("ART_EXT_DATA")
    if not folder:
        pytest.skip("ART_EXT_DATA names no folder with the real data and third-party checkpoints")
    return Path(folder)
