"""The contract harness: every attack in every shell, behind one way to run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

import art_ext.attacks
import art_ext.torchattacks
from art_ext.core import attacks as core
from art_ext.core.result import AttackResult

# name in core.attacks -> class name in the ART shells, class name in the torchattacks shells
ATTACKS = {"rays": ("RayS", "RayS")}
SHELLS = ("core", "art", "torchattacks")


@dataclass(frozen=True)
class Shelled:
    """An attack in one of its shells, run with the core's names for eps, max_queries, batch_size and mask."""

    name: str
    shell: str
    eps: float = 0.15  # separates the test samples within the budget: some fall, some do not
    budget: int = 300

    def run(self, model: nn.Module, x: Tensor, y: Tensor | None, **options: Any) -> AttackResult:
        options = {"eps": self.eps, "max_queries": self.budget, **options}
        if self.shell == "core":
            return getattr(core, self.name)(model, x, y, **options)
        if self.shell == "art":
            return self._run_art(model, x, y, **options)
        attack = getattr(art_ext.torchattacks, ATTACKS[self.name][1])(model, **options)
        adversarial = attack(x, y)
        assert torch.equal(adversarial, attack.last_result.x_adv)
        return attack.last_result

    def _run_art(self, model: nn.Module, x: Tensor, y: Tensor | None, **options: Any) -> AttackResult:
        keywords = {"mask": options.pop("mask").numpy()} if "mask" in options else {}
        classifier = PyTorchClassifier(
            model,
            nn.CrossEntropyLoss(),
            tuple(x.shape[1:]),
            10,
            clip_values=options.pop("clip_values", (0.0, 1.0)),
            device_type="cpu",
        )
        attack = getattr(art_ext.attacks, ATTACKS[self.name][0])(classifier, verbose=False, **options)
        array = x.numpy().copy()
        array.flags.writeable = False  # an attack that writes into its input fails here
        adversarial = attack.generate(array, None if y is None else y.numpy(), **keywords)
        assert isinstance(adversarial, np.ndarray)
        assert adversarial.dtype == np.float32
        assert np.array_equal(adversarial, attack.last_result.x_adv.numpy())
        return attack.last_result


EVERY = [Shelled(name, shell) for name in ATTACKS for shell in SHELLS]


@pytest.fixture(params=EVERY, ids=lambda shelled: f"{shelled.name}-{shelled.shell}")
def attack(request: pytest.FixtureRequest) -> Shelled:
    """Every attack in every shell."""
    shelled: Shelled = request.param
    return shelled


class Counting(nn.Module):
    """The independent counter: rows and modes seen by the model, and the most rows of one call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.rows = 0
        self.largest = 0
        self.training_seen = False

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        self.largest = max(self.largest, len(x))
        self.training_seen |= any(module.training for module in self.network.modules())
        return self.network(x)


class RowByRow(nn.Module):
    """A linear model as a product summed along each row: no kernel sees two rows at once."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, rows: Tensor) -> Tensor:
        return (rows.flatten(1)[:, None] * self.weight).sum(-1) + self.bias


@pytest.fixture
def row_by_row(linear_net: nn.Sequential) -> nn.Module:
    """The trained linear model, for which results are promised to be equal bit by bit."""
    linear = linear_net[1]
    assert isinstance(linear, nn.Linear)
    return RowByRow(linear.weight.detach().clone(), linear.bias.detach().clone())


@pytest.fixture
def counting() -> type[Counting]:
    """Wraps a network in the independent counter."""
    return Counting


@pytest.fixture
def check_same() -> Callable[[AttackResult, AttackResult], None]:
    """Asserts that two results agree in every bit and every count; waste may differ."""

    def compare(left: AttackResult, right: AttackResult) -> None:
        for name in ("x_adv", "x_nearest", "success", "already_adversarial", "distance", "queries",
                     "queries_to_success", "gradients"):  # fmt: skip
            a, b = getattr(left, name), getattr(right, name)
            assert torch.equal(a, b), f"{name} differs in {int((a != b).sum())} places"

    return compare


def permuted(result: AttackResult, order: Tensor) -> AttackResult:
    """The rows of a result in another order."""
    rows = {name: value[order] for name, value in vars(result).items() if isinstance(value, Tensor)}
    return replace(result, **rows)  # type: ignore[arg-type]


@pytest.fixture
def reorder() -> Callable[[AttackResult, Tensor], AttackResult]:
    """Puts the rows of a result into another order."""
    return permuted
